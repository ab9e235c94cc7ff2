"""Makes pairs.json, expected.json and stems.json: texts, and what the reference implementations make of them.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

`--count` and `--seed` make other pairs, `--out` puts them elsewhere; EVALUATE_REFERENCE=<folder> has the tests read them there.
"""

import argparse
import collections
import json
import logging
import pathlib
import re
import string

import jiwer
from rapidfuzz.distance import Levenshtein
from nltk.stem import porter
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF, TER

import texts

ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
SENTENCE = {"bleu": BLEU(effective_order=True), "chrf": CHRF(), "chrf++": CHRF(word_order=2), "ter": TER()}
CORPUS = {"bleu": BLEU(), "chrf": CHRF(), "chrf++": CHRF(word_order=2), "ter": TER()}
SCORERS = {"rouge": rouge_scorer.RougeScorer(ROUGE), "stemmed": rouge_scorer.RougeScorer(ROUGE, use_stemmer=True)}


def normalize_answer(text):
    """As the SQuAD v1.1 evaluation defines it: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(candidate, reference):
    return float(normalize_answer(candidate) == normalize_answer(reference))


def f1(candidate, reference):
    ours, theirs = normalize_answer(candidate).split(), normalize_answer(reference).split()
    same = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def lowest(measure, candidate, references):
    """The reference with the lowest rate, the first of equals."""
    return min(references, key=lambda reference: measure(reference, candidate))


def scores(candidate, references):
    found = {name: metric.sentence_score(candidate, references).score for name, metric in SENTENCE.items()}
    for kind, scorer in SCORERS.items():
        found[kind] = [list(score) for score in scorer.score_multi(references, candidate).values()]
    found["exact_match"] = max(exact_match(candidate, reference) for reference in references)
    found["f1"] = max(f1(candidate, reference) for reference in references)
    found["levenshtein"] = min(Levenshtein.distance(candidate, reference) for reference in references)
    found["wer"] = float(min(jiwer.wer(reference, candidate) for reference in references))
    found["cer"] = float(min(jiwer.cer(reference, candidate) for reference in references))
    return found


def corpus(pairs, each):
    candidates = [candidate for candidate, _ in pairs]
    most = max(len(references) for _, references in pairs)
    streams = [[references[at] if at < len(references) else None for _, references in pairs] for at in range(most)]
    found = {name: metric.corpus_score(candidates, streams).score for name, metric in CORPUS.items()}
    for kind in SCORERS:
        found[kind] = [[mean([one[kind][of][part] for one in each]) for part in range(3)] for of in range(len(ROUGE))]
    for name in ["exact_match", "f1"]:
        found[name] = mean([one[name] for one in each])
    found["levenshtein"] = sum(one["levenshtein"] for one in each)
    found["wer"] = float(jiwer.wer([lowest(jiwer.wer, *pair) for pair in pairs], candidates))
    found["cer"] = float(jiwer.cer([lowest(jiwer.cer, *pair) for pair in pairs], candidates))
    return found


def mean(values):
    return sum(values) / len(values)


def rounded(value):
    """Nine digits after the point, far below the tolerance, so that the files stay small."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 9) if isinstance(value, float) else value


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--count", type=int, default=1200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = options.parse_args()
    logging.disable(logging.WARNING)

    pairs = texts.pairs(options.seed, options.count) + texts.long_pairs(options.seed)
    each = [scores(candidate, references) for candidate, references in pairs]
    stemmer = porter.PorterStemmer()
    # By metric rather than by pair: the names once, and only numbers for each pair.
    columns = {name: [one[name] for one in each] for name in each[0]}
    write(options.out / "pairs.json", pairs)
    write(options.out / "expected.json", rounded({"pairs": columns, "corpus": corpus(pairs, each)}))
    write(options.out / "stems.json", [[word, stemmer.stem(word)] for word in texts.stem_words(options.seed, 3000)])


main()

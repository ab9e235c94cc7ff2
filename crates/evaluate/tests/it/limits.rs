//! What is refused, and that what is taken ends soon.

use std::time::{Duration, Instant};

use postrider_evaluate::{Evaluation, MAX_BYTES, Metric, Mismatch, Options, Pair, PairError, Stemming};

use crate::every_metric;

fn pair(candidate: String, reference: String) -> Pair {
    Pair { candidate, references: vec![reference] }
}

/// Words of a few letters in no order that repeats.
fn noise(words: u32, seed: u32) -> String {
    let word = |index: u32| {
        let mixed = (index.wrapping_mul(2_654_435_761) ^ seed).wrapping_mul(0x85eb_ca6b);
        let letters: String = (0..4).map(|at| char::from(b'a' + (mixed >> (at * 6 + 6)) as u8 % 9)).collect();
        letters + if mixed >> 28 == 0 { ".\n" } else { " " }
    };
    (0..words).map(word).collect()
}

#[test]
fn a_hundred_thousand_characters_are_scored_by_every_metric() {
    let mut evaluation = Evaluation::new(every_metric(), Options { stemming: Stemming::Porter });
    let long = pair(noise(20_000, 1), noise(20_000, 7));
    assert!(long.candidate.len() >= 100_000);
    let start = Instant::now();
    assert!(evaluation.score(&long).is_ok());
    // Generous, as tests are neither optimised nor alone; it is a second or two otherwise.
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
}

#[test]
fn a_pair_above_a_limit_is_named_and_does_not_count() {
    let mut evaluation = Evaluation::new([Metric::Levenshtein, Metric::Bleu], Options::default());
    assert!(evaluation.score(&pair("a".to_owned(), "b".to_owned())).is_ok());
    let refused = evaluation.score(&pair("a".repeat(1 << 20), "b".repeat(1 << 20)));
    let steps = (1 << 40) / 64;
    assert_eq!(refused, Err(PairError::TooCostly { pair: 1, metric: Metric::Levenshtein, steps }));
    let refused = evaluation.score(&pair(String::new(), "b".repeat(MAX_BYTES + 1)));
    assert_eq!(refused, Err(PairError::TooLong { pair: 1, bytes: MAX_BYTES + 1 }));
    assert_eq!(evaluation.score(&Pair::default()), Err(PairError::NoReference { pair: 1 }));
    assert_eq!(evaluation.pairs(), 1);
}

#[test]
fn many_lines_are_refused_before_they_are_compared() {
    let lines = "a b\n".repeat(1 << 18);
    let mut evaluation = Evaluation::new([Metric::RougeLsum], Options::default());
    let refused = evaluation.score(&pair(lines.clone(), lines));
    assert!(matches!(refused, Err(PairError::TooCostly { metric: Metric::RougeLsum, .. })), "{refused:?}");
}

#[test]
fn evaluations_of_different_metrics_are_not_merged() {
    let mut evaluation = Evaluation::new([Metric::Bleu], Options::default());
    assert_eq!(evaluation.merge(&Evaluation::new([Metric::Chrf], Options::default())), Err(Mismatch));
    assert_eq!(evaluation.merge(&Evaluation::new([Metric::Bleu], Options { stemming: Stemming::Porter })), Err(Mismatch));
    assert_eq!(evaluation.merge(&Evaluation::new([Metric::Bleu, Metric::Bleu], Options::default())), Ok(()));
    assert!(evaluation.corpus().is_empty());
}

//! What must hold whatever the texts are.

use postrider_evaluate::{Evaluation, Metric, Options, Pair, Score, Scores, Stemming};
use proptest::prelude::*;

use crate::every_metric;

/// Few words and marks, so that texts have much in common; or anything.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "the", "b", "ing", "é", "漢", " ", " ", "\n", "\t\t", ".", ",", "5", "-", "&amp;", "😀", "e\u{301}",
    ]);
    prop_oneof![3 => prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat()), 1 => any::<String>()]
}

fn pair() -> impl Strategy<Value = Pair> {
    (text(), prop::collection::vec(text(), 1..4)).prop_map(|(candidate, references)| Pair { candidate, references })
}

fn evaluated(pairs: &[Pair]) -> Evaluation {
    let mut evaluation = Evaluation::new(every_metric(), Options { stemming: Stemming::Porter });
    pairs.iter().for_each(|pair| assert!(evaluation.score(pair).is_ok()));
    evaluation
}

fn numbers(score: Score) -> Vec<f64> {
    match score {
        Score::Number(number) => vec![number],
        Score::Count(count) => vec![count as f64],
        Score::Rouge(rouge) => vec![rouge.precision, rouge.recall, rouge.fmeasure],
    }
}

fn highest(metric: Metric) -> f64 {
    match metric {
        Metric::Bleu | Metric::Chrf | Metric::ChrfWords => 100.0,
        Metric::Rouge1 | Metric::Rouge2 | Metric::RougeL | Metric::RougeLsum | Metric::ExactMatch | Metric::F1 => 1.0,
        Metric::Ter | Metric::Levenshtein | Metric::Wer | Metric::Cer => f64::MAX,
    }
}

fn within_range(scores: &Scores) -> bool {
    scores.iter().all(|(metric, score)| numbers(score).into_iter().all(|number| (0.0..=highest(metric) + 1e-9).contains(&number)))
}

proptest! {
    #[test]
    fn scores_are_within_their_range(pair in pair()) {
        let mut evaluation = Evaluation::new(every_metric(), Options::default());
        let scores = evaluation.score(&pair).expect("within the limits");
        prop_assert!(within_range(&scores), "{:?}", scores);
        prop_assert!(within_range(&evaluation.corpus()));
    }

    #[test]
    fn it_does_not_matter_how_pairs_are_split(pairs in prop::collection::vec(pair(), 1..8), at in any::<prop::sample::Index>()) {
        let whole = evaluated(&pairs);
        let (first, second) = pairs.split_at(at.index(pairs.len()));
        let mut merged = evaluated(second);
        merged.merge(&evaluated(first)).expect("the same metrics");
        prop_assert_eq!(merged.pairs(), whole.pairs());
        for ((metric, ours), (_, theirs)) in merged.corpus().iter().zip(whole.corpus().iter()) {
            for (ours, theirs) in numbers(ours).into_iter().zip(numbers(theirs)) {
                prop_assert!((ours - theirs).abs() < 1e-9, "{}: {} {}", metric, ours, theirs);
            }
        }
    }

    #[test]
    fn a_text_is_no_edit_away_from_itself(text in text(), other in text()) {
        let pair = Pair { candidate: text.clone(), references: vec![other, text] };
        let scores = evaluated(&[]).score(&pair).expect("within the limits");
        for (metric, expected) in [
            (Metric::Levenshtein, Score::Count(0)),
            (Metric::Wer, Score::Number(0.0)),
            (Metric::Cer, Score::Number(0.0)),
            (Metric::Ter, Score::Number(0.0)),
            (Metric::ExactMatch, Score::Number(1.0)),
        ] {
            prop_assert_eq!(scores.get(metric), Some(expected), "{}", metric);
        }
    }
}

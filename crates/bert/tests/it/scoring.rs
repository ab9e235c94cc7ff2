//! What holds for any call.

use postrider_bert::{Idf, Options, Pair, Score, ScoreError};

use crate::folder::model;

fn close(one: Score, other: Score) -> bool {
    [(one.precision, other.precision), (one.recall, other.recall), (one.f1, other.f1)].iter().all(|(one, other)| (one - other).abs() < 1e-5)
}

#[test]
fn it_does_not_matter_how_pairs_are_split_among_calls() {
    let references: Vec<[String; 2]> = (0..40).map(|n| ["so it is. ".repeat(n), format!("{n} pairs of {n}")]).collect();
    let pairs: Vec<Pair> = references.iter().map(|references| Pair { candidate: "so be it", references }).collect();
    let together = model().score(&pairs, &Options::default()).expect("scores");
    let apart = pairs.iter().flat_map(|&pair| model().score(&[pair], &Options::default()).expect("a score"));
    for (index, (together, apart)) in together.into_iter().zip(apart).enumerate() {
        assert!(close(together, apart), "pair {index}: {together:?} {apart:?}");
    }
}

#[test]
fn more_tokens_than_are_held_at_a_time_are_scored() {
    let references: Vec<[String; 1]> = (0..120).map(|n| [format!("number {n} of many ").repeat(100)]).collect();
    let pairs: Vec<Pair> = references.iter().map(|references| Pair { candidate: &references[0], references }).collect();
    let same = Score { precision: 1.0, recall: 1.0, f1: 1.0 };
    let scores = model().score(&pairs, &Options { layer: Some(1), ..Options::default() }).expect("scores");
    assert_eq!(scores.len(), pairs.len());
    assert!(scores.iter().all(|&score| close(score, same)));
}

#[test]
fn calls_at_the_same_time_do_not_disturb_each_other() {
    let references = ["a text of some length".to_owned()];
    let pair = Pair { candidate: "some text of a length", references: &references };
    let expected = model().score(&[pair], &Options::default()).expect("a score")[0];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let scores = model().score(&[pair; 50], &Options::default()).expect("scores");
                assert!(scores.into_iter().all(|score| close(score, expected)));
            });
        }
    });
}

#[test]
fn a_pair_without_reference_is_named() {
    let references = ["text".to_owned()];
    let pairs = [Pair { candidate: "text", references: &references }, Pair { candidate: "text", references: &[] }];
    let error = model().score(&pairs, &Options::default()).expect_err("an error");
    assert!(matches!(error, ScoreError::NoReference { pair: 1 }), "{error}");
}

#[test]
fn a_layer_beyond_the_last_is_refused() {
    let error = model().score(&[], &Options { layer: Some(7), ..Options::default() }).expect_err("an error");
    assert_eq!(error.to_string(), "there is no layer 7; the model has layers 0 to 6");
}

#[test]
fn references_are_counted_the_same_in_parts_and_together() {
    let references = ["one text", "another text", "one text"].map(str::to_owned);
    let (mut whole, mut first, mut second) = (Idf::default(), Idf::default(), Idf::default());
    whole.add(model(), &[Pair { candidate: "not counted", references: &references }]).expect("counted");
    first.add(model(), &[Pair { candidate: "", references: &references[..1] }]).expect("counted");
    second.add(model(), &[Pair { candidate: "", references: &references[1..] }]).expect("counted");
    first.merge(&second);
    assert_eq!(first, whole);
}

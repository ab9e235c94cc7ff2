//! Every score is what `tests/reference/make.py` got from the package bert-score with the same model.

use std::path::{Path, PathBuf};

use postrider_bert::{Idf, Options, Pair};
use serde::Deserialize;

use crate::folder::model;

const TOLERANCE: f64 = 1e-4;

type Texts = Vec<(String, Vec<String>)>;

#[derive(Deserialize)]
struct Expected {
    /// Pairs beyond those of the crate postrider-evaluate.
    more: Texts,
    settings: Vec<Setting>,
}

#[derive(Deserialize)]
struct Setting {
    layer: usize,
    idf: bool,
    /// Precision, recall and F1, each of all pairs.
    scores: [Vec<f64>; 3],
}

/// What `make.py` wrote, into the folder that BERT_REFERENCE names or else this crate's.
fn expected() -> Expected {
    let folder = std::env::var_os("BERT_REFERENCE").map_or_else(|| PathBuf::from("tests/reference"), PathBuf::from);
    read(&folder.join("expected.json"))
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn scores_are_those_of_the_reference_implementation() {
    let expected = expected();
    let mut texts: Texts = read(Path::new("../evaluate/tests/reference/pairs.json"));
    texts.extend(expected.more);
    let pairs: Vec<Pair> = texts.iter().map(|(candidate, references)| Pair { candidate, references }).collect();
    assert!(pairs.len() >= 1000);
    let mut idf = Idf::default();
    for some in pairs.chunks(500) {
        idf.add(model(), some).expect("counted");
    }
    for (at, Setting { layer, idf: weighted, scores }) in expected.settings.into_iter().enumerate() {
        assert_eq!(scores[0].len(), pairs.len(), "make.py has to run again after the pairs changed");
        let options = Options { layer: Some(layer), idf: weighted.then_some(&idf) };
        // All pairs once; the other settings differ in one step, for which every fourth pair will do.
        let step = if at == 0 { 1 } else { 4 };
        let some: Vec<Pair> = pairs.iter().copied().step_by(step).collect();
        let ours = model().score(&some, &options).expect("scores");
        let mut worst = (0.0, String::new());
        for (index, score) in ours.iter().enumerate().map(|(place, score)| (place * step, score)) {
            for (name, ours, theirs) in [
                ("precision", score.precision, scores[0][index]),
                ("recall", score.recall, scores[1][index]),
                ("f1", score.f1, scores[2][index]),
            ] {
                let difference = (ours - theirs).abs();
                if difference >= worst.0 || difference.is_nan() {
                    worst = (difference, format!("{name} of pair {index}: {ours}, expected {theirs}"));
                }
            }
        }
        println!("layer {layer}, idf {weighted}: worst difference of {} pairs {:.1e}, {}", some.len(), worst.0, worst.1);
        assert!(worst.0 <= TOLERANCE, "layer {layer}, idf {weighted}: {}", worst.1);
    }
}

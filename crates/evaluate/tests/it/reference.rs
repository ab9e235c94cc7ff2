//! Every metric, for each pair and the corpus, is what `tests/reference/make.py` got from the reference implementations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use postrider_evaluate::{Evaluation, Metric, Options, Pair, Rouge, Score, Scores, Stemming};
use serde_json::Value;

use crate::every_metric;

const TOLERANCE: f64 = 1e-6;
const ROUGE: [Metric; 4] = [Metric::Rouge1, Metric::Rouge2, Metric::RougeL, Metric::RougeLsum];

/// What `make.py` wrote, into the folder that EVALUATE_REFERENCE names or else this crate's.
fn read(file: &str) -> Value {
    let folder = std::env::var_os("EVALUATE_REFERENCE").map_or_else(|| PathBuf::from("tests/reference"), PathBuf::from);
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{}: {error}", folder.join(file).display()));
    serde_json::from_str(&text).expect("JSON")
}

fn pairs() -> Vec<Pair> {
    let pairs: Vec<(String, Vec<String>)> = serde_json::from_value(read("pairs.json")).expect("pairs");
    pairs.into_iter().map(|(candidate, references)| Pair { candidate, references }).collect()
}

/// The largest difference met and where, by metric.
#[derive(Default)]
struct Differences(BTreeMap<String, (f64, String)>);

impl Differences {
    fn add(&mut self, name: &str, ours: f64, theirs: f64, place: &str) {
        let worst = self.0.entry(name.to_owned()).or_default();
        let difference = (ours - theirs).abs();
        if difference > worst.0 || difference.is_nan() {
            *worst = (difference, format!("at {place}: {ours}, expected {theirs}"));
        }
    }

    /// Compares scores with what `expected` has by name: a number, or by `rouge` the three numbers of each of its metrics.
    fn add_all(&mut self, scores: &Scores, expected: impl Fn(&str) -> Value, rouge: &str, place: &str) {
        for (metric, score) in scores.iter() {
            match score {
                Score::Number(ours) => self.add(metric.name(), ours, number(&expected(metric.name())), place),
                Score::Count(ours) => self.add(metric.name(), ours as f64, number(&expected(metric.name())), place),
                Score::Rouge(Rouge { precision, recall, fmeasure }) => {
                    let index = ROUGE.iter().position(|&of| of == metric).expect("a metric of ROUGE");
                    for (part, ours) in [precision, recall, fmeasure].into_iter().enumerate() {
                        self.add(&format!("{metric} {rouge}"), ours, number(&expected(rouge)[index][part]), place);
                    }
                }
            }
        }
    }

    fn check(&self, what: &str) {
        for (metric, (difference, place)) in &self.0 {
            println!("{what:6} {metric:18} worst difference {difference:.1e} {place}");
        }
        for (metric, (difference, place)) in &self.0 {
            assert!(*difference <= TOLERANCE, "{metric} {place}");
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn every_metric_is_that_of_its_reference_implementation() {
    let (pairs, expected) = (pairs(), read("expected.json"));
    assert!(pairs.len() >= 1000);
    let (mut by_pair, mut by_corpus) = (Differences::default(), Differences::default());
    for (stemming, rouge) in [(Stemming::Off, "rouge"), (Stemming::Porter, "stemmed")] {
        let mut evaluation = Evaluation::new(every_metric(), Options { stemming });
        for (index, pair) in pairs.iter().enumerate() {
            let scores = evaluation.score(pair).expect("within the limits");
            by_pair.add_all(&scores, |name| expected["pairs"][name][index].clone(), rouge, &format!("pair {index}"));
        }
        by_corpus.add_all(&evaluation.corpus(), |name| expected["corpus"][name].clone(), rouge, "the corpus");
    }
    println!("{} pairs", pairs.len());
    by_pair.check("pair");
    by_corpus.check("corpus");
}

#[test]
fn parts_make_up_the_whole() {
    let (pairs, expected) = (pairs(), read("expected.json"));
    let mut merged = Evaluation::new(every_metric(), Options::default());
    for part in pairs.chunks(97) {
        let mut evaluation = Evaluation::new(every_metric(), Options::default());
        part.iter().for_each(|pair| assert!(evaluation.score(pair).is_ok()));
        merged.merge(&evaluation).expect("the same metrics");
    }
    assert_eq!(merged.pairs(), pairs.len() as u64);
    let mut differences = Differences::default();
    differences.add_all(&merged.corpus(), |name| expected["corpus"][name].clone(), "rouge", "the merged corpus");
    differences.check("merged");
}

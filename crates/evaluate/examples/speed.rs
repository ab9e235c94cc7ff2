//! How many pairs a core scores a second, by metric, over the pairs of the tests that have one reference of ordinary length.
//!
//! `cargo run --release -p postrider-evaluate --example speed | python crates/evaluate/tests/reference/speed.py` sets the
//! reference implementations' figures beside.

use std::path::Path;
use std::time::{Duration, Instant};

use postrider_evaluate::{Evaluation, Metric, Options, Pair, Stemming};

/// Longer texts would hide what most pairs take. `speed.py` has the same.
const LONGEST: usize = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/pairs.json");
    let pairs: Vec<(String, Vec<String>)> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let pairs: Vec<Pair> = pairs
        .into_iter()
        .filter(|(_, references)| references.len() == 1 && references[0].chars().count() <= LONGEST)
        .map(|(candidate, references)| Pair { candidate, references })
        .collect();
    for name in Metric::KNOWN {
        report(name, Metric::parse(name)?, Stemming::Off, &pairs)?;
    }
    report("rouge+stemming", Metric::parse("rouge")?, Stemming::Porter, &pairs)?;
    let mut all = Vec::new();
    for name in Metric::KNOWN {
        all.extend_from_slice(Metric::parse(name)?);
    }
    report("all", &all, Stemming::Off, &pairs)
}

/// Prints the median of several rounds, in pairs per second.
fn report(name: &str, metrics: &[Metric], stemming: Stemming, pairs: &[Pair]) -> Result<(), Box<dyn std::error::Error>> {
    let mut rates = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || rates.len() < 3 {
        let mut evaluation = Evaluation::new(metrics.iter().copied(), Options { stemming });
        let start = Instant::now();
        for pair in pairs {
            evaluation.score(pair)?;
        }
        rates.push(pairs.len() as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("{name} {:.0}", rates[rates.len() / 2]);
    Ok(())
}

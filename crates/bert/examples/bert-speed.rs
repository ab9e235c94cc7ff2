//! How many pairs are scored a second. `python crates/bert/tests/reference/speed.py` runs this beside the Python package.
//!
//! Arguments: the model's folder and a file of pairs, `[[candidate, [reference, …]], …]`. Prints the best of several rounds, by the clock and by
//! the processor's time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use postrider_bert::{Model, Options, Pair};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("name the model's folder and a file of pairs".into());
    };
    let texts: Vec<(String, Vec<String>)> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let pairs: Vec<Pair> = texts.iter().map(|(candidate, references)| Pair { candidate, references }).collect();
    let model = Model::open(&folder)?;
    let (begin, mut best, mut least) = (Instant::now(), Duration::MAX, f64::INFINITY);
    for round in 0.. {
        if round >= 2 && begin.elapsed() > Duration::from_secs(5) {
            break;
        }
        let (start, used) = (Instant::now(), processor_seconds()?);
        model.score(&pairs, &Options::default())?;
        best = best.min(start.elapsed());
        least = least.min(processor_seconds()? - used);
    }
    println!("{:.1} {:.1}", pairs.len() as f64 / best.as_secs_f64(), pairs.len() as f64 / least);
    Ok(())
}

/// What all threads of this process have used, as Linux tells it in hundredths.
fn processor_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let line = std::fs::read_to_string("/proc/self/stat")?;
    let fields = line.rsplit_once(')').ok_or("no name in /proc/self/stat")?.1.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / 100.0)
}

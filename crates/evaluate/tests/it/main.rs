//! The crate against the reference implementations' numbers, and what must hold for any text.

use postrider_evaluate::Metric;

mod any_text;
mod limits;
mod reference;

fn every_metric() -> impl Iterator<Item = Metric> {
    Metric::KNOWN.iter().flat_map(|name| Metric::parse(name).expect("a known name")).copied()
}

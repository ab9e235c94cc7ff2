//! How long deliveries took.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use super::manner::Manner;
use super::plan::Micros;

/// Ends of the scale of latencies, in µs.
const LONGEST: u64 = 3_600_000_000;

/// What a fleet did in the time that was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetReport {
    /// By how receivers are: from acceptance to the first attempt, in µs.
    pub first: BTreeMap<Manner, Histogram<u64>>,
    /// By how receivers are: deliveries accepted.
    pub accepted: BTreeMap<Manner, u64>,
    /// The most attempts in flight at one time.
    pub in_flight: usize,
    /// How busy the busiest thread was, of 1.
    pub busiest: f64,
    /// How busy the threads were on average, of 1.
    pub busy: f64,
    /// How often a partition was paused.
    pub pauses: u64,
    /// Rows put into backlogs.
    pub parked: u64,
}

impl FleetReport {
    pub(super) fn new() -> FleetReport {
        let empty = || Histogram::new_with_max(LONGEST, 3).expect("the scale is a valid one");
        FleetReport {
            first: Manner::ALL.map(|manner| (manner, empty())).into(),
            accepted: Manner::ALL.map(|manner| (manner, 0)).into(),
            in_flight: 0,
            busiest: 0.0,
            busy: 0.0,
            pauses: 0,
            parked: 0,
        }
    }

    pub(super) fn accepted(&mut self, manner: Manner) {
        *self.accepted.entry(manner).or_default() += 1;
    }

    pub(super) fn attempted(&mut self, manner: Manner, after: Micros) {
        if let Some(first) = self.first.get_mut(&manner) {
            first.saturating_record(after.0);
        }
    }

    /// The share of what was accepted for receivers of this manner that an attempt was made of within a time, of 1.
    pub fn within(&self, manner: Manner, time: Micros) -> f64 {
        self.first[&manner].count_between(0, time.0) as f64 / self.accepted[&manner].max(1) as f64
    }
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} parked, {} pauses; at most {} in flight; threads {:.0} % busy, the busiest {:.0} %",
            self.parked,
            self.pauses,
            self.in_flight,
            self.busy * 100.0,
            self.busiest * 100.0
        )?;
        writeln!(
            f,
            "{:>12} {:>9} {:>9} {:>10} {:>10} {:>10} {:>10} {:>8} {:>8}",
            "", "accepted", "sent", "p50 ms", "p99", "p99.9", "max", "<1 s %", "<10 s %"
        )?;
        for (manner, first) in &self.first {
            let at = |quantile| first.value_at_quantile(quantile) as f64 / 1000.0;
            let within = |secs: u64| self.within(*manner, Micros(secs * 1_000_000)) * 100.0;
            writeln!(
                f,
                "{:>12} {:>9} {:>9} {:>10.1} {:>10.1} {:>10.1} {:>10.1} {:>8.3} {:>8.3}",
                format!("{manner:?}").to_lowercase(),
                self.accepted[manner],
                first.len(),
                at(0.5),
                at(0.99),
                at(0.999),
                first.max() as f64 / 1000.0,
                within(1),
                within(10)
            )?;
        }
        Ok(())
    }
}

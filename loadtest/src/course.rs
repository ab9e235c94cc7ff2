//! The course of a run: what was done and used in each interval of it.

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::fleet::{Fleet, Usage};
use crate::ledger::{Counts, Ledger};
use crate::machine::{self, Cores};
use crate::server::Process;

/// Intervals of a run whose length is known, at most; a longer run has longer intervals.
const INTERVALS: u32 = 1_800;

/// What had been done and used at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// When it was taken.
    pub(crate) at: Micros,
    /// The sums until then.
    pub(crate) counts: Counts,
    /// CPU time of this process.
    pub(crate) own_cpu: Duration,
    /// What the server's processes use, where they are known.
    pub(crate) server: Option<Usage>,
    /// CPU time of the other processes that are watched, in their order.
    pub(crate) others_cpu: Vec<Duration>,
    /// CPU time of the whole machine, where it is told.
    pub(crate) cores: Option<Cores>,
    /// Size of the folder that is watched.
    pub(crate) disk: Option<u64>,
}

/// What samples are taken of, beside the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// Processes that are none of the server's.
    pub(crate) others: Vec<Process>,
    /// A folder whose size is measured.
    pub(crate) folder: Option<PathBuf>,
}

/// What happened within one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Its end, in seconds since the measured window began; negative before.
    pub(crate) at_s: f64,
    /// Its length in seconds.
    pub(crate) length_s: f64,
    /// Events sent in it, a second; this and the next two.
    pub(crate) sent_per_s: f64,
    /// Answered 202.
    pub(crate) accepted_per_s: f64,
    /// Arrived.
    pub(crate) delivered_per_s: f64,
    /// Due and not sent at its end.
    pub(crate) waiting: u64,
    /// Accepted and not arrived at its end.
    pub(crate) outstanding: u64,
    /// From due to arrival, of what arrived in it at healthy endpoints; `None` where nothing did.
    pub(crate) latency_us: Option<Quantiles>,
    /// Cores that the server's processes kept busy.
    pub(crate) server_cores: Option<f64>,
    /// Cores that driver and receiver kept busy.
    pub(crate) loadtest_cores: f64,
    /// Cores that were busy with anything.
    pub(crate) busy_cores: Option<f64>,
    /// Cores that the host took.
    pub(crate) stolen_cores: Option<f64>,
    /// Resident memory of the server at its end.
    pub(crate) rss_bytes: Option<u64>,
    /// Open files of the server at its end.
    pub(crate) open_files: Option<u64>,
    /// Size of the watched folder at its end.
    pub(crate) disk_bytes: Option<u64>,
}

/// What a curve of latency over time is made of, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    /// Half of them took no longer.
    pub(crate) p50: u64,
    /// All but one in a hundred took no longer.
    pub(crate) p99: u64,
    /// The longest.
    pub(crate) max: u64,
}

/// The intervals of a run so far.
pub(crate) struct Course {
    every: Duration,
    begin: Sample,
    intervals: Vec<Interval>,
}

impl Sample {
    /// How things are at `at`.
    ///
    /// Errors: a process that is measured has ended.
    pub(crate) fn take(at: Micros, ledger: &Ledger, fleet: &mut Fleet, watched: &Watched) -> anyhow::Result<Sample> {
        Ok(Sample {
            at,
            counts: ledger.counts(),
            own_cpu: Process::own().cpu()?,
            server: fleet.usage()?,
            others_cpu: watched.others.iter().map(Process::cpu).collect::<anyhow::Result<_>>()?,
            cores: Cores::now(),
            disk: watched.folder.as_deref().map(machine::disk),
        })
    }
}

impl Course {
    /// The course of a run of `length`, where that is known, which begins with `begin`.
    pub(crate) fn new(length: Option<Duration>, begin: Sample) -> Course {
        let seconds = length.map_or(1, |length| (length / INTERVALS).as_secs_f64().ceil().max(1.0) as u64);
        Course { every: Duration::from_secs(seconds), begin, intervals: Vec::new() }
    }

    /// When the present interval ends.
    pub(crate) fn next(&self) -> Micros {
        self.begin.at + self.every
    }

    /// Ends the present interval with `end`; `waiting` events were due and not sent, `recent` is of what arrived in it.
    pub(crate) fn add(&mut self, end: Sample, waiting: u64, recent: &Histogram<u64>) -> &Interval {
        let begin = &self.begin;
        let length = end.at.since(begin.at).as_secs_f64();
        let per_second = |end: u64, begin: u64| thousandths((end - begin) as f64 / length);
        let cores = |end: Duration, begin: Duration| thousandths(end.saturating_sub(begin).as_secs_f64() / length);
        let machine = end.cores.zip(begin.cores);
        self.intervals.push(Interval {
            at_s: end.at.0 as f64 / 1e6,
            length_s: thousandths(length),
            sent_per_s: per_second(end.counts.sent, begin.counts.sent),
            accepted_per_s: per_second(end.counts.accepted, begin.counts.accepted),
            delivered_per_s: per_second(end.counts.delivered, begin.counts.delivered),
            waiting,
            outstanding: end.counts.outstanding,
            latency_us: Quantiles::of(recent),
            server_cores: end.server.zip(begin.server).map(|(end, begin)| cores(end.cpu, begin.cpu)),
            loadtest_cores: cores(end.own_cpu, begin.own_cpu),
            busy_cores: machine.map(|(end, begin)| cores(end.busy, begin.busy)),
            stolen_cores: machine.map(|(end, begin)| cores(end.stolen, begin.stolen)),
            rss_bytes: end.server.map(|usage| usage.resident),
            open_files: end.server.map(|usage| usage.files),
            disk_bytes: end.disk,
        });
        self.begin = end;
        self.intervals.last().expect("one was just added")
    }

    /// All intervals, with their times counted from `zero`.
    pub(crate) fn since(self, zero: Micros) -> Vec<Interval> {
        let zero = zero.0 as f64 / 1e6;
        self.intervals.into_iter().map(|interval| Interval { at_s: thousandths(interval.at_s - zero), ..interval }).collect()
    }
}

/// As exact as anybody needs it, so that a file of results stays small.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Quantiles> {
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Quantiles { p50: at(0.5), p99: at(0.99), max: histogram.max() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, sent: u64) -> Sample {
        let (at, counts) = (Micros(seconds * 1_000_000), Counts { sent, ..Counts::default() });
        Sample { at, counts, own_cpu: Duration::from_secs(seconds / 2), server: None, others_cpu: Vec::new(), cores: None, disk: Some(7) }
    }

    #[test]
    fn an_interval_says_what_happened_in_it_a_second() {
        let mut course = Course::new(None, sample(0, 10));
        assert_eq!(course.next(), Micros(1_000_000));
        let mut recent = Histogram::<u64>::new(3).expect("valid");
        assert_eq!(course.add(sample(2, 30), 5, &recent).latency_us, None);
        recent.record(100).expect("it fits");
        course.add(sample(3, 30), 0, &recent);
        let intervals = course.since(Micros(2_000_000));
        assert_eq!((intervals[0].at_s, intervals[0].sent_per_s, intervals[0].loadtest_cores, intervals[0].waiting), (0.0, 10.0, 0.5, 5));
        assert_eq!((intervals[1].at_s, intervals[1].sent_per_s, intervals[1].disk_bytes), (1.0, 0.0, Some(7)));
        assert_eq!(intervals[1].latency_us, Some(Quantiles { p50: 100, p99: 100, max: 100 }));
    }

    #[test]
    fn a_long_run_has_longer_intervals() {
        let every = |seconds| Course::new(Some(Duration::from_secs(seconds)), sample(0, 0)).every.as_secs();
        assert_eq!([every(30), every(1_800), every(1_801), every(86_400)], [1, 1, 2, 48]);
    }
}

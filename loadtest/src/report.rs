//! The result of a run, for people and for machines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::command;
use crate::course::{Interval, Sample};
use crate::endpoints::{EndpointNo, Endpoints, Temper};
use crate::fault::Fault;
use crate::fleet::Usage;
use crate::ledger::{Ledger, Missing};
use crate::machine::Machine;
use crate::receiver::Receiver;
use crate::scenario::{Backlog, Scenario, Work};

/// A slow or flapping endpoint that received something so shortly before the end still works off its queue.
const GRACE: Duration = Duration::from_secs(10);

/// Points of a distribution for each halving of what remains above.
const TICKS: u32 = 5;
/// Seconds before a fault that say what is usual.
const BEFORE: f64 = 10.0;

/// What was measured. Rates, latencies and CPU are of the measured window; counts are of the whole run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What the run is called.
    pub(crate) name: String,
    /// When it ended, in seconds since 1970.
    pub(crate) made_at: u64,
    /// How it was started, without its key.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) scenario: Setup,
    pub(crate) window_s: f64,
    pub(crate) ingest_per_s: f64,
    pub(crate) delivered_per_s: f64,
    pub(crate) sent: u64,
    /// Due, and never sent because no connection was free until the drain's time-out.
    pub(crate) unsent: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: BTreeMap<u16, u64>,
    pub(crate) unanswered: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Accepted, and still waiting for a slow or flapping endpoint that was receiving until the end.
    pub(crate) queued: u64,
    pub(crate) duplicated: u64,
    /// Delivered without having been answered 202.
    pub(crate) unconfirmed: u64,
    pub(crate) stray: u64,
    /// From due to the first arrival at a healthy endpoint; without the favourite, if there is one.
    pub(crate) latency_us: Latency,
    /// The same for the endpoint that got more than the others, which are not counted here.
    pub(crate) favourite_latency_us: Option<Latency>,
    /// From due to the 202.
    pub(crate) ingest_latency_us: Latency,
    /// `latency_us` whole: shares of all events from 0 to 1, and the latency that they did not exceed.
    pub(crate) distribution: Vec<(f64, u64)>,
    pub(crate) signatures: Checked,
    pub(crate) server: Option<ServerUse>,
    pub(crate) loadtest: OwnUse,
    /// Processes that are none of the server's, by their names.
    pub(crate) others: BTreeMap<String, OwnUse>,
    /// Cores that the host took for its other guests, over the measured window.
    pub(crate) stolen_cores: Option<f64>,
    pub(crate) faults: Vec<Disturbance>,
    pub(crate) course: Vec<Interval>,
    pub(crate) receiver_connections_opened: u64,
    pub(crate) endpoints: BTreeMap<String, OfTemper>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) rate: String,
    pub(crate) jobs: bool,
    /// Events that waited when the measured window began; then the rate means nothing.
    pub(crate) backlog: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) batch: usize,
    pub(crate) endpoints: usize,
    pub(crate) bad: String,
    pub(crate) skew: f64,
    pub(crate) delay_ms: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) warmup_s: f64,
    pub(crate) seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p99_9: u64,
    pub(crate) max: u64,
    pub(crate) count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) checked: u64,
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    /// `None` when nothing was delivered.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// In cores: 1.5 is one and a half of them busy.
    pub(crate) cpu_cores: f64,
    pub(crate) peak_rss_bytes: u64,
    pub(crate) end_rss_bytes: u64,
    pub(crate) end_open_files: u64,
}

/// A fault, and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Disturbance {
    pub(crate) what: String,
    /// When it began, in seconds since the measured window did.
    pub(crate) at_s: f64,
    pub(crate) lasts_s: f64,
    /// How long after its end no more waited to be sent or to arrive than in the ten seconds before it began; `None` if it
    /// never was so.
    pub(crate) recovered_s: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OwnUse {
    /// `None` when nothing was delivered.
    pub(crate) cpu_us_per_delivery: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfTemper {
    pub(crate) endpoints: usize,
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    pub(crate) queued: u64,
    pub(crate) lost: u64,
}

/// Whether the run proves what it is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything accepted arrived, and every signature that was verified holds.
    Sound,
    /// Events were lost, signatures are wrong, or nothing was accepted at all.
    Broken,
}

impl Verdict {
    /// 0 for sound, 1 for broken.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Verdict::Sound => ExitCode::SUCCESS,
            Verdict::Broken => ExitCode::FAILURE,
        }
    }
}

/// Everything a report is made of.
pub(crate) struct Evidence<'a> {
    /// What was run.
    pub(crate) scenario: &'a Scenario,
    /// The endpoints it was run with.
    pub(crate) endpoints: &'a Endpoints,
    /// What was sent and arrived.
    pub(crate) ledger: &'a Ledger,
    /// What the receiver saw.
    pub(crate) receiver: &'a Receiver,
    /// Events that were due and never sent.
    pub(crate) unsent: u64,
    /// The beginning of the measured window.
    pub(crate) from: Sample,
    /// Its end.
    pub(crate) to: Sample,
    /// What the server's processes use at the end, where they are known.
    pub(crate) usage: Option<Usage>,
    /// Every interval of the run.
    pub(crate) course: Vec<Interval>,
    /// When the run ended.
    pub(crate) end: Micros,
}

impl Report {
    /// Sums up a run.
    pub(crate) fn new(evidence: Evidence<'_>) -> Report {
        let Evidence { scenario, endpoints, ledger, receiver, unsent, from, to, usage, course, end } = evidence;
        let counts = ledger.counts();
        let window = to.at.since(from.at);
        let delivered = to.counts.delivered - from.counts.delivered;
        let per_second = |count: u64| count as f64 / window.as_secs_f64();
        let per_delivery = |cpu: Duration| (delivered > 0).then(|| cpu.as_micros() as f64 / delivered as f64);
        let server_cpu = to.server.zip(from.server).map(|(to, from)| to.cpu.saturating_sub(from.cpu));
        let others = scenario.watch.iter().zip(to.others_cpu.iter().zip(&from.others_cpu));
        let stolen = to.cores.zip(from.cores).map(|(to, from)| to.stolen.saturating_sub(from.stolen));
        let missing = ledger.missing(end, GRACE);
        let signatures = receiver.signatures();
        Report {
            name: scenario.name.clone(),
            made_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
            command: command::line(std::env::args()),
            machine: Machine::here(),
            scenario: Setup::of(scenario),
            window_s: window.as_secs_f64(),
            ingest_per_s: per_second(to.counts.accepted - from.counts.accepted),
            delivered_per_s: per_second(delivered),
            sent: counts.sent,
            unsent,
            accepted: counts.accepted,
            refused: ledger.refused().clone(),
            unanswered: counts.unanswered,
            delivered: counts.delivered,
            lost: missing.values().map(|missing| missing.lost).sum(),
            queued: missing.values().map(|missing| missing.queued).sum(),
            duplicated: counts.duplicated,
            unconfirmed: ledger.unconfirmed(),
            stray: counts.stray,
            latency_us: Latency::of(ledger.delivery()),
            favourite_latency_us: (scenario.skew.0 > 0.0).then(|| Latency::of(ledger.favourite())),
            ingest_latency_us: Latency::of(ledger.ingest()),
            distribution: distribution(ledger.delivery()),
            signatures: Checked { checked: signatures.checked, failed: signatures.failed, first_failure: signatures.first_failure.clone() },
            server: server_cpu.zip(usage).map(|(cpu, usage)| ServerUse {
                cpu_us_per_delivery: per_delivery(cpu),
                cpu_cores: cpu.as_secs_f64() / window.as_secs_f64(),
                peak_rss_bytes: usage.peak,
                end_rss_bytes: usage.resident,
                end_open_files: usage.files,
            }),
            loadtest: OwnUse { cpu_us_per_delivery: per_delivery(to.own_cpu.saturating_sub(from.own_cpu)) },
            others: others
                .map(|(named, (to, from))| (named.name.clone(), OwnUse { cpu_us_per_delivery: per_delivery(to.saturating_sub(*from)) }))
                .collect(),
            stolen_cores: stolen.map(|stolen| stolen.as_secs_f64() / window.as_secs_f64()),
            faults: scenario.faults.iter().map(|fault| Disturbance::of(fault, &course)).collect(),
            course,
            receiver_connections_opened: receiver.opened(),
            endpoints: by_temper(endpoints, ledger, receiver, &missing),
        }
    }

    /// Prints the table to stdout and writes the JSON to `out`.
    pub(crate) fn publish(&self, out: Option<&Path>) -> anyhow::Result<Verdict> {
        println!("{self}");
        if let Some(out) = out {
            let json = serde_json::to_vec(self).context("the report can't be written as JSON")?;
            fs::write(out, json).with_context(|| format!("cannot write {}", out.display()))?;
        }
        Ok(self.verdict())
    }

    /// Whether it proves what it was run for.
    pub(crate) fn verdict(&self) -> Verdict {
        let broken = self.lost > 0 || self.signatures.failed > 0 || self.accepted == 0;
        if broken { Verdict::Broken } else { Verdict::Sound }
    }
}

impl Setup {
    fn of(scenario: &Scenario) -> Setup {
        Setup {
            rate: scenario.rate.to_string(),
            jobs: scenario.work == Work::Jobs,
            backlog: scenario.backlog.as_ref().map(Backlog::events),
            connections: scenario.connections,
            batch: scenario.batch,
            endpoints: scenario.endpoints,
            bad: scenario.bad.to_string(),
            skew: scenario.skew.0,
            delay_ms: scenario.delay.as_millis() as u64,
            payload_bytes: scenario.payload_bytes,
            warmup_s: scenario.warmup.as_secs_f64(),
            seed: scenario.seed,
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: histogram.max(), count: histogram.len() }
    }
}

fn by_temper(
    endpoints: &Endpoints,
    ledger: &Ledger,
    receiver: &Receiver,
    missing: &BTreeMap<Temper, Missing>,
) -> BTreeMap<String, OfTemper> {
    let row = |temper: Temper| {
        let count = (0..endpoints.len() as u32).filter(|i| endpoints.temper(EndpointNo(*i)) == temper).count();
        let Missing { queued, lost } = missing.get(&temper).copied().unwrap_or_default();
        OfTemper { endpoints: count, accepted: ledger.accepted_by(temper), requests: receiver.requests(temper), queued, lost }
    };
    Temper::ALL.into_iter().map(|temper| (temper.name().to_owned(), row(temper))).filter(|(_, row)| row.endpoints > 0).collect()
}

impl Disturbance {
    fn of(fault: &Fault, course: &[Interval]) -> Disturbance {
        let (at, end) = (fault.at.as_secs_f64(), fault.end().as_secs_f64());
        let behind = |interval: &Interval| interval.waiting + interval.outstanding;
        let before = course.iter().filter(|interval| (at - BEFORE..=at).contains(&interval.at_s));
        let usual = before.map(behind).max().unwrap_or(0);
        let recovered = course.iter().find(|interval| interval.at_s >= end && behind(interval) <= usual);
        Disturbance {
            what: fault.what.to_string(),
            at_s: at,
            lasts_s: fault.lasts.as_secs_f64(),
            recovered_s: recovered.map(|interval| interval.at_s - end),
        }
    }
}

/// Points of the curve of a distribution, closer together towards its long end.
fn distribution(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    histogram.iter_quantiles(TICKS).map(|point| (point.quantile(), point.value_iterated_to())).collect()
}

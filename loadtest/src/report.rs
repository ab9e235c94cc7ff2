//! The result of a run, for people and for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Micros;
use crate::endpoints::{EndpointNo, Endpoints, Temper};
use crate::ledger::{Ledger, Missing};
use crate::receiver::Receiver;
use crate::run::Sample;
use crate::scenario::Scenario;
use crate::server::Memory;

/// A slow or flapping endpoint that received something so shortly before the end still works off its queue.
const GRACE: Duration = Duration::from_secs(10);

/// What was measured. Rates, latencies and CPU are of the measured window; counts are of the whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    scenario: Setup,
    window_s: f64,
    ingest_per_s: f64,
    delivered_per_s: f64,
    sent: u64,
    /// Due, and never sent because no connection was free until the drain's time-out.
    unsent: u64,
    accepted: u64,
    refused: BTreeMap<u16, u64>,
    unanswered: u64,
    delivered: u64,
    lost: u64,
    /// Accepted, and still waiting for a slow or flapping endpoint that was receiving until the end.
    queued: u64,
    duplicated: u64,
    /// Delivered without having been answered 202.
    unconfirmed: u64,
    stray: u64,
    /// From due to the first arrival at a healthy endpoint.
    latency_us: Latency,
    /// From due to the 202.
    ingest_latency_us: Latency,
    signatures: Checked,
    server: Option<ServerUse>,
    loadtest: OwnUse,
    receiver_connections_opened: u64,
    endpoints: BTreeMap<&'static str, OfTemper>,
}

#[derive(Debug, Serialize)]
struct Setup {
    rate: String,
    /// Events that were produced ahead; then rate, connections and batch mean nothing.
    produced: Option<u64>,
    connections: usize,
    batch: usize,
    endpoints: usize,
    bad: String,
    delay_ms: u64,
    payload_bytes: usize,
    warmup_s: f64,
    seed: u64,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Checked {
    checked: u64,
    failed: u64,
    first_failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct ServerUse {
    /// `None` when nothing was delivered.
    cpu_us_per_delivery: Option<f64>,
    /// In cores: 1.5 is one and a half of them busy.
    cpu_cores: f64,
    peak_rss_bytes: u64,
    end_rss_bytes: u64,
}

#[derive(Debug, Serialize)]
struct OwnUse {
    /// Driver and receiver together, per delivery; `None` when nothing was delivered.
    cpu_us_per_delivery: Option<f64>,
}

#[derive(Debug, Serialize)]
struct OfTemper {
    endpoints: usize,
    accepted: u64,
    requests: u64,
    queued: u64,
    lost: u64,
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
    /// The server's memory at the end, where its process is known.
    pub(crate) memory: Option<Memory>,
    /// When the run ended.
    pub(crate) end: Micros,
}

impl Report {
    /// Sums up a run.
    pub(crate) fn new(evidence: &Evidence<'_>) -> Report {
        let Evidence { scenario, endpoints, ledger, receiver, unsent, from, to, memory, end } = evidence;
        let counts = ledger.counts();
        let window = to.at.since(from.at);
        let delivered = to.counts.delivered - from.counts.delivered;
        let per_second = |count: u64| count as f64 / window.as_secs_f64();
        let per_delivery = |cpu: Duration| (delivered > 0).then(|| cpu.as_micros() as f64 / delivered as f64);
        let server_cpu = to.server_cpu.zip(from.server_cpu).map(|(to, from)| to.saturating_sub(from));
        let missing = ledger.missing(*end, GRACE);
        let signatures = receiver.signatures();
        Report {
            scenario: Setup::of(scenario),
            window_s: window.as_secs_f64(),
            ingest_per_s: per_second(to.counts.accepted - from.counts.accepted),
            delivered_per_s: per_second(delivered),
            sent: counts.sent,
            unsent: *unsent,
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
            ingest_latency_us: Latency::of(ledger.ingest()),
            signatures: Checked { checked: signatures.checked, failed: signatures.failed, first_failure: signatures.first_failure.clone() },
            server: server_cpu.zip(*memory).map(|(cpu, memory)| ServerUse {
                cpu_us_per_delivery: per_delivery(cpu),
                cpu_cores: cpu.as_secs_f64() / window.as_secs_f64(),
                peak_rss_bytes: memory.peak,
                end_rss_bytes: memory.resident,
            }),
            loadtest: OwnUse { cpu_us_per_delivery: per_delivery(to.own_cpu.saturating_sub(from.own_cpu)) },
            receiver_connections_opened: receiver.opened(),
            endpoints: by_temper(endpoints, ledger, receiver, &missing),
        }
    }

    /// Prints the table to stdout and writes the JSON to `out`.
    pub(crate) fn publish(&self, out: Option<&Path>) -> anyhow::Result<Verdict> {
        println!("{self}");
        if let Some(out) = out {
            let json = serde_json::to_vec_pretty(self).context("the report can't be written as JSON")?;
            fs::write(out, json).with_context(|| format!("cannot write {}", out.display()))?;
        }
        Ok(self.verdict())
    }

    fn verdict(&self) -> Verdict {
        let broken = self.lost > 0 || self.signatures.failed > 0 || self.accepted == 0;
        if broken { Verdict::Broken } else { Verdict::Sound }
    }
}

impl Setup {
    fn of(scenario: &Scenario) -> Setup {
        Setup {
            rate: scenario.rate.to_string(),
            produced: scenario.backlog.as_ref().map(|backlog| backlog.events),
            connections: scenario.connections,
            batch: scenario.batch,
            endpoints: scenario.endpoints,
            bad: scenario.bad.to_string(),
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

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let [p50, p90, p99, p99_9, max] = [self.p50, self.p90, self.p99, self.p99_9, self.max].map(ms);
        write!(f, "p50 {p50:.2} ms  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p99_9:.2}  max {max:.2}  ({} events)", self.count)
    }
}

fn by_temper(
    endpoints: &Endpoints,
    ledger: &Ledger,
    receiver: &Receiver,
    missing: &BTreeMap<Temper, Missing>,
) -> BTreeMap<&'static str, OfTemper> {
    let row = |temper: Temper| {
        let count = (0..endpoints.len() as u32).filter(|i| endpoints.temper(EndpointNo(*i)) == temper).count();
        let Missing { queued, lost } = missing.get(&temper).copied().unwrap_or_default();
        OfTemper { endpoints: count, accepted: ledger.accepted_by(temper), requests: receiver.requests(temper), queued, lost }
    };
    Temper::ALL.into_iter().map(|temper| (temper.name(), row(temper))).filter(|(_, row)| row.endpoints > 0).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_delivery = |cpu: Option<f64>| cpu.map_or("no deliveries".to_owned(), |cpu| format!("{cpu:.1} µs per delivery"));
        writeln!(f, "ingest      {:.0}/s, delivered {:.0}/s over {:.1} s", self.ingest_per_s, self.delivered_per_s, self.window_s)?;
        writeln!(f, "events      sent {}, accepted {}, unanswered {}, unsent {}", self.sent, self.accepted, self.unanswered, self.unsent)?;
        for (status, count) in &self.refused {
            writeln!(f, "            refused with {status}: {count}")?;
        }
        writeln!(
            f,
            "deliveries  {}, lost {}, queued {}, duplicated {}, unconfirmed {}, stray {}",
            self.delivered, self.lost, self.queued, self.duplicated, self.unconfirmed, self.stray
        )?;
        writeln!(f, "delivery    {}", self.latency_us)?;
        writeln!(f, "ingest      {}", self.ingest_latency_us)?;
        writeln!(f, "signatures  {} verified, {} failed", self.signatures.checked, self.signatures.failed)?;
        if let Some(failure) = &self.signatures.first_failure {
            writeln!(f, "            first failure: {failure}")?;
        }
        if let Some(server) = &self.server {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            let [peak, end] = [server.peak_rss_bytes, server.end_rss_bytes].map(mib);
            let cpu = per_delivery(server.cpu_us_per_delivery);
            writeln!(f, "server      {cpu}, {:.2} cores, peak {peak:.0} MiB, end {end:.0} MiB", server.cpu_cores)?;
        }
        let (own, opened) = (per_delivery(self.loadtest.cpu_us_per_delivery), self.receiver_connections_opened);
        writeln!(f, "loadtest    {own}; {opened} connections were opened to the receiver")?;
        writeln!(f, "{:<10} {:>9} {:>10} {:>10} {:>8} {:>8}", "endpoints", "count", "accepted", "requests", "queued", "lost")?;
        for (name, row) in &self.endpoints {
            let OfTemper { endpoints, accepted, requests, queued, lost } = row;
            writeln!(f, "{name:<10} {endpoints:>9} {accepted:>10} {requests:>10} {queued:>8} {lost:>8}")?;
        }
        let words = match self.verdict() {
            Verdict::Sound => "sound: everything accepted arrived where it must",
            Verdict::Broken if self.accepted == 0 => "BROKEN: the server accepted nothing",
            Verdict::Broken => "BROKEN: events were lost, or signatures are wrong",
        };
        write!(f, "{words}")
    }
}

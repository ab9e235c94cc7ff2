//! What a run came to, as text for a person.

use std::fmt;

use crate::report::{Latency, OfTemper, Report, Verdict};

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let [p50, p90, p99, p99_9, max] = [self.p50, self.p90, self.p99, self.p99_9, self.max].map(ms);
        write!(f, "p50 {p50:.2} ms  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p99_9:.2}  max {max:.2}  ({} events)", self.count)
    }
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
        if let Some(favourite) = &self.favourite_latency_us {
            writeln!(f, "favourite   {favourite}")?;
        }
        writeln!(f, "ingest      {}", self.ingest_latency_us)?;
        writeln!(f, "signatures  {} verified, {} failed", self.signatures.checked, self.signatures.failed)?;
        if let Some(failure) = &self.signatures.first_failure {
            writeln!(f, "            first failure: {failure}")?;
        }
        if let Some(server) = &self.server {
            let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
            let [peak, end] = [server.peak_rss_bytes, server.end_rss_bytes].map(mib);
            let cpu = per_delivery(server.cpu_us_per_delivery);
            let files = server.end_open_files;
            writeln!(f, "server      {cpu}, {:.2} cores, peak {peak:.0} MiB, end {end:.0} MiB, {files} files", server.cpu_cores)?;
        }
        for (name, other) in &self.others {
            writeln!(f, "{name:<11} {}", per_delivery(other.cpu_us_per_delivery))?;
        }
        let (own, opened) = (per_delivery(self.loadtest.cpu_us_per_delivery), self.receiver_connections_opened);
        writeln!(f, "loadtest    {own}; {opened} connections were opened to the receiver")?;
        for fault in &self.faults {
            let recovered =
                fault.recovered_s.map_or("never recovered".to_owned(), |seconds| format!("recovered {seconds:.0} s after its end"));
            writeln!(f, "fault       {} at {} s for {} s: {recovered}", fault.what, fault.at_s, fault.lasts_s)?;
        }
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

//! The tables of a report, the same on a page and in Markdown.

use std::collections::BTreeSet;

use super::words::{bytes, grouped, latency, span};
use crate::course::Interval;
use crate::report::Report;

/// The shortest run, in seconds, whose beginning and end are worth comparing.
const LONG: f64 = 300.0;

/// Rows of text under a head; all of the same width. The first column holds names, the others figures.
pub(super) struct Table {
    /// What the columns hold.
    pub(super) head: Vec<String>,
    /// The cells.
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(head: [&str; N]) -> Table {
        Table { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }
}

/// What could not be measured.
fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

/// The machines of all results, each once.
pub(super) fn machines(results: &[Report]) -> Vec<String> {
    let words = |result: &Report| {
        let machine = &result.machine;
        let memory = bytes(machine.memory_bytes as f64);
        format!("{} cores of {}, {memory}, Linux {}", machine.cores, machine.cpu, machine.kernel)
    };
    results.iter().map(words).collect::<BTreeSet<String>>().into_iter().collect()
}

/// What each run came to.
pub(super) fn runs(results: &[Report]) -> Table {
    let mut table = Table::new(["run", "offered", "accepted/s", "delivered/s", "p50", "p99", "p99.9", "longest"]);
    let favourite = results.iter().any(|result| result.favourite_latency_us.is_some());
    if favourite {
        table.head.push("favourite's p99".to_owned());
    }
    table.head.push("server, µs of CPU each".to_owned());
    let others: BTreeSet<&String> = results.iter().flat_map(|result| result.others.keys()).collect();
    table.head.extend(others.iter().map(|name| format!("{name}, µs")));
    table.head.extend(["driver, µs", "taken by the host", "peak memory", "lost", "twice"].map(str::to_owned));
    for result in results {
        let setup = &result.scenario;
        let offered = match setup.backlog {
            Some(events) => format!("{} waiting", grouped(events as f64)),
            None => setup.rate.parse().map_or_else(|_| setup.rate.clone(), |rate: f64| format!("{}/s", grouped(rate))),
        };
        let waits = &result.latency_us;
        let micros = |value: u64| if waits.count > 0 { latency(value as f64) } else { or_none(None) };
        let cpu = |cpu: Option<f64>| or_none(cpu.map(|micros| format!("{micros:.0}")));
        let accepted = if setup.backlog.is_some() { or_none(None) } else { grouped(result.ingest_per_s) };
        let mut row = vec![result.name.clone(), offered, accepted, grouped(result.delivered_per_s)];
        row.extend([waits.p50, waits.p99, waits.p99_9, waits.max].map(micros));
        if favourite {
            row.push(or_none(result.favourite_latency_us.as_ref().map(|waits| latency(waits.p99 as f64))));
        }
        row.push(cpu(result.server.as_ref().and_then(|server| server.cpu_us_per_delivery)));
        row.extend(others.iter().map(|name| cpu(result.others.get(*name).and_then(|other| other.cpu_us_per_delivery))));
        row.push(cpu(result.loadtest.cpu_us_per_delivery));
        row.push(or_none(result.stolen_cores.map(|cores| format!("{cores:.2} cores"))));
        row.push(or_none(result.server.as_ref().map(|server| bytes(server.peak_rss_bytes as f64))));
        row.extend([result.lost, result.duplicated].map(|count| grouped(count as f64)));
        table.rows.push(row);
    }
    table
}

/// What came of the faults.
pub(super) fn faults(results: &[Report]) -> Table {
    let mut table = Table::new(["run", "fault", "after", "for", "nothing more waits than before"]);
    for (result, fault) in results.iter().flat_map(|result| result.faults.iter().map(move |fault| (result, fault))) {
        let recovered = fault.recovered_s.map_or_else(|| "never".to_owned(), |seconds| format!("{} after its end", span(seconds)));
        table.rows.push(vec![result.name.clone(), fault.what.clone(), span(fault.at_s), span(fault.lasts_s), recovered]);
    }
    table
}

/// The first and the last third of long runs: what grows, shows.
pub(super) fn trends(results: &[Report]) -> Table {
    let mut table = Table::new(["run", "delivered/s", "p50", "p99", "memory", "open files", "disk a minute"]);
    for result in results.iter().filter(|result| result.window_s >= LONG) {
        let third = result.window_s / 3.0;
        for (part, from) in [("first third", 0.0), ("last third", 2.0 * third)] {
            let of_part = |interval: &&Interval| interval.at_s > from && interval.at_s <= from + third;
            let part_of_it: Vec<&Interval> = result.course.iter().filter(of_part).collect();
            let average = |value: fn(&Interval) -> Option<f64>| {
                let values: Vec<f64> = part_of_it.iter().filter_map(|interval| value(interval)).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let grown = part_of_it.first().zip(part_of_it.last()).and_then(|(first, last)| {
                let minutes = (last.at_s - first.at_s) / 60.0;
                (minutes > 0.0).then_some((last.disk_bytes? as f64 - first.disk_bytes? as f64) / minutes)
            });
            table.rows.push(vec![
                format!("{}, {part}", result.name),
                or_none(average(|interval| Some(interval.delivered_per_s)).map(grouped)),
                or_none(median(&part_of_it, |interval| Some(interval.latency_us?.p50)).map(latency)),
                or_none(median(&part_of_it, |interval| Some(interval.latency_us?.p99)).map(latency)),
                or_none(average(|interval| Some(interval.rss_bytes? as f64)).map(bytes)),
                or_none(average(|interval| Some(interval.open_files? as f64)).map(grouped)),
                or_none(grown.map(bytes)),
            ]);
        }
    }
    table
}

/// What endpoints of each temper got.
pub(super) fn endpoints(result: &Report) -> Table {
    let mut table = Table::new(["endpoints", "count", "events", "requests", "queued", "lost"]);
    for (name, row) in &result.endpoints {
        let counts = [row.endpoints as u64, row.accepted, row.requests, row.queued, row.lost].map(|count| grouped(count as f64));
        table.rows.push([name.clone()].into_iter().chain(counts).collect());
    }
    table
}

/// Why a result proves nothing.
pub(super) fn broken(result: &Report) -> String {
    let (lost, failed) = (grouped(result.lost as f64), grouped(result.signatures.failed as f64));
    match result.accepted {
        0 => "nothing was accepted".to_owned(),
        _ => format!("{lost} events were lost, and {failed} signatures do not verify"),
    }
}

/// The middle of the values: a fault's few seconds do not move it.
fn median(intervals: &[&Interval], value: fn(&Interval) -> Option<u64>) -> Option<f64> {
    let mut values: Vec<u64> = intervals.iter().filter_map(|interval| value(interval)).collect();
    values.sort_unstable();
    values.get(values.len() / 2).map(|micros| *micros as f64)
}

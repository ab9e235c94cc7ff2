//! The charts of a report: what of the results is worth a look, and against what.

use super::axis::{Axis, rarity};
use super::chart::{Chart, Line, Span, Weight};
use super::words;
use crate::course::Interval;
use crate::report::Report;

/// All charts that there is something to show in.
pub(super) fn charts(results: &[Report]) -> Vec<Chart> {
    let strong = Weight::Strong;
    let charts = [
        distribution(results),
        latency(results),
        course(results, "Delivered", "events a second", &[(strong, |i| Some(i.delivered_per_s))], |most| Axis::even(most, words::number)),
        course(results, "Waiting", "events that are due and have not arrived", &[(strong, behind)], |most| Axis::even(most, words::number)),
        course(
            results,
            "Processor",
            "cores: strong what the server keeps busy, light what the host takes for others",
            &[(strong, |i| i.server_cores), (Weight::Light, |i| i.stolen_cores)],
            |most| Axis::even(most, words::number),
        ),
        course(results, "Memory", "resident, all processes of the server", &[(strong, |i| Some(i.rss_bytes? as f64))], Axis::bytes),
        course(results, "Open files", "sockets among them", &[(strong, |i| Some(i.open_files? as f64))], |most| {
            Axis::even(most, words::number)
        }),
        course(results, "Disk", "the watched folder", &[(strong, |i| Some(i.disk_bytes? as f64))], Axis::bytes),
    ];
    charts.into_iter().flatten().collect()
}

fn behind(interval: &Interval) -> Option<f64> {
    Some((interval.waiting + interval.outstanding) as f64)
}

/// How many events took how long at most.
fn distribution(results: &[Report]) -> Option<Chart> {
    let lines = results.iter().enumerate().map(|(run, result)| {
        let points = result.distribution.iter().map(|(share, micros)| (rarity(*share), Some(*micros as f64)));
        // The last of many events is the longest; that of few says no more than it can.
        let end = rarity(1.0 - 1.0 / result.latency_us.count.max(2) as f64);
        Line { run, weight: Weight::Strong, points: points.map(|(rarity, value)| (rarity.min(end), value)).collect() }
    });
    let lines: Vec<Line> = lines.filter(|line| !line.points.is_empty()).collect();
    let most = lines.iter().filter_map(|line| line.points.last()).map(|(rarity, _)| *rarity).fold(0.0, f64::max);
    let y = latencies(&lines)?;
    Some(Chart {
        title: "Latency of deliveries",
        note: "from when an event was due until its delivery arrived: this share of all took no longer",
        x: Axis::shares(most),
        y,
        lines,
        spans: Vec::new(),
    })
}

fn latency(results: &[Report]) -> Option<Chart> {
    let quantile = |run: usize, result: &Report, weight: Weight| {
        let value = |interval: &Interval| {
            interval.latency_us.map(|latency| match weight {
                Weight::Strong => latency.p99 as f64,
                Weight::Light => latency.p50 as f64,
            })
        };
        Line { run, weight, points: result.course.iter().map(|interval| (interval.at_s, value(interval))).collect() }
    };
    let lines =
        results.iter().enumerate().flat_map(|(run, result)| [Weight::Light, Weight::Strong].map(|weight| quantile(run, result, weight)));
    let lines: Vec<Line> = lines.collect();
    let y = latencies(&lines)?;
    Some(Chart {
        title: "Latency in the course of the run",
        note: "of what arrived then: strong p99, light p50",
        x: time(results)?,
        y,
        lines,
        spans: spans(results),
    })
}

type Value = fn(&Interval) -> Option<f64>;

/// One or more quantities in the course of the runs.
fn course(
    results: &[Report],
    title: &'static str,
    note: &'static str,
    values: &[(Weight, Value)],
    y: impl Fn(f64) -> Axis,
) -> Option<Chart> {
    let lines = results.iter().enumerate().flat_map(|(run, result)| {
        values.iter().map(move |(weight, value)| {
            let points = result.course.iter().map(|interval| (interval.at_s, value(interval))).collect();
            Line { run, weight: *weight, points }
        })
    });
    let lines: Vec<Line> = lines.collect();
    let most = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value).reduce(f64::max)?;
    Some(Chart { title, note, x: time(results)?, y: y(most), lines, spans: spans(results) })
}

/// An axis for the latencies of `lines`; `None` without any.
fn latencies(lines: &[Line]) -> Option<Axis> {
    let values = || lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let (least, most) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
    Some(Axis::latency(least.max(1.0), most.max(1.0)))
}

/// An axis for the time of all runs; `None` where none took any.
fn time(results: &[Report]) -> Option<Axis> {
    let intervals = || results.iter().flat_map(|result| &result.course);
    let from = intervals().map(|interval| interval.at_s - interval.length_s).reduce(f64::min)?;
    let to = intervals().map(|interval| interval.at_s).reduce(f64::max)?;
    Some(Axis::time(from, to))
}

/// The faults of all runs, each once.
fn spans(results: &[Report]) -> Vec<Span> {
    let mut spans = Vec::<Span>::new();
    for fault in results.iter().flat_map(|result| &result.faults) {
        let (from, to) = (fault.at_s, fault.at_s + fault.lasts_s);
        if spans.iter().all(|span| (span.from, span.to, &span.name) != (from, to, &fault.what)) {
            spans.push(Span { from, to, name: fault.what.clone() });
        }
    }
    spans
}

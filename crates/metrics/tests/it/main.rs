//! What is measured, what is documented, and what is shown are the same.

use std::collections::BTreeSet;

use postrider_metrics::{ALL, Shape, install, names};

#[test]
fn the_documentation_lists_what_is_measured() {
    let written = include_str!("../../../../docs/metrics.md");
    assert_eq!(written, postrider_metrics::markdown(), "run `cargo run -p postrider-metrics --example docs > docs/metrics.md`");
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut seen = BTreeSet::new();
    for metric in ALL {
        assert!(seen.insert(metric.name), "{} is listed twice", metric.name);
        match metric.shape {
            Shape::Counter => assert!(metric.name.ends_with("_total"), "{}", metric.name),
            Shape::Gauge => assert!(!metric.name.ends_with("_total"), "{}", metric.name),
            Shape::Histogram(bounds) => assert!(bounds.is_sorted() && bounds.len() < 20, "{}", metric.name),
        }
    }
}

#[test]
fn what_is_counted_is_shown_with_its_labels_and_buckets() {
    let exporter = install().expect("nothing else in this process keeps metrics");
    names::DELIVERIES.counter(&["success"]).increment(3);
    names::IN_FLIGHT.gauge(&[]).set(7.0);
    let latency = names::DELIVERY_LATENCY.histogram(&[]);
    [0.001, 0.2, 9.9, 11.0].into_iter().for_each(|seconds| latency.record(seconds));
    latency.record_many(100.0, 2);
    let page = exporter.render();
    let lines = [
        "# TYPE webhook_delivery_total counter",
        "webhook_delivery_total{result=\"success\"} 3",
        "postrider_in_flight 7",
        "postrider_delivery_latency_seconds_bucket{le=\"0.005\"} 1",
        "postrider_delivery_latency_seconds_bucket{le=\"10\"} 3",
        "postrider_delivery_latency_seconds_bucket{le=\"60\"} 4",
        "postrider_delivery_latency_seconds_bucket{le=\"+Inf\"} 6",
        "postrider_delivery_latency_seconds_count 6",
        "postrider_delivery_latency_seconds_sum 221.101",
        "# TYPE postrider_delivery_latency_seconds histogram",
    ];
    for line in lines {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing in\n{page}");
    }
    assert!(install().is_err());
}

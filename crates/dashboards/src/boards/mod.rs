//! The dashboards.

mod delivery;
mod endpoint;
mod jobs;
mod servers;

use postrider_metrics::Metric;

use crate::dashboard::Dashboard;
use crate::panel::{Panel, Unit};
use crate::query::{Query, Series, Window};

/// All dashboards, in the order in which somebody would look at them.
pub fn dashboards() -> Vec<Dashboard> {
    vec![delivery::dashboard(), jobs::dashboard(), servers::dashboard(), endpoint::dashboard()]
}

/// Adds lines for the median and the 99th percentile of a histogram.
fn quantiles(panel: Panel, histogram: Metric) -> Panel {
    let buckets = Series::chosen(histogram).buckets().rate(Window::Step);
    panel.query(buckets.quantile(0.5, &[]), "p50").query(buckets.quantile(0.99, &[]), "p99")
}

/// The 99th percentile of a histogram for each value of a label.
fn p99(histogram: Metric, label: &str) -> Query {
    Series::chosen(histogram).buckets().rate(Window::Step).quantile(0.99, &[label])
}

/// How fast a counter grows for each value of a label.
fn rate_by(counter: Metric, label: &str) -> Query {
    Series::chosen(counter).rate(Window::Step).sum_by(&[label])
}

/// A histogram's buckets as they fill.
fn buckets(title: &'static str, unit: Unit, says: &'static str, histogram: Metric) -> Panel {
    Panel::heatmap(title, unit, says).query(Series::chosen(histogram).buckets().increase(Window::Step).sum_by(&["le"]), "{{le}}")
}

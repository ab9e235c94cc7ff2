//! Every metric of this program: its name, what it counts, its labels and buckets.
//!
//! Who measures takes a handle once, with [`Metric::counter`] and the like, and keeps it: counting is then an addition.
//! Before [`install`] handles count into nothing, so that crates can be tested without.
//!
//! Architecture invariant: no label holds an endpoint, a tenant, an event or a job; each has few values, which are known when
//! the program starts. docs/metrics.md is made of [`ALL`] by [`markdown`], and a test compares the two.
//!
//! Read [`names`] first.

mod buckets;
mod histogram;
mod metric;
pub mod names;
mod recorder;

pub use metric::{Label, Metric, Shape};
pub use names::ALL;
pub use recorder::{Exporter, InstallError, install};

/// The list of metrics as docs/metrics.md has it.
pub fn markdown() -> String {
    let mut page = String::from(concat!(
        "# Metrics\n\n",
        "`/metrics` of the admin listener (`server.admin_listen`, port 9464) answers Prometheus in its text format. No label holds an\n",
        "endpoint, a tenant, an event or a job: the number of series does not grow with use. Numbers are of one process; sum over\n",
        "processes. What a process never does it does not show.\n\n",
        "| metric | kind | labels | says |\n|---|---|---|---|\n",
    ));
    for metric in ALL {
        let labels = metric.labels.iter().map(|label| format!("`{}`: {}", label.name, label.values)).collect::<Vec<_>>().join("; ");
        page.push_str(&format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.shape.name(), metric.says));
    }
    page.push_str("\nHistograms have these buckets:\n\n| metric | upper bounds |\n|---|---|\n");
    for metric in ALL {
        if let Shape::Histogram(bounds) = metric.shape {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            page.push_str(&format!("| `{}` | {} |\n", metric.name, bounds.join(", ")));
        }
    }
    page
}

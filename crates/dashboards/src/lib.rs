//! What operators look at and are woken by: dashboards for Grafana, and as plain pages for Prometheus alone; recording rules and alerts for Prometheus.
//!
//! All are made here, from [`postrider_metrics::names`], and written to `deploy/` by
//! `cargo run -p postrider-dashboards --example write`: a metric that is renamed takes its panels and alerts along, and one that
//! is gone does not compile. Tests compare the files with what this crate makes, and ask a real Prometheus every query in them.
//!
//! Architecture invariant: knows names, not the program that measures; nothing of it runs in production.
//!
//! Read [`Query`] and [`alerts`] first.

mod alert;
mod alerts;
mod boards;
mod console;
mod dashboard;
mod objectives;
mod panel;
mod query;
mod rules;

pub use alert::{Alert, Comparison, Severity, When};
pub use alerts::alerts;
pub use boards::dashboards;
pub use dashboard::{Dashboard, Row};
pub use objectives::{Recording, recordings};
pub use panel::{Panel, Unit};
pub use query::{Query, Series, Window};

/// Every file that is made, by its path in the repository.
pub fn files() -> Vec<(String, String)> {
    let all = dashboards();
    let mut files: Vec<(String, String)> = all
        .iter()
        .map(|dashboard| (format!("deploy/grafana/dashboards/{}.json", dashboard.name), format!("{:#}\n", dashboard.json())))
        .collect();
    files.extend(all.iter().map(|one| (format!("deploy/prometheus/consoles/{}.html", one.name), one.console(&all))));
    files.push(("deploy/prometheus/rules.yml".to_owned(), rules::yaml(&recordings(), &alerts())));
    files
}

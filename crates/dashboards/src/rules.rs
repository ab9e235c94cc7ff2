//! Rules as Prometheus reads them.

use crate::alert::Alert;
use crate::objectives::Recording;

const HEAD: &str = "# What Prometheus records and alerts on. Made by `cargo run -p postrider-dashboards --example write`: change it there.
# Each alert's name is that of a section in docs/operations.md; severity page wakes somebody, ticket waits for the morning.
groups:
";

/// The file of rules, in YAML.
pub(crate) fn yaml(recordings: &[Recording], alerts: &[Alert]) -> String {
    let mut file = format!("{HEAD}  - name: postrider-recordings\n    rules:\n");
    for Recording { name, query } in recordings {
        file.push_str(&format!("      - record: {name}\n        expr: {}\n", block(&query.to_string())));
    }
    file.push_str("  - name: postrider-alerts\n    rules:\n");
    for alert in alerts {
        let Alert { name, severity, lasting, summary, description, .. } = alert;
        file.push_str(&format!(
            "      - alert: {name}\n        expr: {}\n        for: {lasting}\n        labels:\n          severity: {}\n        annotations:\n\
             \x20         summary: {}\n          description: {}\n          runbook_url: \"docs/operations.md#{}\"\n",
            block(&alert.expression()),
            severity.name(),
            quoted(summary),
            quoted(description),
            name.to_lowercase(),
        ));
    }
    file
}

/// Text that stands as it is, on lines of its own.
fn block(text: &str) -> String {
    format!("|-\n          {}", text.replace('\n', "\n          "))
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

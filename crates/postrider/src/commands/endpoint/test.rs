//! `postrider endpoint test`

use anyhow::anyhow;
use serde_json::json;

use crate::client::{Client, TestReport};
use crate::failure::Failure;
use crate::output::{self, Paint};

/// Sends a sample to endpoint `id`. Errors: the receiver does not do its part.
pub(crate) async fn run(client: &Client, id: &str, kind: Option<&str>, json: bool) -> Result<(), Failure> {
    let body = kind.map_or_else(|| json!({}), |kind| json!({ "type": kind }));
    let report: TestReport = client.post(&["v1", "webhooks", id, "test"], &body).await?;
    if json {
        output::json(&report)?;
    } else {
        show(&report, Paint::for_stdout())?;
    }
    if report.verdict.ok { Ok(()) } else { Err(anyhow!("{id} does not take deliveries as it should").into()) }
}

fn show(report: &TestReport, paint: Paint) -> Result<(), Failure> {
    output::line("Request")?;
    for (name, value) in &report.request.headers {
        output::line(format!("  {}: {value}", paint.faint(name)))?;
    }
    output::line(format!("\n  {}", report.request.body))?;
    let response = &report.response;
    let status = match response.status_code {
        Some(code) => code.to_string(),
        None => response.error.clone().unwrap_or_else(|| "none".to_owned()),
    };
    output::line(format!("\nResponse  {status}, after {} ms", response.duration_ms))?;
    if let Some(body) = response.body.as_deref().filter(|body| !body.is_empty()) {
        output::line(format!("  {body}"))?;
    }
    output::line("\nVerdict")?;
    for check in &report.verdict.checks {
        let sign = if check.ok { paint.good("✓") } else { paint.bad("✗") };
        let message = check.message.as_deref().map_or_else(String::new, |message| format!("  {message}"));
        output::line(format!("  {sign} {}{message}", check.name))?;
    }
    Ok(())
}

//! A receiver of spans that reads them with OpenTelemetry's own messages.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::world::{eventually, python, text};

/// Takes spans; ended when dropped.
pub(crate) struct Collector {
    _process: Child,
    output: File,
    port: u16,
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        let output = tempfile::tempfile().unwrap();
        let process = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/collector.py"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let port = eventually("the collector's port", async || text(&output).lines().next()?.parse().ok()).await;
        Collector { _process: process, output, port }
    }

    /// The settings of a server that sends its spans here, and those of this share of what has no trace of its own.
    pub(crate) fn settings(&self, ratio: f64) -> String {
        settings(&format!("http://127.0.0.1:{}", self.port), ratio)
    }

    /// All that it got, as text.
    pub(crate) fn said(&self) -> String {
        text(&self.output)
    }

    /// The spans it got of a trace.
    pub(crate) fn spans(&self, trace: &str) -> Vec<Value> {
        let text = self.said();
        // The last line may not be whole yet.
        let spans = text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
        spans.filter(|span| span["trace"] == trace).collect()
    }

    /// Waits until it got `count` spans of a trace of that name; returns them by the number of their attempt.
    pub(crate) async fn named(&self, trace: &str, name: &str, count: usize) -> Vec<Value> {
        let mut found = eventually(&format!("{count} spans {name}"), async || {
            let found: Vec<Value> = self.spans(trace).into_iter().filter(|span| span["name"] == name).collect();
            (found.len() >= count).then_some(found)
        })
        .await;
        assert_eq!(found.len(), count, "{found:?}");
        found.sort_by_key(|span| span["attributes"]["postrider.attempt"].as_i64());
        found
    }
}

/// The settings of a server that sends its spans to `endpoint`.
pub(crate) fn settings(endpoint: &str, ratio: f64) -> String {
    format!(
        "[otlp]\nendpoint = \"{endpoint}\"\nsample_ratio = {ratio:?}\ntimeout_seconds = 2\n[otlp.headers]\n\"x-key\" = \"geheim-collector\"\n"
    )
}

/// The four parts of a `traceparent`.
pub(crate) fn parts(traceparent: &str) -> [String; 4] {
    let parts: Vec<String> = traceparent.split('-').map(str::to_owned).collect();
    parts.try_into().unwrap_or_else(|_| panic!("{traceparent}"))
}

/// An event of a type, with these headers.
pub(crate) async fn send(api: &crate::world::Api, kind: &str, headers: &[(&str, &str)]) -> String {
    let mut request = api.request(reqwest::Method::POST, "/v1/events").json(&json!({ "type": kind, "data": {} }));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (status, receipt) = crate::world::answer(request).await;
    assert!(status.is_success(), "{receipt}");
    receipt["id"].as_str().unwrap().to_owned()
}

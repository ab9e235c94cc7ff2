//! What the server answers, as far as the commands show it; the rest is kept for `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An event was taken.
#[derive(Debug, Deserialize, Serialize)]
pub struct Receipt {
    /// The event's id.
    pub id: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What became of a batch.
#[derive(Debug, Deserialize, Serialize)]
pub struct BatchReceipt {
    /// Events that were taken.
    pub accepted: usize,
    /// Events that were not.
    pub rejected: usize,
    /// One for each event.
    pub results: Vec<BatchItem>,
}

/// What became of one event of a batch.
#[derive(Debug, Deserialize, Serialize)]
pub struct BatchItem {
    /// The event's place in the batch, from 0.
    pub index: usize,
    /// Its id, where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `accepted` or `rejected`.
    pub status: String,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// A webhook endpoint.
#[derive(Debug, Deserialize, Serialize)]
pub struct Endpoint {
    /// `ep_…`
    pub id: String,
    /// Where deliveries go.
    pub url: String,
    /// Patterns; none means all.
    #[serde(default)]
    pub events: Vec<String>,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Shown only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A page of endpoints.
#[derive(Debug, Deserialize)]
pub struct Endpoints {
    /// The endpoints of this page.
    pub webhooks: Vec<Endpoint>,
    /// Where the next page begins.
    #[serde(default)]
    pub next: Option<String>,
}

/// A secret has taken the place of another.
#[derive(Debug, Deserialize, Serialize)]
pub struct RotatedSecret {
    /// The new secret.
    pub secret: String,
    /// Until when deliveries are signed with the former one as well.
    #[serde(default)]
    pub previous_expires_at: Option<String>,
}

/// What came of a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub struct TestReport {
    /// What was sent.
    pub request: TestRequest,
    /// What came back.
    pub response: TestResponse,
    /// What to think of it.
    pub verdict: Verdict,
}

/// The request of a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub struct TestRequest {
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Its body, as it was signed.
    pub body: String,
}

/// The response to a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub struct TestResponse {
    /// Missing where none arrived.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Its body's beginning.
    #[serde(default)]
    pub body: Option<String>,
    /// The whole exchange.
    pub duration_ms: u64,
    /// Why none arrived.
    #[serde(default)]
    pub error: Option<String>,
}

/// Whether a receiver does its part.
#[derive(Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// Whether every check passed.
    pub ok: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

/// One thing a receiver may get wrong.
#[derive(Debug, Deserialize, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is right.
    pub ok: bool,
    /// What was found, and what to do.
    #[serde(default)]
    pub message: Option<String>,
}

/// One page of a replay was handed on.
#[derive(Debug, Deserialize)]
pub struct Replayed {
    /// Deliveries of this page.
    pub replayed: u64,
    /// Where the next page begins.
    #[serde(default)]
    pub next: Option<String>,
}

/// An attempt that has just ended.
#[derive(Debug, Deserialize, Serialize)]
pub struct Attempted {
    /// The delivery it belongs to.
    pub delivery_id: String,
    /// The event that is delivered.
    pub event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it went.
    pub webhook_id: String,
    /// 1 for the first.
    pub attempt: u32,
    /// How the delivery stands now: `pending`, `succeeded`, `failed` or `canceled`.
    pub status: String,
    /// What the receiver answered.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// When it began, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When the next one is due, RFC 3339.
    #[serde(default)]
    pub next_attempt_at: Option<String>,
}

//! What the server answers, as far as the commands show it; the rest is kept for `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An event was taken.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Receipt {
    /// The event's id.
    pub(crate) id: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What became of a batch.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BatchReceipt {
    /// Events that were taken.
    pub(crate) accepted: usize,
    /// Events that were not.
    pub(crate) rejected: usize,
    /// One for each event.
    pub(crate) results: Vec<BatchItem>,
}

/// What became of one event of a batch.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct BatchItem {
    /// The event's place in the batch, from 0.
    pub(crate) index: usize,
    /// Its id, where it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// `accepted` or `rejected`.
    pub(crate) status: String,
    /// Why it was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Value>,
}

/// A job was taken, or withdrawn.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct JobReceipt {
    /// `job_…`
    pub(crate) job_id: String,
    /// Where it stands.
    pub(crate) status: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A job.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    /// `job_…`
    pub(crate) job_id: String,
    /// What sort of work it is.
    pub(crate) kind: String,
    /// Where it stands.
    pub(crate) status: String,
    /// From 0 to 1.
    pub(crate) progress: f64,
    /// When it was accepted.
    pub(crate) created_at: String,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// A page of jobs.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Jobs {
    /// Newest first.
    pub(crate) jobs: Vec<Job>,
    next: Option<String>,
}

/// A webhook endpoint.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Endpoint {
    /// `ep_…`
    pub(crate) id: String,
    /// Where deliveries go.
    pub(crate) url: String,
    /// Patterns; none means all.
    #[serde(default)]
    pub(crate) events: Vec<String>,
    /// `enabled` or `disabled`.
    pub(crate) status: String,
    /// Shown only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// A page of endpoints.
#[derive(Debug, Deserialize)]
pub(crate) struct Endpoints {
    /// The endpoints of this page.
    pub(crate) webhooks: Vec<Endpoint>,
    /// Where the next page begins.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// A secret has taken the place of another.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RotatedSecret {
    /// The new secret.
    pub(crate) secret: String,
    /// Until when deliveries are signed with the former one as well.
    #[serde(default)]
    pub(crate) previous_expires_at: Option<String>,
}

/// What came of a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TestReport {
    /// What was sent.
    pub(crate) request: TestRequest,
    /// What came back.
    pub(crate) response: TestResponse,
    /// What to think of it.
    pub(crate) verdict: Verdict,
}

/// The request of a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TestRequest {
    /// Its headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// Its body, as it was signed.
    pub(crate) body: String,
}

/// The response to a sample delivery.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TestResponse {
    /// Missing where none arrived.
    #[serde(default)]
    pub(crate) status_code: Option<u16>,
    /// Its body's beginning.
    #[serde(default)]
    pub(crate) body: Option<String>,
    /// The whole exchange.
    pub(crate) duration_ms: u64,
    /// Why none arrived.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// Whether a receiver does its part.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Verdict {
    /// Whether every check passed.
    pub(crate) ok: bool,
    /// The checks.
    pub(crate) checks: Vec<Check>,
}

/// One thing a receiver may get wrong.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: String,
    /// Whether it is right.
    pub(crate) ok: bool,
    /// What was found, and what to do.
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// One page of a replay was handed on.
#[derive(Debug, Deserialize)]
pub(crate) struct Replayed {
    /// Deliveries of this page.
    pub(crate) replayed: u64,
    /// Where the next page begins.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// An attempt that has just ended.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Attempted {
    /// The delivery it belongs to.
    pub(crate) delivery_id: String,
    /// The event that is delivered.
    pub(crate) event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Where it went.
    pub(crate) webhook_id: String,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// How the delivery stands now: `pending`, `succeeded`, `failed` or `canceled`.
    pub(crate) status: String,
    /// What the receiver answered.
    #[serde(default)]
    pub(crate) status_code: Option<u16>,
    /// Why it failed.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// How long it took.
    #[serde(default)]
    pub(crate) duration_ms: Option<u64>,
    /// When it began, RFC 3339.
    #[serde(default)]
    pub(crate) started_at: Option<String>,
    /// When the next one is due, RFC 3339.
    #[serde(default)]
    pub(crate) next_attempt_at: Option<String>,
}

//! `POST /v1/webhooks/{id}/test`: one delivery at once, and a word on what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use postrider_core::endpoint::{DEFAULT_TIMEOUT, Endpoint};
use postrider_core::id::DeliveryId;
use postrider_core::pattern::{MAX_TYPE, Pattern, check_type};
use postrider_core::sign::Signer;
use postrider_core::time::{Millis, Time};
use postrider_core::trace::TraceParent;
use postrider_egress::{Headers, Message, Post, Sender, check_url, delivery_headers};
use postrider_ingest::{Submission, clock};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::manage::existing;
use super::verdict::{Verdict, judge};
use crate::api::Api;
use crate::body::{json, read_fields};
use crate::find::Id;
use crate::problem::{Kind, Problem};
use crate::views::told;

/// Longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The type of a sample for an endpoint that names no single type.
const SAMPLE_TYPE: &str = "webhook.test";

/// What was sent, what came back, and what to think of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Sample {
    request: Sent,
    response: Received,
    verdict: Verdict,
}

/// What was sent.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    headers: BTreeMap<String, String>,
    body: String,
}

/// What came back.
#[derive(Serialize, ToSchema)]
pub(super) struct Received {
    /// Null where there was no response.
    status_code: Option<u16>,
    /// The beginning of the body, at most 4 KiB.
    body: String,
    /// How long the whole exchange took, in milliseconds.
    duration_ms: u64,
    /// Why there was no usable response.
    error: Option<String>,
}

/// Test an endpoint
///
/// Sends a sample at once, signed like a delivery, and judges the response. Nothing is stored or tried again.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/test", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = Option<crate::inputs::SampleInput>,
    responses((status = 200, description = "What came of it, good or bad", body = Sample)),
)]
pub(crate) async fn test(State(api): State<Api>, id: Id, request: Request) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?;
    let mut fields = read_fields(&api, request).await?;
    let kind = fields.text("type", MAX_TYPE);
    if let Some(Err(error)) = kind.as_deref().map(check_type) {
        fields.refuse("type", error.to_string());
    }
    let data = fields.take("data");
    fields.finish()?;
    let kind = kind.unwrap_or_else(|| sample_type(&endpoint));
    let data = data.unwrap_or_else(|| serde_json::json!({ "test": true, "message": "a sample from Postrider" }));
    let data = to_raw_value(&data).expect("what was read as JSON can be written");

    let busy = |_| Problem::new(Kind::Busy, format!("{} tests are under way", api.limits.samples));
    let _permit = api.samples.try_acquire().map_err(busy)?;
    let now = clock::now();
    let delivery = DeliveryId { event: api.ids.next(now), endpoint: endpoint.id };
    let body = Bytes::from(sample_body(delivery, &kind, &data, now));
    let headers = sign(&endpoint, delivery, &kind, &body, now);
    let sent = Sent {
        headers: headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };

    let target =
        check_url(&endpoint.url).map_err(|error| Problem::new(Kind::Conflict, format!("the endpoint's URL can't be used: {error}")))?;
    // One of its own, so that the sample never rides on a connection that is open already.
    let sender = Sender::new(api.egress.clone()).map_err(|error| {
        tracing::error!(%error, "samples can't be sent");
        Problem::new(Kind::Internal, "nothing can be sent; the operator's log says more")
    })?;
    let timeout = endpoint.timeout.map_or(DEFAULT_TIMEOUT, |seconds| Millis::from_secs(u64::from(seconds)));
    let report = sender.send(&target, Post { headers, body, connect_timeout: CONNECT, timeout: timeout.into() }, now).await;
    let (status_code, error) = told(&report.answer);
    let response = Received {
        status_code,
        body: String::from_utf8_lossy(&report.body).into_owned(),
        duration_ms: report.took.0,
        error: error.map(str::to_owned),
    };
    Ok(json(StatusCode::OK, &Sample { request: sent, response, verdict: judge(&endpoint.url, &report) }))
}

/// A type that the endpoint wants.
fn sample_type(endpoint: &Endpoint) -> String {
    let exact = endpoint.events.iter().find_map(|pattern| match pattern {
        Pattern::Exact(kind) => Some(kind.clone()),
        Pattern::Prefix(_) | Pattern::All => None,
    });
    exact.unwrap_or_else(|| SAMPLE_TYPE.to_owned())
}

fn sample_body(delivery: DeliveryId, kind: &str, data: &RawValue, now: Time) -> Vec<u8> {
    let event = Submission::new(kind, data);
    event.body(&delivery.event.to_string(), &event.created_at(now))
}

fn sign(endpoint: &Endpoint, delivery: DeliveryId, kind: &str, body: &[u8], now: Time) -> Headers {
    let previous = endpoint.previous.as_ref().filter(|previous| previous.expires_at > now).map(|previous| &previous.secret);
    let own = Headers::of_owner(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let trace = TraceParent::of_attempt(delivery, 1).into();
    let message = Message { id: &delivery.to_string(), timestamp: now.0 / 1000, kind, attempt: 1, correlation_id: None, trace, body };
    delivery_headers(&Signer::new(&endpoint.secret, previous), &message, &own)
}

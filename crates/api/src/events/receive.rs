//! `POST /v1/events`: the hot path.

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use postrider_core::trace::Trace;
use postrider_ingest::{Receipt, Source, Submission, cloudevents};
use tokio::time::Instant;

use super::batch::{self, Format};
use crate::api::{Api, TENANT};
use crate::body::{self, media_type, raw_json};
use crate::meters;
use crate::problem::{Kind, Problem};

const CE_VERSION: HeaderName = HeaderName::from_static("ce-specversion");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// What a body holds, as its headers say.
#[derive(Clone, Copy)]
enum Form {
    /// One event in our own JSON.
    Own,
    /// One CloudEvent in JSON.
    Structured,
    /// The data of a CloudEvent whose attributes are headers.
    Binary,
    /// Many events.
    Batch(Format),
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let given = media_type(headers).unwrap_or("application/json");
        let is = |name: &str| given.eq_ignore_ascii_case(name);
        if is("application/json") {
            return Ok(if headers.contains_key(CE_VERSION) { Form::Binary } else { Form::Own });
        }
        if is("application/cloudevents+json") {
            return Ok(Form::Structured);
        }
        match Format::of(given) {
            Some(format) => Ok(Form::Batch(format)),
            None => Err(Problem::new(
                Kind::MediaType,
                "the content-type must be application/json, application/cloudevents+json, \
                 application/cloudevents-batch+json or application/x-ndjson",
            )),
        }
    }
}

/// Send an event
///
/// Answers once the event is durable. With an `id` of its own or an `Idempotency-Key`, the same request may be
/// repeated for 24 hours and gives one event. A CloudEvent is taken in structured or binary mode; batches of
/// CloudEvents and NDJSON are answered as by `POST /v1/events/batch`.
#[utoipa::path(
    post, path = "/v1/events", tag = "Events",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body(content((crate::inputs::EventInput = "application/json"), (serde_json::Value = "application/cloudevents+json"))),
    responses((status = 202, description = "The event is durable", body = crate::views::ReceiptView)),
)]
pub(crate) async fn submit(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let form = Form::of(&head.headers)?;
    let source = source(&head.headers)?;
    if let Form::Batch(format) = form {
        let payload = body::read(&api, &head.headers, body, api.limits.batch_bytes).await?;
        return batch::submit_all(&api, source, format, &payload.bytes).await;
    }
    let payload = body::read(&api, &head.headers, body, api.limits.body_bytes).await?;
    let bytes = &payload.bytes[..];
    let attribute = |name: &str| attribute(&head.headers, name);
    let (event, raw) = match form {
        Form::Own | Form::Batch(_) => (Submission::from_json(bytes)?, Cow::Borrowed(bytes)),
        Form::Structured => (cloudevents::structured(bytes)?, Cow::Borrowed(bytes)),
        Form::Binary => (cloudevents::binary(attribute, bytes)?, Cow::Owned(cloudevents::binary_raw(attribute, bytes))),
    };
    let begun = Instant::now();
    let receipt = api.ingest.submit(source, &event, &raw).await?;
    meters::ingested(1, begun);
    Ok(raw_json(StatusCode::ACCEPTED, write_receipt(&receipt)))
}

/// What the headers say about where events come from.
pub(crate) fn source(headers: &HeaderMap) -> Result<Source<'_>, Problem> {
    let idempotency_key = match headers.get(IDEMPOTENCY_KEY) {
        None => None,
        Some(key) if (1..=MAX_KEY).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic) => key.to_str().ok(),
        Some(_) => return Err(Problem::field("idempotency-key", format!("must have 1 to {MAX_KEY} visible ASCII characters"))),
    };
    Ok(Source { tenant: TENANT, idempotency_key, trace: trace(headers) })
}

/// The trace of a request. What comes twice says nothing.
fn trace(headers: &HeaderMap) -> Option<Trace<'_>> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok())
    };
    Trace::read(only(TRACEPARENT)?, only(TRACESTATE))
}

/// An attribute of a CloudEvent in binary mode.
fn attribute<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(format!("ce-{name}"))?.to_str().ok()
}

/// By hand, because it is written once per event: only an id that its sender gave can need escaping.
fn write_receipt(receipt: &Receipt) -> Vec<u8> {
    let mut text = Vec::with_capacity(receipt.id.len() + receipt.kind.len() + 80);
    text.extend_from_slice(b"{\"id\":");
    serde_json::to_writer(&mut text, &receipt.id).expect("text always writes to memory");
    text.extend_from_slice(b",\"type\":\"");
    text.extend_from_slice(receipt.kind.as_bytes());
    text.extend_from_slice(b"\",\"created_at\":\"");
    text.extend_from_slice(receipt.created_at.as_bytes());
    text.extend_from_slice(b"\"}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::Uid;

    #[test]
    fn a_receipt_is_json_whatever_the_id() {
        let receipt = Receipt { event: Uid(1), id: "a\"\\é".to_owned(), kind: "a.b".to_owned(), created_at: "2026".to_owned() };
        let value: serde_json::Value = serde_json::from_slice(&write_receipt(&receipt)).unwrap();
        assert_eq!(value, serde_json::json!({"id": "a\"\\é", "type": "a.b", "created_at": "2026"}));
    }
}

//! The headers of a delivery: what receivers verify and dispatch by.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use postrider_core::sign::Signer;

/// Names that belong to the connection.
const RESERVED: [&str; 10] =
    ["host", "content-length", "content-type", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"];

const AGENT: HeaderValue = HeaderValue::from_static(concat!("Postrider/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const X_SIGNATURE: HeaderName = HeaderName::from_static("x-webhook-signature");
const X_TIMESTAMP: HeaderName = HeaderName::from_static("x-webhook-timestamp");
const X_EVENT: HeaderName = HeaderName::from_static("x-webhook-event");
const X_ATTEMPT: HeaderName = HeaderName::from_static("x-webhook-attempt");
const X_CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the headers of one attempt say.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `webhook-id`: the delivery's id, the same on every attempt.
    pub id: &'a str,
    /// Unix seconds of this attempt.
    pub timestamp: u64,
    /// The event's type.
    pub kind: &'a str,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// `X-Correlation-Id`.
    pub correlation_id: Option<&'a str>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The exact bytes that are sent.
    pub body: &'a [u8],
}

/// Signs a message and names it; starts from the endpoint's `own` headers, which never override these.
pub fn delivery_headers(signer: &Signer, message: &Message<'_>, own: &HeaderMap) -> HeaderMap {
    let signatures = signer.sign(message.id, message.timestamp, message.body);
    let timestamp = HeaderValue::from(message.timestamp);
    let mut headers = HeaderMap::with_capacity(12 + own.len());
    headers.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(WEBHOOK_TIMESTAMP, timestamp.clone());
    headers.insert(X_TIMESTAMP, timestamp);
    headers.insert(X_ATTEMPT, HeaderValue::from(message.attempt));
    // What a header can't carry (it can only come from a correlation id outside ASCII) is left out rather than altered.
    let texts = [
        (WEBHOOK_ID, Some(message.id)),
        (WEBHOOK_SIGNATURE, Some(signatures.standard.as_str())),
        (X_SIGNATURE, Some(signatures.plain.as_str())),
        (X_EVENT, Some(message.kind)),
        (X_CORRELATION, message.correlation_id),
        (TRACEPARENT, message.traceparent),
    ];
    for (name, text) in texts {
        if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Whether an endpoint may set this header itself: it is neither the connection's nor one of ours.
pub fn may_be_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    let ours = name.starts_with("webhook-") || name.starts_with("x-webhook-") || name == "x-correlation-id" || name == "traceparent";
    !ours && name != "user-agent" && !RESERVED.contains(&name) && !name.starts_with("proxy-")
}

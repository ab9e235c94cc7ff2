//! Reading bodies within bounds of size, time and memory, and writing JSON.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::api::Api;
use crate::fields::{self, Fields};
use crate::problem::{Kind, Problem};

/// Time-out of a whole body.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read before it is refused: a client that is still writing would lose the
/// answer when the connection is closed on it.
const DISCARDED: usize = 64 << 20;
/// How long that may take.
const DISCARD_LIMIT: Duration = Duration::from_secs(5);

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body in memory, and the room it takes there.
pub(crate) struct Payload<'a> {
    pub(crate) bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `limit` bytes. One that arrives in one piece is not copied.
pub(crate) async fn read<'a>(api: &'a Api, headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Payload<'a>, Problem> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let read = match declared {
        Some(length) if length > limit => Err(too_large(limit)),
        Some(_) | None => timeout(READ_LIMIT, gather(api, &mut body, declared, limit))
            .await
            .unwrap_or_else(|_| Err(Problem::new(Kind::Slow, format!("the body did not arrive within {READ_LIMIT:?}")))),
    };
    // Who waits for our leave to send (RFC 9110 section 10.1.1) has nothing under way.
    if read.as_ref().is_err_and(Problem::is_too_large) && !headers.contains_key(EXPECT) {
        discard(&mut body).await;
    }
    read
}

async fn gather<'a>(api: &'a Api, body: &mut Body, declared: Option<usize>, limit: usize) -> Result<Payload<'a>, Problem> {
    let Some(first) = next(body).await? else { return Ok(Payload { bytes: Bytes::new(), _room: None }) };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    if body.is_end_stream() {
        return Ok(Payload { bytes: first, _room: None });
    }
    let expected = declared.unwrap_or(limit);
    let permits = u32::try_from(expected.div_ceil(1024).min(api.limits.bodies_bytes / 1024)).unwrap_or(u32::MAX);
    let room = api.bodies.acquire_many(permits).await.expect("the semaphore is never closed");
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(first.len()));
    whole.extend_from_slice(&first);
    while let Some(more) = next(body).await? {
        if whole.len() + more.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&more);
    }
    Ok(Payload { bytes: whole.freeze(), _room: Some(room) })
}

/// The next piece of data; `None` at the end.
async fn next(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::new(Kind::Malformed, format!("the body ended early or is malformed: {error}")))?;
        // Trailers say nothing to us.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

pub(crate) async fn discard(body: &mut Body) {
    let reading = async {
        let mut left = DISCARDED;
        while let Ok(Some(piece)) = next(body).await {
            let Some(rest) = left.checked_sub(piece.len()) else { break };
            left = rest;
        }
    };
    // Whether all of it came or not, the answer is the same.
    let _ = timeout(DISCARD_LIMIT, reading).await;
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body may have at most {limit} bytes"))
}

/// The `content-type` without its parameters; `None` where there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or("unreadable");
    Some(text.split(';').next().unwrap_or(text).trim())
}

/// Refuses a body that is not called JSON. A request without a `content-type` may have a JSON body.
pub(crate) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    match media_type(headers) {
        Some(given) if !given.eq_ignore_ascii_case("application/json") => {
            Err(Problem::new(Kind::MediaType, "the content-type must be application/json"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A response with `value` as JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("what we answer has text keys only, so it always has a JSON form");
    raw_json(status, text)
}

/// A response with JSON that is written already.
pub(crate) fn raw_json(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Reads the fields of a JSON body; without a body there are none.
pub(crate) async fn read_fields(api: &Api, request: Request) -> Result<Fields, Problem> {
    read_object(api, request).await.map(Fields::new)
}

/// Reads a JSON body that is an object; without a body it is empty.
pub(crate) async fn read_object(api: &Api, request: Request) -> Result<Map<String, Value>, Problem> {
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    let payload = read(api, &head.headers, body, api.limits.body_bytes).await?;
    fields::object(&payload.bytes)
}

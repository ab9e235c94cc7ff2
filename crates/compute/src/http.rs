//! The kind `http`: a URL is called, its answer is the result.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_core::attempt::Failure;
use postrider_core::job::Error;
use postrider_core::time::Millis;
use postrider_core::trace::Trace;
use postrider_egress::{CallError, Post, Reply, call_headers};
use postrider_ingest::clock;
use postrider_ingest::jobs::HttpInput;
use serde::Serialize;
use tokio::time::Instant;

use crate::queue::Waiting;
use crate::worker::Shop;

/// Most bytes of an answer's body.
const MAX_BODY: usize = 4 << 20;
/// Longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Before the second call, and those after it. Then it is given up.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];
/// How much of an answer that failed the job is told with it, in bytes.
const MAX_TOLD: usize = 500;

/// What a call came to.
#[derive(Serialize)]
struct Answer<'a> {
    status_code: u16,
    headers: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    duration_ms: u64,
}

/// A call that failed.
struct Failed {
    error: Error,
    /// Another may succeed, after so long at least.
    again: Option<Millis>,
}

/// Calls what `input` says, again where that may help and time is left; gives `{"status_code","headers","body","duration_ms"}`.
pub(crate) async fn run(shop: &Shop, waiting: &Waiting, trace: Trace<'_>, input: Bytes) -> Result<Vec<u8>, Error> {
    let deadline = Instant::now() + shop.options.timeout;
    let input = HttpInput::from_json(&shop.jobs.kinds, &input).map_err(|error| Error::new("invalid_input", error))?;
    let headers = call_headers(&waiting.job.to_string(), trace, &input.headers);
    let mut pauses = PAUSES.into_iter();
    loop {
        let began = Instant::now();
        let post = Post { headers: headers.clone(), body: input.body.0.clone(), connect_timeout: CONNECT, timeout: input.timeout };
        let Failed { error, again } = match shop.sender.call(&input.target, input.method, post, MAX_BODY, clock::now()).await {
            Ok(reply) if (200..300).contains(&reply.status) => return result(&reply, began.elapsed()),
            Ok(reply) => refused(&reply),
            Err(fault) => unanswered(&fault),
        };
        let (Some(least), Some(pause)) = (again, pauses.next()) else { return Err(error) };
        let next = Instant::now() + pause.max(least.into());
        if next >= deadline {
            return Err(error);
        }
        tracing::debug!(job = %waiting.job, code = error.code, "a call failed; calling again");
        tokio::time::sleep_until(next).await;
    }
}

fn result(reply: &Reply, took: Duration) -> Result<Vec<u8>, Error> {
    let mut headers: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in &reply.headers {
        // RFC 9110 section 5.3.
        headers.entry(name).and_modify(|known| *known = format!("{known}, {value}").into()).or_insert(Cow::Borrowed(value));
    }
    let text = std::str::from_utf8(&reply.body).ok();
    let answer = Answer {
        status_code: reply.status,
        headers,
        body: text,
        body_base64: text.is_none().then(|| STANDARD.encode(&reply.body)),
        duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    serde_json::to_vec(&answer).map_err(|error| Error::new("internal", error))
}

/// An answer that says no.
fn refused(reply: &Reply) -> Failed {
    let text = String::from_utf8_lossy(&reply.body);
    let beginning = text[..text.floor_char_boundary(MAX_TOLD)].trim();
    let words = match beginning {
        "" => format!("the URL answered {}", reply.status),
        beginning => format!("the URL answered {}: {beginning}", reply.status),
    };
    let may_pass = reply.status == 429 || reply.status >= 500;
    Failed { error: Error::new("http_status", words), again: may_pass.then(|| reply.retry_after.unwrap_or(Millis(0))) }
}

/// No answer.
fn unanswered(error: &CallError) -> Failed {
    let (code, may_pass) = match error {
        CallError::TooLarge { .. } => ("response_too_large", false),
        CallError::Failed { failure, .. } => match failure {
            Failure::Timeout => ("timeout", true),
            Failure::Dns | Failure::Connect | Failure::Tls | Failure::Closed => ("connection_failed", true),
            Failure::Forbidden => ("forbidden_address", false),
            Failure::Protocol => ("invalid_response", false),
        },
    };
    Failed { error: Error::new(code, error), again: may_pass.then_some(Millis(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &'static [u8]) -> Reply {
        let headers = [("x-a", "1"), ("content-type", "x/y"), ("x-a", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        Reply { status, headers: headers.to_vec(), retry_after: Some(Millis(7)), body: Bytes::from_static(body) }
    }

    #[test]
    fn an_answer_is_told_as_it_came() {
        let told = |body| String::from_utf8(result(&reply(201, body), Duration::from_millis(12)).unwrap()).unwrap();
        let head = r#"{"status_code":201,"headers":{"content-type":"x/y","x-a":"1, 2"},"#;
        assert_eq!(told("é".as_bytes()), format!(r#"{head}"body":"é","duration_ms":12}}"#));
        assert_eq!(told(b"\xff\x00"), format!(r#"{head}"body_base64":"/wA=","duration_ms":12}}"#));
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let again = |status| refused(&reply(status, b"")).again;
        assert_eq!(
            [again(404), again(301), again(429), again(500), again(503)],
            [None, None, Some(Millis(7)), Some(Millis(7)), Some(Millis(7))]
        );
        let long: &'static [u8] = "é".repeat(1000).leak().as_bytes();
        let error = refused(&reply(404, long)).error;
        assert_eq!((error.code.as_str(), error.message.len()), ("http_status", "the URL answered 404: ".len() + MAX_TOLD));
        let fault = |failure| unanswered(&CallError::Failed { failure, detail: "d".to_owned() });
        assert_eq!((fault(Failure::Connect).again, fault(Failure::Forbidden).again), (Some(Millis(0)), None));
    }
}

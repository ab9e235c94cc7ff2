//! The headers of a delivery: what receivers verify and dispatch by.

use std::fmt;
use std::io::Write as _;

use http::header::{HeaderName, HeaderValue};
use postrider_core::sign::Signer;
use postrider_core::trace::Trace;

/// Names that belong to the connection.
const RESERVED: [&str; 9] =
    ["host", "content-length", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"];

/// Who sends.
const USER_AGENT: &str = concat!("user-agent: Postrider/", env!("CARGO_PKG_VERSION"), "\r\n");
/// What every delivery begins with.
const SAME: &str = concat!("content-type: application/json\r\nuser-agent: Postrider/", env!("CARGO_PKG_VERSION"), "\r\n");
/// What the lines of one delivery take up, beside what the endpoint's owner adds.
const TYPICAL: usize = 640;

/// Headers as they go onto the wire. None of them is the connection's, none holds the end of a line.
#[derive(Clone, Default)]
pub struct Headers {
    /// Each `name: value` with its end.
    lines: Vec<u8>,
}

impl Headers {
    /// What an endpoint's owner adds to each delivery. What may not be set, or is no header, is left out.
    pub fn of_owner<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers {
        Headers::given(given, Purpose::Delivery)
    }

    /// What the sender of a job wants its call to carry. What may not be set, or is no header, is left out.
    pub fn of_call<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Headers {
        Headers::given(given, Purpose::Call)
    }

    fn given<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>, purpose: Purpose) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in given {
            if let Some(name) = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| purpose.permits(name))
                && let Ok(value) = HeaderValue::from_str(value)
            {
                headers.push(name.as_str(), value.as_bytes());
            }
        }
        headers
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = std::str::from_utf8(&self.lines).unwrap_or_default();
        text.split_terminator("\r\n").filter_map(|line| line.split_once(": "))
    }

    /// Whether there is one of this name, which is in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Adds texts. What a header can't carry (it can only come from a correlation id outside ASCII) is left out rather than
    /// altered.
    fn push_texts<const N: usize>(&mut self, texts: [(&str, Option<&str>); N]) {
        for (name, text) in texts {
            if let Some(text) = text.filter(|text| text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))) {
                self.push(name, text.as_bytes());
            }
        }
    }

    fn push_trace(&mut self, trace: Trace<'_>) {
        self.push("traceparent", &trace.parent.header());
        self.push_texts([("tracestate", trace.state)]);
    }

    /// Adds a value that a header can carry.
    fn push(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
    }
}

/// By name only: an owner's header is often a credential.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

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
    /// The trace that this attempt is part of, as it hands it on.
    pub trace: Trace<'a>,
    /// The exact bytes that are sent.
    pub body: &'a [u8],
}

/// Signs a message and names it, and adds what the endpoint's owner wants.
pub fn delivery_headers(signer: &Signer, message: &Message<'_>, own: &Headers) -> Headers {
    let Message { id, timestamp, attempt, .. } = message;
    let signatures = signer.sign(id, *timestamp, message.body);
    let mut headers = Headers { lines: Vec::with_capacity(TYPICAL + own.lines.len()) };
    headers.lines.extend_from_slice(SAME.as_bytes());
    let numbers =
        write!(headers.lines, "webhook-timestamp: {timestamp}\r\nx-webhook-timestamp: {timestamp}\r\nx-webhook-attempt: {attempt}\r\n");
    numbers.expect("memory takes what is written");
    headers.push_texts([
        ("webhook-id", Some(*id)),
        ("webhook-signature", Some(signatures.standard.as_str())),
        ("x-webhook-signature", Some(signatures.plain.as_str())),
        ("x-webhook-event", Some(message.kind)),
        ("x-correlation-id", message.correlation_id),
    ]);
    headers.push_trace(message.trace);
    headers.lines.extend_from_slice(&own.lines);
    headers
}

/// Names the call of a job, and adds what its sender wants: a receiver may tell a repeat by its `idempotency-key`, which is
/// `id` unless the sender chose another.
pub fn call_headers(id: &str, trace: Trace<'_>, own: &Headers) -> Headers {
    let mut headers = Headers { lines: Vec::with_capacity(TYPICAL + own.lines.len()) };
    headers.lines.extend_from_slice(USER_AGENT.as_bytes());
    headers.push_texts([("idempotency-key", Some(id).filter(|_| !own.has("idempotency-key")))]);
    headers.push_trace(trace);
    headers.lines.extend_from_slice(&own.lines);
    headers
}

/// Most headers of one endpoint, and the longest value of one in bytes.
const MAX_HEADERS: usize = 32;
const MAX_HEADER: usize = 4096;

/// What is wrong with headers that an endpoint's owner wants to be sent: the name of each, and why. Without a name: there
/// are too many.
pub fn wrong_headers<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<(Option<String>, String)> {
    wrong(headers, Purpose::Delivery)
}

/// As [`wrong_headers`], of headers that the sender of a job wants its call to carry.
pub fn wrong_call_headers<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<(Option<String>, String)> {
    wrong(headers, Purpose::Call)
}

fn wrong<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a str>)>, purpose: Purpose) -> Vec<(Option<String>, String)> {
    let mut names: Vec<HeaderName> = Vec::new();
    let mut wrong = Vec::new();
    for (count, (name, value)) in headers.into_iter().enumerate() {
        if count == MAX_HEADERS {
            return vec![(None, format!("must be at most {MAX_HEADERS}"))];
        }
        let words = match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Err(_), _) => "is not the name of a header",
            (Ok(parsed), _) if !purpose.permits(&parsed) => match purpose {
                Purpose::Delivery => "is a header that deliveries set themselves",
                Purpose::Call => "is a header that calls set themselves",
            },
            (Ok(parsed), _) if names.contains(&parsed) => "is given twice",
            (Ok(parsed), Some(text)) if text.len() <= MAX_HEADER && HeaderValue::from_str(text).is_ok() => {
                names.push(parsed);
                continue;
            }
            (Ok(_), _) => "must be a text of at most 4096 bytes without control characters",
        };
        wrong.push((Some(name.chars().take(100).collect()), words.to_owned()));
    }
    wrong
}

/// What headers are for.
#[derive(Clone, Copy)]
enum Purpose {
    Delivery,
    Call,
}

impl Purpose {
    /// Whether such a header may be set by others: it is neither the connection's nor one of ours.
    fn permits(self, name: &HeaderName) -> bool {
        let name = name.as_str();
        let is_free = match self {
            Purpose::Delivery => {
                let ours = name.starts_with("webhook-") || name.starts_with("x-webhook-") || name == "x-correlation-id";
                !ours && name != "content-type"
            }
            Purpose::Call => true,
        };
        is_free && !["traceparent", "tracestate", "user-agent"].contains(&name) && !RESERVED.contains(&name) && !name.starts_with("proxy-")
    }
}

#[cfg(test)]
mod tests {
    use postrider_core::id::Uid;
    use postrider_core::secret::Secret;
    use postrider_core::trace::TraceParent;

    use super::*;

    #[test]
    fn nothing_that_comes_from_outside_can_end_a_line_or_take_a_place_of_ours() {
        let own = Headers::of_owner([
            ("X-Mine", "2"),
            ("authorization", "Bearer geheim"),
            ("transfer-encoding", "chunked"),
            ("content-length", "1"),
            ("Webhook-Id", "mine"),
            ("host", "elsewhere.example"),
            ("x-ends", "a\r\nb: c"),
            ("x ends", "a"),
            ("x-delete", "\u{7f}"),
        ]);
        let names: Vec<_> = own.iter().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(own.iter().next(), Some(("x-mine", "2")));
        assert_eq!(names, ["x-mine", "authorization"], "{own:?}");
        assert!(!format!("{own:?}").contains("geheim"));

        let signer = Signer::new(&Secret::new("whsec_AAAA".to_owned()), []);
        let parent = TraceParent::of_job(Uid(7));
        let message = |correlation_id, state| Message {
            id: "dlv_1",
            timestamp: 7,
            kind: "a.b",
            attempt: 2,
            correlation_id: Some(correlation_id),
            trace: Trace { parent, state: Some(state) },
            body: b"{}",
        };
        let headers = delivery_headers(&signer, &message("a\r\nb: c", "ä"), &own);
        let found = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        assert_eq!((found("x-correlation-id"), found("tracestate"), found("b")), (None, None, None));
        assert_eq!((found("webhook-id"), found("x-webhook-attempt"), found("x-webhook-timestamp")), (Some("dlv_1"), Some("2"), Some("7")));
        assert_eq!(found("traceparent"), Some(parent.to_string().as_str()));
        assert!(headers.lines().ends_with(b"x-mine: 2\r\nauthorization: Bearer geheim\r\n"));

        let own = Headers::of_call([
            ("Content-Type", "text/plain"),
            ("traceparent", "x"),
            ("Tracestate", "x"),
            ("Webhook-Id", "theirs"),
            ("expect", "x"),
        ]);
        let call = call_headers("job_1", parent.into(), &own);
        let names: Vec<_> = call.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["user-agent", "idempotency-key", "traceparent", "content-type", "webhook-id"]);
        let call = call_headers("job_1", Trace { parent, state: Some("a=1") }, &Headers::of_call([("Idempotency-Key", "mine")]));
        let lines: Vec<_> = call.iter().skip(1).collect();
        assert_eq!(lines, [("traceparent", parent.to_string().as_str()), ("tracestate", "a=1"), ("idempotency-key", "mine")]);
    }
}

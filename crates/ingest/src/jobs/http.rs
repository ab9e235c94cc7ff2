//! What the kind `http` is to call.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use postrider_egress::{Headers, Method, Target, wrong_call_headers};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::kinds::Kinds;
use crate::submission::{Invalid, Problem};

/// Most bytes that a call sends.
const MAX_SENT: usize = 8 << 20;
/// Most headers that are read; of these fewer may be sent.
const MAX_HEADERS: usize = 64;
/// How long a call may take, in seconds, and how long unless asked otherwise.
const MAX_TIMEOUT: u64 = 300;
const TIMEOUT: u64 = 30;

/// A call: at which URL, and with what.
#[derive(Clone, Debug)]
pub struct HttpInput {
    /// Where.
    pub target: Target,
    /// GET, unless there is a body.
    pub method: Method,
    /// The sender's own, and what the body is.
    pub headers: Headers,
    /// May be empty.
    pub body: HttpBody,
    /// How long each call may take, from 1 to 300 s.
    pub timeout: Duration,
}

/// What a call sends. It shows its size only, as it may hold credentials.
#[derive(Clone, Default)]
pub struct HttpBody(pub Bytes);

impl std::fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(default, borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default, borrow)]
    body: Option<&'a RawValue>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

impl HttpInput {
    /// Reads `{url, method, headers, body, timeout_seconds}`; names everything that is wrong.
    pub fn from_json(kinds: &Kinds, bytes: &[u8]) -> Result<HttpInput, Invalid> {
        let raw: Raw<'_> = Invalid::from_json(bytes)?;
        let mut problems = Vec::new();
        let target = kinds.target(&raw.url).map_err(|words| problems.push(Problem::new("url", words))).ok();
        let (body, media_type) = read_body(raw.body, &mut problems);
        let method = match raw.method.as_deref() {
            None if body.is_empty() => Method::Get,
            None => Method::Post,
            Some(name) => Method::ALL.into_iter().find(|method| method.name() == name).unwrap_or_else(|| {
                problems.push(Problem::new("method", format!("must be one of {}", Method::ALL.map(Method::name).join(", "))));
                Method::Post
            }),
        };
        if method == Method::Get && !body.is_empty() {
            problems.push(Problem::new("body", "is not sent with GET; name another method"));
        }
        if raw.headers.len() > MAX_HEADERS {
            problems.push(Problem::new("headers", format!("must be at most {MAX_HEADERS}")));
        } else {
            let wrong = wrong_call_headers(raw.headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))));
            let within = |name: Option<String>| name.map_or_else(|| "headers".to_owned(), |name| format!("headers.{name}"));
            problems.extend(wrong.into_iter().map(|(name, words)| Problem::new(within(name), words)));
        }
        let seconds = raw.timeout_seconds.unwrap_or(TIMEOUT);
        if !(1..=MAX_TIMEOUT).contains(&seconds) {
            problems.push(Problem::new("timeout_seconds", format!("must be a whole number from 1 to {MAX_TIMEOUT}")));
        }
        let (Some(target), true) = (target, problems.is_empty()) else { return Err(Invalid::Fields(problems)) };
        let says_type = raw.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
        let added = media_type.filter(|_| !says_type).map(|media_type| ("content-type", media_type));
        let headers = Headers::of_call(added.into_iter().chain(raw.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
        Ok(HttpInput { target, method, headers, body: HttpBody(body), timeout: Duration::from_secs(seconds) })
    }
}

/// What is sent, and its media type: a text is sent as it is, all else as the JSON that it is.
fn read_body(body: Option<&RawValue>, problems: &mut Vec<Problem>) -> (Bytes, Option<&'static str>) {
    let Some(body) = body.filter(|body| body.get() != "null") else { return (Bytes::new(), None) };
    let (bytes, media_type) = match serde_json::from_str::<String>(body.get()) {
        Ok(text) => (Bytes::from(text), "text/plain; charset=utf-8"),
        Err(_) => (Bytes::copy_from_slice(body.get().as_bytes()), "application/json"),
    };
    if bytes.len() > MAX_SENT {
        problems.push(Problem::new("body", format!("has {} bytes; the most is {MAX_SENT}", bytes.len())));
    }
    (bytes, Some(media_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Bert;
    use postrider_egress::Guard;
    use serde_json::{Value, json};

    fn read(input: &Value) -> Result<HttpInput, Invalid> {
        let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap()]);
        let kinds = Kinds { speech: Err(String::new()), bert: Bert::Missing, upstream: Ok(()), guard, outside: Vec::new() };
        HttpInput::from_json(&kinds, input.to_string().as_bytes())
    }

    #[test]
    fn a_body_is_sent_as_what_it_is() {
        for (input, method, body, media_type) in [
            (json!({}), "GET", "", None),
            (json!({"method": "DELETE"}), "DELETE", "", None),
            (json!({"body": "a b"}), "POST", "a b", Some("text/plain; charset=utf-8")),
            (json!({"body": {"a": [1, null]}}), "POST", r#"{"a":[1,null]}"#, Some("application/json")),
            (json!({"body": 7, "method": "PUT", "headers": {"Content-Type": "x/y"}}), "PUT", "7", Some("x/y")),
        ] {
            let mut input = input;
            input["url"] = json!("http://10.1.2.3/");
            let call = read(&input).unwrap();
            let found = call.headers.iter().find(|(name, _)| *name == "content-type").map(|(_, value)| value);
            assert_eq!((call.method.name(), &call.body.0[..], found), (method, body.as_bytes(), media_type), "{input}");
            assert_eq!(call.timeout, Duration::from_secs(30));
        }
    }

    #[test]
    fn everything_wrong_is_named_and_no_secret_is() {
        let wrong = |input: Value| match read(&input) {
            Err(Invalid::Fields(problems)) => problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>(),
            other => panic!("{input} gave {other:?}"),
        };
        let many = json!({
            "url": "ftp://a/", "method": "TRACE", "timeout_seconds": 0,
            "headers": {"host": "x", "x-long": "x".repeat(5000), "traceparent": "x", "x\r\ny": "z"},
        });
        assert_eq!(
            wrong(many),
            ["url", "method", "headers.host", "headers.traceparent", "headers.x\r\ny", "headers.x-long", "timeout_seconds"]
        );
        for url in ["http://127.0.0.1/", "http://2130706433/", "http://[::1]/", "http://169.254.169.254/latest", "http://10.2.0.1/"] {
            assert_eq!(wrong(json!({ "url": url })), ["url"], "{url}");
        }
        let headers: BTreeMap<String, &str> = (0..40).map(|n| (format!("x-{n}"), "1")).collect();
        assert_eq!(wrong(json!({ "url": "http://a.example/", "headers": headers })), ["headers"]);
        assert_eq!(wrong(json!({ "url": "http://a.example/", "method": "GET", "body": "x" })), ["body"]);
        assert_eq!(wrong(json!({ "url": "http://a.example/", "follow": true })), ["follow"]);
        let call = json!({ "url": "http://a.example/?geheim=1", "headers": { "authorization": "Bearer geheim" }, "body": "geheim" });
        assert!(!format!("{:?}", read(&call).unwrap()).contains("geheim"));
    }
}

//! An event as its sender gave it, checked.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use postrider_core::pattern::check_type;
use postrider_core::time::Time;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The source of events that nobody sent.
pub(crate) const OURSELVES: &str = "postrider";
/// Most URLs that one event may name.
pub const MAX_URLS: usize = 16;
/// Longest id, ordering key, correlation id, source and API version, in bytes.
const MAX_TEXT: usize = 255;
/// Most metadata, in bytes of JSON.
const MAX_METADATA: usize = 16 * 1024;

/// An event as it stands in `POST /v1/events`; borrows from the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission<'a> {
    /// Dotted type, such as `order.created`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Any JSON; reaches receivers byte for byte.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// The sender's own id; a second event with it is the same event.
    #[serde(default)]
    pub id: Option<Cow<'a, str>>,
    /// Where it comes from.
    #[serde(default)]
    pub source: Option<Cow<'a, str>>,
    /// The version of the shape of `data`.
    #[serde(default)]
    pub api_version: Option<Cow<'a, str>>,
    /// Ties it to a request of the sender's.
    #[serde(default)]
    pub correlation_id: Option<Cow<'a, str>>,
    /// When it happened, RFC 3339; the time of arrival by default.
    #[serde(default)]
    pub created_at: Option<Cow<'a, str>>,
    /// Ordering key.
    #[serde(default)]
    pub key: Option<Cow<'a, str>>,
    /// A URL to deliver to beside the matching endpoints.
    #[serde(default)]
    pub webhook_url: Option<Cow<'a, str>>,
    /// More such URLs.
    #[serde(default)]
    pub webhook_urls: Option<Vec<Cow<'a, str>>>,
    /// The sender's own data, shown in lists, not delivered.
    #[serde(default, borrow)]
    pub metadata: Option<&'a RawValue>,
    /// Whether the id tells it from others of its source only, as a CloudEvent's does.
    #[serde(skip)]
    pub is_id_of_source: bool,
}

/// Why an event is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// Not JSON at all.
    #[error("the body is not JSON: {0}")]
    Syntax(String),
    /// JSON, but not an event.
    #[error("{}", join(.0))]
    Fields(Vec<Problem>),
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field's name, dotted where it is nested; empty for the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

impl Invalid {
    /// What became of reading `bytes` as JSON of type `T`, with the field that is at fault.
    pub fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Invalid> {
        let first = match serde_json::from_slice::<T>(bytes) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        // Only what has failed is read again, slowly, to find the name of the field.
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => Err(Invalid::Syntax(first.to_string())),
            Err(error) if error.inner().is_data() => {
                let path = error.path().to_string();
                let message = error.inner().to_string();
                let named =
                    message.split('`').nth(1).filter(|_| message.starts_with("missing field") || message.starts_with("unknown field"));
                let field = named.map_or(path, str::to_owned);
                let words = message.split(" at line ").next().unwrap_or(&message).to_owned();
                Err(Invalid::Fields(vec![Problem::new(field, words)]))
            }
            Err(error) => Err(Invalid::Syntax(error.inner().to_string())),
        }
    }
}

impl<'a> Submission<'a> {
    /// An event with nothing but its type and its data.
    pub fn new(kind: impl Into<Cow<'a, str>>, data: &'a RawValue) -> Submission<'a> {
        Submission {
            kind: kind.into(),
            data,
            id: None,
            source: None,
            api_version: None,
            correlation_id: None,
            created_at: None,
            key: None,
            webhook_url: None,
            webhook_urls: None,
            metadata: None,
            is_id_of_source: false,
        }
    }

    /// Reads and checks the JSON of one event.
    pub fn from_json(bytes: &'a [u8]) -> Result<Submission<'a>, Invalid> {
        let submission: Submission<'a> = Invalid::from_json(bytes)?;
        submission.check()?;
        Ok(submission)
    }

    /// The URLs it names.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.webhook_url.iter().chain(self.webhook_urls.iter().flatten()).map(|url| &**url)
    }

    /// Checks everything that JSON alone does not; names every field that is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut problems = Vec::new();
        if let Err(error) = check_type(&self.kind) {
            problems.push(Problem::new("type", error.to_string()));
        }
        let texts = [
            ("id", &self.id),
            ("source", &self.source),
            ("api_version", &self.api_version),
            ("correlation_id", &self.correlation_id),
            ("key", &self.key),
        ];
        for (field, text) in texts {
            match text {
                Some(text) if text.is_empty() || text.len() > MAX_TEXT => {
                    problems.push(Problem::new(field, format!("must have 1 to {MAX_TEXT} bytes")));
                }
                // Two of them travel as headers and in URLs; control characters have no business in any.
                Some(text) if text.chars().any(char::is_control) => {
                    problems.push(Problem::new(field, "must not have control characters"));
                }
                Some(_) | None => {}
            }
        }
        if self.created_at.as_ref().is_some_and(|at| DateTime::parse_from_rfc3339(at).is_err()) {
            problems.push(Problem::new("created_at", "must be RFC 3339, such as 2026-01-31T12:00:00Z"));
        }
        if self.urls().count() > MAX_URLS {
            problems.push(Problem::new("webhook_urls", format!("must name at most {MAX_URLS} URLs")));
        }
        for (index, url) in self.webhook_url.iter().map(|url| (None, url)).chain(self.numbered_urls()) {
            if let Err(error) = postrider_egress::check_url(url) {
                let field = index.map_or("webhook_url".to_owned(), |i: usize| format!("webhook_urls.{i}"));
                problems.push(Problem::new(field, error.to_string()));
            }
        }
        problems.extend(self.metadata.and_then(wrong_metadata));
        if problems.is_empty() { Ok(()) } else { Err(Invalid::Fields(problems)) }
    }

    fn numbered_urls(&self) -> impl Iterator<Item = (Option<usize>, &Cow<'a, str>)> {
        self.webhook_urls.iter().flatten().enumerate().map(|(i, url)| (Some(i), url))
    }

    /// When it happened, as receivers are told: in UTC, `arrived` where the sender said nothing.
    pub fn created_at(&self, arrived: Time) -> String {
        match self.created_at.as_deref().map(DateTime::parse_from_rfc3339) {
            Some(Ok(at)) => at.with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::AutoSi, true),
            Some(Err(_)) | None => arrived.to_string(),
        }
    }

    /// The JSON that receivers get: the event under `id`, with absent members left out.
    pub fn body(&self, id: &str, created_at: &str) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.data.get().len() + 256);
        body.extend_from_slice(b"{\"id\":");
        text(&mut body, id);
        member(&mut body, "type", Some(&self.kind));
        member(&mut body, "created_at", Some(created_at));
        member(&mut body, "timestamp", Some(created_at));
        member(&mut body, "api_version", self.api_version.as_deref());
        member(&mut body, "source", self.source.as_deref());
        member(&mut body, "correlation_id", self.correlation_id.as_deref());
        body.extend_from_slice(b",\"data\":");
        body.extend_from_slice(self.data.get().as_bytes());
        body.push(b'}');
        body
    }
}

/// What is wrong with the sender's own data.
pub(crate) fn wrong_metadata(metadata: &RawValue) -> Option<Problem> {
    let words = match metadata.get() {
        json if !json.starts_with('{') => "must be an object".to_owned(),
        json if json.len() > MAX_METADATA => format!("must have at most {MAX_METADATA} bytes"),
        _fine => return None,
    };
    Some(Problem::new("metadata", words))
}

fn member(body: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        body.extend_from_slice(b",\"");
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\":");
        text(body, value);
    }
}

fn text(body: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(body, value).expect("text always writes to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Vec<String> {
        match Submission::from_json(json.as_bytes()) {
            Err(Invalid::Fields(problems)) => problems.into_iter().map(|p| p.field).collect(),
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn a_body_holds_what_was_given_and_nothing_else() {
        let json = r#"{"type":"a.b","data":{"x": [1, "\u00e9"]},"source":"s\"","created_at":"2026-01-31T13:00:00+01:00"}"#;
        let event = Submission::from_json(json.as_bytes()).expect("an event");
        let at = event.created_at(Time(0));
        assert_eq!(
            String::from_utf8(event.body("evt_1", &at)).expect("text"),
            r#"{"id":"evt_1","type":"a.b","created_at":"2026-01-31T12:00:00Z","timestamp":"2026-01-31T12:00:00Z","source":"s\"","data":{"x": [1, "\u00e9"]}}"#
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(fields(r#"{"data":1}"#), ["type"]);
        assert_eq!(fields(r#"{"type":"a"}"#), ["data"]);
        assert_eq!(fields(r#"{"type":"a","data":1,"nope":2}"#), ["nope"]);
        assert_eq!(fields(r#"{"type":7,"data":1}"#), ["type"]);
        assert_eq!(fields(r#"{"type":"a","data":1,"webhook_urls":["http://a/",3]}"#), ["webhook_urls[1]"]);
        assert_eq!(
            fields(r#"{"type":"a b","data":1,"id":"","created_at":"today","webhook_url":"ftp://a/","metadata":[]}"#),
            ["type", "id", "created_at", "webhook_url", "metadata"]
        );
        assert!(matches!(Submission::from_json(b"{\"type\":"), Err(Invalid::Syntax(_))));
        assert!(matches!(Submission::from_json(b"\xff"), Err(Invalid::Syntax(_))));
    }
}

//! Reading the members of a JSON object or a query string, so that everything wrong with them is named at once.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::http::Uri;
use chrono::DateTime;
use postrider_backend::store::JobStatus;
use postrider_core::attempt::DeliveryState;
use postrider_core::time::Time;
use postrider_ingest::Invalid;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::problem::{FieldError, Kind, Problem};

/// Most items of one page of a list.
pub(crate) const MAX_LIMIT: u64 = 250;
const DEFAULT_LIMIT: u64 = 50;

/// What is left of a request's fields. Those that nobody takes are unknown, and an error.
pub(crate) struct Fields {
    left: Map<String, Value>,
    errors: Vec<FieldError>,
    origin: Origin,
}

/// Where the fields stand; in a query string everything is text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Json,
    Query,
}

impl Fields {
    /// The members of an object.
    pub(crate) fn new(members: Map<String, Value>) -> Fields {
        Fields { left: members, errors: Vec::new(), origin: Origin::Json }
    }

    /// Reads a query string.
    pub(crate) fn from_query(uri: &Uri) -> Result<Fields, Problem> {
        let mut fields = Fields { left: Map::new(), errors: Vec::new(), origin: Origin::Query };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if fields.left.insert(name.clone().into_owned(), Value::String(value.into_owned())).is_some() {
                fields.refuse(name, "is given twice");
            }
        }
        Ok(fields)
    }

    /// Notes what is wrong with a field.
    pub(crate) fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
    }

    /// Notes that a field must be given, unless something else is wrong with it already.
    pub(crate) fn require<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && self.errors.iter().all(|error| error.field != name) {
            self.refuse(name, "is missing");
        }
        value
    }

    /// Takes a field; `null` stands for a field that is not there.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// A text of 1 to `longest` bytes without control characters.
    pub(crate) fn text(&mut self, name: &str, longest: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if (1..=longest).contains(&text.len()) && !text.chars().any(char::is_control) => Some(text),
            _other => {
                self.refuse(name, format!("must be a text of 1 to {longest} bytes without control characters"));
                None
            }
        }
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(name)?;
        let number = match (&value, self.origin) {
            (Value::String(text), Origin::Query) => text.parse().ok(),
            (other, _) => other.as_u64(),
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    pub(crate) fn truth(&mut self, name: &str) -> Option<bool> {
        let value = self.take(name)?.as_bool();
        if value.is_none() {
            self.refuse(name, "must be true or false");
        }
        value
    }

    /// An object.
    pub(crate) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.take(name)? {
            Value::Object(members) => Some(members),
            _other => {
                self.refuse(name, "must be an object");
                None
            }
        }
    }

    /// An instant in RFC 3339.
    pub(crate) fn time(&mut self, name: &str) -> Option<Time> {
        let text = self.text(name, 64)?;
        // A `+` that was not percent-encoded arrives as a space.
        let text = if self.origin == Origin::Query { Cow::Owned(text.replace(' ', "+")) } else { Cow::Borrowed(text.as_str()) };
        let time = DateTime::parse_from_rfc3339(&text).ok().and_then(|at| u64::try_from(at.timestamp_millis()).ok());
        if time.is_none() {
            self.refuse(name, "must be RFC 3339, such as 2026-01-31T12:00:00Z");
        }
        time.map(Time)
    }

    /// An id of ours.
    pub(crate) fn id<T: FromStr<Err = E>, E: ToString>(&mut self, name: &str) -> Option<T> {
        match self.text(name, 255)?.parse() {
            Ok(id) => Some(id),
            Err(error) => {
                self.refuse(name, E::to_string(&error));
                None
            }
        }
    }

    pub(crate) fn state(&mut self, name: &str) -> Option<DeliveryState> {
        let state = match self.text(name, 255)?.as_str() {
            "pending" => Some(DeliveryState::Pending),
            "succeeded" => Some(DeliveryState::Succeeded),
            "failed" => Some(DeliveryState::Failed),
            "canceled" => Some(DeliveryState::Canceled),
            _other => None,
        };
        if state.is_none() {
            self.refuse(name, "must be pending, succeeded, failed or canceled");
        }
        state
    }

    pub(crate) fn job_status(&mut self, name: &str) -> Option<JobStatus> {
        let text = self.text(name, 255)?;
        let status = JobStatus::ALL.into_iter().find(|status| status.name() == text);
        if status.is_none() {
            self.refuse(name, format!("must be one of {}", JobStatus::ALL.map(JobStatus::name).join(", ")));
        }
        status
    }

    /// How many items a page may have.
    pub(crate) fn limit(&mut self) -> usize {
        self.number("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT) as usize
    }

    /// Ends reading: everything that was wrong, unknown fields included.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let what = match self.origin {
            Origin::Json => "is not a field of this request",
            Origin::Query => "is not a parameter of this request",
        };
        for (name, _) in std::mem::take(&mut self.left) {
            self.refuse(name.chars().take(100).collect::<String>(), what);
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(self.errors)) }
    }
}

/// Reads a body that must be a JSON object; an empty body is an empty object.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match Invalid::from_json(body)? {
        Value::Object(members) => Ok(members),
        _other => Err(Problem::new(Kind::Invalid, "the body must be a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::EndpointId;

    fn wrong(fields: Fields) -> Vec<String> {
        let problem = fields.finish().expect_err("something is wrong");
        serde_json::to_value(problem.view()).unwrap()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let json = br#"{"a":"","b":"7","c":"x","d":[],"e":"yesterday","f":"ep_0","g":"x","limit":0,"mystery":1}"#;
        let mut fields = Fields::new(object(json).unwrap());
        fields.text("a", 9);
        fields.number("b", 0..=9);
        fields.truth("c");
        fields.object("d");
        fields.time("e");
        fields.id::<EndpointId, _>("f");
        fields.state("g");
        fields.limit();
        fields.require("h", None::<u8>);
        assert_eq!(wrong(fields), ["a", "b", "c", "d", "e", "f", "g", "limit", "h", "mystery"]);
    }

    #[test]
    fn a_query_is_read_as_text() {
        let uri = "/x?limit=7&since=2026-01-31T13:00:00+01:00&type=a%2Eb".parse().unwrap();
        let mut fields = Fields::from_query(&uri).unwrap();
        assert_eq!((fields.limit(), fields.text("type", 9)), (7, Some("a.b".to_owned())));
        assert_eq!(fields.time("since").map(|at| at.to_string()), Some("2026-01-31T12:00:00.000Z".to_owned()));
        assert!(fields.finish().is_ok());
        assert_eq!(wrong(Fields::from_query(&"/x?a=1&a=2".parse().unwrap()).unwrap()), ["a", "a"]);
    }

    #[test]
    fn null_is_nothing_and_a_hundred_errors_are_enough() {
        let mut fields = Fields::new(object(br#"{"a":null}"#).unwrap());
        assert_eq!(fields.text("a", 9), None);
        assert!(fields.finish().is_ok());
        let many: Map<String, Value> = (0..10_000).map(|i| (format!("f{i}"), Value::Null)).collect();
        assert_eq!(wrong(Fields::new(many)).len(), 100);
    }
}

//! Records that others wrote to Kafka, as submissions.
//!
//! Nothing of a record is changed for being written by another program; what can't be read is said in words, so that
//! whoever finds the record among the dead letters knows why it is there.

use std::borrow::Cow;
use std::str;

use postrider_backend::log::{Foreign, Record};
use postrider_core::id::Uid;
use postrider_core::pattern::check_type;
use postrider_core::time::Time;
use postrider_core::trace::Trace;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::cloudevents;
use crate::submission::{Invalid, Problem, Submission};

/// The tenant of what names no other.
const DEFAULT_TENANT: &str = "default";
/// Longest name of a tenant in a header, in bytes.
const MAX_TENANT: usize = 255;
/// Most bytes of a record's value, as of an event over REST.
pub const MAX_VALUE: usize = 1 << 20;
/// Longest key of a record that is taken for an ordering key, in bytes.
const MAX_KEY: usize = 255;

/// How the records of a topic are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whose events they are; without it their `tenant` header says so, or else they are the default tenant's.
    pub tenant: Option<String>,
    /// What their values are.
    pub format: Format,
}

/// What a record's value is, unless its headers say that it is a CloudEvent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The JSON of `POST /v1/events`.
    #[default]
    Event,
    /// The event's data, whatever JSON it is; the type is found as told, the record's key is the ordering key.
    Data(TypeOf),
    /// A CloudEvent in structured mode.
    CloudEvent,
}

/// Where the type of an event is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeOf {
    /// It is always the same.
    Fixed(String),
    /// At this JSON pointer (RFC 6901) of the value.
    Pointer(String),
}

/// An event that others wrote.
#[derive(Debug)]
pub struct ForeignEvent<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// Its number, the same whenever the record is read again.
    pub number: Uid,
    /// The trace that its producer wrote it in.
    pub trace: Option<Trace<'a>>,
    /// The event.
    pub submission: Submission<'a>,
}

impl Reading {
    /// Reads a record of `topic` that others wrote.
    pub fn read<'a>(&'a self, topic: &str, record: &'a Record, foreign: &'a Foreign) -> Result<ForeignEvent<'a>, Invalid> {
        let header = |name: &str| header(foreign, name);
        if record.payload.len() > MAX_VALUE {
            let size = record.payload.len();
            return Err(problem("value", format!("has {size} bytes, more than the {MAX_VALUE} that an event may have")));
        }
        let tenant = match &self.tenant {
            Some(tenant) => tenant,
            None => header("tenant").unwrap_or(DEFAULT_TENANT),
        };
        if tenant.is_empty() || tenant.len() > MAX_TENANT {
            return Err(problem("tenant", format!("the header must have 1 to {MAX_TENANT} bytes")));
        }
        let submission = if header("ce_specversion").is_some() {
            cloudevents::binary(|name| header(&format!("ce_{name}")), &record.payload)?
        } else if self.format == Format::CloudEvent || is_cloudevent(header("content-type")) {
            cloudevents::structured(&record.payload)?
        } else if let Format::Data(type_of) = &self.format {
            let submission = data(type_of, record, foreign)?;
            submission.check()?;
            submission
        } else {
            Submission::from_json(&record.payload)?
        };
        Ok(ForeignEvent {
            tenant,
            number: number(topic, record),
            trace: header("traceparent").and_then(|parent| Trace::read(parent, header("tracestate"))),
            submission,
        })
    }
}

/// An event whose data is the whole value.
fn data<'a>(type_of: &'a TypeOf, record: &'a Record, foreign: &'a Foreign) -> Result<Submission<'a>, Invalid> {
    let data: &RawValue = Invalid::from_json(&record.payload)?;
    let kind = match type_of {
        TypeOf::Fixed(kind) => Cow::Borrowed(kind.as_str()),
        TypeOf::Pointer(pointer) => {
            let value: Value = Invalid::from_json(&record.payload)?;
            match value.pointer(pointer) {
                Some(Value::String(kind)) => Cow::Owned(kind.clone()),
                Some(_) => return Err(problem(pointer, "must be text, as it is the event's type")),
                None => return Err(problem(pointer, "is missing, and it is the event's type")),
            }
        }
    };
    check_type(&kind).map_err(|error| problem("type", error.to_string()))?;
    let key = foreign.key.as_deref().and_then(|key| str::from_utf8(key).ok());
    let key = key.filter(|key| (1..=MAX_KEY).contains(&key.len()) && !key.chars().any(char::is_control));
    Ok(Submission { key: key.map(Cow::Borrowed), ..Submission::new(kind, data) })
}

fn header<'a>(foreign: &'a Foreign, name: &str) -> Option<&'a str> {
    let value = foreign.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    value.and_then(|value| str::from_utf8(value).ok())
}

fn is_cloudevent(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("application/cloudevents"))
}

fn problem(field: &str, message: impl Into<String>) -> Invalid {
    Invalid::Fields(vec![Problem::new(field, message)])
}

/// The number of an event: when its record was written, and where the record lies. A record that is read again after
/// a crash gives the same event.
fn number(topic: &str, record: &Record) -> Uid {
    let mut hash = Sha256::new();
    hash.update(topic);
    hash.update(record.partition.0.to_be_bytes());
    hash.update(record.offset.0.to_be_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let Time(at) = record.at;
    Uid::new(Time(at), (record.offset.0 & 0xFFF) as u16, u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use postrider_backend::log::Topic;
    use postrider_core::offsets::Offset;
    use postrider_core::partition::Partition;

    fn record(offset: u64, payload: &str) -> Record {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let (topic, partition, offset, at) = (Topic::Events, Partition(2), Offset(offset), Time(1_700_000_000_000));
        Record { topic, partition, offset, at, meta: Bytes::new(), payload, foreign: None }
    }

    fn foreign(key: &str, headers: &[(&str, &str)]) -> Foreign {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Foreign { key: Some(bytes(key)), headers: headers.iter().map(|(name, value)| ((*name).to_owned(), bytes(value))).collect() }
    }

    #[test]
    fn json_and_both_modes_of_cloudevents_are_read_from_one_topic() {
        let reading = Reading::default();
        let json = record(1, r#"{"type":"order.created","data":{"n":1},"id":"7"}"#);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let plain = foreign("k", &[("tenant", "acme"), ("traceparent", trace), ("tracestate", "a=1")]);
        let event = reading.read("events", &json, &plain).expect("an event");
        assert_eq!((event.tenant, event.trace, &*event.submission.kind), ("acme", Trace::read(trace, Some("a=1")), "order.created"));
        let garbled = foreign("k", &[("traceparent", "00-1-2-00")]);
        assert_eq!(reading.read("events", &json, &garbled).expect("an event").trace, None);

        let structured = record(2, r#"{"specversion":"1.0","id":"7","source":"/s","type":"order.created","data":{"n":1}}"#);
        let marked = foreign("", &[("Content-Type", "application/cloudevents+json; charset=utf-8")]);
        let event = reading.read("events", &structured, &marked).expect("an event");
        assert_eq!((event.tenant, event.submission.data.get()), ("default", r#"{"n":1}"#));

        let binary = record(3, r#"{"n":1}"#);
        let headers = foreign(
            "",
            &[("ce_specversion", "1.0"), ("ce_id", "7"), ("ce_source", "/s"), ("ce_type", "order.created"), ("ce_partitionkey", "p")],
        );
        let event = reading.read("events", &binary, &headers).expect("an event");
        assert_eq!((event.submission.id.as_deref(), event.submission.key.as_deref()), (Some("7"), Some("p")));
    }

    #[test]
    fn a_source_gives_its_values_as_data() {
        let value = record(9, r#"{"kind":"order.paid","total":5}"#);
        let reading = |type_of| Reading { tenant: Some("acme".to_owned()), format: Format::Data(type_of) };
        let (pointed, fixed) = (reading(TypeOf::Pointer("/kind".to_owned())), reading(TypeOf::Fixed("order".to_owned())));
        let carried = foreign("order-5", &[("tenant", "mallory")]);
        let event = pointed.read("orders", &value, &carried).expect("an event");
        assert_eq!(
            (event.tenant, &*event.submission.kind, event.submission.key.as_deref(), event.submission.data.get()),
            ("acme", "order.paid", Some("order-5"), r#"{"kind":"order.paid","total":5}"#)
        );
        let again = fixed.read("orders", &value, &carried).expect("an event");
        assert_eq!((&*again.submission.kind, again.number), ("order", event.number), "the same record is the same event");
        assert_ne!(fixed.read("orders", &record(10, "1"), &carried).expect("an event").number, event.number);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let reading = Reading { tenant: None, format: Format::Data(TypeOf::Pointer("/kind".to_owned())) };
        let words = |reading: &Reading, payload, headers: &[(&str, &str)]| {
            reading.read("t", &record(1, payload), &foreign("", headers)).expect_err("it is garbage").to_string()
        };
        assert_eq!(words(&reading, "{}", &[]), "/kind: is missing, and it is the event's type");
        assert_eq!(words(&reading, r#"{"kind":7}"#, &[]), "/kind: must be text, as it is the event's type");
        assert!(words(&reading, r#"{"kind":"a b"}"#, &[]).starts_with("type: "));
        assert!(words(&Reading::default(), "garbage", &[]).starts_with("the body is not JSON"));
        assert!(words(&Reading::default(), "{}", &[("tenant", "")]).starts_with("tenant: "));
        assert!(words(&Reading::default(), "{}", &[("ce_specversion", "0.3")]).starts_with("specversion: "));
        assert!(words(&Reading::default(), &"x".repeat(MAX_VALUE + 1), &[]).contains("more than"));
    }
}

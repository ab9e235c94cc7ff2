//! CloudEvents 1.0 as submissions: `id`, `source`, `type`, `time` and `data` carry over, `partitionkey` is the ordering key.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::submission::{Invalid, Problem, Submission};

/// A CloudEvent in JSON format. Extension attributes that mean nothing here are passed over, as the standard asks.
#[derive(Deserialize)]
struct CloudEvent<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    time: Option<Cow<'a, str>>,
    #[serde(default)]
    partitionkey: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    data_base64: Option<&'a RawValue>,
}

/// Reads a CloudEvent in structured mode (`application/cloudevents+json`), checked.
pub fn structured(bytes: &[u8]) -> Result<Submission<'_>, Invalid> {
    let event: CloudEvent<'_> = Invalid::from_json(bytes)?;
    check_version(&event.specversion)?;
    let data = event.data.or(event.data_base64).unwrap_or(RawValue::NULL);
    checked(Submission {
        id: Some(event.id),
        source: Some(event.source),
        created_at: event.time,
        key: event.partitionkey,
        ..Submission::new(event.kind, data)
    })
}

/// Reads a CloudEvent in binary mode: `attribute` gives the value of a `ce-` header (without the `ce-`), `data` is
/// the body, which must be JSON or empty.
pub fn binary<'a>(attribute: impl Fn(&str) -> Option<&'a str>, data: &'a [u8]) -> Result<Submission<'a>, Invalid> {
    let required = |name: &str| {
        attribute(name).map(Cow::Borrowed).ok_or_else(|| Invalid::Fields(vec![Problem::new(format!("ce-{name}"), "header is missing")]))
    };
    check_version(&required("specversion")?)?;
    let data = if data.is_empty() { RawValue::NULL } else { Invalid::from_json(data)? };
    let kind = required("type")?;
    checked(Submission {
        id: Some(required("id")?),
        source: Some(required("source")?),
        created_at: attribute("time").map(Cow::Borrowed),
        key: attribute("partitionkey").map(Cow::Borrowed),
        ..Submission::new(kind, data)
    })
}

fn checked(submission: Submission<'_>) -> Result<Submission<'_>, Invalid> {
    submission.check()?;
    Ok(Submission { is_id_of_source: true, ..submission })
}

/// What tells an event in binary mode from another, as the bytes of one in structured mode do: attributes and body.
pub fn binary_raw<'a>(attribute: impl Fn(&str) -> Option<&'a str>, data: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(data.len() + 256);
    for name in ["id", "source", "type", "time", "partitionkey"] {
        // No header has a line's end in it, so none can be taken for two.
        raw.extend([attribute(name).unwrap_or_default().as_bytes(), b"\n"].concat());
    }
    raw.extend(data);
    raw
}

fn check_version(version: &str) -> Result<(), Invalid> {
    if version == "1.0" { Ok(()) } else { Err(Invalid::Fields(vec![Problem::new("specversion", "must be 1.0")])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_give_the_same_event() {
        let json = br#"{"specversion":"1.0","id":"7","source":"/shop","type":"order.created","time":"2026-01-31T12:00:00Z",
            "partitionkey":"k","comexampleother":5,"data":{"n":1}}"#;
        let one = structured(json).expect("structured");
        let attribute = |name: &str| match name {
            "specversion" => Some("1.0"),
            "id" => Some("7"),
            "source" => Some("/shop"),
            "type" => Some("order.created"),
            "time" => Some("2026-01-31T12:00:00Z"),
            "partitionkey" => Some("k"),
            _ => None,
        };
        let other = binary(attribute, br#"{"n":1}"#).expect("binary");
        for event in [&one, &other] {
            assert_eq!(
                (&*event.kind, event.id.as_deref(), event.key.as_deref(), event.data.get()),
                ("order.created", Some("7"), Some("k"), r#"{"n":1}"#)
            );
        }
    }

    #[test]
    fn a_foreign_version_or_a_missing_attribute_is_named() {
        assert!(structured(br#"{"specversion":"0.3","id":"7","source":"s","type":"a"}"#).is_err());
        let missing = structured(br#"{"specversion":"1.0","source":"s","type":"a"}"#).expect_err("no id");
        assert_eq!(missing, Invalid::Fields(vec![Problem::new("id", "missing field `id`")]));
        assert!(binary(|_| None, b"").is_err());
    }
}

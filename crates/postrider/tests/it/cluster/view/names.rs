//! Stable names for what depends on time or chance.

use std::collections::BTreeMap;

use postrider_core::id::{EndpointId, Uid};
use serde_json::Value;

/// A time that a sender gave; all others are when the test ran.
pub(super) const GIVEN_TIME: &str = "2020-01-02T03:04:05Z";
/// Members that are measured or drawn.
const CHANCE: [&str; 6] = ["duration_ms", "p50", "p95", "p99", "request_id", "secret"];

/// Names of ids, in the words of the story.
#[derive(Default)]
pub(super) struct Names {
    events: BTreeMap<Uid, String>,
    endpoints: BTreeMap<EndpointId, String>,
}

impl Names {
    pub(super) fn event(&mut self, id: &str, name: &str) {
        self.events.entry(id.parse().unwrap()).or_insert_with(|| name.to_owned());
    }

    pub(super) fn endpoint(&mut self, id: EndpointId, name: &str) {
        self.endpoints.insert(id, name.to_owned());
    }

    /// The ids of all endpoints, oldest first; those of URLs last.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &str)> {
        self.endpoints.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// Whether it is of the large fan-out, and not the first there.
    pub(super) fn is_one_of_many(&self, id: EndpointId) -> bool {
        self.endpoints[&id].strip_prefix("crowd ").is_some_and(|n| n != "1")
    }

    /// The ids of all events, oldest first.
    pub(super) fn events(&self) -> impl Iterator<Item = (Uid, &str)> {
        self.events.iter().map(|(id, name)| (*id, name.as_str()))
    }

    pub(super) fn endpoint_id(&self, name: &str) -> EndpointId {
        let (id, _) = self.endpoints().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("there is no endpoint {name}"));
        id
    }

    pub(super) fn event_id(&self, name: &str) -> Uid {
        let (id, _) = self.events().find(|(_, known)| *known == name).unwrap_or_else(|| panic!("there is no event {name}"));
        id
    }

    /// The same with names for ids, and without what depends on time or chance.
    pub(super) fn told(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let told = |(name, value): (&String, &Value)| {
                    let chance = CHANCE.contains(&name.as_str()) && !value.is_null();
                    (name.clone(), if chance { format!("<{name}>").into() } else { self.told(value) })
                };
                Value::Object(members.iter().map(told).collect())
            }
            Value::Array(items) => items.iter().map(|item| self.told(item)).collect(),
            Value::String(text) => self.text(text).into(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other.clone(),
        }
    }

    fn text(&self, text: &str) -> String {
        if text != GIVEN_TIME && chrono::DateTime::parse_from_rfc3339(text).is_ok() {
            return "<time>".to_owned();
        }
        let mut told = String::new();
        for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let id = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            told += &self.id(id).unwrap_or_else(|| id.to_owned());
            told += &word[id.len()..];
        }
        told
    }

    fn id(&self, id: &str) -> Option<String> {
        let missing = || panic!("{id} has no name");
        if let Ok(event) = id.parse::<Uid>() {
            return Some(self.events.get(&event).unwrap_or_else(missing).clone());
        }
        if let Ok(endpoint) = id.parse::<EndpointId>() {
            return Some(self.endpoints.get(&endpoint).unwrap_or_else(missing).clone());
        }
        let delivery = id.parse::<postrider_core::id::DeliveryId>().ok()?;
        let event = self.events.get(&delivery.event).unwrap_or_else(missing);
        let endpoint = self.endpoints.get(&delivery.endpoint).unwrap_or_else(missing);
        Some(format!("{event} → {endpoint}"))
    }
}

//! The events of docs/samples: a tea shop and its assistant.

use serde::{Deserialize, Serialize};
use serde_json::Value;

const SHOP: &str = include_str!("../../../../../docs/samples/shop.ndjson");
const ASSISTANT: &str = include_str!("../../../../../docs/samples/assistant.ndjson");

/// One line of a sample file: an event as `POST /v1/events` takes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Where it comes from.
    pub(crate) source: String,
    /// The version of the shape of `data`.
    pub(crate) api_version: String,
    /// Its ordering key.
    pub(crate) key: String,
    /// What it carries.
    pub(crate) data: Value,
    /// Ties a delivery to its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_id: Option<String>,
}

/// All samples, the shop's and the assistant's taking turns.
pub(crate) fn all() -> Vec<Sample> {
    let (mut shop, mut assistant) = (read(SHOP), read(ASSISTANT));
    let mut mixed = Vec::new();
    loop {
        let (one, other) = (shop.next(), assistant.next());
        if one.is_none() && other.is_none() {
            return mixed;
        }
        mixed.extend(one.into_iter().chain(other));
    }
}

/// The data of the first sample of type `kind`.
pub(crate) fn data_of(kind: &str) -> Option<Value> {
    read(SHOP).chain(read(ASSISTANT)).find(|sample| sample.kind == kind).map(|sample| sample.data)
}

fn read(file: &'static str) -> impl Iterator<Item = Sample> {
    file.lines().map(|line| serde_json::from_str(line).expect("the sample files hold one event a line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_files_can_be_read() {
        assert_eq!(all().len(), SHOP.lines().count() + ASSISTANT.lines().count());
        assert!(data_of("order.created").is_some() && data_of("no.such").is_none());
    }
}

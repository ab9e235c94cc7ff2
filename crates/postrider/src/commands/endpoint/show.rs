//! Endpoints on paper.

use serde_json::{Value, json};

use crate::client::Endpoint;
use crate::failure::Failure;
use crate::output::{self, Table};

/// One endpoint with everything the server tells of it.
pub(crate) fn one(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(endpoint);
    }
    let mut table = Table::new(["id", &endpoint.id]);
    table.row(["url".to_owned(), endpoint.url.clone()]);
    table.row(["events".to_owned(), events(endpoint)]);
    table.row(["status".to_owned(), endpoint.status.clone()]);
    if let Some(secret) = &endpoint.secret {
        table.row(["secret".to_owned(), secret.clone()]);
    }
    for (name, value) in &endpoint.rest {
        match value {
            Value::Null => {}
            Value::Object(members) if members.is_empty() => {}
            Value::String(text) => table.row([name.clone(), text.clone()]),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => table.row([name.clone(), value.to_string()]),
        }
    }
    output::line(table)
}

/// All endpoints, one line each.
pub(crate) fn many(endpoints: &[Endpoint], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({ "webhooks": endpoints }));
    }
    let mut table = Table::new(["ID", "STATUS", "EVENTS", "URL"]);
    for endpoint in endpoints {
        table.row([endpoint.id.clone(), endpoint.status.clone(), events(endpoint), endpoint.url.clone()]);
    }
    output::line(table)
}

fn events(endpoint: &Endpoint) -> String {
    if endpoint.events.is_empty() { "*".to_owned() } else { endpoint.events.join(",") }
}

//! What an endpoint's owner may set, read and checked.

use std::collections::BTreeMap;

use postrider_core::endpoint::{Endpoint, Ordering, Retry, Status};
use postrider_core::pattern::Pattern;
use postrider_core::secret::{MAX_SECRET, Secret};
use postrider_core::time::Time;
use postrider_egress::{MAX_URL, check_url, wrong_headers};
use serde_json::{Map, Value, json};

use crate::fields::Fields;
use crate::problem::Problem;

const MAX_PATTERNS: usize = 100;
const MAX_DESCRIPTION: usize = 1024;
const MAX_ENVIRONMENT: usize = 64;
const MAX_METADATA: usize = 16 * 1024;
const MAX_DELAYS: usize = 30;
/// A week, in seconds.
const MAX_DELAY: u64 = 604_800;

/// The reason of an endpoint that was disabled through the API.
pub(super) const BY_OWNER: &str = "disabled by its owner";

/// The settings of an endpoint.
pub(super) struct Settings {
    url: String,
    events: Vec<Pattern>,
    description: Option<String>,
    environment: Option<String>,
    headers: BTreeMap<String, String>,
    timeout: Option<u32>,
    rate_limit: Option<u32>,
    max_in_flight: Option<u16>,
    ordering: Ordering,
    retry: Retry,
    metadata: Option<Map<String, Value>>,
    /// As it is, where nothing is said.
    enabled: Option<bool>,
}

impl Settings {
    /// Reads the settings of a new endpoint, and its secret where one is given.
    pub(super) fn read_new(mut fields: Fields) -> Result<(Settings, Option<Secret>), Problem> {
        let secret = secret(&mut fields);
        Settings::read(fields).map(|settings| (settings, secret))
    }

    /// Reads what becomes of `endpoint` with `patch` (RFC 7396). Other than `headers` and `metadata`, which are
    /// merged, a field is replaced as a whole.
    pub(super) fn read_patched(endpoint: &Endpoint, patch: Map<String, Value>) -> Result<Settings, Problem> {
        let mut members = members(endpoint);
        let rotated = patch.contains_key("secret");
        for (name, new) in patch {
            match (members.get_mut(&name), new) {
                (Some(Value::Object(old)), Value::Object(new)) if name != "retry" => merge(old, new),
                (_, new) => {
                    members.insert(name, new);
                }
            }
        }
        let mut fields = Fields::new(members);
        if rotated {
            fields.take("secret");
            fields.refuse("secret", "is changed by POST /v1/webhooks/{id}/rotate-secret");
        }
        Settings::read(fields)
    }

    fn read(mut fields: Fields) -> Result<Settings, Problem> {
        let url = fields.text("url", MAX_URL);
        if let Some(Err(error)) = url.as_deref().map(check_url) {
            fields.refuse("url", error.to_string());
        }
        let url = fields.require("url", url);
        let settings = Settings {
            url: url.unwrap_or_default(),
            events: patterns(&mut fields),
            description: fields.text("description", MAX_DESCRIPTION),
            environment: fields.text("environment", MAX_ENVIRONMENT),
            headers: headers(&mut fields),
            timeout: fields.number("timeout", 1..=120).map(|seconds| seconds as u32),
            rate_limit: fields.number("rate_limit", 1..=100_000).map(|rate| rate as u32),
            max_in_flight: fields.number("max_in_flight", 1..=256).map(|most| most as u16),
            ordering: ordering(&mut fields),
            retry: retry(&mut fields),
            metadata: metadata(&mut fields),
            enabled: fields.truth("enabled"),
        };
        fields.finish()?;
        Ok(settings)
    }

    /// Sets them on `endpoint`.
    pub(super) fn apply(self, endpoint: &mut Endpoint, now: Time) {
        let Settings { url, events, description, environment, headers, timeout, rate_limit, .. } = self;
        endpoint.url = url;
        endpoint.events = events;
        endpoint.description = description;
        endpoint.environment = environment;
        endpoint.headers = headers;
        endpoint.timeout = timeout;
        endpoint.rate_limit = rate_limit;
        endpoint.max_in_flight = self.max_in_flight;
        endpoint.ordering = self.ordering;
        endpoint.retry = self.retry;
        endpoint.metadata = self.metadata;
        endpoint.updated_at = now;
        match self.enabled {
            Some(true) => endpoint.status = Status::Enabled,
            Some(false) => endpoint.status = Status::Disabled { reason: BY_OWNER.to_owned() },
            None => {}
        }
    }
}

/// The settings of an endpoint as a request would give them.
fn members(endpoint: &Endpoint) -> Map<String, Value> {
    let members = json!({
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "environment": endpoint.environment,
        "headers": endpoint.headers,
        "timeout": endpoint.timeout,
        "rate_limit": endpoint.rate_limit,
        "max_in_flight": endpoint.max_in_flight,
        "ordering": endpoint.ordering,
        "retry": retry_value(&endpoint.retry),
        "metadata": endpoint.metadata,
    });
    match members {
        Value::Object(members) => members,
        _other => unreachable!("it is written as an object"),
    }
}

/// A retry setting as requests give it and responses show it.
pub(super) fn retry_value(retry: &Retry) -> Value {
    match retry {
        Retry::Default => Value::Null,
        Retry::Schedule(delays) => json!({ "schedule": delays }),
        Retry::MaxAttempts(attempts) => json!({ "max_attempts": attempts }),
    }
}

fn merge(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (name, new) in new {
        match (old.get_mut(&name), new) {
            (_, Value::Null) => {
                old.remove(&name);
            }
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (_, new) => {
                old.insert(name, new);
            }
        }
    }
}

/// A secret that its owner chose.
pub(super) fn secret(fields: &mut Fields) -> Option<Secret> {
    let chosen = fields.take("secret")?.as_str().and_then(Secret::chosen);
    if chosen.is_none() {
        fields.refuse("secret", format!("must be 1 to {MAX_SECRET} visible ASCII characters"));
    }
    chosen
}

/// All events, where nothing is said.
fn patterns(fields: &mut Fields) -> Vec<Pattern> {
    let given = match fields.take("events") {
        None => return vec![Pattern::All],
        Some(Value::Array(given)) if (1..=MAX_PATTERNS).contains(&given.len()) => given,
        Some(_) => {
            fields.refuse("events", format!("must be a list of 1 to {MAX_PATTERNS} patterns; without it all events are wanted"));
            return Vec::new();
        }
    };
    let mut patterns = Vec::with_capacity(given.len());
    for (i, pattern) in given.iter().enumerate() {
        match pattern.as_str().map(str::parse::<Pattern>) {
            Some(Ok(pattern)) if patterns.contains(&pattern) => {}
            Some(Ok(pattern)) => patterns.push(pattern),
            Some(Err(error)) => fields.refuse(format!("events.{i}"), error.to_string()),
            None => fields.refuse(format!("events.{i}"), "must be a text"),
        }
    }
    patterns
}

fn headers(fields: &mut Fields) -> BTreeMap<String, String> {
    let given = fields.object("headers").unwrap_or_default();
    let wrong = wrong_headers(given.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, words) in &wrong {
        fields.refuse(name.as_ref().map_or_else(|| "headers".to_owned(), |name| format!("headers.{name}")), words.as_str());
    }
    let text = |(name, value): (String, Value)| value.as_str().map(|text| (name, text.to_owned()));
    if wrong.is_empty() { given.into_iter().filter_map(text).collect() } else { BTreeMap::new() }
}

fn ordering(fields: &mut Fields) -> Ordering {
    match fields.take("ordering") {
        None => Ordering::None,
        Some(given) => serde_json::from_value(given).unwrap_or_else(|_| {
            fields.refuse("ordering", "must be none or key");
            Ordering::None
        }),
    }
}

fn retry(fields: &mut Fields) -> Retry {
    const FORM: &str = "must be {\"schedule\": [seconds, …]} or {\"max_attempts\": number}";
    let Some(mut given) = fields.object("retry") else { return Retry::Default };
    match (given.remove("schedule"), given.remove("max_attempts")) {
        (Some(Value::Array(delays)), None) if given.is_empty() => {
            let seconds = |delay: &Value| delay.as_u64().filter(|seconds| (1..=MAX_DELAY).contains(seconds));
            match delays.iter().map(|delay| seconds(delay).map(|seconds| seconds as u32)).collect() {
                Some(schedule) if delays.len() <= MAX_DELAYS => return Retry::Schedule(schedule),
                Some(_) | None => {
                    fields.refuse("retry.schedule", format!("must be at most {MAX_DELAYS} numbers of seconds from 1 to {MAX_DELAY}"));
                }
            }
        }
        (None, Some(attempts)) if given.is_empty() => match attempts.as_u64().filter(|attempts| (1..=50).contains(attempts)) {
            Some(attempts) => return Retry::MaxAttempts(attempts as u32),
            None => fields.refuse("retry.max_attempts", "must be a whole number from 1 to 50"),
        },
        _other => fields.refuse("retry", FORM),
    }
    Retry::Default
}

fn metadata(fields: &mut Fields) -> Option<Map<String, Value>> {
    let metadata = fields.object("metadata")?;
    let size = serde_json::to_vec(&metadata).map_or(usize::MAX, |text| text.len());
    if size > MAX_METADATA {
        fields.refuse("metadata", format!("must have at most {MAX_METADATA} bytes"));
        return None;
    }
    Some(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(given: Value) -> Endpoint {
        let mut endpoint = Endpoint::of_url("default", "", Secret::new("s"), None);
        Settings::read(Fields::new(given.as_object().unwrap().clone())).ok().unwrap().apply(&mut endpoint, Time(1));
        endpoint
    }

    fn patched(before: &Endpoint, patch: Value) -> Endpoint {
        let mut after = before.clone();
        Settings::read_patched(before, patch.as_object().unwrap().clone()).ok().unwrap().apply(&mut after, Time(2));
        after
    }

    #[test]
    fn an_empty_patch_changes_nothing_but_the_time() {
        let before = endpoint(json!({
            "url": "https://a.example/", "events": ["a.*", "b"], "description": "d", "environment": "e",
            "headers": {"X-A": "1"}, "timeout": 7, "rate_limit": 8, "max_in_flight": 9, "ordering": "key",
            "retry": {"schedule": [1, 2]}, "metadata": {"a": {"b": 1}}, "enabled": false,
        }));
        let after = patched(&before, json!({}));
        assert_eq!(after.updated_at, Time(2));
        let value = |endpoint: &Endpoint| serde_json::to_string(&Endpoint { updated_at: Time(0), ..endpoint.clone() }).unwrap();
        assert_eq!(value(&after), value(&before));
    }

    #[test]
    fn a_patch_merges_and_null_clears() {
        let before = endpoint(json!({
            "url": "https://a.example/", "timeout": 7, "headers": {"X-A": "1", "X-B": "2"},
            "retry": {"schedule": [1]}, "metadata": {"a": {"b": 1, "c": 2}},
        }));
        let patch = json!({
            "timeout": null, "headers": {"X-A": null, "X-C": "3"}, "retry": {"max_attempts": 3},
            "metadata": {"a": {"b": null}}, "enabled": false,
        });
        let after = patched(&before, patch);
        assert_eq!(after.timeout, None);
        assert_eq!(after.headers.keys().collect::<Vec<_>>(), ["X-B", "X-C"]);
        assert_eq!(after.retry, Retry::MaxAttempts(3));
        assert_eq!(Value::Object(after.metadata.clone().unwrap()), json!({"a": {"c": 2}}));
        assert!(matches!(after.status, Status::Disabled { .. }));
        assert_eq!(patched(&after, json!({"enabled": true, "metadata": null})).metadata, None);
    }
}

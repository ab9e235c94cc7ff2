//! A webhook endpoint as its owner configured it, and what of it the delivery shard needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::EndpointId;
use crate::pattern::Pattern;
use crate::retry::DEFAULT_SCHEDULE;
use crate::secret::Secret;
use crate::time::{Millis, Time};

/// Time-out of a first attempt's whole exchange.
pub const FIRST_TIMEOUT: Millis = Millis::from_secs(5);
/// Time-out of later attempts where the endpoint names none.
pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(15);
/// Attempts in flight to one endpoint at most, where it names no number of its own.
pub const DEFAULT_MAX_IN_FLIGHT: u16 = 64;

/// A registered endpoint, or one made from a URL that came with an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id; unique over all tenants.
    pub id: EndpointId,
    /// The tenant that owns it.
    pub tenant: String,
    /// Where deliveries are POSTed to; http or https.
    pub url: String,
    /// The events it wants; empty means all.
    pub events: Vec<Pattern>,
    /// A person's note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A person's label, such as `production`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Headers sent with each delivery beside ours.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whole-exchange time-out of attempts after the first, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Most attempts a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Most attempts at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u16>,
    /// Whether events of one key wait for each other.
    #[serde(default)]
    pub ordering: Ordering,
    /// When failures are tried again.
    #[serde(default)]
    pub retry: Retry,
    /// The owner's own data, returned as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether deliveries are sent.
    pub status: Status,
    /// What signs deliveries.
    pub secret: Secret,
    /// The secret before, still signed with until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSecret>,
    /// When it was registered.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// A secret that was rotated out and is honoured until an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// The former secret.
    pub secret: Secret,
    /// When it stops being used.
    pub expires_at: Time,
}

/// Whether an endpoint's deliveries are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Status {
    /// They are.
    Enabled,
    /// They wait until it is enabled again.
    Disabled {
        /// Who or what disabled it, for its owner to read.
        reason: String,
    },
}

/// In which order an endpoint's deliveries are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// As they come; a failure holds nothing up.
    #[default]
    None,
    /// Events with the same key one after the other; a failing one holds up its own key only.
    Key,
}

/// When failed deliveries are tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The default schedule.
    #[default]
    Default,
    /// Seconds after each failed attempt.
    Schedule(Vec<u32>),
    /// The default schedule, cut to this many attempts in all.
    MaxAttempts(u32),
}

impl Retry {
    /// The delays after each failed attempt.
    pub fn delays(&self) -> Vec<Millis> {
        match self {
            Retry::Default => DEFAULT_SCHEDULE.map(Millis::from_secs).to_vec(),
            Retry::Schedule(secs) => secs.iter().map(|s| Millis::from_secs(u64::from(*s))).collect(),
            Retry::MaxAttempts(attempts) => {
                let last = Millis::from_secs(DEFAULT_SCHEDULE[DEFAULT_SCHEDULE.len() - 1]);
                let planned = DEFAULT_SCHEDULE.map(Millis::from_secs).into_iter().chain(std::iter::repeat(last));
                planned.take(attempts.saturating_sub(1) as usize).collect()
            }
        }
    }
}

impl Endpoint {
    /// The endpoint of a URL that came with an event of `tenant`; signed with the tenant's own secret.
    pub fn of_url(tenant: &str, url: &str, secret: Secret, previous: Option<PreviousSecret>) -> Endpoint {
        Endpoint {
            id: EndpointId::of_url(tenant, url),
            tenant: tenant.to_owned(),
            url: url.to_owned(),
            events: Vec::new(),
            description: None,
            environment: None,
            headers: BTreeMap::new(),
            timeout: None,
            rate_limit: None,
            max_in_flight: None,
            ordering: Ordering::None,
            retry: Retry::Default,
            metadata: None,
            status: Status::Enabled,
            secret,
            previous,
            created_at: Time(0),
            updated_at: Time(0),
        }
    }

    /// What the delivery shard must know.
    pub fn policy(&self) -> Policy {
        Policy {
            state: match self.status {
                Status::Enabled => PolicyState::Enabled,
                Status::Disabled { .. } => PolicyState::Disabled,
            },
            max_in_flight: self.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT).max(1),
            rate_limit: self.rate_limit,
            ordering: self.ordering,
            schedule: self.retry.delays().into(),
            timeout: self.timeout.map_or(DEFAULT_TIMEOUT, |s| Millis::from_secs(u64::from(s))),
        }
    }
}

/// How a shard treats an endpoint's deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Sent, held, or given up.
    pub state: PolicyState,
    /// Most attempts at one time; at least 1.
    pub max_in_flight: u16,
    /// Most attempts a second.
    pub rate_limit: Option<u32>,
    /// Whether events of one key wait for each other.
    pub ordering: Ordering,
    /// Delays after each failed attempt.
    pub schedule: Arc<[Millis]>,
    /// Time-out of attempts after the first.
    pub timeout: Millis,
}

/// What becomes of an endpoint's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyState {
    /// They are sent.
    Enabled,
    /// They wait in the backlog.
    Disabled,
    /// The endpoint is gone; they are canceled.
    Deleted,
}

impl Policy {
    /// The policy of an endpoint that is no more.
    pub fn deleted() -> Policy {
        Policy {
            state: PolicyState::Deleted,
            max_in_flight: 1,
            rate_limit: None,
            ordering: Ordering::None,
            schedule: Arc::new([]),
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

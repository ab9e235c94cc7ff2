//! What came of one attempt, as the sender reports it and the store keeps it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::{Millis, Time};

/// How much of a response body is kept with its attempt, in bytes.
pub const KEPT_BODY: usize = 4096;

/// One attempt's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When the attempt began.
    pub started: Time,
    /// From the beginning to the end of the exchange.
    pub took: Millis,
    /// What the receiver answered, or why it did not.
    pub answer: Answer,
    /// The beginning of the response body; at most [`KEPT_BODY`] bytes.
    pub body: Bytes,
}

/// What the receiver answered, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// A whole HTTP response.
    Status {
        /// The status code.
        code: u16,
        /// The `Retry-After` header, where it was sent and could be read.
        retry_after: Option<Millis>,
    },
    /// No usable response.
    Failed {
        /// The sort of failure.
        failure: Failure,
        /// Words for the endpoint's owner; no secrets, no addresses inside our network.
        detail: String,
    },
}

/// Why there was no usable response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Connecting or the whole exchange took too long.
    Timeout,
    /// The name has no address, or could not be looked up.
    Dns,
    /// No connection: refused, unreachable, reset while connecting.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before the response did.
    Closed,
    /// The address lies in a range that deliveries must not reach.
    Forbidden,
    /// What came back is not HTTP, or its head is too large.
    Protocol,
}

impl Failure {
    /// As metrics, logs and spans call it.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::Dns => "dns",
            Failure::Connect => "connect",
            Failure::Tls => "tls",
            Failure::Closed => "closed",
            Failure::Forbidden => "forbidden",
            Failure::Protocol => "protocol",
        }
    }
}

impl Answer {
    /// 2xx, and nothing else (Standard Webhooks 1.0.0).
    pub fn is_success(&self) -> bool {
        matches!(self, Answer::Status { code: 200..=299, .. })
    }

    /// Whether the receiver is gone for good and wants no more (410, Standard Webhooks 1.0.0).
    pub fn is_gone(&self) -> bool {
        matches!(self, Answer::Status { code: 410, .. })
    }

    /// Whether the receiver seems to have more work than it can bear: time-outs, 429, 502, 503 and 504. Not 500: that is about
    /// the one request, and one in a thousand of them would keep a busy receiver at half of what it can bear.
    pub fn is_overload(&self) -> bool {
        match self {
            Answer::Status { code, .. } => matches!(code, 429 | 502..=504),
            Answer::Failed { failure, .. } => *failure == Failure::Timeout,
        }
    }

    /// The wait that a 429 or 503 asked for.
    pub fn retry_after(&self) -> Option<Millis> {
        match self {
            Answer::Status { code: 429 | 503, retry_after } => *retry_after,
            Answer::Status { .. } | Answer::Failed { .. } => None,
        }
    }
}

/// Where a delivery stands. Derived from its rows, never stored by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Not delivered yet; it is waiting or being tried.
    Pending,
    /// A 2xx was received.
    Succeeded,
    /// Given up: dead-lettered.
    Failed,
    /// Withdrawn by its owner, or its endpoint was deleted.
    Canceled,
}

/// Why a delivery ended without an attempt saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its owner canceled it.
    Canceled,
    /// Its endpoint was deleted.
    EndpointDeleted,
    /// It waited longer than its whole schedule without being sent.
    Expired,
}

impl End {
    /// The state such a delivery is in.
    pub fn state(self) -> DeliveryState {
        match self {
            End::Canceled | End::EndpointDeleted => DeliveryState::Canceled,
            End::Expired => DeliveryState::Failed,
        }
    }
}

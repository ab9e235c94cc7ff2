//! What librdkafka complains of, kept for whoever has to say why something did not work.

use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Longest reason that is kept.
const LONGEST: usize = 400;

/// What stands between a client and its brokers, from what tells most to what tells least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The brokers refuse the credentials.
    Authentication,
    /// TLS can't be agreed on.
    Tls,
    /// A name can't be resolved.
    Resolve,
    /// Nobody answers.
    Unreachable,
    /// Everything else.
    Other,
}

/// The most telling of the latest complaints of one client.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    latest: Mutex<Option<(Kind, String)>>,
}

impl Trouble {
    /// Notes a complaint, unless one is known that tells more.
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        let kind = match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::IllegalSASLState
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ) => Kind::Authentication,
            Some(RDKafkaErrorCode::SSL) => Kind::Tls,
            Some(RDKafkaErrorCode::Resolve) => Kind::Resolve,
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown) => Kind::Unreachable,
            Some(_) | None => Kind::Other,
        };
        // "All brokers down" says less than the complaint of one broker that came before it.
        let bare = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_none_or(|(known, _)| kind < *known || (kind == *known && !bare)) {
            *latest = Some((kind, reason.chars().take(LONGEST).collect()));
        }
    }

    /// All is well again.
    pub(super) fn forget(&self) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn latest(&self) -> Option<(Kind, String)> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Passes a line of librdkafka's log on to ours.
pub(super) fn forward(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // Producer and consumers are given the same properties on purpose.
    if facility == "CONFWARN" && line.contains("will be ignored by this") {
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "postrider::kafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "postrider::kafka", facility, "{line}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "postrider::kafka", facility, "{line}"),
    }
}

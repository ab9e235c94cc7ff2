//! What is logged of deliveries. A dead endpoint fails thousands of times a second: some lines of each sort are said, the
//! others counted.

use std::time::{Duration, Instant};

use postrider_core::attempt::Answer;
use postrider_core::breaker;
use postrider_core::id::EndpointId;
use postrider_core::record::Envelope;
use postrider_core::shard::Recorded;
use postrider_core::trace::TraceId;

use crate::lookups::Known;

/// Most lines of one sort that a worker logs in [`PERIOD`].
const MOST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// What one worker says of its deliveries. No line holds a payload, a secret or a URL.
#[derive(Default)]
pub(crate) struct Notices {
    failed: Allowance,
    given_up: Allowance,
    turned: Allowance,
}

impl Notices {
    /// An attempt ended.
    pub(crate) fn attempted(&mut self, envelope: &Envelope<'_>, attempt: &Recorded) {
        let answer = &attempt.report.answer;
        if answer.is_success() || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let Some(left_out) = self.failed.take() else { return };
        let (status, failure, why) = match answer {
            Answer::Status { code, .. } => (Some(*code), None, None),
            Answer::Failed { failure, detail } => (None, Some(failure.name()), Some(detail.as_str())),
        };
        tracing::info!(
            tenant = envelope.tenant,
            event = %envelope.event,
            delivery = %envelope.id(),
            endpoint = %envelope.endpoint,
            trace = %trace(envelope),
            attempt = attempt.number,
            status,
            failure,
            why,
            took_ms = attempt.report.took.0,
            next_attempt_at = attempt.next.map(tracing::field::display),
            left_out,
            "an attempt failed"
        );
    }

    /// A delivery became a dead letter.
    pub(crate) fn gave_up(&mut self, envelope: &Envelope<'_>, attempts: u32, why: &str) {
        let Some(left_out) = self.given_up.take() else { return };
        tracing::warn!(
            tenant = envelope.tenant,
            event = %envelope.event,
            delivery = %envelope.id(),
            endpoint = %envelope.endpoint,
            trace = %trace(envelope),
            attempts,
            why,
            left_out,
            "a delivery was given up"
        );
    }

    /// An endpoint's breaker opened or closed.
    pub(crate) fn turned(&mut self, endpoint: EndpointId, known: Option<&Known>, stands: breaker::State) {
        let tenant = known.map(|known| known.tenant.as_str());
        match stands {
            breaker::State::Open { until, trips } => {
                let Some(left_out) = self.turned.take() else { return };
                tracing::info!(tenant, %endpoint, %until, trips, left_out, "an endpoint fails; nothing is sent to it for a while");
            }
            breaker::State::Closed => {
                let Some(left_out) = self.turned.take() else { return };
                tracing::info!(tenant, %endpoint, left_out, "an endpoint answers again");
            }
            breaker::State::HalfOpen { .. } => {}
        }
    }
}

/// The trace that an attempt is part of, whoever records it.
fn trace(envelope: &Envelope<'_>) -> TraceId {
    envelope.trace.map_or(TraceId(envelope.event.0), |trace| trace.parent.trace)
}

/// How much may be said.
#[derive(Default)]
struct Allowance {
    since: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Allowance {
    /// Whether something may be said now, and how much was left out before.
    fn take(&mut self) -> Option<u64> {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            (self.since, self.said) = (Some(now), 0);
        }
        if self.said == MOST {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_ten_lines_and_the_next_one_says_what_was_left_out() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let said = (0..1000).filter(|_| allowance.take_at(start) == Some(0)).count();
        assert_eq!(said, 10);
        assert_eq!(allowance.take_at(start + PERIOD), Some(990));
        assert_eq!(allowance.take_at(start + PERIOD), Some(0));
    }
}

//! What a deliverer measures.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use postrider_core::attempt::{Answer, DeliveryState, End, Failure};
use postrider_core::breaker::Standings;
use postrider_core::record::Envelope;
use postrider_core::shard::{Census, Write as Change};
use postrider_core::time::{Millis, Time};
use postrider_metrics::names;
use tokio::time::Instant;

/// Between two looks at what the shards hold.
const EVERY: Duration = Duration::from_secs(1);

/// Counts what becomes of deliveries.
pub(crate) struct Meters {
    succeeded: Counter,
    failed: Counter,
    retries: Counter,
    latency: Histogram,
    first_latency: Histogram,
    delivered: Outcome,
    refused: Outcome,
    timeout: Outcome,
    dns: Outcome,
    connect: Outcome,
    tls: Outcome,
    closed: Outcome,
    forbidden: Outcome,
    protocol: Outcome,
    exhausted: Counter,
    expired: Counter,
    gone: Counter,
}

/// Attempts that ended in one way.
struct Outcome {
    count: Counter,
    took: Histogram,
}

impl Outcome {
    fn named(name: &str) -> Outcome {
        Outcome { count: names::ATTEMPTS.counter(&[name]), took: names::ATTEMPT_DURATION.histogram(&[name]) }
    }
}

impl Meters {
    pub(crate) fn new() -> Meters {
        let dead = |reason| names::DEAD_LETTERS.counter(&[reason]);
        Meters {
            succeeded: names::DELIVERIES.counter(&["success"]),
            failed: names::DELIVERIES.counter(&["failure"]),
            retries: names::RETRIES.counter(&[]),
            latency: names::DELIVERY_LATENCY.histogram(&[]),
            first_latency: names::FIRST_ATTEMPT_LATENCY.histogram(&[]),
            delivered: Outcome::named("success"),
            refused: Outcome::named("refused"),
            timeout: Outcome::named("timeout"),
            dns: Outcome::named("dns"),
            connect: Outcome::named("connect"),
            tls: Outcome::named("tls"),
            closed: Outcome::named("closed"),
            forbidden: Outcome::named("forbidden"),
            protocol: Outcome::named("protocol"),
            exhausted: dead("exhausted"),
            expired: dead("expired"),
            gone: dead("gone"),
        }
    }

    /// A shard has something written of a delivery.
    pub(crate) fn changed(&self, envelope: &Envelope<'_>, change: &Change) {
        if let Some(attempt) = &change.attempt {
            let outcome = self.outcome(&attempt.report.answer);
            outcome.count.increment(1);
            outcome.took.record(seconds(attempt.report.took));
            if attempt.number > 1 {
                self.retries.increment(1);
            }
            if attempt.state == DeliveryState::Succeeded {
                self.succeeded.increment(1);
                let latency = seconds(change.at.since(accepted(envelope, change)));
                self.latency.record(latency);
                if attempt.number == envelope.attempts + 1 {
                    self.first_latency.record(latency);
                }
            }
        }
        if change.is_dead_letter() {
            self.failed.increment(1);
            self.dead(change).increment(1);
        }
    }

    fn outcome(&self, answer: &Answer) -> &Outcome {
        match answer {
            answer if answer.is_success() => &self.delivered,
            Answer::Status { .. } => &self.refused,
            Answer::Failed { failure, .. } => match failure {
                Failure::Timeout => &self.timeout,
                Failure::Dns => &self.dns,
                Failure::Connect => &self.connect,
                Failure::Tls => &self.tls,
                Failure::Closed => &self.closed,
                Failure::Forbidden => &self.forbidden,
                Failure::Protocol => &self.protocol,
            },
        }
    }

    fn dead(&self, change: &Change) -> &Counter {
        match (&change.attempt, change.end) {
            (Some(attempt), _) if attempt.report.answer.is_gone() => &self.gone,
            (None, Some(End::Expired)) => &self.expired,
            (Some(_), _) | (None, Some(End::Canceled | End::EndpointDeleted) | None) => &self.exhausted,
        }
    }
}

/// Since when a delivery is owed: since its event, or since the command to replay it.
fn accepted(envelope: &Envelope<'_>, change: &Change) -> Time {
    if envelope.attempts == 0 { envelope.event.time() } else { change.delivery.since }
}

fn seconds(time: Millis) -> f64 {
    time.0 as f64 / 1000.0
}

/// Shows what the shards of a worker hold, together with those of other workers.
pub(crate) struct Figures {
    due: Instant,
    shown: Sums,
    gauges: [Gauge; 6],
    turns: [Counter; 3],
}

#[derive(Clone, Copy, Default)]
struct Sums {
    in_flight: usize,
    backlogs: usize,
    unfinished: usize,
    breakers: Standings,
    turns: Standings,
}

impl Sums {
    fn add(&mut self, census: &Census) {
        self.in_flight += census.in_flight;
        self.backlogs += census.backlogs;
        self.unfinished += census.unfinished;
        for (sum, one) in [(&mut self.breakers, census.breakers), (&mut self.turns, census.turns)] {
            sum.closed += one.closed;
            sum.open += one.open;
            sum.half_open += one.half_open;
        }
    }

    /// In the order of the gauges.
    fn standing(&self) -> [usize; 6] {
        let Standings { closed, open, half_open } = self.breakers;
        [self.in_flight, self.backlogs, self.unfinished, closed, open, half_open]
    }
}

fn in_order(Standings { closed, open, half_open }: Standings) -> [usize; 3] {
    [closed, open, half_open]
}

impl Figures {
    pub(crate) fn new() -> Figures {
        const STANDINGS: [&str; 3] = ["closed", "open", "half_open"];
        let [closed, open, half_open] = STANDINGS.map(|state| names::BREAKERS.gauge(&[state]));
        let alone = [names::IN_FLIGHT, names::LANE_BACKLOG, names::LOG_SKEW].map(|metric| metric.gauge(&[]));
        let [in_flight, backlogs, unfinished] = alone;
        Figures {
            due: Instant::now(),
            shown: Sums::default(),
            gauges: [in_flight, backlogs, unfinished, closed, open, half_open],
            turns: STANDINGS.map(|state| names::BREAKER_TRANSITIONS.counter(&[state])),
        }
    }

    /// When to look again.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, censuses: impl Iterator<Item = Census>) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + EVERY;
        let mut sums = Sums::default();
        censuses.for_each(|census| sums.add(&census));
        self.show(sums);
    }

    fn show(&mut self, sums: Sums) {
        for ((gauge, now), before) in self.gauges.iter().zip(sums.standing()).zip(self.shown.standing()) {
            // Other workers add theirs to the same gauge.
            gauge.increment(now as f64 - before as f64);
        }
        for ((counter, now), before) in self.turns.iter().zip(in_order(sums.turns)).zip(in_order(self.shown.turns)) {
            // Fewer than before: a shard went, and its count with it.
            counter.increment(now.saturating_sub(before) as u64);
        }
        self.shown = sums;
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        let turns = self.shown.turns;
        self.show(Sums { turns, ..Sums::default() });
    }
}

//! What has happened so far in the demo.

use std::collections::BTreeSet;
use std::time::Instant;

use hdrhistogram::Histogram;
use postrider_core::pattern::Pattern;

use super::cast::Temper;
use crate::client::Attempted;
use crate::receiver::{Arrival, Signature};

/// Longest latency that is told apart, in microseconds.
const MAX_LATENCY: u64 = 120_000_000;

/// The number of an event of the demo, from 0; travels as its correlation id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(pub usize);

/// Counts what was sent and what arrived.
pub(crate) struct Board {
    sent: Vec<Sent>,
    /// One for each receiver.
    pub(crate) rows: Vec<Row>,
}

struct Sent {
    kind: String,
    at: Instant,
}

/// How one receiver stands.
pub(crate) struct Row {
    /// Which receiver.
    pub(crate) temper: Temper,
    /// Deliveries it is to get.
    pub(crate) expected: usize,
    /// Requests that came again after a failure.
    pub(crate) retried: usize,
    /// Deliveries that were given up.
    pub(crate) dead_lettered: usize,
    /// Requests whose signatures were right.
    pub(crate) verified: usize,
    /// Requests whose signatures were not, with the first reason.
    pub(crate) invalid: usize,
    /// Why the first of them was not.
    pub(crate) reason: Option<String>,
    /// From handing the event to the API until its delivery was read, first attempts only, in microseconds.
    pub(crate) latency: Histogram<u64>,
    port: u16,
    events: Vec<Pattern>,
    delivered: BTreeSet<Number>,
}

impl Number {
    /// The correlation id.
    pub(crate) fn text(self) -> String {
        format!("demo-{}", self.0)
    }

    fn parse(text: &str) -> Option<Number> {
        text.strip_prefix("demo-")?.parse().ok().map(Number)
    }
}

impl Board {
    /// An empty board.
    pub(crate) fn new(rows: Vec<Row>) -> Board {
        Board { sent: Vec::new(), rows }
    }

    /// Notes that the next event is handed to the API at `at`.
    pub(crate) fn send(&mut self, kind: &str, at: Instant) -> Number {
        for row in &mut self.rows {
            row.expected += usize::from(row.events.iter().any(|pattern| pattern.matches(kind)));
        }
        self.sent.push(Sent { kind: kind.to_owned(), at });
        Number(self.sent.len() - 1)
    }

    /// Notes what a receiver got. What is not of the demo's own events, such as a notice of a dead letter, only counts
    /// for signatures.
    pub(crate) fn arrive(&mut self, arrival: &Arrival) {
        let Some(row) = self.rows.iter_mut().find(|row| row.port == arrival.port) else { return };
        match &arrival.signature {
            Signature::Valid | Signature::Unchecked => row.verified += 1,
            Signature::Invalid(reason) => {
                row.invalid += 1;
                row.reason.get_or_insert_with(|| reason.clone());
            }
        }
        let number = arrival.correlation_id().and_then(Number::parse);
        let Some((number, sent)) = number.and_then(|number| Some((number, self.sent.get(number.0)?))) else { return };
        if sent.kind != arrival.kind() {
            return; // a notice about the event carries its correlation id
        }
        row.retried += usize::from(arrival.attempt() > 1);
        if arrival.status.is_success() && row.delivered.insert(number) && arrival.attempt() == 1 {
            let micros = arrival.at.saturating_duration_since(sent.at).as_micros() as u64;
            row.latency.saturating_record(micros);
        }
    }

    /// Notes an attempt at the dead receiver, which can't tell of it itself.
    pub(crate) fn attempt(&mut self, attempt: &Attempted) {
        for row in self.rows.iter_mut().filter(|row| row.temper == Temper::Dead) {
            row.retried += usize::from(attempt.attempt > 1);
            row.dead_lettered += usize::from(attempt.status == "failed");
        }
    }

    /// Events that were handed to the API.
    pub(crate) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// Whether everything that can arrive has arrived.
    pub(crate) fn delivered(&self) -> bool {
        self.rows.iter().all(|row| row.temper == Temper::Dead || row.delivered() >= row.expected)
    }

    /// Whether the dead receiver's deliveries have been given up.
    pub(crate) fn given_up(&self) -> bool {
        self.rows.iter().all(|row| row.temper != Temper::Dead || row.dead_lettered >= row.expected)
    }
}

impl Row {
    /// The row of a receiver at `port` that wants `events`.
    pub(crate) fn new(temper: Temper, port: u16, events: Vec<Pattern>) -> Row {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("the bounds are valid");
        Row {
            temper,
            expected: 0,
            retried: 0,
            dead_lettered: 0,
            verified: 0,
            invalid: 0,
            reason: None,
            latency,
            port,
            events,
            delivered: BTreeSet::new(),
        }
    }

    /// Deliveries that arrived and were answered 2xx, each counted once.
    pub(crate) fn delivered(&self) -> usize {
        self.delivered.len()
    }

    /// A percentile of the latency, in milliseconds.
    pub(crate) fn latency_ms(&self, percentile: f64) -> Option<f64> {
        (!self.latency.is_empty()).then(|| self.latency.value_at_percentile(percentile) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use postrider_core::time::Time;

    use super::*;

    fn arrival(board: &Board, number: usize, kind: &str, attempt: u32, status: StatusCode) -> Arrival {
        let mut headers = HeaderMap::new();
        headers.insert("x-correlation-id", Number(number).text().parse().unwrap());
        headers.insert("x-webhook-event", kind.parse().unwrap());
        headers.insert("x-webhook-attempt", attempt.into());
        let at = board.sent[number].at + Duration::from_millis(5);
        Arrival { port: 1, at, received_at: Time(0), signature: Signature::Valid, status, headers, body: Bytes::new() }
    }

    #[test]
    fn a_delivery_counts_once_and_only_when_it_was_taken() {
        let rows = vec![Row::new(Temper::Flaky, 1, vec!["order.*".parse().unwrap()]), Row::new(Temper::Dead, 2, vec![Pattern::All])];
        let mut board = Board::new(rows);
        for kind in ["order.created", "batch.created"] {
            board.send(kind, Instant::now());
        }
        assert_eq!((board.rows[0].expected, board.rows[1].expected), (1, 2));
        let (failed, ok) = (StatusCode::INTERNAL_SERVER_ERROR, StatusCode::OK);
        for (kind, attempt, status, done) in [
            ("order.created", 1, failed, false),
            ("webhook.x", 1, ok, false),
            ("order.created", 2, ok, true),
            ("order.created", 3, ok, true),
        ] {
            board.arrive(&arrival(&board, 0, kind, attempt, status));
            assert_eq!(board.delivered(), done, "{kind} {attempt}");
        }
        let row = &board.rows[0];
        assert_eq!((row.delivered(), row.retried, row.verified, row.latency_ms(50.0)), (1, 2, 4, None));
        assert!(!board.given_up());
    }
}

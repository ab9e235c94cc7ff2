//! Routes what the API left to it: events that match nobody, and events with a large fan-out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::Counter;
use postrider_backend::log::{APPEND_BYTES, Append, Batch, Batches, Consumer, Log, Place, Record};
use postrider_backend::store::{Body, Store, Write};
use postrider_core::record::{EventEnvelope, RecordError};
use postrider_ingest::{Ingest, Reading, Receipt};
use postrider_metrics::names;
use postrider_spans::{Kind, Span, attribute, handed_on};
use tokio_util::sync::CancellationToken;

use crate::deliverer::{self, EngineError};
use crate::rows;

/// Before a batch that could not be routed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// How long batches under way may take to end after `stop`; what is cut off is routed again.
const FINISH: Duration = Duration::from_secs(5);
/// Most records of one append; a fan-out is cut into pieces. A record of more than [`APPEND_BYTES`] goes alone.
const APPEND: usize = 512;

/// What the work on one event is called in traces.
const ROUTE: &str = "route event";

/// What a router works with.
pub struct Router {
    /// Reads `events`.
    pub consumer: Consumer,
    /// Where deliveries go.
    pub log: Log,
    /// Where events that match nobody leave their row.
    pub store: Store,
    /// Matches events with endpoints.
    pub ingest: Arc<Ingest>,
    /// How to read what others wrote.
    pub reading: Reading,
}

/// What a batch of events comes to.
#[derive(Default)]
struct Fanout {
    records: Vec<Append>,
    rows: Vec<Write>,
    /// Those of events that are recorded.
    spans: Vec<Span>,
}

/// A record that gives no event, and why.
enum Unread {
    /// It goes to the dead letters.
    Garbage(String),
    /// A newer build wrote it.
    Newer(RecordError),
}

/// Routes the events that its consumer is given until `stop`.
///
/// An event's offset is committed once its deliveries and rows are durable; a crash before that routes it
/// again, and the shards drop the repeats. A partition has one batch under way at a time, so its order is kept.
pub async fn run(router: Router, stop: CancellationToken) -> Result<(), EngineError> {
    let Router { consumer, log, store, ingest, reading } = router;
    let parts = Parts { log, store, ingest, reading, foreign: names::EVENTS.counter(&["kafka"]) };
    let mut batches = Batches::new(consumer);
    let mut routing = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(routed) = routing.next() => batches.finished(routed?)?,
            batch = batches.next() => routing.push(parts.route_all(batch?)),
        }
    }
    let finish = async {
        while let Some(routed) = routing.next().await {
            batches.finished(routed?)?;
        }
        Ok::<(), EngineError>(())
    };
    match tokio::time::timeout(FINISH, finish).await {
        Ok(finished) => finished?,
        Err(_) => tracing::warn!("events under way were not routed in time; they are routed again"),
    }
    deliverer::note_close(batches.close().await);
    Ok(())
}

struct Parts {
    log: Log,
    store: Store,
    ingest: Arc<Ingest>,
    reading: Reading,
    /// Events that others wrote.
    foreign: Counter,
}

impl Parts {
    /// Routes a batch, however long it takes.
    async fn route_all(&self, Batch { records, place }: Batch) -> Result<Place, EngineError> {
        let mut fanout = Fanout::default();
        for record in &records {
            match self.route(record, &mut fanout).await {
                Ok(()) => {}
                Err(Unread::Newer(error)) => return Err(EngineError::Newer { partition: place.partition(), error }),
                Err(Unread::Garbage(reason)) => self.bury(record, reason, &mut fanout),
            }
            if fanout.records.len() >= APPEND {
                self.append(std::mem::take(&mut fanout.records)).await; // the whole batch may be too much for memory
            }
        }
        self.append(fanout.records).await;
        let rows: Arc<[Write]> = fanout.rows.into();
        while let Err(error) = self.store.write(rows.clone()).await {
            tracing::warn!(%error, "rows of events can't be written; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        fanout.spans.into_iter().for_each(Span::end);
        Ok(place)
    }

    /// Appends in order, however long it takes.
    async fn append(&self, records: Vec<Append>) {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(piece(rest));
            while let Err(error) = self.log.append(piece.to_vec()).await {
                tracing::warn!(%error, "routed events can't be appended; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            rest = others;
        }
    }

    /// An event that can't be read goes to the dead letters, and the rest goes on.
    fn bury(&self, record: &Record, reason: String, fanout: &mut Fanout) {
        fanout.records.push(postrider_ingest::dead_letter(&self.log, record, reason));
    }

    async fn route(&self, record: &Record, fanout: &mut Fanout) -> Result<(), Unread> {
        let Some(foreign) = &record.foreign else {
            let event = EventEnvelope::decode(&record.meta).map_err(|error| match error {
                RecordError::Malformed(reason) => Unread::Garbage(reason),
                newer @ RecordError::Newer { .. } => Unread::Newer(newer),
            })?;
            // Who took the event decided whether it is recorded.
            let span = event.trace.and_then(|given| Span::child(ROUTE, Kind::Consumer, given));
            return self.send(event, span, &record.payload, || self.log.body(record), fanout).await;
        };
        let event = self.reading.read(&self.log.name(record.topic), record, foreign);
        let event = event.map_err(|error| Unread::Garbage(error.to_string()))?;
        self.foreign.increment(1);
        let body = Receipt::new(event.number, &event.submission).body(&event.submission);
        let span = Span::begin(ROUTE, Kind::Consumer, event.trace, event.number);
        let envelope = postrider_ingest::envelope(event.tenant, event.trace, event.number, &event.submission);
        self.send(envelope, span, &body, || Body::Inline(body.clone()), fanout).await
    }

    /// Adds what an event comes to, however long it takes to know. Errors: its deliveries are more than the log takes.
    async fn send(
        &self,
        mut event: EventEnvelope<'_>,
        span: Option<Span>,
        payload: &Bytes,
        body: impl Fn() -> Body,
        fanout: &mut Fanout,
    ) -> Result<(), Unread> {
        event.trace = handed_on(span.as_ref(), event.trace);
        let targets = loop {
            match self.ingest.targets(&event).await {
                Ok(targets) => break targets,
                Err(error) => tracing::warn!(%error, event = %event.event, "an event can't be matched; trying again"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        if targets.is_empty() {
            fanout.rows.push(Write::Event(rows::of_nobody(&event, body())));
        } else {
            let records = self.ingest.deliveries(&event, &targets, payload);
            records.iter().try_for_each(|record| self.log.check(record)).map_err(|error| Unread::Garbage(error.to_string()))?;
            fanout.records.extend(records);
        }
        if let Some(mut span) = span {
            span.set(attribute::TENANT, event.tenant);
            span.set(attribute::EVENT, event.event.to_string());
            span.set(attribute::EVENT_TYPE, event.kind);
            span.set(attribute::DELIVERIES, u32::try_from(targets.len()).unwrap_or(u32::MAX));
            fanout.spans.push(span);
        }
        Ok(())
    }
}

/// How many of `records`, at least one, make up one append.
fn piece(records: &[Append]) -> usize {
    let mut bytes = 0;
    let fits = |record: &&Append| {
        bytes += record.bytes();
        bytes <= APPEND_BYTES
    };
    records.iter().take(APPEND).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use postrider_backend::log::Topic;
    use postrider_core::partition::Partition;

    use super::*;

    #[test]
    fn an_append_has_a_limit_of_records_and_of_bytes() {
        let records = |count: usize, bytes: usize| -> Vec<Append> {
            let payload = Bytes::from(vec![0; bytes]);
            let record = Append { topic: Topic::Deliveries, partition: Partition(0), meta: Bytes::new(), payload, failure: None };
            vec![record; count]
        };
        assert_eq!(piece(&records(2000, 1)), APPEND);
        assert_eq!(piece(&records(100, 1 << 20)), 4);
        assert_eq!(piece(&records(2, APPEND_BYTES + 1)), 1);
    }
}

//! A worker's writes to the store: one queue, in order, in batches, off the delivery path.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use postrider_backend::log::{Append, Log, Topic};
use postrider_backend::store::{AttemptRow, Dead, DeliveryWrite, EventWrite, Store, Write};
use postrider_core::attempt::{Answer, DeliveryState, End};
use postrider_core::delivery::Backlogged;
use postrider_core::partition::Partition;
use postrider_core::record::Envelope;
use postrider_core::shard::{Recorded, Write as Change};
use postrider_ingest::{Ingest, Source, Submission};
use postrider_metrics::names;
use tokio::time::Instant;

use crate::meters::Meters;
use crate::notices::Notices;
use postrider_backend::log::Tenure;

/// Most writes of one batch. One is under way at a time, so this also bounds how much a store that answers late takes in: of
/// 1,024 and 70 ms, 15,000 a second of each worker.
const BATCH: usize = 4096;
/// Before a batch that failed is written again.
const AGAIN: Duration = Duration::from_millis(250);
/// Deliveries that were given up, of which the tenant is told at one time.
const TOLD_AT_ONCE: usize = 64;
/// The event that says a delivery was given up. One about such an event would never end.
pub(crate) const EXHAUSTED: &str = "webhook.delivery.exhausted";

/// Writes that wait, and the batch that is being written.
///
/// Bounded by the shards: each stops sending and reading while too many of its writes are unacknowledged.
pub(crate) struct Outbox {
    sinks: Sinks,
    queue: VecDeque<Queued>,
    /// When the oldest waiting write came.
    since: Option<Instant>,
    writing: Option<LocalBoxFuture<'static, Vec<Tenure>>>,
    tenant: Arc<str>,
    meters: Meters,
    pub(crate) notices: Notices,
}

/// Where writes go: the store and, for what is given up, the log and the sender's other endpoints.
#[derive(Clone)]
pub(crate) struct Sinks {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) ingest: Arc<Ingest>,
}

enum Queued {
    Event(EventWrite),
    Delivery(Tenure, Change),
}

/// A delivery that was given up, told to the dead-letter topic and to the tenant's endpoints.
struct Obituary {
    tenant: Arc<str>,
    record: Append,
    /// What names it among all that are told of, and what is told.
    event: Option<(String, serde_json::Value)>,
}

impl Outbox {
    pub(crate) fn new(sinks: Sinks) -> Outbox {
        Outbox {
            sinks,
            queue: VecDeque::new(),
            since: None,
            writing: None,
            tenant: Arc::from(""),
            meters: Meters::new(),
            notices: Notices::default(),
        }
    }

    /// The tenant's name, shared between rows.
    pub(crate) fn tenant(&mut self, name: &str) -> Arc<str> {
        if &*self.tenant != name {
            self.tenant = Arc::from(name);
        }
        self.tenant.clone()
    }

    /// Queues a chunk of an event's row.
    pub(crate) fn push_event(&mut self, write: EventWrite) {
        self.push(Queued::Event(write));
    }

    /// Queues a shard's write.
    pub(crate) fn push_change(&mut self, tenure: Tenure, change: Change) {
        self.push(Queued::Delivery(tenure, change));
    }

    fn push(&mut self, queued: Queued) {
        self.since.get_or_insert_with(Instant::now);
        self.queue.push_back(queued);
    }

    /// Waits until a batch is durable; says whose each of its changes is, in order.
    ///
    /// Never ready while nothing waits. Cancelling loses nothing.
    pub(crate) async fn written(&mut self) -> Vec<Tenure> {
        if self.writing.is_none() {
            let Some(since) = self.since else { return std::future::pending().await };
            if self.queue.len() < BATCH {
                tokio::time::sleep_until(since + self.sinks.store.gather()).await;
            }
            self.writing = Some(self.begin());
        }
        let tenures = match &mut self.writing {
            Some(writing) => writing.await,
            None => Vec::new(),
        };
        self.writing = None;
        tenures
    }

    fn begin(&mut self) -> LocalBoxFuture<'static, Vec<Tenure>> {
        let batch: Vec<Queued> = self.queue.drain(..self.queue.len().min(BATCH)).collect();
        self.since = if self.queue.is_empty() { None } else { self.since };
        let mut writes = Vec::with_capacity(batch.len());
        let mut tenures = Vec::with_capacity(batch.len());
        let mut obituaries = Vec::new();
        for queued in batch {
            match queued {
                Queued::Event(event) => writes.push(Write::Event(event)),
                Queued::Delivery(tenure, change) => {
                    tenures.push(tenure);
                    self.convert(tenure.partition, change, &mut writes, &mut obituaries);
                }
            }
        }
        write_all(self.sinks.clone(), writes.into(), obituaries, tenures).boxed_local()
    }

    fn convert(&mut self, partition: Partition, change: Change, writes: &mut Vec<Write>, obituaries: &mut Vec<Obituary>) {
        // A shard's deliveries were read from envelopes of this build.
        let meta = change.delivery.meta.clone();
        let Ok(envelope) = Envelope::decode(&meta) else { return };
        self.meters.changed(&envelope, &change);
        if let Some(attempt) = &change.attempt {
            self.notices.attempted(&envelope, attempt);
        }
        let tenant = self.tenant(envelope.tenant);
        let is_dead_letter = change.is_dead_letter();
        let Change { delivery, at, attempt, end, remove, put } = change;
        let mut dead = Dead::Keep;
        if is_dead_letter {
            let reason = reason(attempt.as_ref(), end);
            self.notices.gave_up(&envelope, delivery.attempts, &reason);
            obituaries.push(obituary(&tenant, partition, &envelope, delivery.payload.clone(), delivery.attempts, &reason));
            dead = Dead::Add { at, reason };
        } else if delivery.attempts > 1 && attempt.as_ref().is_some_and(|a| a.state == DeliveryState::Succeeded) {
            dead = Dead::Remove;
        }
        let id = delivery.id;
        writes.push(Write::Delivery(DeliveryWrite {
            tenant,
            partition,
            id,
            attempt: attempt.map(|Recorded { number, report, next, state }| {
                (number, AttemptRow { report, next, state, kind: envelope.kind.to_owned() })
            }),
            end: end.map(|end| (end, at)),
            dead,
            remove,
            put: put.map(|(place, due)| Backlogged { place, due, delivery }),
        }));
    }
}

/// Writes a batch however long it takes: what is not written is not acknowledged, and the shards wait.
async fn write_all(sinks: Sinks, writes: Arc<[Write]>, obituaries: Vec<Obituary>, tenures: Vec<Tenure>) -> Vec<Tenure> {
    if !obituaries.is_empty() {
        announce(&sinks, obituaries).await;
    }
    while let Err(error) = sinks.store.write(writes.clone()).await {
        tracing::warn!(%error, rows = writes.len(), "the store takes no rows; trying again");
        tokio::time::sleep(AGAIN).await;
    }
    tenures
}

/// Tells of deliveries that were given up, before their rows say so: a crash in between repeats it.
async fn announce(sinks: &Sinks, obituaries: Vec<Obituary>) {
    // A limit that was lowered meanwhile costs the end of a dead letter, and holds up nobody.
    let records: Vec<Append> = obituaries.iter().map(|obituary| sinks.log.fitted(obituary.record.clone())).collect();
    while let Err(error) = sinks.log.append(records.clone()).await {
        tracing::warn!(%error, records = records.len(), "dead letters can't be appended; trying again");
        tokio::time::sleep(AGAIN).await;
    }
    // Many may be given up at once, and what else waits to be written waits for them.
    stream::iter(obituaries).for_each_concurrent(TOLD_AT_ONCE, |obituary| tell(sinks, obituary)).await;
}

/// Tells the tenant's endpoints of a delivery that was given up, however long it takes.
async fn tell(sinks: &Sinks, Obituary { tenant, event, .. }: Obituary) {
    let Some((name, event)) = event else { return };
    let json = serde_json::json!({ "type": EXHAUSTED, "data": event, "source": "postrider" }).to_string();
    let Ok(submission) = Submission::from_json(json.as_bytes()) else { return };
    // Told again after a crash, it has the same id, although the reason may be another by then.
    let source = Source { tenant: &tenant, idempotency_key: Some(&name), trace: None };
    while let Err(error) = sinks.ingest.submit(source, &submission, name.as_bytes()).await {
        tracing::warn!(%error, "an event about a dead letter can't be taken in; trying again");
        tokio::time::sleep(AGAIN).await;
    }
    names::EVENTS.counter(&["postrider"]).increment(1);
}

fn obituary(tenant: &Arc<str>, partition: Partition, envelope: &Envelope<'_>, payload: Bytes, attempts: u32, reason: &str) -> Obituary {
    let event = (envelope.kind != EXHAUSTED).then(|| {
        // Keys of senders have no space in them.
        let name = format!("{EXHAUSTED} {} {attempts}", envelope.id());
        let event = serde_json::json!({
            "delivery_id": envelope.id().to_string(),
            "event_id": envelope.event.to_string(),
            "event_type": envelope.kind,
            "webhook_id": envelope.endpoint.to_string(),
            "url": envelope.url,
            "attempts": attempts,
            "reason": reason,
        });
        (name, event)
    });
    let meta = Envelope { attempts, row: None, ..envelope.clone() }.encode();
    let record = Append { topic: Topic::DeadLetters, partition, meta: meta.into(), payload, failure: None };
    Obituary { tenant: tenant.clone(), record, event }
}

/// Why a delivery was given up, for its endpoint's owner.
fn reason(attempt: Option<&Recorded>, end: Option<End>) -> String {
    match (attempt.map(|attempt| &attempt.report.answer), end) {
        (Some(Answer::Status { code: 410, .. }), _) => "the receiver answered 410 Gone; the endpoint was disabled".to_owned(),
        (Some(Answer::Status { code, .. }), _) => format!("the last attempt was answered {code}"),
        (Some(Answer::Failed { detail, .. }), _) => format!("the last attempt failed: {detail}"),
        (None, Some(End::Expired)) => "it waited longer than its schedule for an endpoint that failed or was disabled".to_owned(),
        (None, Some(End::Canceled | End::EndpointDeleted) | None) => "it was withdrawn".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_backend::directory::Directory;
    use postrider_backend::log::{Consumed, Group, local};
    use postrider_backend::store::local as rows;
    use postrider_core::id::{EndpointId, Uid};
    use postrider_core::record::{Command, EventEnvelope};
    use postrider_core::time::Millis;
    use postrider_ingest::Ids;

    use super::*;

    #[tokio::test]
    async fn what_is_told_again_after_a_crash_has_the_same_id() {
        let dir = tempfile::tempdir().unwrap();
        let options = local::Options { partitions: 1, ..local::Options::default() };
        let log = local::Log::open(&dir.path().join("log"), options).unwrap();
        let day = Millis::from_secs(86_400);
        let options = rows::Options { folder: dir.path().join("store"), retention: day, job_retention: day, min_free_bytes: 1 << 20 };
        let store = Store::Local(rows::Store::open(&options, log.clone()).unwrap());
        let log = Log::Local(log);
        let directory = Directory::new(store.clone(), log.clone());
        let ingest = Arc::new(Ingest::new(log.clone(), store.clone(), directory, Ids::new().unwrap()));
        let sinks = Sinks { store, log: log.clone(), ingest };
        let envelope = Envelope {
            command: Command::Deliver,
            tenant: "t",
            event: Uid(7),
            endpoint: EndpointId(Uid(8)),
            kind: "a",
            key: None,
            url: None,
            correlation_id: None,
            trace: None,
            attempts: 0,
            row: None,
        };
        // The last attempt was made again, and came to something else; then the delivery was replayed, and failed for good once more.
        for (attempts, reason) in [(3, "the last attempt was answered 500"), (3, "the last attempt was answered 502"), (6, "again")] {
            announce(&sinks, vec![obituary(&"t".into(), Partition(0), &envelope, Bytes::new(), attempts, reason)]).await;
        }
        let mut consumer = log.consumers(Group::Router, Topic::Events, 1, 1 << 20).unwrap().remove(0);
        let mut told = Vec::new();
        while told.len() < 3 {
            let consumed = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await.expect("records").unwrap();
            if let Consumed::Records(records) = consumed {
                told.extend(records.iter().map(|record| EventEnvelope::decode(&record.meta).unwrap().event));
            }
        }
        assert!(told[0] == told[1] && told[1] != told[2], "{told:?}");
    }
}

//! Events' rows and dead letters, as they come out of records.

use std::sync::Arc;

use postrider_backend::log::{Append, Failure, Log, Record, Topic};
use postrider_backend::store::{Body, EventRow, EventWrite, Target};
use postrider_core::partition::Partition;
use postrider_core::record::{self, Envelope, EventEnvelope};
use postrider_ingest::MAX_VALUE;

/// Most bytes of the reason that a dead letter names: it may quote what could not be read.
const MAX_REASON: usize = 1024;

/// The chunk of an event's row that a record of `deliveries` carries.
pub(crate) fn of_delivery(envelope: &Envelope<'_>, row: &record::EventRow<'_>, tenant: Arc<str>, body: Body) -> EventWrite {
    let target = |target: &record::Target<'_>| Target { endpoint: target.endpoint, url: target.url.map(str::to_owned) };
    let chunk = row.chunk;
    let row = EventRow {
        given_id: row.given_id.map(str::to_owned),
        kind: envelope.kind.to_owned(),
        metadata: row.metadata.map(str::to_owned),
        targets: row.targets.iter().map(target).collect(),
        key: envelope.key.map(str::to_owned),
        correlation_id: envelope.correlation_id.map(str::to_owned),
        body,
    };
    EventWrite { tenant, event: envelope.event, chunk, row }
}

/// The row of an event that goes to nobody.
pub(crate) fn of_nobody(event: &EventEnvelope<'_>, body: Body) -> EventWrite {
    let row = EventRow {
        given_id: event.given_id.map(str::to_owned),
        kind: event.kind.to_owned(),
        metadata: event.metadata.map(str::to_owned),
        targets: Vec::new(),
        key: event.key.map(str::to_owned),
        correlation_id: event.correlation_id.map(str::to_owned),
        body,
    };
    EventWrite { tenant: event.tenant.into(), event: event.event, chunk: 0, row }
}

/// What becomes of a record that can't be read, for `reason`. Of a very large one the beginning, so that it finds room.
pub(crate) fn dead_letter(log: &Log, record: &Record, mut reason: String) -> Append {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    tracing::warn!(
        topic = log.name(record.topic),
        partition = record.partition.0,
        offset = record.offset.0,
        reason,
        "a record can't be read; it goes to the dead letters"
    );
    let Record { topic, partition, offset, .. } = *record;
    let failure = Some(Box::new(Failure { topic: log.name(topic), partition, offset, reason }));
    let partition = Partition(partition.0 % log.partitions(Topic::DeadLetters));
    let payload = record.payload.slice(..record.payload.len().min(MAX_VALUE));
    Append { topic: Topic::DeadLetters, partition, meta: record.meta.clone(), payload, failure }
}

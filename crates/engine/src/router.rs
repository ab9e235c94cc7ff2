//! Routes what the API left to it: events that match nobody, and events with a large fan-out.

use std::sync::Arc;
use std::time::Duration;

use postrider_backend::log::{Append, Consumed, Group, Log, Record, Topic};
use postrider_backend::store::{Body, Store, StoreError, Write};
use postrider_core::offsets::Progress;
use postrider_core::partition::Partition;
use postrider_core::record::{EventEnvelope, RecordError};
use postrider_ingest::Ingest;
use tokio_util::sync::CancellationToken;

use crate::deliverer::EngineError;
use crate::rows;

/// Before a batch that could not be routed is tried again.
const AGAIN: Duration = Duration::from_millis(250);
/// Most records of one append; a fan-out is cut into pieces.
const APPEND: usize = 512;

/// What a router works with.
pub struct Router {
    /// Where events come from and deliveries go.
    pub log: Log,
    /// Where events that match nobody leave their row.
    pub store: Store,
    /// Matches events with endpoints.
    pub ingest: Arc<Ingest>,
}

/// What a batch of events comes to.
#[derive(Default)]
struct Routed {
    records: Vec<Append>,
    rows: Vec<Write>,
}

/// Routes the events of `partitions` until `stop`.
///
/// An event's offset is committed once its deliveries and rows are durable; a crash before that routes it
/// again, and the shards drop the repeats.
pub async fn run(router: Router, partitions: Vec<Partition>, stop: CancellationToken) -> Result<(), EngineError> {
    let mut consumer = router.log.consumer(Group::Router, Topic::Events, partitions)?;
    loop {
        let consumed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            consumed = consumer.next() => consumed?,
        };
        let records = match consumed {
            Consumed::Records(records) => records,
            Consumed::Assigned(..) | Consumed::Revoked(_) => continue,
        };
        let Some(last) = records.last() else { continue };
        let (partition, end) = (last.partition, last.offset.next());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            routed = router.route_all(partition, &records) => routed?,
        }
        consumer.commit(partition, &Progress { from: end, to: end, unfinished: Vec::new() })?;
    }
}

impl Router {
    /// Routes a batch, however long it takes.
    async fn route_all(&self, partition: Partition, records: &[Record]) -> Result<(), EngineError> {
        let mut routed = Routed::default();
        for record in records {
            match EventEnvelope::decode(&record.meta) {
                Ok(event) => {
                    while let Err(error) = self.route(&event, record, &mut routed).await {
                        tracing::warn!(%error, event = %event.event, "an event can't be matched; trying again");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                Err(error @ RecordError::Newer { .. }) => return Err(EngineError::Newer { partition, error }),
                Err(RecordError::Malformed(reason)) => {
                    tracing::warn!(
                        partition = partition.0,
                        offset = record.offset.0,
                        reason,
                        "an event can't be read; it goes to the dead letters"
                    );
                    let (meta, payload) = (record.meta.clone(), record.payload.clone());
                    routed.records.push(Append { topic: Topic::DeadLetters, partition, meta, payload });
                }
            }
        }
        for piece in routed.records.chunks(APPEND) {
            while let Err(error) = self.log.append(piece.to_vec()).await {
                tracing::warn!(%error, "routed events can't be appended; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
        let rows: Arc<[Write]> = routed.rows.into();
        while let Err(error) = self.store.write(rows.clone()).await {
            tracing::warn!(%error, "rows of events can't be written; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn route(&self, event: &EventEnvelope<'_>, record: &Record, routed: &mut Routed) -> Result<(), StoreError> {
        let targets = self.ingest.targets(event).await?;
        if targets.is_empty() {
            routed.rows.push(Write::Event(rows::of_nobody(event, Body::At(record.offset))));
        } else {
            routed.records.extend(self.ingest.deliveries(event, &targets, &record.payload));
        }
        Ok(())
    }
}

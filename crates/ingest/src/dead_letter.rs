//! Dead letters of records that can't be read.

use postrider_backend::log::{Append, Failure, Log, Record, Topic};
use postrider_core::partition::Partition;
use postrider_metrics::names;

use crate::foreign::MAX_VALUE;

/// Most bytes of the reason that a dead letter names: it may quote what could not be read.
const MAX_REASON: usize = 1024;

/// What becomes of a record that can't be read, for `reason`. Of a very large one the beginning, so that it finds room.
pub fn dead_letter(log: &Log, record: &Record, mut reason: String) -> Append {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    tracing::warn!(
        topic = log.name(record.topic),
        partition = record.partition.0,
        offset = record.offset.0,
        reason,
        "a record can't be read; it goes to the dead letters"
    );
    names::DEAD_LETTERS.counter(&["malformed"]).increment(1);
    let Record { topic, partition, offset, .. } = *record;
    let failure = Some(Box::new(Failure { topic: log.name(topic), partition, offset, reason }));
    let partition = Partition(partition.0 % log.partitions(Topic::DeadLetters));
    let payload = record.payload.slice(..record.payload.len().min(MAX_VALUE));
    log.fitted(Append { topic: Topic::DeadLetters, partition, meta: record.meta.clone(), payload, failure })
}

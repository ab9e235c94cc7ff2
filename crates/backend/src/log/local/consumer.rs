//! Reads a topic's partitions for a group: a cursor through the stream that leaves out what is not for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;

use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::extents::Extents;
use super::frame::{self, Header, Kind};
use super::segment::Chunk;
use super::{Log, Shared, UNPOISONED, record};
use crate::log::{Consumed, Group, LogError, Record, Topic};

/// Bytes read from a file at a time.
const READ: u64 = 1 << 20;
/// Most records that are handed out at once.
const MOST_RECORDS: usize = 128;

/// Reads some partitions of a topic for a group. Made by [`Log::consumer`].
#[derive(Debug)]
pub struct Consumer {
    log: Log,
    group: Group,
    topic: Topic,
    /// No further record of a batch is handed out with this many bytes.
    batch_bytes: usize,
    /// What the group had finished when this began to read.
    partitions: BTreeMap<Partition, Progress>,
    /// Not told yet.
    assigned: VecDeque<Partition>,
    /// One of these holds up all, as they lie in one stream.
    paused: BTreeSet<Partition>,
    extents: watch::Receiver<Extents>,
    /// Everything before has been handed out.
    at: u64,
    /// What was read last; used up unless it holds `at`.
    chunk: Chunk,
    /// A read from files under way. Kept here, so that a cancelled `next` doesn't have to begin again.
    reading: Option<JoinHandle<Result<Option<Chunk>, LogError>>>,
}

impl Consumer {
    pub(super) fn new(log: Log, group: Group, topic: Topic, partitions: &[Partition], batch_bytes: usize) -> Consumer {
        let shared = log.shared();
        let extents = shared.stream.watch(topic);
        // Before the ledger is asked: what it does not know of yet lies behind.
        let end = shared.stream.end();
        let ledger = shared.ledger.lock().expect(UNPOISONED);
        let begin = partitions.iter().filter_map(|&partition| ledger.unread(group, topic, partition)).min();
        // Offsets that were committed are where a record begins, or just behind that. A segment begins with a frame.
        let at = begin.map_or(end, |begin| shared.stream.segment_of(begin));
        let partitions: BTreeMap<_, _> =
            partitions.iter().map(|&partition| (partition, ledger.progress(group, topic, partition))).collect();
        drop(ledger);
        if matches!(topic, Topic::Jobs(_)) && at < shared.stream.opened() {
            count_old(log.inner.shared.clone(), topic, partitions.clone(), at);
        }
        let assigned = partitions.keys().copied().collect();
        let (paused, chunk) = (BTreeSet::new(), Chunk::default());
        Consumer { group, topic, batch_bytes, partitions, assigned, paused, extents, at, chunk, reading: None, log }
    }

    pub(in crate::log) async fn next(&mut self) -> Result<Consumed, LogError> {
        if let Some(partition) = self.assigned.pop_front() {
            let progress = self.partitions.get(&partition).cloned().unwrap_or_default();
            return Ok(Consumed::Assigned(partition, progress));
        }
        if !self.paused.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let records = self.take();
            if !records.is_empty() {
                return Ok(Consumed::Records(records));
            }
            self.fetch().await?;
        }
    }

    pub(in crate::log) fn commit(&mut self, partition: Partition, progress: &Progress) -> Result<(), LogError> {
        let shared = self.log.shared();
        if !self.partitions.contains_key(&partition) {
            return Err(LogError::NoPartition { topic: self.topic, partition, count: shared.options.partitions });
        }
        shared.ledger.lock().expect(UNPOISONED).commit(self.group, self.topic, partition, progress.clone());
        shared.queue.call();
        Ok(())
    }

    pub(in crate::log) fn pause(&mut self, partition: Partition) {
        self.paused.insert(partition);
    }

    pub(in crate::log) fn resume(&mut self, partition: Partition) {
        self.paused.remove(&partition);
    }

    /// Hands out what is in the chunk, as much as may go at once.
    fn take(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some(start) = self.chunk.index(self.at)
            && records.len() < MOST_RECORDS
            && bytes < self.batch_bytes
        {
            let header = Header::read(&self.chunk.bytes[start..]).expect("a chunk is whole, verified frames");
            if header.kind == Kind::Record(self.topic) {
                let record = record(&self.chunk, start, self.topic, &header);
                if self.partitions.get(&record.partition).is_some_and(|progress| !progress.is_finished(record.offset)) {
                    bytes += header.total;
                    records.push(record);
                }
            }
            self.at += header.total as u64;
        }
        if !records.is_empty() {
            self.log.shared().stream.count(self.topic, -(records.len() as i64));
        }
        records
    }

    /// Waits for the next chunk that may hold records of the topic.
    async fn fetch(&mut self) -> Result<(), LogError> {
        if self.reading.is_none() {
            loop {
                let next = self.extents.borrow_and_update().seek(self.at);
                if let Some(at) = next {
                    self.at = at;
                    break;
                }
                // The sender lives in the log, which this consumer holds.
                self.extents.changed().await.expect("the log outlives its consumers");
            }
            if let Some(chunk) = self.log.shared().stream.in_memory(self.at) {
                self.chunk = chunk;
                return Ok(());
            }
        }
        let at = self.at;
        let reading = self.reading.get_or_insert_with(|| {
            let shared = self.log.inner.shared.clone();
            tokio::task::spawn_blocking(move || shared.stream.in_files(at, READ))
        });
        let read = reading.await;
        self.reading = None;
        let read = read.map_err(|error| LogError::Unavailable { reason: format!("a file can't be read: {error}") })?;
        match read? {
            Some(chunk) => self.chunk = chunk,
            // Removed by retention, which asks only the groups it was told of.
            None => self.at = self.at.max(self.log.shared().stream.oldest()),
        }
        Ok(())
    }
}

/// Counts, beside everything else, the records from `at` on that lay there unread when the log was opened. Without this a queue
/// of jobs would look short after a restart.
fn count_old(shared: Arc<Shared>, topic: Topic, partitions: BTreeMap<Partition, Progress>, mut at: u64) {
    let count = move || {
        while at < shared.stream.opened() {
            let chunk = match shared.stream.in_files(at, READ) {
                Ok(Some(chunk)) => chunk,
                // Removed by retention meanwhile.
                Ok(None) if at < shared.stream.oldest() => {
                    at = shared.stream.oldest();
                    continue;
                }
                Ok(None) => return,
                Err(error) => return tracing::warn!(%error, "the jobs that wait from before can't be counted"),
            };
            let unread = frame::walk(&chunk.bytes).filter(|(start, header)| {
                let offset = Offset(chunk.base + *start as u64);
                let of_topic = header.kind == Kind::Record(topic) && (at..shared.stream.opened()).contains(&offset.0);
                of_topic && partitions.get(&header.partition).is_some_and(|progress| !progress.is_finished(offset))
            });
            shared.stream.count(topic, unread.count() as i64);
            at = chunk.end();
        }
    };
    if let Err(error) = thread::Builder::new().name("log-count".into()).spawn(count) {
        tracing::warn!(%error, "the jobs that wait from before can't be counted");
    }
}

//! One partition while this process reads it: filled by librdkafka, emptied by a consumer, committed by the hub.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use rdkafka::consumer::base_consumer::PartitionQueue;

use super::context::Context;
use super::inbox::Inbox;
use super::wire;
use crate::log::local::clock;
use crate::log::{Record, Topic};

/// Most records that are handed out at once.
const MOST_RECORDS: usize = 128;

/// Tells a consumer that a partition has records.
#[derive(Debug)]
pub(super) struct Bell {
    ready: AtomicBool,
    inbox: Arc<Inbox>,
}

/// A partition from its assignment until it is given up. Another time with the same partition is another slot.
pub(super) struct Slot {
    pub(super) partition: Partition,
    /// How far the group had come when it was assigned.
    pub(super) start: Progress,
    bell: Arc<Bell>,
    /// Its records; gone once the partition is given up. Only the hub makes it go, so that the client, which every
    /// queue keeps alive, ends on the hub's thread.
    queue: Mutex<Option<PartitionQueue<Context>>>,
    commits: Mutex<Commits>,
    released: AtomicBool,
    /// Behind the newest record handed out.
    handed_out: AtomicU64,
    /// No further record is handed out with this many bytes.
    batch_bytes: usize,
}

#[derive(Debug, Default)]
struct Commits {
    newest: Option<Progress>,
    /// `newest` has not been sent.
    unsent: bool,
    /// No more are taken.
    sealed: bool,
}

impl Slot {
    /// Takes the queue over, before the partition is assigned: what is fetched then comes here.
    pub(super) fn new(
        partition: Partition,
        start: Progress,
        mut queue: PartitionQueue<Context>,
        inbox: Arc<Inbox>,
        batch_bytes: usize,
    ) -> Arc<Slot> {
        let bell = Arc::new(Bell { ready: AtomicBool::new(true), inbox });
        let ring = bell.clone();
        queue.set_nonempty_callback(move || {
            ring.ready.store(true, Ordering::Release);
            ring.inbox.wake();
        });
        Arc::new(Slot {
            partition,
            start,
            bell,
            queue: Mutex::new(Some(queue)),
            commits: Mutex::default(),
            released: AtomicBool::new(false),
            handed_out: AtomicU64::new(0),
            batch_bytes,
        })
    }

    /// Takes what has been fetched, as much as may go at once, without what the group had finished before.
    pub(super) fn take(&self, topic: Topic) -> Vec<Record> {
        let mut records = Vec::new();
        // Before the queue is looked at: what comes later rings again.
        if !self.bell.ready.swap(false, Ordering::AcqRel) {
            return records;
        }
        let queue = lock(&self.queue);
        let Some(queue) = &*queue else { return records };
        let now = clock::now();
        let mut bytes = 0;
        while let Some(polled) = queue.poll(Duration::ZERO) {
            match polled {
                Ok(message) => {
                    if !self.start.is_finished(wire::place(&message))
                        && let Some(record) = wire::read(topic, self.partition, &message, now)
                    {
                        bytes += record.meta.len() + record.payload.len();
                        records.push(record);
                    }
                }
                // librdkafka goes on by itself.
                Err(error) => tracing::warn!(%error, partition = self.partition.0, "a partition can't be read; trying again"),
            }
            if records.len() >= MOST_RECORDS || bytes >= self.batch_bytes {
                self.bell.ready.store(true, Ordering::Release);
                break;
            }
        }
        if let Some(last) = records.last() {
            self.handed_out.store(last.offset.next().0, Ordering::Release);
        }
        records
    }

    /// Notes how far the group has come.
    pub(super) fn commit(&self, progress: &Progress) {
        let mut commits = lock(&self.commits);
        if !commits.sealed {
            commits.newest = Some(progress.clone());
            commits.unsent = true;
        }
    }

    /// Takes no more commits. What was noted may still be sent, unless the partition was `lose`n.
    pub(super) fn seal(&self) {
        lock(&self.commits).sealed = true;
    }

    /// The partition belongs to others: nothing is committed, nothing read any more.
    pub(super) fn lose(&self) {
        let mut commits = lock(&self.commits);
        commits.sealed = true;
        commits.unsent = false;
        drop(commits);
        self.empty();
    }

    /// Lets the queue go.
    pub(super) fn empty(&self) {
        let queue = lock(&self.queue).take();
        drop(queue);
    }

    /// What is to be committed, once: offset and metadata.
    pub(super) fn unsent(&self) -> Option<(i64, String)> {
        let mut commits = lock(&self.commits);
        if !std::mem::take(&mut commits.unsent) {
            return None;
        }
        let progress = commits.newest.as_ref()?;
        let offset = i64::try_from(progress.from.0).expect("Kafka's offsets are signed");
        Some((offset, encode(progress)))
    }

    /// The commit that was sent did not come to be.
    pub(super) fn again(&self) {
        let mut commits = lock(&self.commits);
        commits.unsent = commits.newest.is_some();
    }

    /// Whether everything noted was sent.
    pub(super) fn is_sent(&self) -> bool {
        !lock(&self.commits).unsent
    }

    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Where the group has come to, as far as is noted.
    pub(super) fn position(&self) -> Offset {
        lock(&self.commits).newest.as_ref().map_or(self.start.from, |progress| progress.from)
    }

    /// Behind what was handed out.
    pub(super) fn next(&self) -> Offset {
        Offset(self.handed_out.load(Ordering::Acquire).max(self.start.from.0))
    }

    /// Whether all that was handed out is finished.
    pub(super) fn is_finished(&self) -> bool {
        self.position().0 >= self.handed_out.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A progress as the metadata of a commit; under Kafka's 4 KiB.
fn encode(progress: &Progress) -> String {
    STANDARD_NO_PAD.encode(progress.encode())
}

/// The progress that was committed: the offset decides, as others may have moved it with Kafka's own tools.
pub(super) fn decode(offset: Offset, metadata: &str) -> Progress {
    let progress = STANDARD_NO_PAD.decode(metadata).ok().and_then(|bytes| Progress::decode(&bytes).ok());
    let plain = Progress { from: offset, to: offset, unfinished: Vec::new() };
    progress.filter(|progress| progress.from == offset).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_survives_the_commit_and_the_offset_decides() {
        let progress = Progress { from: Offset(5), to: Offset(900), unfinished: vec![Offset(5), Offset(77)] };
        assert_eq!(decode(Offset(5), &encode(&progress)), progress);
        let plain = |at| Progress { from: Offset(at), to: Offset(at), unfinished: Vec::new() };
        assert_eq!(decode(Offset(8), &encode(&progress)), plain(8), "the group was reset");
        assert_eq!(decode(Offset(8), ""), plain(8), "committed by something else");
        assert_eq!(decode(Offset(8), "no progress"), plain(8));
    }
}

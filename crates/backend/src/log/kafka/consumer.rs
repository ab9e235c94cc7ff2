//! Reads the partitions that the hub deals to it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use postrider_core::offsets::Progress;
use postrider_core::partition::Partition;

use super::hub::Hub;
use super::inbox::{Inbox, News};
use super::lag::Lag;
use super::options::Options;
use super::slot::Slot;
use crate::log::{Consumed, LogError, Topic};

/// Longest that closing waits.
const CLOSE: Duration = Duration::from_secs(10);

/// What one group reads of one topic.
pub(super) struct Reader {
    pub(super) options: Options,
    pub(super) group: String,
    pub(super) topic: Topic,
    /// The topic's name.
    pub(super) name: String,
    pub(super) partitions: u16,
    /// No further record of a batch is handed out with this many bytes.
    pub(super) batch_bytes: usize,
}

/// Reads some partitions of a topic for a group. Made by [`crate::log::Log::consumers`].
///
/// Dropped without being closed, it leaves its partitions unread until the others of its process are dropped, too.
#[derive(Debug)]
pub struct Consumer {
    inbox: Arc<Inbox>,
    topic: Topic,
    partitions: u16,
    held: Vec<Held>,
    /// Whose turn it is.
    next: usize,
}

/// A partition that this consumer has heard of.
struct Held {
    slot: Arc<Slot>,
    paused: bool,
    revoking: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.slot.partition).finish()
    }
}

/// Starts the hub of `reader`, with `count` consumers.
pub(super) fn start(reader: Reader, count: usize) -> Result<(Vec<Consumer>, Arc<Lag>), LogError> {
    let inboxes: Vec<Arc<Inbox>> = (0..count.max(1)).map(|_| Arc::default()).collect();
    let (topic, partitions) = (reader.topic, reader.partitions);
    let consumers = inboxes.iter().map(|inbox| Consumer { inbox: inbox.clone(), topic, partitions, held: Vec::new(), next: 0 }).collect();
    let name = format!("kafka-{}", reader.group);
    let hub = Hub::new(reader, inboxes).map_err(|reason| LogError::Unavailable { reason })?;
    let lag = hub.lag();
    let spawned = thread::Builder::new().name(name).spawn(move || hub.run());
    spawned.map_err(|error| LogError::Unavailable { reason: format!("a thread for Kafka can't be started: {error}") })?;
    Ok((consumers, lag))
}

impl Consumer {
    pub(in crate::log) async fn next(&mut self) -> Result<Consumed, LogError> {
        loop {
            if let Some(news) = self.inbox.pop() {
                return Ok(self.heard(news));
            }
            if let Some(reason) = self.inbox.failure() {
                return Err(LogError::Unavailable { reason });
            }
            for turn in 0..self.held.len() {
                let index = (self.next + turn) % self.held.len();
                let held = &self.held[index];
                if held.paused || held.revoking {
                    continue;
                }
                let records = held.slot.take(self.topic);
                if !records.is_empty() {
                    self.next = index + 1;
                    return Ok(Consumed::Records(records));
                }
            }
            self.inbox.woken().await;
        }
    }

    fn heard(&mut self, news: News) -> Consumed {
        match news {
            News::Assigned(slot) => {
                let told = Consumed::Assigned(slot.partition, slot.start.clone());
                self.held.push(Held { slot, paused: false, revoking: false });
                told
            }
            News::Revoking(slot) => {
                self.held.iter_mut().filter(|held| Arc::ptr_eq(&held.slot, &slot)).for_each(|held| held.revoking = true);
                Consumed::Revoking(slot.partition)
            }
            News::Lost(slot) => {
                self.held.retain(|held| !Arc::ptr_eq(&held.slot, &slot));
                Consumed::Lost(slot.partition)
            }
        }
    }

    pub(in crate::log) fn commit(&mut self, partition: Partition, progress: &Progress) -> Result<(), LogError> {
        let held = self.held(partition);
        let Some(held) = held else { return Err(LogError::NoPartition { topic: self.topic, partition, count: self.partitions }) };
        held.slot.commit(progress);
        Ok(())
    }

    fn held(&mut self, partition: Partition) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.slot.partition == partition)
    }

    pub(in crate::log) fn pause(&mut self, partition: Partition) {
        if let Some(held) = self.held(partition) {
            held.paused = true;
        }
    }

    pub(in crate::log) fn resume(&mut self, partition: Partition) {
        if let Some(held) = self.held(partition) {
            held.paused = false;
        }
    }

    pub(in crate::log) fn release(&mut self, partition: Partition) {
        if let Some(index) = self.held.iter().position(|held| held.slot.partition == partition && held.revoking) {
            self.held.remove(index).slot.release();
        }
    }

    pub(in crate::log) async fn close(self) -> Result<(), LogError> {
        self.inbox.close();
        let settled = tokio::time::timeout(CLOSE, self.inbox.settled()).await;
        settled.map_err(|_| LogError::Unavailable {
            reason: format!("Kafka took no last commit within {} s; some records will be read again", CLOSE.as_secs()),
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

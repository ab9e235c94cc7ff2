//! Reads a topic batch by batch: of each partition one at a time, so that its order is kept.

use std::collections::BTreeMap;

use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;

use super::{Consumed, Consumer, LogError, Record, Tenure, Tenures};

/// A consumer whose records are worked off in batches.
#[derive(Debug)]
pub struct Batches {
    consumer: Consumer,
    holds: BTreeMap<Partition, Hold>,
    numbering: Tenures,
}

/// A partition that is read.
#[derive(Debug)]
struct Hold {
    tenure: Tenure,
    /// A batch of it is under way.
    is_busy: bool,
    /// It is released once nothing of it is under way.
    is_leaving: bool,
}

/// Records of one partition, in order; at least one.
#[derive(Debug)]
pub struct Batch {
    /// What was read.
    pub records: Vec<Record>,
    /// Which batch it is.
    pub place: Place,
}

/// Which batch: whose, and where the next one begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    tenure: Tenure,
    end: Offset,
}

impl Place {
    /// The batch's partition.
    pub fn partition(&self) -> Partition {
        self.tenure.partition
    }
}

impl Batches {
    /// Batches of what `consumer` is given.
    pub fn new(consumer: Consumer) -> Batches {
        Batches { consumer, holds: BTreeMap::new(), numbering: Tenures::default() }
    }

    /// Waits for the next batch. Its partition gives no other until it is [`finished`](Batches::finished). Cancelling loses nothing.
    ///
    /// Errors: as [`Consumer::next`].
    pub async fn next(&mut self) -> Result<Batch, LogError> {
        loop {
            match self.consumer.next().await? {
                Consumed::Records(records) => {
                    if let Some(place) = self.take(&records) {
                        return Ok(Batch { records, place });
                    }
                }
                Consumed::Assigned(partition, _) => self.begin(partition),
                Consumed::Revoking(partition) => self.leave(partition),
                Consumed::Lost(partition) => drop(self.holds.remove(&partition)),
            }
        }
    }

    /// What a batch comes to is durable: it is not read again.
    pub fn finished(&mut self, place: Place) -> Result<(), LogError> {
        let Place { tenure, end } = place;
        let partition = tenure.partition;
        let Some(hold) = self.holds.get_mut(&partition).filter(|hold| hold.tenure == tenure) else {
            return Ok(()); // it was lost meanwhile; whose it is now reads the batch again
        };
        hold.is_busy = false;
        self.consumer.commit(partition, &Progress { from: end, to: end, unfinished: Vec::new() })?;
        if hold.is_leaving {
            self.release(partition);
        } else {
            self.consumer.resume(partition);
        }
        Ok(())
    }

    /// As [`Consumer::close`].
    pub async fn close(self) -> Result<(), LogError> {
        self.consumer.close().await
    }

    fn begin(&mut self, partition: Partition) {
        let tenure = self.numbering.begin(partition);
        self.holds.insert(partition, Hold { tenure, is_busy: false, is_leaving: false });
    }

    fn take(&mut self, records: &[Record]) -> Option<Place> {
        let last = records.last()?;
        let hold = self.holds.get_mut(&last.partition)?;
        hold.is_busy = true;
        self.consumer.pause(last.partition);
        Some(Place { tenure: hold.tenure, end: last.offset.next() })
    }

    /// Another reader of the group is to have the partition.
    fn leave(&mut self, partition: Partition) {
        match self.holds.get_mut(&partition) {
            Some(hold) if hold.is_busy => hold.is_leaving = true,
            Some(_) | None => self.release(partition),
        }
    }

    fn release(&mut self, partition: Partition) {
        self.holds.remove(&partition);
        self.consumer.release(partition);
    }
}

//! The log seam: records appended durably, read in order by groups that commit how far they are.
//!
//! A record belongs to a topic and one of its partitions. Its [`Offset`] grows along the partition but is not
//! contiguous. Within a group a partition has one reader at a time.

pub mod local;

use bytes::Bytes;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use postrider_core::time::Time;
use std::io;
use std::path::PathBuf;

/// What a record is about. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Events that are still to be routed to endpoints.
    Events = 1,
    /// Deliveries, partitioned by endpoint.
    Deliveries = 2,
    /// Deliveries that were given up, and records that could not be read.
    DeadLetters = 3,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 3] = [Topic::Events, Topic::Deliveries, Topic::DeadLetters];

    pub(crate) fn from_number(number: u8) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| *topic as u8 == number)
    }
}

/// Who reads: each group sees every record once, however many consumers share its partitions. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// Matches events with endpoints.
    Router = 1,
    /// Sends deliveries.
    Deliver = 2,
}

impl Group {
    /// Every group.
    pub const ALL: [Group; 2] = [Group::Router, Group::Deliver];

    pub(crate) fn from_number(number: u8) -> Option<Group> {
        Group::ALL.into_iter().find(|group| *group as u8 == number)
    }
}

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Its topic.
    pub topic: Topic,
    /// Its partition; below [`Log::partitions`].
    pub partition: Partition,
    /// What a reader needs before the payload.
    pub meta: Bytes,
    /// Carried as it is.
    pub payload: Bytes,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Its place.
    pub offset: Offset,
    /// When it was appended.
    pub at: Time,
    /// As appended.
    pub meta: Bytes,
    /// As appended.
    pub payload: Bytes,
}

/// What a consumer is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// The partition is this consumer's from now on; its group has come so far.
    Assigned(Partition, Progress),
    /// The next unfinished records, those of one partition in append order: at most 512, and no more once they
    /// carry 1 MiB.
    Records(Vec<Record>),
    /// The partition is no longer this consumer's: send nothing more of it, commit nothing more.
    Revoked(Partition),
}

/// The log did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing of the call may be assumed written, nor that it was not. Worth a retry.
    #[error("the log takes no records now: {reason}")]
    Unavailable {
        /// What is in the way.
        reason: String,
    },
    /// Retrying won't help.
    #[error("the record has {size} bytes, more than the {limit} that the log takes")]
    TooLarge {
        /// Meta and payload together, in bytes.
        size: usize,
        /// The most they may have.
        limit: usize,
    },
    /// The topic has no such partition.
    #[error("{topic:?} has {count} partitions, there is no {}", partition.0)]
    NoPartition {
        /// The topic.
        topic: Topic,
        /// What was asked for.
        partition: Partition,
        /// How many there are.
        count: u16,
    },
    /// What was durably written reads differently now.
    #[error("{} is damaged at byte {at}; stop postrider and restore the file from a copy", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Position within the file.
        at: u64,
    },
    /// The operating system did not let a file be read.
    #[error("{} can't be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The log, whichever keeps it. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Log {
    /// Segment files in the data folder.
    Local(local::Log),
}

impl Log {
    /// How many partitions `topic` has; fixed.
    pub fn partitions(&self, topic: Topic) -> u16 {
        match self {
            Log::Local(log) => log.partitions(topic),
        }
    }

    /// Makes all `records` durable, in the given order, and says where each went.
    ///
    /// Answers within the log's append time-out. Errors: [`LogError::Unavailable`], [`LogError::TooLarge`],
    /// [`LogError::NoPartition`]; the latter two before anything is written. A call that is cancelled may still be
    /// carried out.
    pub async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        match self {
            Log::Local(log) => log.append(&records).await,
        }
    }

    /// Reads `partitions` of `topic` for `group`, from its last commits on.
    ///
    /// Two consumers of one group must not share a partition. Errors: [`LogError::NoPartition`].
    pub fn consumer(&self, group: Group, topic: Topic, partitions: Vec<Partition>) -> Result<Consumer, LogError> {
        match self {
            Log::Local(log) => log.consumer(group, topic, partitions).map(Consumer::Local),
        }
    }

    /// Reads the one record at `offset`, as an append or a record gave it; `None` when retention has removed it.
    ///
    /// Needs a Tokio runtime. Errors: [`LogError::Damaged`], [`LogError::Unreadable`].
    pub async fn read(&self, offset: Offset) -> Result<Option<Record>, LogError> {
        match self {
            Log::Local(log) => log.read(offset).await,
        }
    }

    /// Whether appends are taken, or else why not.
    pub fn health(&self) -> Result<(), String> {
        match self {
            Log::Local(log) => log.health(),
        }
    }

    /// The end of what is durable.
    pub fn appended(&self) -> Offset {
        match self {
            Log::Local(log) => log.appended(),
        }
    }

    /// The oldest place that retention has kept.
    pub fn oldest(&self) -> Offset {
        match self {
            Log::Local(log) => log.oldest(),
        }
    }

    /// How far `group` is behind in `topic`: the bytes from its oldest unread record to the end, zero when it has
    /// read everything.
    pub fn lag(&self, group: Group, topic: Topic) -> u64 {
        match self {
            Log::Local(log) => log.lag(group, topic),
        }
    }
}

/// Reads partitions of one topic for one group.
#[derive(Debug)]
pub enum Consumer {
    /// Of a [`local::Log`].
    Local(local::Consumer),
}

impl Consumer {
    /// Waits for what comes next. Cancelling loses nothing. Sees durable records only.
    ///
    /// Needs a Tokio runtime. Errors: [`LogError::Damaged`], [`LogError::Unreadable`]; the same place is tried again by the next call.
    pub async fn next(&mut self) -> Result<Consumed, LogError> {
        match self {
            Consumer::Local(consumer) => consumer.next().await,
        }
    }

    /// Notes how far the group has come in `partition`. Never waits; durable soon after, and a crash before that
    /// only has records read again. Errors: [`LogError::NoPartition`] if it isn't this consumer's.
    pub fn commit(&mut self, partition: Partition, progress: &Progress) -> Result<(), LogError> {
        match self {
            Consumer::Local(consumer) => consumer.commit(partition, progress),
        }
    }
}

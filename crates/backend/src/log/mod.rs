//! The log seam: records appended durably, read in order by groups that commit how far they are.
//!
//! A record belongs to a topic and one of its partitions. Its [`Offset`] grows along the partition but is not
//! contiguous. Within a group a partition has one reader at a time.

mod batches;
pub mod kafka;
pub mod local;
mod tenure;

use bytes::Bytes;
use postrider_core::job::JobKind;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use postrider_core::time::Time;
use std::io;
use std::path::PathBuf;

pub use batches::{Batch, Batches, Place};
pub use tenure::{Tenure, Tenures};

use crate::store::Body;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Events that are still to be routed to endpoints.
    Events,
    /// Deliveries, partitioned by endpoint.
    Deliveries,
    /// Deliveries that were given up, and records that could not be read.
    DeadLetters,
    /// Jobs of one kind that are to be done.
    Jobs(JobKind),
    /// Jobs of a kind that workers outside do, by its place among the configured ones. Only in Kafka.
    Outside(u16),
    /// What workers outside say of jobs. Only in Kafka.
    JobResults,
    /// Changes of the configuration, by the key of what changed. Only in Kafka: see [`Log::changes`].
    Config,
    /// Attempts, while somebody follows them. Only in Kafka: see [`Log::follow`].
    Live,
    /// What others write, by its place among the configured sources. Only in Kafka.
    Source(u16),
}

impl Topic {
    /// The topics that every log has.
    pub const ALL: [Topic; 9] = [
        Topic::Events,
        Topic::Deliveries,
        Topic::DeadLetters,
        Topic::Jobs(JobKind::Evaluate),
        Topic::Jobs(JobKind::Tts),
        Topic::Jobs(JobKind::Http),
        Topic::Jobs(JobKind::Generate),
        Topic::Jobs(JobKind::Experiment),
        Topic::Jobs(JobKind::Batch),
    ];

    /// The number that stands for it on disk.
    pub(crate) fn number(self) -> u8 {
        match self {
            Topic::Events => 1,
            Topic::Deliveries => 2,
            Topic::DeadLetters => 3,
            Topic::Jobs(JobKind::Evaluate) => 32,
            Topic::Jobs(JobKind::Tts) => 33,
            Topic::Jobs(JobKind::Http) => 37,
            Topic::Jobs(JobKind::Generate) => 40,
            Topic::Jobs(JobKind::Experiment) => 41,
            Topic::Jobs(JobKind::Batch) => 36,
            Topic::Outside(_) | Topic::JobResults | Topic::Config | Topic::Live | Topic::Source(_) => {
                unreachable!("a local log has no partition of {self:?} that a record could be in")
            }
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.number() == number)
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
    /// Does jobs.
    Compute = 3,
}

impl Group {
    /// Every group.
    pub const ALL: [Group; 3] = [Group::Router, Group::Deliver, Group::Compute];

    /// As metrics and the groups of Kafka call it.
    pub fn name(self) -> &'static str {
        match self {
            Group::Router => "router",
            Group::Deliver => "deliver",
            Group::Compute => "compute",
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Group> {
        Group::ALL.into_iter().find(|group| *group as u8 == number)
    }
}

/// Most bytes that one append should have, so that it is acknowledged within its time.
pub const APPEND_BYTES: usize = 4 << 20;

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
    /// For a dead letter that could not be read: which record it was, and why.
    pub failure: Option<Box<Failure>>,
}

impl Append {
    /// Meta and payload together, in bytes.
    pub fn bytes(&self) -> usize {
        self.meta.len().saturating_add(self.payload.len())
    }
}

/// A record that could not be read, for whoever looks at the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The topic it was read from, as the log names it.
    pub topic: String,
    /// The partition it was read from.
    pub partition: Partition,
    /// Its place.
    pub offset: Offset,
    /// What is wrong with it.
    pub reason: String,
}

/// What a record that others wrote carries beside its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Bytes)>,
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
    /// As appended; empty when others wrote the record.
    pub meta: Bytes,
    /// As appended.
    pub payload: Bytes,
    /// What others wrote, where it was not postrider that wrote the record.
    pub foreign: Option<Box<Foreign>>,
}

/// What a consumer is told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// The partition is this consumer's from now on; its group has come so far.
    Assigned(Partition, Progress),
    /// The next unfinished records, those of one partition in append order: at most 128, and no more once they
    /// carry the bytes that the consumer was made for.
    Records(Vec<Record>),
    /// Another consumer is to have the partition: finish what is under way, commit, then [`Consumer::release`] it.
    /// Whoever takes too long loses it.
    Revoking(Partition),
    /// The partition is no longer this consumer's: send nothing more of it, commit nothing more.
    Lost(Partition),
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
    /// Topics of a Kafka cluster.
    Kafka(kafka::Log),
}

impl Log {
    /// How many partitions `topic` has; fixed.
    pub fn partitions(&self, topic: Topic) -> u16 {
        match self {
            Log::Local(log) => log.partitions(topic),
            Log::Kafka(log) => log.partitions(topic),
        }
    }

    /// What `topic` is called where it is kept.
    pub fn name(&self, topic: Topic) -> String {
        match self {
            Log::Local(_) => format!("{topic:?}").to_lowercase(),
            Log::Kafka(log) => log.name(topic),
        }
    }

    /// Where the body of an event that came with `record` lies: in this log, where the log keeps it as long as the
    /// event's row is kept.
    pub fn body(&self, record: &Record) -> Body {
        match self {
            Log::Local(_) => Body::At(record.offset),
            Log::Kafka(_) => Body::Inline(record.payload.clone()),
        }
    }

    /// Most bytes of a record, meta and payload together.
    fn max_record(&self) -> usize {
        match self {
            Log::Local(_) => local::MAX_RECORD,
            Log::Kafka(log) => log.max_record(),
        }
    }

    /// Whether the log can take the record at all.
    ///
    /// Errors: [`LogError::TooLarge`], for which no retry helps.
    pub fn check(&self, record: &Append) -> Result<(), LogError> {
        let (size, limit) = (record.bytes(), self.max_record());
        if size > limit { Err(LogError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// The record with as much of its payload as the log can take.
    pub fn fitted(&self, record: Append) -> Append {
        let room = self.max_record().saturating_sub(record.meta.len());
        Append { payload: record.payload.slice(..record.payload.len().min(room)), ..record }
    }

    /// Makes all `records` durable, in the given order, and says where each went.
    ///
    /// Answers within the log's append time-out. Errors: [`LogError::Unavailable`], [`LogError::TooLarge`],
    /// [`LogError::NoPartition`]; the latter two before anything is written. A call that is cancelled may still be
    /// carried out.
    pub async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        records.iter().try_for_each(|record| self.check(record))?;
        match self {
            Log::Local(log) => log.append(&records).await,
            Log::Kafka(log) => log.append(&records).await,
        }
    }

    /// Reads `topic` for `group`, from its last commits on: `count` consumers that share the partitions which the
    /// group gives to this process. A batch ends at the record with which it has `batch_bytes`, if not before. To be
    /// called once for each group and topic.
    pub fn consumers(&self, group: Group, topic: Topic, count: usize, batch_bytes: usize) -> Result<Vec<Consumer>, LogError> {
        match self {
            Log::Local(log) => Ok(log.consumers(group, topic, count, batch_bytes)?.into_iter().map(Consumer::Local).collect()),
            Log::Kafka(log) => Ok(log.consumers(group, topic, count, batch_bytes)?.into_iter().map(Consumer::Kafka).collect()),
        }
    }

    /// Whether appends are taken, or else why not.
    pub fn health(&self) -> Result<(), String> {
        match self {
            Log::Local(log) => log.health(),
            Log::Kafka(log) => log.health(),
        }
    }

    /// Tells every process that the object `key` changed; `value` says how. Returns when that is durable.
    ///
    /// A local log has one process, which knows already. Errors: [`LogError::Unavailable`].
    pub async fn announce(&self, key: &str, value: Bytes) -> Result<(), LogError> {
        match self {
            Log::Local(_) => Ok(()),
            Log::Kafka(log) => log.announce(key, value).await,
        }
    }

    /// Follows what processes announce, this one included, from now on; `None` for a local log, which has one process.
    ///
    /// Errors: [`LogError::Unavailable`].
    pub async fn changes(&self) -> Result<Option<kafka::Tail>, LogError> {
        match self {
            Log::Local(_) => Ok(None),
            Log::Kafka(log) => log.changes().await.map(Some),
        }
    }

    /// Shows `news`, each with its key, to whoever follows. A local log has one process, which knows already.
    ///
    /// Errors: [`LogError::Unavailable`], [`LogError::TooLarge`].
    pub async fn show(&self, news: &[(String, Bytes)]) -> Result<(), LogError> {
        match self {
            Log::Local(_) => Ok(()),
            Log::Kafka(log) => log.show(news).await,
        }
    }

    /// Follows what processes show, this one included, from now on; `None` for a local log, which has one process.
    ///
    /// Errors: [`LogError::Unavailable`].
    pub async fn follow(&self) -> Result<Option<kafka::Tail>, LogError> {
        match self {
            Log::Local(_) => Ok(None),
            Log::Kafka(log) => log.follow().await.map(Some),
        }
    }

    /// How far `group` is behind in `topic`, zero when it has finished everything. Locally: the bytes from its oldest
    /// unread record to the end. In Kafka: the records between, in the partitions that this process reads, as of a
    /// second ago.
    pub fn lag(&self, group: Group, topic: Topic) -> u64 {
        match self {
            Log::Local(log) => log.lag(group, topic),
            Log::Kafka(log) => log.lag(group, topic),
        }
    }

    /// Records of jobs in `topic` that no reader has been handed. In Kafka: of the partitions that this process reads, as of a
    /// second ago. Locally what was there when the log was opened is counted a moment later.
    pub fn unread(&self, topic: Topic) -> u64 {
        match self {
            Log::Local(log) => log.unread(topic),
            Log::Kafka(log) => log.unread(Group::Compute, topic),
        }
    }
}

/// Reads partitions of one topic for one group.
#[derive(Debug)]
pub enum Consumer {
    /// Of a [`local::Log`].
    Local(local::Consumer),
    /// Of a [`kafka::Log`].
    Kafka(kafka::Consumer),
}

impl Consumer {
    /// Waits for what comes next. Cancelling loses nothing. Sees durable records only.
    ///
    /// Needs a Tokio runtime. Errors: [`LogError::Damaged`], [`LogError::Unreadable`]; the same place is tried again by the next call.
    pub async fn next(&mut self) -> Result<Consumed, LogError> {
        match self {
            Consumer::Local(consumer) => consumer.next().await,
            Consumer::Kafka(consumer) => consumer.next().await,
        }
    }

    /// Notes how far the group has come in `partition`. Never waits; durable soon after, and a crash before that
    /// only has records read again. Errors: [`LogError::NoPartition`] if it isn't this consumer's.
    pub fn commit(&mut self, partition: Partition, progress: &Progress) -> Result<(), LogError> {
        match self {
            Consumer::Local(consumer) => consumer.commit(partition, progress),
            Consumer::Kafka(consumer) => consumer.commit(partition, progress),
        }
    }

    /// Hands out no records of `partition` until [`Consumer::resume`].
    pub fn pause(&mut self, partition: Partition) {
        match self {
            Consumer::Local(consumer) => consumer.pause(partition),
            Consumer::Kafka(consumer) => consumer.pause(partition),
        }
    }

    /// Hands out records of `partition` again.
    pub fn resume(&mut self, partition: Partition) {
        match self {
            Consumer::Local(consumer) => consumer.resume(partition),
            Consumer::Kafka(consumer) => consumer.resume(partition),
        }
    }

    /// Gives up a partition after [`Consumed::Revoking`]: its last commit was made, nothing of it is under way.
    pub fn release(&mut self, partition: Partition) {
        match self {
            // A local log takes no partition back, so it has nobody else to give it to.
            Consumer::Local(consumer) => consumer.resume(partition),
            Consumer::Kafka(consumer) => consumer.release(partition),
        }
    }

    /// Gives up all partitions, so that others are given them at once. What was committed is durable then, or else
    /// only has records read again.
    pub async fn close(self) -> Result<(), LogError> {
        match self {
            // Committed positions are written with the log's next frame, at the latest when it is closed.
            Consumer::Local(_) => Ok(()),
            Consumer::Kafka(consumer) => consumer.close().await,
        }
    }
}

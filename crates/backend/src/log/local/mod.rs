//! The log in the data folder: one append-only stream of segment files for all topics and partitions.
//!
//! An [`Offset`] is a record's position in that stream, so that reading at one is a single `pread`. An append is
//! acknowledged when its bytes are synced; commits are written with the next batch and synced with the next record.
//! `kill -9` loses nothing acknowledged, nor does a power cut on a disk that honours `fdatasync`.

pub(in crate::log) mod clock;
mod consumer;
mod extents;
mod frame;
mod ledger;
mod queue;
mod recovery;
mod segment;
mod stream;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use postrider_core::job::JobKind;
use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use postrider_core::time::Millis;
use tokio::time::Instant;

use crate::folder::{self, OpenError};
use crate::log::{Append, Group, LogError, Record, Topic};
pub use consumer::Consumer;
use frame::{Encoded, Header, Kind};
use ledger::Ledger;
use queue::{Gate, Queue};
use segment::Chunk;
use stream::Stream;
use writer::Writer;

/// Most bytes that meta and payload of one record may have together.
pub const MAX_RECORD: usize = 8 << 20;

const UNPOISONED: &str = "nothing panics while it holds this lock";

/// How a local log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions of every topic.
    pub partitions: u16,
    /// A segment takes no further batch beyond this many bytes.
    pub segment_bytes: u64,
    /// Records are kept this long at least. Whole segments are removed, so it may be longer.
    pub retention: Millis,
    /// Who reads what. Records that one of these has not finished are kept beyond the retention; a group that has
    /// never committed has finished nothing.
    pub groups: Vec<(Group, Topic)>,
    /// Memory for the newest batches, in bytes: who is not further behind reads no file.
    pub tail_bytes: usize,
    /// Most bytes of records that wait to be written; appends beyond wait their turn.
    pub queue_bytes: u32,
    /// An append that is not durable by then is refused.
    pub append_timeout: Millis,
    /// Appends are refused while the file system has less than this free, so that the store beside the log goes on
    /// working. Looked at once a second.
    pub min_free_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            partitions: 16,
            segment_bytes: 64 << 20,
            retention: Millis::from_secs(30 * 24 * 3600),
            groups: [(Group::Router, Topic::Events), (Group::Deliver, Topic::Deliveries)]
                .into_iter()
                .chain(JobKind::ALL.map(|kind| (Group::Compute, Topic::Jobs(kind))))
                .collect(),
            tail_bytes: 8 << 20,
            queue_bytes: 32 << 20,
            append_timeout: Millis::from_secs(5),
            min_free_bytes: 256 << 20,
        }
    }
}

/// A log in a folder. Cloning is cheap.
///
/// When the last clone and the last consumer are dropped, what is queued is written and the folder may be opened
/// again. That drop waits for the disk.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

/// What handles and the writer share.
#[derive(Debug)]
struct Shared {
    options: Options,
    queue: Queue,
    stream: Stream,
    ledger: Mutex<Ledger>,
}

/// Ends the writer with the last handle.
struct Inner {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in the folder `dir`, making it if need be. The caller has locked the data folder around it.
    ///
    /// Cuts a torn tail. Errors: [`OpenError::Damaged`], with nothing changed, or [`OpenError::Io`].
    pub fn open(dir: &Path, options: Options) -> Result<Log, OpenError> {
        folder::create(dir).map_err(OpenError::io(dir))?;
        let recovered = recovery::recover(dir)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes),
            stream: Stream::new(dir, recovered.segments, recovered.end, options.tail_bytes),
            ledger: Mutex::new(recovered.ledger),
            options,
        });
        let writer = Writer::new(shared.clone())?;
        let writer = thread::Builder::new().name("log-writer".into()).spawn(|| writer.run()).map_err(OpenError::io(dir))?;
        Ok(Log { inner: Arc::new(Inner { shared, writer: Some(writer) }) })
    }

    pub(super) fn partitions(&self, topic: Topic) -> u16 {
        self.shared().partitions(topic)
    }

    pub(super) async fn append(&self, records: &[Append]) -> Result<Vec<Offset>, LogError> {
        let shared = self.shared();
        let now = clock::now();
        let mut frames = Vec::with_capacity(records.len());
        for Append { topic, partition, meta, payload, failure: _ } in records {
            shared.check_partition(*topic, *partition)?;
            frames.push(Encoded::new(Kind::Record(*topic), *partition, now, meta, payload));
        }
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        shared.queue.append(&frames, Instant::now() + shared.options.append_timeout.into()).await
    }

    pub(super) fn consumers(&self, group: Group, topic: Topic, count: usize, batch_bytes: usize) -> Result<Vec<Consumer>, LogError> {
        let partitions = self.shared().options.partitions;
        (0..count.max(1))
            .map(|index| (0..partitions).map(Partition).skip(index).step_by(count.max(1)).collect())
            .map(|partitions| self.consumer(group, topic, partitions, batch_bytes))
            .collect()
    }

    /// Reads `partitions` of `topic` for `group`; two consumers of one group must not share a partition.
    ///
    /// Errors: [`LogError::NoPartition`].
    pub fn consumer(&self, group: Group, topic: Topic, partitions: Vec<Partition>, batch_bytes: usize) -> Result<Consumer, LogError> {
        for &partition in &partitions {
            self.shared().check_partition(topic, partition)?;
        }
        Ok(Consumer::new(self.clone(), group, topic, &partitions, batch_bytes))
    }

    /// Reads the one record at `offset`, as an append or a record gave it; `None` when retention has removed it.
    ///
    /// Needs a Tokio runtime. Errors: [`LogError::Damaged`], [`LogError::Unreadable`].
    pub async fn read(&self, offset: Offset) -> Result<Option<Record>, LogError> {
        let shared = self.inner.shared.clone();
        let chunk = match shared.stream.in_memory(offset.0) {
            Some(chunk) => Some(chunk),
            // One frame is at least what is read, and more is not wanted.
            None => blocking(move || shared.stream.in_files(offset.0, 4096)).await?,
        };
        Ok(chunk.and_then(|chunk| record_at(&chunk, offset)))
    }

    pub(super) fn health(&self) -> Result<(), String> {
        match self.shared().queue.gate() {
            Gate::Open => Ok(()),
            Gate::Trying(reason) | Gate::Shut(reason) | Gate::Failed(reason) => Err(reason),
        }
    }

    /// The end of what is durable.
    pub fn appended(&self) -> Offset {
        Offset(self.shared().stream.end())
    }

    /// The oldest place that retention has kept.
    pub fn oldest(&self) -> Offset {
        Offset(self.shared().stream.oldest())
    }

    pub(super) fn lag(&self, group: Group, topic: Topic) -> u64 {
        let shared = self.shared();
        let unread = shared.ledger.lock().expect(UNPOISONED).unread_of_topic(group, topic);
        unread.map_or(0, |at| shared.stream.end().saturating_sub(at.max(shared.stream.oldest())))
    }

    pub(super) fn unread(&self, topic: Topic) -> u64 {
        self.shared().stream.unread(topic)
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.shared().stream.dir()).finish_non_exhaustive()
    }
}

impl Shared {
    /// One process has nobody to tell of changes, and others write only to Kafka.
    fn partitions(&self, topic: Topic) -> u16 {
        match topic {
            Topic::Events | Topic::Deliveries | Topic::DeadLetters | Topic::Jobs(_) => self.options.partitions,
            Topic::Outside(_) | Topic::JobResults | Topic::Config | Topic::Live | Topic::Source(_) => 0,
        }
    }

    fn check_partition(&self, topic: Topic, partition: Partition) -> Result<(), LogError> {
        let count = self.partitions(topic);
        if partition.0 < count { Ok(()) } else { Err(LogError::NoPartition { topic, partition, count }) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the log's writer panicked");
        }
    }
}

/// The record at `offset`, if that is where one is.
fn record_at(chunk: &Chunk, offset: Offset) -> Option<Record> {
    let start = chunk.index(offset.0)?;
    let bytes = &chunk.bytes[start..];
    let header = Header::read(bytes).ok().filter(|header| header.is_intact(bytes))?;
    let Kind::Record(topic) = header.kind else { return None };
    Some(record(chunk, start, topic, &header))
}

fn record(chunk: &Chunk, start: usize, topic: Topic, header: &Header) -> Record {
    let (meta, payload) = header.parts(&chunk.bytes, start);
    let offset = Offset(chunk.base + start as u64);
    Record { topic, partition: header.partition, offset, at: header.at, meta, payload, foreign: None }
}

/// Runs what blocks away from the runtime's own thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(LogError::Unavailable { reason: format!("a file can't be read: {error}") }),
    }
}

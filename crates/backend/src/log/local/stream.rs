//! What readers see of the stream: its durable part, the newest of it in memory, the rest in files.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

use bytes::Bytes;
use postrider_core::time::Time;
use tokio::sync::watch;

use super::UNPOISONED;
use super::extents::Extents;
use super::segment::{self, Chunk, ReadError, Reader};
use crate::log::{LogError, Topic};

/// Invariant: everything before `end` is durable, or is no record.
#[derive(Debug)]
pub(super) struct Stream {
    dir: PathBuf,
    /// First position and time of making of each segment.
    segments: RwLock<BTreeMap<u64, Time>>,
    tail: Mutex<Tail>,
    end: AtomicU64,
    /// Where it ended when it was opened.
    opened: u64,
    topics: [OfTopic; Topic::ALL.len()],
}

#[derive(Debug)]
struct OfTopic {
    topic: Topic,
    extents: watch::Sender<Extents>,
    /// Records that no reader has been handed. Below zero while old ones are handed out that have not been counted yet.
    unread: AtomicI64,
}

/// The newest batches, adjacent, so that a reader who keeps up reads no file and copies nothing.
#[derive(Debug)]
struct Tail {
    chunks: VecDeque<(Chunk, usize)>,
    /// Memory that the chunks occupy, in bytes.
    held: usize,
    limit: usize,
}

impl Stream {
    /// The stream in the segments of `dir`, none of it in memory.
    pub(super) fn new(dir: &Path, segments: BTreeMap<u64, Time>, end: u64, tail_bytes: usize) -> Stream {
        Stream {
            dir: dir.to_owned(),
            segments: RwLock::new(segments),
            tail: Mutex::new(Tail { chunks: VecDeque::new(), held: 0, limit: tail_bytes }),
            end: AtomicU64::new(end),
            opened: end,
            topics: Topic::ALL.map(|topic| OfTopic { topic, extents: watch::Sender::new(Extents::new(end)), unread: AtomicI64::new(0) }),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Where it ended when it was opened.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// The first position of all that is kept.
    pub(super) fn oldest(&self) -> u64 {
        self.segments.read().expect(UNPOISONED).keys().next().copied().unwrap_or_default()
    }

    /// The first position of the segment that holds `at`, or of the oldest.
    pub(super) fn segment_of(&self, at: u64) -> u64 {
        let segments = self.segments.read().expect(UNPOISONED);
        segments.range(..=at).next_back().or(segments.first_key_value()).map(|(&base, _)| base).unwrap_or_default()
    }

    /// Where records of `topic` are; changes when there are new ones.
    pub(super) fn watch(&self, topic: Topic) -> watch::Receiver<Extents> {
        self.of(topic).extents.subscribe()
    }

    /// The batch that holds `at`, if it is in memory.
    pub(super) fn in_memory(&self, at: u64) -> Option<Chunk> {
        let tail = self.tail.lock().expect(UNPOISONED);
        let index = tail.chunks.partition_point(|(chunk, _)| chunk.end() <= at);
        tail.chunks.get(index).map(|(chunk, _)| chunk).filter(|chunk| chunk.base <= at).cloned()
    }

    /// Reads frames from files as [`Reader::frames`] does; `None` when `at` is not kept any more, or nothing is there
    /// yet. Blocks.
    pub(super) fn in_files(&self, at: u64, want: u64) -> Result<Option<Chunk>, LogError> {
        let end = self.end();
        let (base, limit) = {
            let segments = self.segments.read().expect(UNPOISONED);
            let Some((&base, _)) = segments.range(..=at).next_back() else { return Ok(None) };
            (base, segments.range(at + 1..).next().map_or(end, |(&next, _)| next))
        };
        if at >= limit {
            return Ok(None);
        }
        let file = || segment::path(&self.dir, base);
        let read = Reader::open(&self.dir, base, limit).map_err(ReadError::Io).and_then(|reader| reader.frames(at, want));
        match read {
            Ok(chunk) => Ok(Some(chunk)),
            Err(ReadError::Bad { at }) => Err(LogError::Damaged { file: file(), at: at - base }),
            // Retention was quicker.
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound && base < self.oldest() => Ok(None),
            Err(ReadError::Io(source)) => Err(LogError::Unreadable { file: file(), source }),
        }
    }

    /// Records of `topic` that no reader has been handed. Of those that were there when the stream was opened, only what
    /// [`Stream::count`] was told.
    pub(super) fn unread(&self, topic: Topic) -> u64 {
        u64::try_from(self.of(topic).unread.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Notes that so many records have come to wait for a reader, or were handed out where it is less than zero.
    pub(super) fn count(&self, topic: Topic, records: i64) {
        self.of(topic).unread.fetch_add(records, Ordering::Relaxed);
    }

    /// For the writer: shows the batch at `base`, whose buffer occupies `memory` bytes, to readers. It has so many records
    /// of each topic.
    pub(super) fn publish(&self, base: u64, bytes: Bytes, memory: usize, topics: &[(Topic, i64)]) {
        let chunk = Chunk { base, bytes };
        let end = chunk.end();
        self.tail.lock().expect(UNPOISONED).push(chunk, memory);
        self.end.store(end, Ordering::Release);
        for &(topic, records) in topics {
            self.count(topic, records);
            self.of(topic).extents.send_modify(|extents| extents.add(base, end));
        }
    }

    /// For the writer.
    pub(super) fn add_segment(&self, base: u64, made: Time) {
        self.segments.write().expect(UNPOISONED).insert(base, made);
    }

    /// For the writer: the oldest segment and the one behind it, unless it is the only one.
    pub(super) fn oldest_two(&self) -> Option<(u64, u64, Time)> {
        let segments = self.segments.read().expect(UNPOISONED);
        let mut oldest = segments.iter();
        let (&first, _) = oldest.next()?;
        oldest.next().map(|(&second, &made)| (first, second, made))
    }

    /// For the writer: forgets the segment. Its file is still there.
    pub(super) fn remove_segment(&self, base: u64) {
        self.segments.write().expect(UNPOISONED).remove(&base);
    }

    fn of(&self, topic: Topic) -> &OfTopic {
        self.topics.iter().find(|of| of.topic == topic).expect("every topic has its place")
    }
}

impl Tail {
    fn push(&mut self, chunk: Chunk, memory: usize) {
        self.held += memory;
        self.chunks.push_back((chunk, memory));
        while self.held > self.limit
            && let Some((_, memory)) = self.chunks.pop_front()
        {
            self.held -= memory;
        }
    }
}

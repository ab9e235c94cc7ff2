//! The one thread that writes: gathers, writes, syncs, publishes, answers.
//!
//! A batch is whatever arrived while the last one was being synced, so that no timer delays anyone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use postrider_core::time::Time;
use tracing::{error, warn};

use super::frame::{self, Encoded, Kind, MARK};
use super::queue::{Batch, Gate};
use super::{Shared, UNPOISONED, clock, segment};
use crate::folder::OpenError;
use crate::log::Topic;

/// How often free space and retention are looked at, and what failed is tried again.
const TICK: Duration = Duration::from_secs(1);

/// Owns the newest segment. All later frames go through it.
pub(super) struct Writer {
    shared: Arc<Shared>,
    file: File,
    /// First position of the newest segment.
    base: u64,
    /// Where the next batch goes.
    position: u64,
    /// Everything before is durable.
    synced: u64,
    ticked: Option<Instant>,
}

/// A write that did not work out.
enum Failure {
    /// Nothing of it is there; the next may succeed.
    Refused(String),
    /// What is on disk can't be known any more.
    Lost(String),
}

impl Writer {
    /// Goes on behind what was recovered: the end of `shared`'s stream.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Writer, OpenError> {
        let stream = &shared.stream;
        let end = stream.end();
        // A segment begins with a checkpoint, so a stream without any is empty.
        let (file, base) = if end == 0 {
            (make_segment(&shared, 0).map_err(OpenError::io(stream.dir()))?, 0)
        } else {
            let base = stream.segment_of(end);
            let path = segment::path(stream.dir(), base);
            (OpenOptions::new().write(true).open(&path).map_err(OpenError::io(&path))?, base)
        };
        let end = stream.end();
        let mut writer = Writer { file, base, position: end, synced: end, ticked: None, shared };
        writer.tick_if_due();
        Ok(writer)
    }

    /// Works until the queue is closed.
    pub(super) fn run(mut self) {
        loop {
            self.tick_if_due();
            // Those just answered may be about to append again: 15% more a second with 64 callers on two cores.
            thread::yield_now();
            let work = self.shared.queue.take(TICK);
            let commits = self.shared.ledger.lock().expect(UNPOISONED).has_unwritten();
            if work.closing || commits || !work.batch.callers.is_empty() {
                self.write(work.batch, work.closing);
            }
            if work.closing {
                return;
            }
        }
    }

    /// Writes a batch and whatever commits there are. `last` has it synced although it hold no record.
    fn write(&mut self, batch: Batch, last: bool) {
        let Batch { mut bytes, callers } = batch;
        let must_sync = last || !callers.is_empty();
        let commits = self.shared.ledger.lock().expect(UNPOISONED).take_unwritten();
        let now = clock::now();
        for (group, topic, partition, progress) in &commits {
            Encoded::new(Kind::Commit, *partition, now, &frame::commit_meta(*group, *topic), progress).write_to(&mut bytes);
        }
        let written = self.make_durable(&mut bytes, must_sync, now);
        let outcome = match written {
            Ok(base) => {
                self.publish(base, bytes);
                self.shared.queue.has_written();
                Ok(base)
            }
            Err(failure) => {
                self.shared.ledger.lock().expect(UNPOISONED).not_written(commits);
                Err(self.note(failure))
            }
        };
        self.shared.queue.settle(callers, &outcome);
    }

    /// Where the batch now is.
    fn make_durable(&mut self, bytes: &mut [u8], sync: bool, now: Time) -> Result<u64, Failure> {
        if let Gate::Failed(reason) = self.shared.queue.gate() {
            return Err(Failure::Refused(reason));
        }
        if self.position - self.base >= self.shared.options.segment_bytes {
            self.roll()?;
        }
        let base = self.position;
        bytes[..MARK].copy_from_slice(&frame::mark(base, self.synced, now));
        if let Err(error) = self.file.write_all_at(bytes, base - self.base) {
            // What a short write left must not stay: the next batch goes to the same place.
            self.file.set_len(base - self.base).map_err(|error| Failure::Lost(format!("a failed write can't be undone: {error}")))?;
            return Err(Failure::Refused(format!("writing failed: {error}")));
        }
        self.position += bytes.len() as u64;
        if sync {
            self.sync()?;
        }
        Ok(base)
    }

    /// After a failed sync the kernel may have dropped what it could not write and call the next sync a success
    /// (<https://wiki.postgresql.org/wiki/Fsync_Errors>), so the file is never trusted again.
    fn sync(&mut self) -> Result<(), Failure> {
        self.file.sync_data().map_err(|error| Failure::Lost(format!("syncing failed: {error}")))?;
        self.synced = self.position;
        Ok(())
    }

    /// Begins the next segment, once the newest is durable to its end.
    fn roll(&mut self) -> Result<(), Failure> {
        self.sync()?;
        let made = make_segment(&self.shared, self.position);
        self.file = made.map_err(|error| Failure::Refused(format!("a new segment can't be made: {error}")))?;
        self.base = self.position;
        self.position = self.shared.stream.end();
        self.synced = self.position;
        Ok(())
    }

    /// Shows the batch to readers, and to the ledger.
    fn publish(&self, base: u64, bytes: Vec<u8>) {
        let mut topics: Vec<(Topic, i64)> = Vec::new();
        let mut ledger = self.shared.ledger.lock().expect(UNPOISONED);
        for (start, header) in frame::walk(&bytes) {
            match header.kind {
                Kind::Record(topic) => {
                    ledger.record(topic, header.partition, Offset(base + start as u64));
                    match topics.iter_mut().find(|(known, _)| *known == topic) {
                        Some((_, records)) => *records += 1,
                        None => topics.push((topic, 1)),
                    }
                }
                Kind::Commit | Kind::Checkpoint | Kind::Mark => {}
            }
        }
        drop(ledger);
        let memory = bytes.capacity();
        self.shared.stream.publish(base, bytes.into(), memory, &topics);
    }

    fn note(&self, failure: Failure) -> String {
        match failure {
            Failure::Refused(reason) => {
                // Once, not for every batch until it works again.
                if self.shared.queue.gate() == Gate::Open {
                    warn!(reason, "the log could not write");
                }
                self.shared.queue.set_gate(Gate::Trying(reason.clone()));
                reason
            }
            Failure::Lost(reason) => {
                error!(reason, "the log takes nothing any more until postrider is started again");
                self.shared.queue.set_gate(Gate::Failed(reason.clone()));
                reason
            }
        }
    }

    fn tick_if_due(&mut self) {
        if self.ticked.is_some_and(|ticked| ticked.elapsed() < TICK) {
            return;
        }
        self.ticked = Some(Instant::now());
        self.look_at_free_space();
        if let Err(error) = truncate_expired(&self.shared, clock::now()) {
            warn!(%error, "an expired segment can't be removed");
        }
    }

    /// Keeps room for the store beside the log, which can't work on a full disk.
    fn look_at_free_space(&self) {
        let least = self.shared.options.min_free_bytes;
        let free = match rustix::fs::fstatvfs(&self.file) {
            Ok(status) => status.f_bavail.saturating_mul(status.f_frsize),
            Err(error) => {
                warn!(%error, "free space can't be looked at");
                return;
            }
        };
        match (self.shared.queue.gate(), free < least) {
            (Gate::Open | Gate::Trying(_), true) => {
                let reason = format!("the disk is nearly full: {free} bytes are free, {least} must stay so");
                warn!(reason, "the log takes no records");
                self.shared.queue.set_gate(Gate::Shut(reason));
            }
            (Gate::Shut(_), false) => self.shared.queue.set_gate(Gate::Open),
            (Gate::Open | Gate::Trying(_), false) | (Gate::Shut(_), true) | (Gate::Failed(_), _) => {}
        }
    }
}

impl Drop for Writer {
    /// Also when it panics: nobody may wait for a writer that is gone.
    fn drop(&mut self) {
        self.shared.queue.end("its writer has ended");
    }
}

/// Makes the segment that begins at `base`: its file, its checkpoint and its name durable. The stream then ends behind
/// the checkpoint.
fn make_segment(shared: &Shared, base: u64) -> io::Result<File> {
    let made = clock::now();
    let ledger = shared.ledger.lock().expect(UNPOISONED).to_bytes();
    let mut checkpoint = Vec::new();
    Encoded::new(Kind::Checkpoint, Partition(0), made, &[], &ledger).write_to(&mut checkpoint);
    // An attempt that failed may have left the file.
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(segment::path(shared.stream.dir(), base))?;
    file.write_all_at(&checkpoint, 0)?;
    file.sync_all()?;
    segment::sync_names(shared.stream.dir())?;
    let length = checkpoint.len();
    shared.stream.add_segment(base, made);
    shared.stream.publish(base, checkpoint.into(), length, &[]);
    Ok(file)
}

/// Removes the oldest segments while every record in them is older than the retention and no group has it to read.
fn truncate_expired(shared: &Shared, now: Time) -> io::Result<()> {
    while let Some((oldest, end, ended)) = shared.stream.oldest_two() {
        let young = ended + shared.options.retention > now;
        let ledger = shared.ledger.lock().expect(UNPOISONED);
        let unread = shared.options.groups.iter().any(|&(group, topic)| ledger.unread_of_topic(group, topic).is_some_and(|at| at < end));
        drop(ledger);
        if young || unread {
            return Ok(());
        }
        shared.stream.remove_segment(oldest);
        fs::remove_file(segment::path(shared.stream.dir(), oldest))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogError;
    use crate::log::local::Options;
    use crate::log::local::ledger::Ledger;
    use crate::log::local::queue::Queue;
    use crate::log::local::stream::Stream;
    use crate::log::{Group, Topic};
    use postrider_core::offsets::Progress;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// A writer whose newest segment is really a device that misbehaves.
    fn writer_to(device: &str, dir: &std::path::Path) -> Writer {
        let options = Options { min_free_bytes: 0, ..Options::default() };
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_bytes),
            stream: Stream::new(dir, BTreeMap::new(), 0, options.tail_bytes),
            ledger: Mutex::new(Ledger::default()),
            options,
        });
        let mut writer = Writer::new(shared).unwrap();
        writer.file = OpenOptions::new().write(true).open(device).unwrap();
        writer
    }

    async fn append(shared: &Shared) -> Result<Vec<Offset>, LogError> {
        let frame = Encoded::new(Kind::Record(Topic::Events), Partition(0), Time(0), &[], b"payload");
        shared.queue.append(&[frame], tokio::time::Instant::now() + Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn after_a_failed_sync_nothing_is_taken_nor_shown() {
        let dir = tempfile::tempdir().unwrap();
        // Takes every write, and can't be synced.
        let writer = writer_to("/dev/null", dir.path());
        let shared = writer.shared.clone();
        let before = shared.stream.end();
        let thread = thread::spawn(|| writer.run());
        let refused = append(&shared).await.unwrap_err().to_string();
        assert!(refused.contains("syncing failed"), "{refused}");
        assert!(matches!(shared.queue.gate(), Gate::Failed(_)));
        assert!(append(&shared).await.is_err());
        assert_eq!(shared.stream.end(), before);
        shared.queue.close();
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_write_that_cannot_be_undone_fails_the_log() {
        let dir = tempfile::tempdir().unwrap();
        // Always full, and can't be truncated.
        let writer = writer_to("/dev/full", dir.path());
        let shared = writer.shared.clone();
        shared.ledger.lock().unwrap().commit(Group::Router, Topic::Events, Partition(0), Progress::default());
        let thread = thread::spawn(|| writer.run());
        assert!(append(&shared).await.is_err());
        assert!(matches!(shared.queue.gate(), Gate::Failed(_)));
        assert!(shared.ledger.lock().unwrap().has_unwritten(), "the commit is still to be written");
        shared.queue.close();
        thread.join().unwrap();
    }
}

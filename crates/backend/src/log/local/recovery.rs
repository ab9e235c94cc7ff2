//! Opening what an earlier process left, however it ended.
//!
//! A segment is begun only when the one before is synced, so only the newest may have a torn tail: what was written
//! and never synced, of which a power cut keeps any part. It was never acknowledged, so it is cut. Every batch begins
//! with a mark that says up to where the stream was synced by then. A bad frame with a later mark that vouches for its
//! place had been synced: that is damage, and refused. A clean end leaves such a mark behind everything. After any other
//! end the very last batch has none, so that there alone damage looks like a tear.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use postrider_core::offsets::{Offset, Progress};
use postrider_core::time::Time;
use tracing::warn;

use super::frame::{self, HEADER, Header, Kind};
use super::ledger::Ledger;
use super::segment::{self, Chunk, ReadError, Reader};
use crate::folder::OpenError;

/// Bytes read at a time.
const READ: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// First position and time of making of each segment; empty when there is no log yet.
    pub(super) segments: BTreeMap<u64, Time>,
    /// The end of the stream, all of which is durable.
    pub(super) end: u64,
    pub(super) ledger: Ledger,
}

/// One segment, read to its end or to its first bad frame.
struct Scan {
    base: u64,
    /// Behind its last good frame.
    good: u64,
    /// Behind its last byte.
    end: u64,
    /// `None` when not even its checkpoint is good.
    ledger: Option<Ledger>,
}

/// Opens the segments in `dir`. Changes nothing unless it succeeds.
pub(super) fn recover(dir: &Path) -> Result<Recovered, OpenError> {
    let mut found = segment::list(dir).map_err(OpenError::io(dir))?;
    for pair in found.windows(2) {
        let &[(base, length), (next, _)] = pair else { continue };
        if base + length != next {
            return Err(OpenError::Damaged { file: segment::path(dir, base), at: length.min(next - base) });
        }
    }
    let Some((base, length)) = found.pop() else { return Ok(Recovered::default()) };
    let newest = Scan::of(dir, base, length)?;
    if newest.good < newest.end && newest.was_synced(dir)? {
        return Err(newest.damaged(dir));
    }
    let unfinished = newest.ledger.is_none();
    let mut kept = if !unfinished {
        found.push((base, length));
        newest
    } else if let Some(&(before, length)) = found.last() {
        // The newest's checkpoint never got to the disk, so nothing in it was acknowledged. The one before is synced.
        let before = Scan::of(dir, before, length)?;
        if before.good < before.end {
            return Err(before.damaged(dir));
        }
        before
    } else if base == 0 {
        remove(dir, base)?;
        return Ok(Recovered::default());
    } else {
        // Retention removed those before, which it does only when this one's checkpoint is synced.
        return Err(newest.damaged(dir));
    };
    let Some(ledger) = kept.ledger.take() else { return Err(kept.damaged(dir)) };
    let segments = found.iter().map(|&(base, _)| Ok((base, time_made(dir, base)?))).collect::<Result<_, _>>()?;
    if unfinished {
        remove(dir, base)?;
    }
    cut(dir, &kept)?;
    Ok(Recovered { segments, end: kept.good, ledger })
}

impl Scan {
    fn of(dir: &Path, base: u64, length: u64) -> Result<Scan, OpenError> {
        let file = segment::path(dir, base);
        let reader = Reader::open(dir, base, base + length).map_err(OpenError::io(&file))?;
        let mut scan = Scan { base, good: base, end: base + length, ledger: None };
        while scan.good < scan.end {
            match reader.frames(scan.good, READ) {
                Ok(chunk) => scan.replay(&chunk).ok_or_else(|| scan.damaged(dir))?,
                Err(ReadError::Bad { .. }) => break,
                Err(ReadError::Io(source)) => return Err(OpenError::Io { path: file, source }),
            }
        }
        Ok(scan)
    }

    /// Takes over what the frames say; `None` when they are intact and yet make no sense.
    fn replay(&mut self, chunk: &Chunk) -> Option<()> {
        for (start, header) in frame::walk(&chunk.bytes) {
            let (meta, payload) = header.parts(&chunk.bytes, start);
            let at = chunk.base + start as u64;
            match (header.kind, &mut self.ledger) {
                (Kind::Checkpoint, ledger) if at == self.base => *ledger = Some(Ledger::from_bytes(&payload)?),
                (Kind::Record(topic), Some(ledger)) => ledger.record(topic, header.partition, Offset(at)),
                (Kind::Commit, Some(ledger)) => {
                    let (group, topic) = frame::read_commit_meta(&meta)?;
                    ledger.restore(group, topic, header.partition, Progress::decode(&payload).ok()?);
                }
                (Kind::Mark, Some(_)) => {}
                (Kind::Checkpoint, _) | (Kind::Record(_) | Kind::Commit | Kind::Mark, None) => return None,
            }
            self.good = at + header.total as u64;
        }
        Some(())
    }

    /// Whether what is bad had once been synced.
    fn was_synced(&self, dir: &Path) -> Result<bool, OpenError> {
        let file = segment::path(dir, self.base);
        let rest = match Reader::open(dir, self.base, self.end).map_err(ReadError::Io).and_then(|reader| reader.rest(self.good)) {
            Ok(rest) => rest,
            Err(ReadError::Bad { .. }) => return Err(self.damaged(dir)),
            Err(ReadError::Io(source)) => return Err(OpenError::Io { path: file, source }),
        };
        let synced = |index| frame::read_mark(&rest[index..], self.good + index as u64).is_some_and(|synced| synced > self.good);
        Ok((0..rest.len()).any(synced))
    }

    fn damaged(&self, dir: &Path) -> OpenError {
        OpenError::Damaged { file: segment::path(dir, self.base), at: self.good - self.base }
    }
}

/// Cuts what is not good off the newest segment, and makes the rest durable: the process that wrote it may have ended
/// before it synced.
fn cut(dir: &Path, newest: &Scan) -> Result<(), OpenError> {
    let path = segment::path(dir, newest.base);
    let file = OpenOptions::new().write(true).open(&path).map_err(OpenError::io(&path))?;
    if newest.good < newest.end {
        warn!(file = %path.display(), bytes = newest.end - newest.good, "cut off a torn tail, which had not been synced");
        file.set_len(newest.good - newest.base).map_err(OpenError::io(&path))?;
    }
    file.sync_all().map_err(OpenError::io(&path))?;
    segment::sync_names(dir).map_err(OpenError::io(dir))
}

fn remove(dir: &Path, base: u64) -> Result<(), OpenError> {
    let path = segment::path(dir, base);
    warn!(file = %path.display(), "removed a segment that was never finished being made");
    fs::remove_file(&path).map_err(OpenError::io(&path))?;
    segment::sync_names(dir).map_err(OpenError::io(dir))
}

/// The time in the segment's checkpoint.
fn time_made(dir: &Path, base: u64) -> Result<Time, OpenError> {
    let path = segment::path(dir, base);
    let damaged = || OpenError::Damaged { file: path.clone(), at: 0 };
    let read = Reader::open(dir, base, base + HEADER as u64).map_err(ReadError::Io).and_then(|reader| reader.rest(base));
    match read {
        Ok(bytes) => match Header::peek(&bytes) {
            Ok(Header { kind: Kind::Checkpoint, at, .. }) => Ok(at),
            Ok(_) | Err(_) => Err(damaged()),
        },
        Err(ReadError::Bad { .. }) => Err(damaged()),
        Err(ReadError::Io(source)) => Err(OpenError::Io { path, source }),
    }
}

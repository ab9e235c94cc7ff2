//! What lines of a batch were answered, kept as it comes.
//!
//! A part holds some answers. Each claim writes parts of its own, so that a worker that lost its claim overwrites nothing; of a
//! line that is in several of them the first counts, in the order of their names.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use postrider_backend::blobs::{BlobError, Blobs, Order};
use postrider_core::id::{FilePurpose, JobId};
use postrider_core::job::{Claim, Counts, Error};
use postrider_ingest::jobs::Jobs;
use tokio::time::Instant;

use super::patiently;

/// A part of more bytes is written at once.
const FULL: usize = 512 << 10;
/// An answer waits no longer until it is written: so much work is lost with a worker.
const WAIT: Duration = Duration::from_millis(500);
/// Most parts that are looked at: more than there are lines, as each has one that others did not have when it was written.
const MAX_PARTS: usize = 200_000;

/// What came of a line.
pub(super) struct Answer {
    /// Which, from 1.
    pub(super) line: u32,
    /// Which file it belongs to.
    pub(super) outcome: Outcome,
    /// The line that it becomes there, without its end.
    pub(super) json: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
}

impl Outcome {
    fn letter(self) -> u8 {
        match self {
            Outcome::Answered => b'o',
            Outcome::Failed => b'e',
        }
    }

    fn purpose(self) -> FilePurpose {
        match self {
            Outcome::Answered => FilePurpose::BatchOutput,
            Outcome::Failed => FilePurpose::BatchErrors,
        }
    }
}

/// Which lines there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    pub(super) fn has(&self, line: u32) -> bool {
        self.0.get(line as usize / 64).is_some_and(|word| word >> (line % 64) & 1 == 1)
    }

    /// Says whether it was not there before.
    fn insert(&mut self, line: u32) -> bool {
        let is_new = !self.has(line);
        let word = line as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (line % 64);
        is_new
    }
}

/// Where the parts of a batch lie.
pub(super) fn folder(id: JobId) -> String {
    format!("{}/parts", Jobs::folder(id))
}

/// The parts of a batch: those that others wrote, and those that this worker adds.
pub(super) struct Parts {
    blobs: Blobs,
    /// What the names of its own begin with.
    own: String,
    /// The names of all, in order.
    names: Vec<String>,
    seen: Seen,
    counts: Counts,
    buffer: Vec<u8>,
    /// Since when the oldest answer of the buffer waits.
    since: Option<Instant>,
}

impl Parts {
    /// Reads what there is already.
    pub(super) async fn of(blobs: &Blobs, id: JobId, claim: Claim) -> Result<Parts, Error> {
        let folder = folder(id);
        let list = async || blobs.names(&folder, Order::Ascending, MAX_PARTS, |_| true).await;
        let names = patiently("parts of a batch can't be listed", list).await?;
        let mut parts = Parts {
            blobs: blobs.clone(),
            own: format!("{folder}/{:06}-{:016x}", claim.number, claim.worker),
            names: names.into_iter().map(|name| format!("{folder}/{name}")).collect(),
            seen: Seen::default(),
            counts: Counts::default(),
            buffer: Vec::new(),
            since: None,
        };
        for at in 0..parts.names.len() {
            let part = patiently("a part of a batch can't be read", async || blobs.get(&parts.names[at]).await).await?;
            for entry in entries(&part) {
                let (line, outcome, _) = entry.map_err(|error| damaged(&parts.names[at], error))?;
                parts.count(line, outcome);
            }
        }
        Ok(parts)
    }

    /// The lines that are in it.
    pub(super) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// How many lines came to what; how many there are in all is not known here.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn count(&mut self, line: u32, outcome: Outcome) {
        if self.seen.insert(line) {
            match outcome {
                Outcome::Answered => self.counts.completed += 1,
                Outcome::Failed => self.counts.failed += 1,
            }
        }
    }

    /// Adds an answer; it is kept once it is [flushed](Parts::flush).
    pub(super) fn add(&mut self, answer: &Answer) {
        let Answer { line, outcome, json } = answer;
        self.buffer.extend_from_slice(format!("{line} ").as_bytes());
        self.buffer.extend_from_slice(&[outcome.letter(), b' ']);
        self.buffer.extend_from_slice(json);
        self.buffer.push(b'\n');
        self.count(*line, *outcome);
        self.since.get_or_insert_with(Instant::now);
    }

    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= FULL || self.since.is_some_and(|since| since.elapsed() >= WAIT)
    }

    /// Waits until what was added should be flushed.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        let since = self.since;
        async move {
            match since {
                Some(since) => tokio::time::sleep_until(since + WAIT).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Keeps what was added.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (name, part) = (format!("{}-{:06}", self.own, self.names.len()), Bytes::from(std::mem::take(&mut self.buffer)));
        patiently("a part of a batch can't be written", async || self.blobs.put(&name, part.clone()).await).await?;
        self.names.push(name);
        self.since = None;
        Ok(())
    }

    /// The lines of the file for that purpose, as far as they are kept, part by part.
    pub(super) fn lines(&self, purpose: FilePurpose) -> impl Stream<Item = Result<Bytes, BlobError>> {
        let names = self.names.clone().into_iter();
        stream::try_unfold((self.blobs.clone(), names, Seen::default()), move |(blobs, mut names, mut seen)| async move {
            let Some(name) = names.next() else { return Ok(None) };
            let (part, mut lines) = (blobs.get(&name).await?, Vec::new());
            for entry in entries(&part) {
                let (line, outcome, json) = entry.map_err(|why| BlobError::Invalid { name: name.clone(), why: why.to_owned() })?;
                if seen.insert(line) && outcome.purpose() == purpose {
                    lines.extend_from_slice(json);
                    lines.push(b'\n');
                }
            }
            Ok(Some((Bytes::from(lines), (blobs, names, seen))))
        })
    }
}

/// What a part says of which lines.
fn entries(part: &[u8]) -> impl Iterator<Item = Result<(u32, Outcome, &[u8]), &'static str>> {
    part.split(|byte| *byte == b'\n').filter(|entry| !entry.is_empty()).map(|entry| {
        let mut words = entry.splitn(3, |byte| *byte == b' ');
        let line = words.next().and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let outcome = match words.next() {
            Some(b"o") => Some(Outcome::Answered),
            Some(b"e") => Some(Outcome::Failed),
            Some(_) | None => None,
        };
        line.zip(outcome).zip(words.next()).map(|((line, outcome), json)| (line, outcome, json)).ok_or("it is no part of a batch")
    })
}

fn damaged(name: &str, why: &str) -> Error {
    Error::new("internal", format_args!("what was kept of the batch can't be read: {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use postrider_core::id::Uid;

    fn answer(line: u32, outcome: Outcome, json: &str) -> Answer {
        Answer { line, outcome, json: json.as_bytes().to_vec() }
    }

    async fn text(parts: &Parts, purpose: FilePurpose) -> String {
        let lines: Vec<Bytes> = parts.lines(purpose).try_collect().await.unwrap();
        String::from_utf8(lines.concat()).unwrap()
    }

    #[tokio::test]
    async fn who_takes_over_knows_what_was_kept_and_a_line_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let id = JobId(Uid(7 << 80));
        let mut first = Parts::of(&blobs, id, Claim { worker: 1, number: 1 }).await.unwrap();
        first.add(&answer(2, Outcome::Answered, r#"{"a b":"c d"}"#));
        first.add(&answer(70, Outcome::Failed, "{}"));
        first.flush().await.unwrap();
        first.add(&answer(3, Outcome::Answered, "lost"));
        let mut second = Parts::of(&blobs, id, Claim { worker: 2, number: 2 }).await.unwrap();
        assert_eq!([1, 2, 3, 70, 99_999].map(|line| second.seen().has(line)), [false, true, false, true, false]);
        second.add(&answer(3, Outcome::Failed, "{\"n\":3}"));
        second.flush().await.unwrap();
        // The first one lives still.
        first.flush().await.unwrap();
        let third = Parts::of(&blobs, id, Claim { worker: 1, number: 3 }).await.unwrap();
        assert_eq!((third.counts().completed, third.counts().failed), (2, 1));
        for (parts, output, errors) in [(&second, "{\"a b\":\"c d\"}\n", "{}\n{\"n\":3}\n"), (&third, "{\"a b\":\"c d\"}\nlost\n", "{}\n")]
        {
            assert_eq!(text(parts, FilePurpose::BatchOutput).await, output);
            assert_eq!(text(parts, FilePurpose::BatchErrors).await, errors);
        }
    }
}

//! What of a partition is finished: a contiguous watermark, and what above it is not finished yet.

use std::collections::{BTreeMap, VecDeque};

use crate::time::Time;

/// A record's place in its partition. Grows along the partition; need not be contiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The smallest offset behind this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// Most unfinished offsets that a [`Progress`] names; keeps its bytes under Kafka's 4 KiB of commit metadata.
pub const MAX_NAMED: usize = 320;

/// Everything below `from` is finished; so is everything below `to`, except the `unfinished`.
///
/// A new owner of the partition reads on at `from` and skips what is finished, so that one slow delivery
/// makes nobody send the thousands behind it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where reading goes on.
    pub from: Offset,
    /// Where knowledge ends; never below `from`.
    pub to: Offset,
    /// What lies between the two and is not finished, in ascending order; at most [`MAX_NAMED`].
    pub unfinished: Vec<Offset>,
}

/// The bytes are no [`Progress`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the committed progress can't be read: {0}")]
pub struct ProgressError(&'static str);

impl Progress {
    /// Whether `offset` was finished when this was committed.
    pub fn is_finished(&self, offset: Offset) -> bool {
        offset < self.from || (offset < self.to && self.unfinished.binary_search(&offset).is_err())
    }

    /// Compact bytes: LEB128 of `from`, the way to `to`, and the gaps between the unfinished.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 3 * self.unfinished.len());
        put(&mut out, self.from.0);
        put(&mut out, self.to.0 - self.from.0);
        let mut last = self.from.0;
        for offset in &self.unfinished {
            put(&mut out, offset.0 - last);
            last = offset.0;
        }
        out
    }

    /// Reads what [`Progress::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Progress, ProgressError> {
        let from = take(&mut bytes)?;
        let to = from.checked_add(take(&mut bytes)?).ok_or(ProgressError("the end overflows"))?;
        let mut unfinished = Vec::new();
        let mut last = from;
        while !bytes.is_empty() {
            let offset = last.checked_add(take(&mut bytes)?).ok_or(ProgressError("an offset overflows"))?;
            if offset >= to || unfinished.len() == MAX_NAMED || (offset == last && !unfinished.is_empty()) {
                return Err(ProgressError("an offset is out of place"));
            }
            unfinished.push(Offset(offset));
            last = offset;
        }
        Ok(Progress { from: Offset(from), to: Offset(to), unfinished })
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, ProgressError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(ProgressError("it ends early"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProgressError("a number is too long"))
}

/// Follows the offsets of one partition from arrival to finish. `I` names what a record brought.
///
/// Invariant: `progress()` calls an offset finished only if it was given to `finish`, was never read, or
/// was finished before this owner took over.
#[derive(Debug)]
pub struct Offsets<I> {
    /// What is not finished; `None` for what a former owner left and that is still to be read again.
    unfinished: BTreeMap<Offset, Option<Arrival<I>>>,
    /// Of these, what is still to be read again, in order.
    left: VecDeque<Offset>,
    /// Behind the newest offset read.
    end: Offset,
    /// Behind the newest offset that `overdue` has handed out.
    swept: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Arrival<I> {
    at: Time,
    id: I,
}

impl<I: Copy> Offsets<I> {
    /// Starts where a former owner stopped.
    pub fn new(progress: &Progress) -> Offsets<I> {
        let unfinished = progress.unfinished.iter().map(|offset| (*offset, None)).collect();
        let left = progress.unfinished.iter().copied().collect();
        Offsets { unfinished, left, end: progress.to, swept: progress.from }
    }

    /// Notes that the record at `offset` was read at `now`, brought `id`, and is now this owner's to finish.
    pub fn start(&mut self, offset: Offset, id: I, now: Time) {
        // Reading goes in order: what a former owner left before this is in the log no more.
        while let Some(left) = self.left.pop_front_if(|left| *left <= offset) {
            self.unfinished.remove(&left);
        }
        self.unfinished.insert(offset, Some(Arrival { at: now, id }));
        self.end = self.end.max(offset.next());
    }

    /// Notes that the record at `offset` is finished, or safe in the backlog.
    pub fn finish(&mut self, offset: Offset) {
        self.unfinished.remove(&offset);
    }

    /// Whether the record at `offset` is not finished.
    pub fn is_unfinished(&self, offset: Offset) -> bool {
        self.unfinished.contains_key(&offset)
    }

    /// How many offsets this owner has read and not finished. What a former owner left counts once it is read again.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len() - self.left.len()
    }

    /// When the oldest of what `overdue` has not handed out was read.
    pub fn oldest(&self) -> Option<Time> {
        self.unfinished.range(self.swept..).next().and_then(|(_, arrival)| arrival.map(|a| a.at))
    }

    /// The next that was read at or before `before` and is not finished; each is handed out once.
    pub fn overdue(&mut self, before: Time) -> Option<(Offset, I)> {
        let (offset, arrival) = self.unfinished.range(self.swept..).next()?;
        let arrival = (*arrival)?;
        if arrival.at > before {
            return None;
        }
        let found = (*offset, arrival.id);
        self.swept = offset.next();
        Some(found)
    }

    /// What may be committed now.
    pub fn progress(&self) -> Progress {
        let mut offsets = self.unfinished.keys().copied();
        let unfinished: Vec<Offset> = offsets.by_ref().take(MAX_NAMED).collect();
        let from = unfinished.first().copied().unwrap_or(self.end);
        let to = offsets.next().unwrap_or(self.end);
        Progress { from, to, unfinished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeliveryId, EndpointId, Uid};

    fn start(offsets: &mut Offsets<DeliveryId>, offset: u64, at: u64) {
        let id = DeliveryId { event: Uid(u128::from(offset)), endpoint: EndpointId(Uid(0)) };
        offsets.start(Offset(offset), id, Time(at));
    }

    #[test]
    fn overdue_offsets_are_handed_out_once_and_in_order() {
        let mut offsets = Offsets::new(&Progress::default());
        for (offset, at) in [(1, 10), (2, 10), (3, 20)] {
            start(&mut offsets, offset, at);
        }
        offsets.finish(Offset(1));
        assert_eq!(offsets.oldest(), Some(Time(10)));
        assert_eq!(offsets.overdue(Time(15)).map(|(offset, _)| offset), Some(Offset(2)));
        assert_eq!(offsets.overdue(Time(15)), None);
        assert_eq!(offsets.oldest(), Some(Time(20)));
    }

    #[test]
    fn what_was_left_and_is_gone_from_the_log_holds_nothing_up() {
        let unfinished = [3, 5, 9].map(Offset).to_vec();
        let mut offsets = Offsets::new(&Progress { from: Offset(3), to: Offset(10), unfinished });
        start(&mut offsets, 5, 20);
        assert_eq!(offsets.overdue(Time(20)).map(|(offset, _)| offset), Some(Offset(5)));
        offsets.finish(Offset(5));
        assert_eq!(offsets.progress().from, Offset(9));
        start(&mut offsets, 12, 20);
        assert_eq!((offsets.progress().from, offsets.unfinished()), (Offset(12), 1));
    }

    #[test]
    fn what_a_former_owner_left_counts_once_it_is_read_again() {
        let unfinished: Vec<Offset> = (0..100).map(Offset).collect();
        let mut offsets = Offsets::new(&Progress { from: Offset(0), to: Offset(100), unfinished });
        assert_eq!(offsets.unfinished(), 0);
        start(&mut offsets, 0, 20);
        start(&mut offsets, 3, 20);
        assert_eq!((offsets.unfinished(), offsets.progress().unfinished.len()), (2, 98));
        offsets.finish(Offset(3));
        assert_eq!((offsets.unfinished(), offsets.progress().unfinished.len()), (1, 97));
    }

    #[test]
    fn progress_names_what_is_open_and_survives_its_bytes() {
        let mut offsets = Offsets::new(&Progress::default());
        for offset in [10, 300, 301, 70_000] {
            start(&mut offsets, offset, 0);
        }
        assert_eq!(offsets.progress().from, Offset(10));
        offsets.finish(Offset(10));
        offsets.finish(Offset(301));
        let progress = offsets.progress();
        assert_eq!(progress, Progress { from: Offset(300), to: Offset(70_001), unfinished: vec![Offset(300), Offset(70_000)] });
        assert_eq!(Progress::decode(&progress.encode()), Ok(progress.clone()));
        assert!(progress.is_finished(Offset(301)) && !progress.is_finished(Offset(300)) && !progress.is_finished(Offset(70_001)));
        offsets.finish(Offset(300));
        offsets.finish(Offset(70_000));
        assert_eq!(offsets.progress().from, Offset(70_001));
    }

    #[test]
    fn a_new_owner_skips_what_was_finished_and_keeps_what_was_not() {
        let before = Progress { from: Offset(5), to: Offset(9), unfinished: vec![Offset(5), Offset(7)] };
        let mut offsets = Offsets::new(&before);
        assert_eq!(offsets.progress(), before);
        start(&mut offsets, 5, 0);
        offsets.finish(Offset(5));
        assert_eq!(offsets.progress().from, Offset(7));
    }

    #[test]
    fn too_many_open_offsets_shorten_what_is_known() {
        let mut offsets = Offsets::new(&Progress::default());
        for offset in 0..1000 {
            start(&mut offsets, offset * 1000, 0);
        }
        let progress = offsets.progress();
        assert_eq!(progress.unfinished.len(), MAX_NAMED);
        assert!(!progress.is_finished(Offset(MAX_NAMED as u64 * 1000)));
        assert!(progress.encode().len() * 4 / 3 < 4096, "as base64 it fits into Kafka's metadata");
        assert_eq!(Progress::decode(&progress.encode()), Ok(progress));
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xFF; 12], &[1, 1, 5], &[0, 9, 1, 0]] {
            assert!(Progress::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}

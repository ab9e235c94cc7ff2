//! Which stretches of the stream hold records of a topic, so that a reader of a quiet topic skips what others wrote.

use std::collections::VecDeque;

/// Stretches closer than this are one: reading over the gap costs less than remembering it.
const MERGE: u64 = 1 << 20;
/// Most stretches that are remembered.
const MOST: usize = 1024;

/// The newest stretches that hold a topic's records. Before the first of them nothing is known.
#[derive(Debug)]
pub(super) struct Extents {
    known_from: u64,
    stretches: VecDeque<(u64, u64)>,
}

impl Extents {
    /// Nothing is known of what lies before `end`.
    pub(super) fn new(end: u64) -> Extents {
        Extents { known_from: end, stretches: VecDeque::new() }
    }

    /// Notes that `start..end`, behind everything so far, holds records of the topic.
    pub(super) fn add(&mut self, start: u64, end: u64) {
        match self.stretches.back_mut() {
            Some(last) if start - last.1 <= MERGE => last.1 = end,
            Some(_) | None => self.stretches.push_back((start, end)),
        }
        if self.stretches.len() > MOST
            && let Some((_, end)) = self.stretches.pop_front()
        {
            self.known_from = end;
        }
    }

    /// Where a reader that has come to `at` finds the topic's next record, or before that; `None` when there is none.
    pub(super) fn seek(&self, at: u64) -> Option<u64> {
        if at < self.known_from {
            return Some(at);
        }
        let next = self.stretches.partition_point(|&(_, end)| end <= at);
        self.stretches.get(next).map(|&(start, _)| start.max(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_skips_what_holds_nothing_and_waits_at_the_end() {
        let mut extents = Extents::new(100);
        assert_eq!(extents.seek(0), Some(0), "unknown");
        assert_eq!(extents.seek(100), None);
        extents.add(5 * MERGE, 5 * MERGE + 10);
        extents.add(5 * MERGE + 50, 6 * MERGE);
        extents.add(9 * MERGE, 9 * MERGE + 1);
        assert_eq!(extents.seek(100), Some(5 * MERGE));
        assert_eq!(extents.seek(5 * MERGE + 20), Some(5 * MERGE + 20));
        assert_eq!(extents.seek(6 * MERGE), Some(9 * MERGE));
        assert_eq!(extents.seek(9 * MERGE + 1), None);
    }

    #[test]
    fn what_is_forgotten_is_unknown_again() {
        let mut extents = Extents::new(0);
        for i in 0..MOST as u64 + 1 {
            extents.add(i * 3 * MERGE, i * 3 * MERGE + 1);
        }
        assert_eq!(extents.stretches.len(), MOST);
        assert_eq!(extents.seek(0), Some(0));
        assert_eq!(extents.seek(1), Some(3 * MERGE));
    }
}

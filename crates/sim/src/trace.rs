//! What happened, as words for people and as a hash for comparing runs.

use std::collections::VecDeque;

use postrider_core::time::Time;

/// Lines kept for a failure.
const TAIL: usize = 60;

/// How much of a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A hash only.
    Hash,
    /// The last lines as well.
    Tail,
    /// Every line, printed as it happens.
    Printed,
}

#[derive(Debug)]
pub(crate) struct Trace {
    detail: Detail,
    start: Time,
    tail: VecDeque<String>,
    hash: u64,
}

impl Trace {
    pub(crate) fn new(detail: Detail, start: Time) -> Trace {
        Trace { detail, start, tail: VecDeque::new(), hash: 0xCBF2_9CE4_8422_2325 }
    }

    /// Notes what happened: `numbers` go into the hash (FNV-1a, by words), `words` into the lines.
    pub(crate) fn note(&mut self, now: Time, numbers: &[u64], words: impl FnOnce() -> String) {
        for number in std::iter::once(&now.0).chain(numbers) {
            self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01B3).rotate_left(23);
        }
        if self.detail == Detail::Hash {
            return;
        }
        let line = format!("{:>9} ms  {}", now.since(self.start).0, words());
        if self.detail == Detail::Printed {
            println!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

//! New event ids, in order over all threads of a process.

use std::sync::atomic::{AtomicU64, Ordering};

use postrider_core::id::Uid;
use postrider_core::rng::Rng;
use postrider_core::time::Time;

/// Makes time-ordered ids: a later call gives a larger id, whichever thread makes it.
#[derive(Debug)]
pub struct Ids {
    /// Milliseconds and a 12-bit counter, as they stand in an id.
    last: AtomicU64,
    seed: u64,
}

impl Ids {
    /// A source seeded by the operating system, so that no two processes make the same ids.
    pub fn new() -> Result<Ids, getrandom::Error> {
        Ok(Ids { last: AtomicU64::new(0), seed: getrandom::u64()? })
    }

    /// The next id. When more than 4096 are made in a millisecond, their time runs ahead a little.
    pub fn next(&self, now: Time) -> Uid {
        let floor = now.0 << 12;
        let step = |last: u64| Some(floor.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).unwrap_or_else(|last| last);
        let tick = floor.max(last + 1);
        Uid::new(Time(tick >> 12), (tick & 0xFFF) as u16, Rng::new(self.seed ^ tick.rotate_left(32)).bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let ids = Ids::new().expect("the system has randomness");
        let mut last = ids.next(Time(1000));
        for now in [1000, 1000, 999, 5, 1001].into_iter().chain(std::iter::repeat_n(1001, 10_000)) {
            let next = ids.next(Time(now));
            assert!(next > last);
            last = next;
        }
    }
}

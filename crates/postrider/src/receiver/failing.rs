//! Receivers that fail on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which requests a receiver fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failing {
    /// None.
    Never,
    /// So many from its start.
    First(u64),
    /// One in so many deliveries, at their first attempt only.
    FirstAttempts {
        /// At least 1.
        one_in: u64,
    },
}

/// Counts requests to find those that fail.
pub(crate) struct Failures {
    failing: Failing,
    seen: AtomicU64,
}

impl Failures {
    pub(crate) fn new(failing: Failing) -> Failures {
        Failures { failing, seen: AtomicU64::new(0) }
    }

    /// Whether the request that has arrived, the `attempt`th of its delivery, fails.
    pub(crate) fn next(&self, attempt: u32) -> bool {
        match self.failing {
            Failing::Never => false,
            Failing::First(count) => self.seen.fetch_add(1, Ordering::Relaxed) < count,
            Failing::FirstAttempts { .. } if attempt > 1 => false,
            Failing::FirstAttempts { one_in } => self.seen.fetch_add(1, Ordering::Relaxed) % one_in == one_in - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_where_they_were_ordered() {
        let first = Failures::new(Failing::First(2));
        assert_eq!([1, 2, 1].map(|attempt| first.next(attempt)), [true, true, false]);
        let third = Failures::new(Failing::FirstAttempts { one_in: 3 });
        assert_eq!([1, 1, 1, 2, 1].map(|attempt| third.next(attempt)), [false, false, true, false, false]);
        assert!(!Failures::new(Failing::Never).next(1));
    }
}

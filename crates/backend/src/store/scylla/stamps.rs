//! Timestamps of writes. Of two writes of one cell the one with the later timestamp counts, in whatever order they arrive.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use scylla::policies::timestamp_generator::TimestampGenerator;

/// A clock in microseconds that never gives a timestamp twice, nor one before any it has seen.
#[derive(Debug, Default)]
pub(super) struct Stamps(AtomicI64);

impl Stamps {
    /// Takes `count` timestamps in a row and returns the first.
    pub(super) fn take(&self, count: usize) -> i64 {
        let count = i64::try_from(count).expect("a batch is smaller than memory");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let after = |last: i64| now.max(last.saturating_add(1));
        let last = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last).saturating_add(count - 1)));
        after(last.unwrap_or_else(|last| last))
    }

    /// Notes the timestamp of a row that was read: who changes it next must be later, also where another machine's
    /// clock is ahead of ours.
    pub(super) fn see(&self, stamp: i64) {
        self.0.fetch_max(stamp, Ordering::Relaxed);
    }
}

impl TimestampGenerator for Stamps {
    fn next_timestamp(&self) -> i64 {
        self.take(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_grow_whatever_the_clock_does() {
        let stamps = Stamps::default();
        let first = stamps.take(10);
        assert!(stamps.take(1) >= first + 10);
        let ahead = first + 3_600_000_000;
        stamps.see(ahead);
        assert_eq!((stamps.take(5), stamps.take(1)), (ahead + 1, ahead + 6));
        stamps.see(first);
        assert_eq!(stamps.take(1), ahead + 7);
    }
}

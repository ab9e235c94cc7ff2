//! How far a reader is behind, from librdkafka's statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postrider_core::offsets::Offset;

use super::context::Standing;
use super::slot::Slot;

/// Between two measurements.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Records that the partitions of one reader are behind, together.
#[derive(Debug, Default)]
pub(super) struct Lag {
    unfinished: AtomicU64,
    unread: AtomicU64,
}

impl Lag {
    pub(super) fn unfinished(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Of these, records that no consumer has been handed.
    pub(super) fn unread(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, of_partitions: impl Iterator<Item = (u64, u64)>) {
        let (unfinished, unread) = of_partitions.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        self.unfinished.store(unfinished, Ordering::Relaxed);
        self.unread.store(unread, Ordering::Relaxed);
    }
}

/// Records of one partition that are not finished, and those of them that have not been handed out.
pub(super) fn of(slot: &Slot, standing: Standing) -> (u64, u64) {
    let read = standing.fetchq_cnt == 0 && standing.next_offset >= standing.hi_offset;
    if read && slot.is_finished() {
        // What lies between the last record and the end are markers of transactions and the like.
        return (0, 0);
    }
    let oldest = u64::try_from(standing.lo_offset).unwrap_or(0);
    let behind = |place: Offset| u64::try_from(standing.hi_offset).unwrap_or(0).saturating_sub(place.0.max(oldest));
    let unread = if read { 0 } else { behind(slot.next()) };
    (behind(slot.position()), unread)
}

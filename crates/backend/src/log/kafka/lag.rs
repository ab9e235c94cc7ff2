//! How far a reader is behind, from librdkafka's statistics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::context::Standing;
use super::slot::Slot;

/// Between two measurements.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Records that the partitions of one reader are behind, together.
#[derive(Debug, Default)]
pub(super) struct Lag(AtomicU64);

impl Lag {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, records: u64) {
        self.0.store(records, Ordering::Relaxed);
    }
}

/// Records of one partition that are not finished.
pub(super) fn of(slot: &Slot, standing: Standing) -> u64 {
    let read = standing.fetchq_cnt == 0 && standing.next_offset >= standing.hi_offset;
    if read && slot.is_finished() {
        // What lies between the last record and the end are markers of transactions and the like.
        return 0;
    }
    let oldest = u64::try_from(standing.lo_offset).unwrap_or(0);
    u64::try_from(standing.hi_offset).unwrap_or(0).saturating_sub(slot.position().0.max(oldest))
}

//! The wall clock, made to never go backwards within the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use postrider_core::time::Time;

pub(in crate::log) fn now() -> Time {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    // A clock before 1970 reads as 1970.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Time(LATEST.fetch_max(now, Ordering::Relaxed).max(now))
}

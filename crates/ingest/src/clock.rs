//! The wall clock, read where IO is allowed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use postrider_core::time::Time;

/// The latest instant handed out by this process.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The present instant. Never goes backwards within a process, even when the machine's clock is set back.
pub fn now() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    Time(LATEST.fetch_max(millis, Ordering::Relaxed).max(millis))
}

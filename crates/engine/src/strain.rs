//! Whether a worker's thread has time to spare.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tokio::time::Instant;

/// What one look covers.
const SPAN: Duration = Duration::from_millis(100);
/// A thread that ran, or could have run, for so much of the time has none to spare.
const FULL: f64 = 0.95;
/// Nor has one that waited for a processor for so much of it: others use them all.
const CROWDED: f64 = 0.25;

/// So many looks in a row must find time before it has time again: work comes in bursts.
const EASE: u32 = 10;

/// How busy the thread is, as the kernel counts it. Where it does not, the thread always has time.
pub(crate) struct Strain {
    stat: Option<File>,
    looked: Instant,
    used: Used,
    is_full: bool,
    /// Looks in a row that found time.
    eased: u32,
}

/// What a thread had of the processors since it began.
#[derive(Clone, Copy, Default)]
struct Used {
    ran: Duration,
    waited: Duration,
}

impl Strain {
    /// Watches the thread that calls this.
    pub(crate) fn of_this_thread() -> Strain {
        let stat = File::open("/proc/thread-self/schedstat").ok();
        let used = stat.as_ref().and_then(used).unwrap_or_default();
        Strain { stat, looked: Instant::now(), used, is_full: false, eased: 0 }
    }

    /// Whether it was short of time when last looked at.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether it has become short of time, or has time again; `None` while nothing changes.
    pub(crate) fn change(&mut self) -> Option<bool> {
        let now = Instant::now();
        let passed = now - self.looked;
        if passed < SPAN {
            return None;
        }
        let used = used(self.stat.as_ref()?)?;
        let share = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
        let (ran, waited) = (share(used.ran, self.used.ran), share(used.waited, self.used.waited));
        let is_easy = ran + waited < FULL && waited < CROWDED;
        self.eased = if is_easy { self.eased.saturating_add(1) } else { 0 };
        let is_full = self.eased == 0 || self.is_full && self.eased < EASE;
        (self.looked, self.used) = (now, used);
        (is_full != self.is_full).then(|| {
            self.is_full = is_full;
            is_full
        })
    }
}

/// How long the thread ran, and how long it was ready to (proc(5): schedstat, in nanoseconds).
fn used(stat: &File) -> Option<Used> {
    let mut bytes = [0; 64];
    let read = stat.read_at(&mut bytes, 0).ok()?;
    let mut numbers = std::str::from_utf8(&bytes[..read]).ok()?.split_ascii_whitespace();
    let mut next = || numbers.next()?.parse().ok().map(Duration::from_nanos);
    Some(Used { ran: next()?, waited: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_never_rests_is_short_of_time_until_it_rests() {
        let mut strain = Strain::of_this_thread();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut until = |wanted: bool, pass: fn()| {
            while strain.change() != Some(wanted) {
                assert!(Instant::now() < deadline, "never {wanted}");
                pass();
            }
        };
        until(true, std::hint::spin_loop);
        until(false, || std::thread::sleep(Duration::from_millis(20)));
    }
}

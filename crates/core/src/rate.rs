//! An endpoint's own rate limit.

use crate::time::Time;

/// How far ahead of its steady pace a limit lets a burst run, in microseconds: what a timer of 1 ms may be late, tenfold.
const SLACK: u64 = 10_000;

/// A token bucket in the form of a virtual schedule (GCRA, ITU-T I.371): at most `rate` a second, evenly spaced,
/// so that no window of one second ever sees more than `rate` and a hundredth.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Between two attempts, in microseconds.
    interval: u64,
    /// When the next attempt is due by the steady pace, in microseconds.
    next: u64,
}

impl Rate {
    /// A limit of `rate` attempts a second; at least 1.
    pub fn new(rate: u32) -> Rate {
        Rate { interval: 1_000_000 / u64::from(rate.max(1)), next: 0 }
    }

    /// When the next attempt may start; at or before `now` when it may start at once.
    pub fn ready_at(&self) -> Time {
        let slack = if self.interval >= SLACK { 0 } else { SLACK };
        Time(self.next.saturating_sub(slack).div_ceil(1000))
    }

    /// Notes an attempt at `now`.
    pub fn take(&mut self, now: Time) {
        self.next = self.next.max(now.0 * 1000) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn no_second_ever_sees_more_than_the_rate_and_a_hundredth() {
        for limit in [1_u32, 3, 7, 100, 999, 5_000] {
            let mut rate = Rate::new(limit);
            let mut sent: VecDeque<u64> = VecDeque::new();
            let mut total = 0_u32;
            for now in 0..10_000_u64 {
                while rate.ready_at() <= Time(now) {
                    rate.take(Time(now));
                    sent.push_back(now);
                    total += 1;
                }
                while sent.front().is_some_and(|first| first + 1000 <= now) {
                    sent.pop_front();
                }
                assert!(sent.len() <= (limit + limit.div_ceil(100)) as usize, "{} at {now} for {limit}", sent.len());
            }
            assert!(total >= limit * 10 * 98 / 100, "{total} for {limit}: the limit is used");
        }
    }
}

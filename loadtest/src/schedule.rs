//! When requests are due, whatever the server does.

use std::time::Duration;

use crate::clock::Micros;
use crate::ledger::MAX_EVENTS;
use crate::values::Rate;

/// The requests of a run: each carries a batch of events that are due together.
pub(crate) struct Schedule {
    rate: Rate,
    batch: u64,
    end: Micros,
    /// Requests that there are at most.
    most: u64,
    taken: u64,
}

impl Schedule {
    /// Requests of `batch` events at `rate` events a second from 0 until `length` has passed.
    pub(crate) fn new(rate: Rate, batch: usize, length: Duration) -> Schedule {
        Schedule { rate, batch: batch as u64, end: Micros(0) + length, most: MAX_EVENTS / batch as u64, taken: 0 }
    }

    /// Requests of `batch` events, each as soon as it can be sent, until there are `events`; the last may exceed that.
    pub(crate) fn filling(events: u64, batch: usize) -> Schedule {
        let most = events.div_ceil(batch as u64).min(MAX_EVENTS / batch as u64);
        Schedule { rate: Rate::Max, batch: batch as u64, end: Micros(u64::MAX), most, taken: 0 }
    }

    /// When the next request is due, which may have passed; `None` after the last one.
    pub(crate) fn next(&self, now: Micros) -> Option<Micros> {
        let due = match self.rate {
            Rate::PerSecond(rate) => self.due(self.taken, rate),
            Rate::Max => now,
        };
        (due < self.end && self.taken < self.most).then_some(due)
    }

    /// The next request is being sent.
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    /// Nothing more is due.
    pub(crate) fn stop(&mut self) {
        self.end = Micros(0);
    }

    /// Events that are due at `now` and have not been taken.
    pub(crate) fn overdue(&self, now: Micros) -> u64 {
        match self.rate {
            Rate::PerSecond(rate) => {
                let Some(end) = self.end.0.checked_sub(1) else { return 0 };
                let last = now.min(Micros(end));
                let due = last.0 * u64::from(rate) / (self.batch * 1_000_000) + 1;
                due.saturating_sub(self.taken) * self.batch
            }
            Rate::Max => 0,
        }
    }

    fn due(&self, request: u64, rate: u32) -> Micros {
        // Rounded up, so that `overdue` never counts a request that `next` says is not due yet.
        Micros((request * self.batch * 1_000_000).div_ceil(u64::from(rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_is_due_by_the_clock_and_ends() {
        let mut schedule = Schedule::new(Rate::PerSecond(1_000), 10, Duration::from_millis(30));
        for due in [0, 10_000, 20_000] {
            assert_eq!(schedule.next(Micros(999_999)), Some(Micros(due)));
            schedule.take();
        }
        assert_eq!(schedule.next(Micros(0)), None);
    }

    #[test]
    fn what_is_overdue_agrees_with_what_is_next() {
        for rate in [3, 700, 20_000] {
            let mut schedule = Schedule::new(Rate::PerSecond(rate), 1, Duration::from_secs(1));
            for now in (0..1_500_000).step_by(777).map(Micros) {
                let mut due = 0;
                let before = schedule.overdue(now);
                while schedule.next(now).is_some_and(|next| next <= now) {
                    schedule.take();
                    due += 1;
                }
                assert_eq!((before, schedule.overdue(now)), (due, 0), "rate {rate} at {now:?}");
            }
            assert_eq!(schedule.taken, u64::from(rate));
        }
    }

    #[test]
    fn nothing_is_due_once_it_was_stopped() {
        let mut schedule = Schedule::new(Rate::PerSecond(10), 1, Duration::from_secs(1));
        schedule.stop();
        assert_eq!((schedule.next(Micros(0)), schedule.overdue(Micros(5_000_000))), (None, 0));
    }

    #[test]
    fn a_filling_ends_with_its_last_event() {
        let mut schedule = Schedule::filling(25, 10);
        for _ in 0..3 {
            assert_eq!(schedule.next(Micros(7)), Some(Micros(7)));
            schedule.take();
        }
        assert_eq!(schedule.next(Micros(7)), None);
    }

    #[test]
    fn a_closed_loop_is_always_due_until_it_ends() {
        let schedule = Schedule::new(Rate::Max, 1, Duration::from_secs(1));
        assert_eq!(schedule.next(Micros(5)), Some(Micros(5)));
        assert_eq!(schedule.next(Micros(1_000_000)), None);
        assert_eq!(schedule.overdue(Micros(500)), 0);
    }
}

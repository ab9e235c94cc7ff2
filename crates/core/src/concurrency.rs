//! How many attempts an endpoint can bear at one time, found by trying.

use crate::time::Time;

/// Attempts at one time before anything is known.
const START: f64 = 4.0;

/// Additive increase, multiplicative decrease; doubling per round until the first sign of overload.
#[derive(Clone, Debug)]
pub struct Concurrency {
    limit: f64,
    /// Whether no overload was met yet: growth is fast.
    fresh: bool,
    /// Signs of overload from attempts started before this belong to the decrease that was made then.
    cut_at: Time,
}

impl Concurrency {
    /// A limit for an endpoint nothing is known of.
    pub fn new() -> Concurrency {
        Concurrency { limit: START, fresh: true, cut_at: Time(0) }
    }

    /// A limit for an endpoint that comes back after an outage: one at a time, then growing.
    pub fn recovering() -> Concurrency {
        Concurrency { limit: 1.0, fresh: true, cut_at: Time(0) }
    }

    /// Attempts that may be in flight; at least one, at most `most`.
    pub fn limit(&self, most: u16) -> usize {
        (self.limit as usize).clamp(1, usize::from(most))
    }

    /// Notes a success; the limit grows up to `most`.
    pub fn succeeded(&mut self, most: u16) {
        self.limit += if self.fresh { 1.0 } else { 1.0 / self.limit };
        self.limit = self.limit.min(f64::from(most));
    }

    /// Notes a sign of overload from an attempt started at `started`: halves once per round of attempts.
    pub fn overloaded(&mut self, started: Time, now: Time) {
        if started >= self.cut_at {
            self.limit = (self.limit / 2.0).max(1.0);
            self.fresh = false;
            self.cut_at = now;
        }
    }
}

impl Default for Concurrency {
    fn default() -> Concurrency {
        Concurrency::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_the_most_and_halves_once_a_round() {
        let mut slots = Concurrency::new();
        for _ in 0..200 {
            slots.succeeded(64);
        }
        assert_eq!(slots.limit(64), 64);
        for _ in 0..64 {
            slots.overloaded(Time(5), Time(10)); // one round of attempts, all started before the first cut
        }
        assert_eq!(slots.limit(64), 32);
        slots.overloaded(Time(11), Time(12));
        assert_eq!(slots.limit(64), 16);
    }

    #[test]
    fn it_never_falls_below_one() {
        let mut slots = Concurrency::recovering();
        for at in 0..10 {
            slots.overloaded(Time(at * 2), Time(at * 2 + 1));
        }
        assert_eq!(slots.limit(64), 1);
    }
}

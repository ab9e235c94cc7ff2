//! How many deliveries an endpoint takes in a second.

use crate::time::{Millis, Time};

/// The span in which successes are counted.
const SPAN: Millis = Millis::from_secs(1);

/// Successes of the present span and of the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The number of the span in which the latest success was.
    span: u64,
    count: usize,
    before: usize,
}

impl Pace {
    /// Notes a success.
    pub(crate) fn succeeded(&mut self, now: Time) {
        let span = now.0 / SPAN.0;
        match span.saturating_sub(self.span) {
            0 => self.count += 1,
            1 => *self = Pace { span, count: 1, before: self.count },
            _ => *self = Pace { span, count: 1, before: 0 },
        }
    }

    /// Successes of the better of the last two spans; none are older than two seconds.
    pub(crate) fn at(self, now: Time) -> usize {
        match (now.0 / SPAN.0).saturating_sub(self.span) {
            0 => self.count.max(self.before),
            1 => self.count,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_that_of_the_last_two_spans() {
        let mut pace = Pace::default();
        for at in [5_000, 5_300, 5_999] {
            pace.succeeded(Time(at));
        }
        assert_eq!(pace.at(Time(5_999)), 3);
        pace.succeeded(Time(6_500));
        assert_eq!((pace.at(Time(6_999)), pace.at(Time(7_999)), pace.at(Time(8_000))), (3, 1, 0));
        pace.succeeded(Time(9_000));
        assert_eq!(pace.at(Time(9_000)), 1);
    }
}

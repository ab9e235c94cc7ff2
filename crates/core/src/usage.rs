//! What a tenant has used of its month, and what is to be told of that.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// From this share of the limit on the tenant is warned, in percent.
pub const WARNING: u64 = 80;

/// What is told of a tenant's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It comes near its limit.
    Warning,
    /// It has reached its limit.
    Exceeded,
}

impl Alarm {
    /// As an event's type.
    pub fn name(self) -> &'static str {
        match self {
            Alarm::Warning => "usage.limit_warning",
            Alarm::Exceeded => "usage.limit_exceeded",
        }
    }
}

/// What there was to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it came about.
    pub at: Time,
    /// What was used by then.
    pub tokens: u64,
    /// What was allowed then.
    pub limit: u64,
    /// Whether it is known to have been told.
    told: bool,
}

/// What one tenant has used in one month.
///
/// Whoever changes it writes the new one in the place of the one it has read, and tells what is [untold](Month::untold) after that;
/// so it is told by whoever comes next, should the first die in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// Tokens of what was asked and answered.
    pub tokens: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warning: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exceeded: Option<Mark>,
}

impl Month {
    /// As it is once `tokens` more are used, of which `limit` are allowed in all.
    ///
    /// Each alarm is there to be told once; again only for a higher limit.
    pub fn with(&self, tokens: u64, limit: u64, now: Time) -> Month {
        let mut month = Month { tokens: self.tokens.saturating_add(tokens), ..self.clone() };
        let alarm = match percentage(month.tokens, limit) {
            100.. => &mut month.exceeded,
            WARNING.. => &mut month.warning,
            _ => return month,
        };
        if alarm.as_ref().is_none_or(|mark| mark.limit < limit) {
            *alarm = Some(Mark { at: now, tokens: month.tokens, limit, told: false });
        }
        month
    }

    /// Whether nothing is left of the limit.
    pub fn is_used_up(&self, limit: u64) -> bool {
        self.tokens >= limit
    }

    /// What is not known to have been told.
    pub fn untold(&self) -> impl Iterator<Item = (Alarm, &Mark)> {
        let marks = [(Alarm::Warning, &self.warning), (Alarm::Exceeded, &self.exceeded)];
        marks.into_iter().filter_map(|(alarm, mark)| Some((alarm, mark.as_ref().filter(|mark| !mark.told)?)))
    }

    /// As it is once what was untold as it was `seen` has been told. What came about since then has not.
    pub fn told(&self, seen: &Month) -> Month {
        let told = |mark: &Option<Mark>, seen: &Option<Mark>| {
            let is_seen = mark == seen;
            mark.clone().map(|mark| Mark { told: mark.told || is_seen, ..mark })
        };
        Month { tokens: self.tokens, warning: told(&self.warning, &seen.warning), exceeded: told(&self.exceeded, &seen.exceeded) }
    }
}

impl Mark {
    /// How much of the limit was used, in whole percent.
    pub fn percentage(&self) -> u64 {
        percentage(self.tokens, self.limit)
    }
}

fn percentage(tokens: u64, limit: u64) -> u64 {
    let share = u128::from(tokens) * 100 / u128::from(limit.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn untold(month: &Month) -> Vec<(Alarm, u64, u64)> {
        month.untold().map(|(alarm, mark)| (alarm, mark.tokens, mark.percentage())).collect()
    }

    fn told(month: &Month) -> Month {
        month.told(month)
    }

    #[test]
    fn what_another_adds_while_one_tells_is_untold() {
        let seen = Month::default().with(900, 1000, Time(1));
        let other = seen.with(100, 1000, Time(2));
        assert_eq!(untold(&other.told(&seen)), [(Alarm::Exceeded, 1000, 100)]);
        assert_eq!(untold(&other.told(&other)), []);
    }

    #[test]
    fn an_alarm_stays_until_it_is_told_and_is_not_raised_twice() {
        let month = Month::default().with(799, 1000, Time(1));
        assert_eq!(untold(&month), []);
        let month = month.with(151, 1000, Time(2)).with(20, 1000, Time(3));
        assert_eq!(untold(&month), [(Alarm::Warning, 950, 95)]);
        let month = told(&month).with(29, 1000, Time(4));
        assert_eq!((untold(&month), month.is_used_up(1000)), (vec![], false));
        let month = month.with(1, 1000, Time(5)).with(7, 1000, Time(6));
        assert_eq!((untold(&month), month.is_used_up(1000)), (vec![(Alarm::Exceeded, 1000, 100)], true));
        assert_eq!(untold(&told(&month).with(5000, 1000, Time(7))), []);
    }

    #[test]
    fn a_limit_that_is_raised_is_another_one_that_is_lowered_is_not() {
        let month = Month::default().with(1000, 1000, Time(1));
        let month = told(&month);
        let raised = month.with(700, 2000, Time(2));
        assert_eq!((untold(&raised), raised.is_used_up(2000)), (vec![(Alarm::Warning, 1700, 85)], false));
        let raised = raised.with(300, 2000, Time(3));
        let raised = told(&raised);
        // Two processes whose limits differ, as in the middle of an upgrade.
        for limit in [1000, 2000, 1000] {
            assert_eq!(untold(&raised.with(1, limit, Time(4))), []);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_steps_the_limit_is_told_once_it_is_reached(steps in prop::collection::vec(0_u64..400, 0..30), limit in 1_u64..2000) {
            let (mut month, mut alarms) = (Month::default(), Vec::new());
            for (step, at) in steps.iter().zip(0..) {
                month = month.with(*step, limit, Time(at));
                alarms.extend(untold(&month).into_iter().map(|(alarm, ..)| alarm));
                month = told(&month);
            }
            prop_assert_eq!(month.tokens, steps.iter().sum::<u64>());
            prop_assert_eq!(alarms.contains(&Alarm::Exceeded), month.is_used_up(limit));
            prop_assert!(alarms.len() <= 2 && (alarms.first() != Some(&Alarm::Exceeded) || alarms.len() == 1));
        }
    }
}

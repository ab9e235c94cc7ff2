//! When a failed delivery is tried again.

use crate::rng::Rng;
use crate::time::Millis;

/// Seconds after the previous attempt; after the last one a failure is final (about three days in all).
pub const DEFAULT_SCHEDULE: [u64; 11] = [1, 3, 30, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// The longest `Retry-After` that is honoured.
pub const MAX_RETRY_AFTER: Millis = Millis::from_secs(86_400);

/// Share by which each delay is stretched or shortened, so that failures of one moment spread out.
const JITTER: f64 = 0.2;

/// The delay before the next attempt once `failed` attempts have failed, or `None` when that was the last.
///
/// `retry_after` is what the receiver asked for; the delay is never shorter, up to [`MAX_RETRY_AFTER`].
pub fn delay(schedule: &[Millis], failed: u32, retry_after: Option<Millis>, rng: &mut Rng) -> Option<Millis> {
    let index = usize::try_from(failed.checked_sub(1)?).ok()?;
    let planned = schedule.get(index)?.scaled(1.0 + JITTER * (2.0 * rng.fraction() - 1.0));
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    Some(planned.max(asked))
}

/// How long a delivery may wait in all before it is given up unsent: the schedule at its longest, and a day's grace.
pub fn horizon(schedule: &[Millis]) -> Millis {
    let total = schedule.iter().fold(Millis(0), |sum, delay| sum + *delay);
    total.scaled(1.0 + JITTER) + Millis::from_secs(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_follow_the_schedule_within_a_fifth_and_end() {
        let schedule: Vec<Millis> = DEFAULT_SCHEDULE.map(Millis::from_secs).to_vec();
        let mut rng = Rng::new(1);
        for (i, planned) in schedule.iter().enumerate() {
            let delay = delay(&schedule, i as u32 + 1, None, &mut rng).expect("within the schedule");
            assert!(delay >= planned.scaled(0.8) && delay <= planned.scaled(1.2), "{delay:?} for {planned:?}");
        }
        assert_eq!(delay(&schedule, 12, None, &mut rng), None);
    }

    #[test]
    fn retry_after_is_a_lower_bound_with_a_cap() {
        let schedule = [Millis::from_secs(1)];
        let mut rng = Rng::new(1);
        assert_eq!(delay(&schedule, 1, Some(Millis::from_secs(60)), &mut rng), Some(Millis::from_secs(60)));
        assert_eq!(delay(&schedule, 1, Some(Millis::from_secs(1_000_000)), &mut rng), Some(MAX_RETRY_AFTER));
        assert!(delay(&schedule, 1, Some(Millis(1)), &mut rng).expect("first") >= Millis(800));
    }
}

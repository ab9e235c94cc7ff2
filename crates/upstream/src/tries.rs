//! When what failed is tried again.

use std::time::Duration;

use crate::error::UpstreamError;

/// The longest first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait of our own choice.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest wait of the upstream's choice.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts the tries of one request.
pub(crate) struct Tries {
    made: u32,
    most: u32,
}

impl Tries {
    pub(crate) fn new(most: u32) -> Tries {
        Tries { made: 0, most }
    }

    /// How long to wait after `error` before the next try, if there is to be one. `chance` lies between 0 and 1.
    pub(crate) fn after(&mut self, error: &UpstreamError, chance: f64) -> Option<Duration> {
        self.made += 1;
        if self.made >= self.most || !error.may_pass() {
            return None;
        }
        let own = FIRST.saturating_mul(1 << (self.made - 1).min(16)).min(LONGEST).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        Some(own.max(error.retry_after().unwrap_or_default().min(PATIENCE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(secs: u64) -> UpstreamError {
        UpstreamError::RateLimited { message: String::new(), retry_after: Some(Duration::from_secs(secs)) }
    }

    #[test]
    fn waits_grow_are_bounded_and_heed_what_the_upstream_asks() {
        let cut = UpstreamError::Cut(String::new());
        let mut tries = Tries::new(10);
        let waits: Vec<u128> = (0..9).map(|_| tries.after(&cut, 1.0).unwrap().as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000]);
        assert_eq!(tries.after(&cut, 1.0), None);
        assert_eq!(Tries::new(2).after(&cut, 0.0), Some(Duration::from_millis(250)));
        assert_eq!(Tries::new(2).after(&limited(7), 0.0), Some(Duration::from_secs(7)));
        assert_eq!(Tries::new(2).after(&limited(7000), 0.0), Some(PATIENCE));
        assert_eq!(Tries::new(9).after(&UpstreamError::TooLarge(1), 0.0), None);
    }
}

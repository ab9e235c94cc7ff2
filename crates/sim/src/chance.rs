//! Chance, from a seed.

use postrider_core::rng::Rng;
use postrider_core::time::Millis;

/// Draws for plans and worlds; repeats itself for the same seed.
#[derive(Clone, Debug)]
pub struct Chance(Rng);

impl Chance {
    /// Draws that follow from `seed`.
    pub fn new(seed: u64) -> Chance {
        Chance(Rng::new(seed))
    }

    /// True in `share` of all draws.
    pub fn hits(&mut self, share: f64) -> bool {
        self.0.fraction() < share
    }

    /// A number from 0 up to, not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0.fraction()
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high.saturating_sub(low) + 1)
    }

    /// A span from `low` to `high`, both included.
    pub fn span(&mut self, low: u64, high: u64) -> Millis {
        Millis(self.between(low, high))
    }

    /// An index below `bound`, which is not 0.
    pub fn index(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// One of `from`, which is not empty.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())].clone()
    }

    /// A span in µs until the next of events that come independently, `mean` apart.
    pub(crate) fn gap(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.0.fraction()).ln() * mean) as u64
    }

    /// A number that lies below `median` as often as above it, and whose logarithm is normal with this deviation.
    pub(crate) fn around(&mut self, median: f64, deviation: f64) -> f64 {
        let (radius, angle) = ((-2.0 * (1.0 - self.0.fraction()).ln()).sqrt(), std::f64::consts::TAU * self.0.fraction());
        median * (deviation * radius * angle.cos()).exp()
    }

    /// A seed for something of its own.
    pub fn seed(&mut self) -> u64 {
        self.0.bits()
    }
}

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

    /// A seed for something of its own.
    pub fn seed(&mut self) -> u64 {
        self.0.bits()
    }
}

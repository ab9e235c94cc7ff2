//! What goes in: a candidate and what it is measured against.

use crate::limit::{MAX_BYTES, MAX_STEPS};
use crate::metric::Metric;

/// One text to be judged, and one or more that it ought to be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// The text to be judged; may be empty.
    pub candidate: String,
    /// At least one; each may be empty.
    pub references: Vec<String>,
}

/// Why a pair has no scores. `pair` counts the pairs that this evaluation took before it, from 0.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PairError {
    /// There is nothing to compare with.
    #[error("pair {pair} has no reference; give it one or more")]
    NoReference {
        /// Which pair.
        pair: u64,
    },
    /// A text is above [`MAX_BYTES`].
    #[error("pair {pair} has a text of {bytes} bytes; the most is {MAX_BYTES}")]
    TooLong {
        /// Which pair.
        pair: u64,
        /// How long its longest text is.
        bytes: usize,
    },
    /// The texts are too long for a metric whose cost is that of their product: above [`MAX_STEPS`].
    #[error("pair {pair} is too long for {metric}: {steps} steps, the most is {MAX_STEPS}; shorten its texts or leave out {metric}")]
    TooCostly {
        /// Which pair.
        pair: u64,
        /// The first metric that would take too long.
        metric: Metric,
        /// What it would take.
        steps: u64,
    },
}

impl Pair {
    /// Refuses what no metric takes.
    pub(crate) fn check(&self, pair: u64) -> Result<(), PairError> {
        if self.references.is_empty() {
            return Err(PairError::NoReference { pair });
        }
        let longest = self.references.iter().map(String::len).fold(self.candidate.len(), usize::max);
        if longest > MAX_BYTES { Err(PairError::TooLong { pair, bytes: longest }) } else { Ok(()) }
    }
}

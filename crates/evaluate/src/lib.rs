//! Metrics of how close texts are to references: BLEU, chrF, TER, ROUGE, exact match and F1, edit distance and error rates.
//!
//! For judging the results of a batch. Every number is the one the metric's reference implementation gives (sacrebleu,
//! rouge-score, the SQuAD v1.1 script, jiwer) with its defaults, to 1e-6; `tests/reference` has their numbers for a thousand
//! pairs in many scripts, and what makes them.
//!
//! Architecture invariant: pure computation. No IO, clock, threads or async; the same pairs give the same scores. Memory is
//! bounded by the pair at hand, time by [`MAX_STEPS`]: no text, however made, takes more than seconds.
//!
//! Read [`Evaluation`] and [`Metric`] first.

mod beam;
mod bleu;
mod chrf;
mod edit;
mod evaluation;
mod lcs;
mod limit;
mod metric;
mod mteval;
mod ngrams;
mod pair;
mod rates;
mod rouge;
mod scores;
mod squad;
mod stem;
mod tally;
mod ter;
mod tokens;

pub use evaluation::{Evaluation, Mismatch, Options};
pub use limit::{MAX_BYTES, MAX_STEPS};
pub use metric::{Metric, UnknownMetric};
pub use pair::{Pair, PairError};
pub use rouge::{Rouge, Stemming};
pub use scores::{Score, Scores};

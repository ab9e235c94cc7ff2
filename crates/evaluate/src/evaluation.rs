//! Scoring pairs one after the other, and the corpus they make up.

use crate::bleu::Orders;
use crate::metric::Metric;
use crate::pair::{Pair, PairError};
use crate::rouge::Stemming;
use crate::scores::Scores;
use crate::tally::Tally;

/// How metrics are computed, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// For the metrics of ROUGE.
    pub stemming: Stemming,
}

/// Scores pairs and keeps what the corpus's scores need: a few hundred bytes, however many pairs there are.
///
/// Invariant: what it holds depends on the pairs it scored, not on how they were split among merged evaluations (sums of
/// fractions to within rounding).
///
/// ```
/// use postrider_evaluate::{Evaluation, Metric, Options, Pair, Score};
///
/// let mut evaluation = Evaluation::new(Metric::parse("wer")?.iter().copied(), Options::default());
/// for (candidate, reference) in [("the cat sat", "the cat sat"), ("a dog", "the dog barked")] {
///     evaluation.score(&Pair { candidate: candidate.into(), references: vec![reference.into()] })?;
/// }
/// // Two edits of six words.
/// assert_eq!(evaluation.corpus().get(Metric::Wer), Some(Score::Number(2.0 / 6.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// In order, each once.
    metrics: Vec<Metric>,
    options: Options,
    tally: Tally,
}

/// Two evaluations that were to be merged differ in what they compute.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("evaluations of different metrics or options can't be merged")]
pub struct Mismatch;

impl Evaluation {
    /// An evaluation without pairs.
    pub fn new(metrics: impl IntoIterator<Item = Metric>, options: Options) -> Evaluation {
        let mut metrics: Vec<Metric> = metrics.into_iter().collect();
        metrics.sort_unstable();
        metrics.dedup();
        Evaluation { metrics, options, tally: Tally::default() }
    }

    /// The pair's scores, which from now on count in the corpus's.
    ///
    /// Errors: the pair can't be scored and does not count.
    pub fn score(&mut self, pair: &Pair) -> Result<Scores, PairError> {
        let number = self.tally.pairs;
        pair.check(number)?;
        let one = Tally::of(pair, &self.metrics, self.options.stemming).map_err(|(metric, excess)| PairError::TooCostly {
            pair: number,
            metric,
            steps: excess.0,
        })?;
        self.tally += &one;
        Ok(self.scores(&one, Orders::Effective))
    }

    /// Takes over the pairs of another evaluation of the same metrics and options.
    pub fn merge(&mut self, other: &Evaluation) -> Result<(), Mismatch> {
        if (&self.metrics, self.options) != (&other.metrics, other.options) {
            return Err(Mismatch);
        }
        self.tally += &other.tally;
        Ok(())
    }

    /// How many pairs were scored.
    pub fn pairs(&self) -> u64 {
        self.tally.pairs
    }

    /// The scores of all pairs together; none without pairs.
    ///
    /// `bleu`, `chrf`, `chrf++`, `ter`, `wer` and `cer` are those of the summed counts, `levenshtein` is a sum, and the
    /// others are means.
    pub fn corpus(&self) -> Scores {
        if self.tally.pairs == 0 {
            return Scores::default();
        }
        self.scores(&self.tally, Orders::All)
    }

    fn scores(&self, tally: &Tally, orders: Orders) -> Scores {
        self.metrics.iter().map(|&metric| (metric, tally.score(metric, orders))).collect()
    }
}

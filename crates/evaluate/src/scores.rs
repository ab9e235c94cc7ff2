//! What comes out: a value for each metric.

use serde::{Serialize, Serializer};

use crate::metric::Metric;
use crate::rouge::Rouge;

/// The value of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Score {
    /// Of all metrics but those below.
    Number(f64),
    /// Of `levenshtein`.
    Count(u64),
    /// Of the metrics of ROUGE.
    Rouge(Rouge),
}

/// The values of a pair or a corpus, in the order of [`Metric`].
///
/// Serialises as a map: `{"bleu":12.3,"rouge1":{"precision":0.5,"recall":0.4,"fmeasure":0.4444}}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores(Vec<(Metric, Score)>);

impl Scores {
    /// The value of `metric`, if it was asked for.
    pub fn get(&self, metric: Metric) -> Option<Score> {
        self.iter().find(|&(found, _)| found == metric).map(|(_, score)| score)
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, Score)> + '_ {
        self.0.iter().copied()
    }

    /// Whether there are none, as of a corpus without pairs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Metric, Score)> for Scores {
    fn from_iter<I: IntoIterator<Item = (Metric, Score)>>(scores: I) -> Scores {
        Scores(scores.into_iter().collect())
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_a_map_by_name() {
        let rouge = Rouge { precision: 0.5, recall: 1.0, fmeasure: 0.25 };
        let scores =
            [(Metric::ChrfWords, Score::Number(12.5)), (Metric::RougeL, Score::Rouge(rouge)), (Metric::Levenshtein, Score::Count(3))];
        let text = serde_json::to_string(&scores.into_iter().collect::<Scores>()).expect("serialisable");
        assert_eq!(text, r#"{"chrf++":12.5,"rougeL":{"precision":0.5,"recall":1.0,"fmeasure":0.25},"levenshtein":3}"#);
    }
}

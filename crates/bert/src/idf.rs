//! How rare tokens are among references.

use crate::model::Model;
use crate::score::{Pair, ScoreError};

/// In how many references each token is, by which rare tokens count more than frequent ones.
///
/// Takes two passes over the pairs: the first adds them all here, the second scores them. Some bytes for each token the model
/// knows, however many pairs there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idf {
    references: u64,
    /// By id; of the ids beyond its end there is none.
    found: Vec<u64>,
}

impl Idf {
    /// Counts the references of pairs, the same one as often as it is there.
    pub fn add(&mut self, model: &Model, pairs: &[Pair<'_>]) -> Result<(), ScoreError> {
        let references: Vec<&str> = pairs.iter().flat_map(|pair| pair.references).map(String::as_str).collect();
        // Bounds what is held at a time.
        for some in references.chunks(1 << 10) {
            let tokens = model.workers.map(some, |reference| model.ids(reference))?;
            for mut ids in tokens {
                ids.sort_unstable();
                ids.dedup();
                self.count(&ids);
            }
        }
        Ok(())
    }

    /// Takes over what another has counted.
    pub fn merge(&mut self, other: &Idf) {
        self.references += other.references;
        self.found.resize(self.found.len().max(other.found.len()), 0);
        for (count, more) in self.found.iter_mut().zip(&other.found) {
            *count += more;
        }
    }

    fn count(&mut self, distinct: &[u32]) {
        self.references += 1;
        for &id in distinct {
            let at = id as usize;
            if at >= self.found.len() {
                self.found.resize(at + 1, 0);
            }
            self.found[at] += 1;
        }
    }

    /// What a token counts: `ln((references + 1) / (those it is in + 1))`.
    pub(crate) fn weight(&self, id: u32) -> f32 {
        let found = self.found.get(id as usize).copied().unwrap_or(0);
        ((self.references + 1) as f64 / (found + 1) as f64).ln() as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_tokens_weigh_more_and_those_of_every_reference_nothing() {
        let mut idf = Idf::default();
        idf.count(&[1, 2, 7]);
        let mut other = Idf::default();
        other.count(&[1, 9]);
        idf.merge(&other);
        assert_eq!(idf.weight(1), 0.0);
        assert_eq!(idf.weight(7), 1.5_f32.ln());
        assert_eq!(idf.weight(100), 3.0_f32.ln());
    }
}

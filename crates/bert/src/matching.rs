//! Matching the tokens of two texts: each with the one it is most similar to.

use candle_core::{Result, Tensor};

use crate::score::Score;

/// A text's tokens.
pub(crate) struct Embedded {
    /// Of length one each: `[tokens, width]`.
    states: Tensor,
    /// What each token counts; none if there are no tokens but the marks of beginning and end.
    weights: Option<Vec<f32>>,
}

impl Embedded {
    pub(crate) fn new(states: Tensor, weights: Option<Vec<f32>>) -> Embedded {
        Embedded { states, weights }
    }

    /// How close this candidate is to a reference.
    pub(crate) fn compare(&self, reference: &Embedded) -> Result<Score> {
        let (Some(ours), Some(theirs)) = (&self.weights, &reference.weights) else {
            return Ok(Score { precision: 0.0, recall: 0.0, f1: 0.0 });
        };
        // Of tokens of length one the product is the cosine.
        let similarities = self.states.matmul(&reference.states.t()?)?.flatten_all()?.to_vec1::<f32>()?;
        // A token unlike all others counts nothing rather than less: so it is in Python, where padding is of similarity 0.
        let mut best_of_theirs = vec![0.0_f32; theirs.len()];
        let mut best_of_ours = Vec::with_capacity(ours.len());
        for row in similarities.chunks_exact(theirs.len()) {
            best_of_ours.push(row.iter().copied().fold(0.0, f32::max));
            for (best, &similarity) in best_of_theirs.iter_mut().zip(row) {
                *best = best.max(similarity);
            }
        }
        let (precision, recall) = (mean(&best_of_ours, ours), mean(&best_of_theirs, theirs));
        let f1 = if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        Ok(Score { precision, recall, f1 })
    }
}

/// The weighted mean; 0 where nothing counts.
fn mean(numbers: &[f32], weights: &[f32]) -> f64 {
    let total: f64 = weights.iter().copied().map(f64::from).sum();
    if total == 0.0 {
        return 0.0;
    }
    numbers.iter().zip(weights).map(|(&number, &weight)| f64::from(number) * f64::from(weight)).sum::<f64>() / total
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn embedded(states: &[[f32; 2]], weights: &[f32]) -> Embedded {
        Embedded::new(Tensor::from_slice(states.as_flattened(), (states.len(), 2), &Device::Cpu).expect("a tensor"), Some(weights.to_vec()))
    }

    #[test]
    fn each_token_counts_by_the_one_most_like_it() {
        let candidate = embedded(&[[1.0, 0.0], [0.0, 1.0]], &[1.0, 3.0]);
        let reference = embedded(&[[0.6, 0.8]], &[2.0]);
        let score = candidate.compare(&reference).expect("a score");
        assert!((score.precision - 0.75).abs() < 1e-6 && (score.recall - 0.8).abs() < 1e-6, "{score:?}");
        assert!((score.f1 - 2.0 * 0.75 * 0.8 / 1.55).abs() < 1e-6);
        let opposite = embedded(&[[-1.0, 0.0]], &[1.0]);
        assert_eq!(candidate.compare(&opposite).expect("a score").recall, 0.0);
    }

    #[test]
    fn nothing_is_like_an_empty_text_or_one_that_does_not_count() {
        let text = embedded(&[[1.0, 0.0]], &[1.0]);
        let weightless = embedded(&[[1.0, 0.0]], &[0.0]);
        let empty = Embedded { weights: None, ..embedded(&[[1.0, 0.0]], &[]) };
        let nothing = Score { precision: 0.0, recall: 0.0, f1: 0.0 };
        assert_eq!(text.compare(&empty).expect("a score"), nothing);
        assert_eq!(empty.compare(&empty).expect("a score"), nothing);
        assert_eq!(text.compare(&weightless).expect("a score"), Score { precision: 1.0, ..nothing });
    }
}

//! BLEU (Papineni et al., 2002) with sacrebleu's defaults: tokenizer `13a`, four orders, exponential smoothing.

use std::ops::AddAssign;

use crate::mteval;
use crate::ngrams::{Grams, Key, fits};
use crate::tokens::Vocabulary;

/// Longest n-gram.
const ORDER: usize = 4;

/// Which orders a score takes into account.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Orders {
    /// All four, whatever the length: for a corpus.
    All,
    /// Those the candidate is long enough for: for one pair.
    Effective,
}

/// What adds up over pairs: lengths in tokens, and by order the candidate's n-grams and those found in a reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    candidate: u64,
    reference: u64,
    correct: [u64; ORDER],
    total: [u64; ORDER],
}

impl AddAssign<&Stats> for Stats {
    fn add_assign(&mut self, other: &Stats) {
        self.candidate += other.candidate;
        self.reference += other.reference;
        for index in 0..ORDER {
            self.correct[index] += other.correct[index];
            self.total[index] += other.total[index];
        }
    }
}

impl Stats {
    pub(crate) fn of(candidate: &str, references: &[String]) -> Stats {
        let texts: Vec<_> = std::iter::once(candidate).chain(references.iter().map(String::as_str)).map(mteval::prepared).collect();
        let mut vocabulary = Vocabulary::new(texts.iter().map(|text| text.len()).sum());
        let mut numbered = texts.iter().map(|text| {
            let mut numbers = Vec::with_capacity(text.len() / 4);
            mteval::tokens(text, |token| numbers.push(vocabulary.number(token.as_bytes())));
            numbers
        });
        let candidate = numbered.next().unwrap_or_default();
        let references: Vec<Vec<u32>> = numbered.collect();
        if fits::<u64, ORDER>(vocabulary.len()) {
            Stats::counted::<u64>(&candidate, &references)
        } else {
            Stats::counted::<u128>(&candidate, &references)
        }
    }

    fn counted<K: Key>(candidate: &[u32], references: &[Vec<u32>]) -> Stats {
        let ours = Grams::<K, ORDER>::new(candidate);
        let correct = match references {
            [reference] => ours.matched(&Grams::new(reference)),
            _ => clipped(&ours, references),
        };
        Stats {
            candidate: candidate.len() as u64,
            reference: closest(candidate.len(), references) as u64,
            correct,
            total: std::array::from_fn(|index| ours.total(index)),
        }
    }

    /// The score, 0 to 100.
    pub(crate) fn score(&self, orders: Orders) -> f64 {
        if self.correct.iter().all(|&count| count == 0) {
            return 0.0;
        }
        let possible = self.total.iter().take_while(|&&total| total > 0).count();
        if possible < ORDER && orders == Orders::All {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let mut logarithms = 0.0;
        for (&correct, &total) in self.correct.iter().zip(&self.total).take(possible) {
            let precision = if correct == 0 {
                smoothing *= 2.0;
                100.0 / (smoothing * total as f64)
            } else {
                100.0 * correct as f64 / total as f64
            };
            logarithms += precision.ln();
        }
        self.brevity() * (logarithms / possible as f64).exp()
    }

    /// Below 1 where the candidate is shorter than the reference.
    fn brevity(&self) -> f64 {
        if self.candidate >= self.reference {
            return 1.0;
        }
        (1.0 - self.reference as f64 / self.candidate as f64).exp()
    }
}

/// For each n-gram of `ours`, its count, at most as often as the reference that has it most.
fn clipped<K: Key>(ours: &Grams<K, ORDER>, references: &[Vec<u32>]) -> [u64; ORDER] {
    let mut best = vec![[0; ORDER]; ours.symbols()];
    for reference in references {
        ours.shared(&Grams::new(reference), |order, at, count| best[at][order] = best[at][order].max(count));
    }
    std::array::from_fn(|order| best.iter().map(|counts| counts[order]).sum())
}

/// The reference length closest to the candidate's, the shorter of two equally close.
fn closest(candidate: usize, references: &[Vec<u32>]) -> usize {
    references.iter().map(Vec::len).min_by_key(|&length| (length.abs_diff(candidate), length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(candidate: &str, references: &[&str], orders: Orders) -> f64 {
        Stats::of(candidate, &references.iter().map(|&r| r.to_owned()).collect::<Vec<_>>()).score(orders)
    }

    #[test]
    fn the_same_text_scores_a_hundred_if_it_has_four_tokens() {
        let text = "one two three four";
        assert!((score(text, &[text], Orders::All) - 100.0).abs() < 1e-9);
        assert!((score("one two", &["one two"], Orders::Effective) - 100.0).abs() < 1e-9);
        assert!(score("one two", &["one two"], Orders::All) == 0.0);
    }

    #[test]
    fn counts_are_clipped_by_the_reference_that_has_most() {
        let stats = Stats::of("the the the the", &["the cat the".to_owned(), "the a b c d e".to_owned()]);
        assert_eq!((stats.correct, stats.total, stats.candidate, stats.reference), ([2, 0, 0, 0], [4, 3, 2, 1], 4, 3));
    }
}

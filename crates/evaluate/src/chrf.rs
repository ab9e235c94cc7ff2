//! chrF (Popović 2015) and chrF++ (Popović 2017) with sacrebleu's defaults: six character orders, two word orders for
//! chrF++, recall counting twice as much as precision, white space left out, orders no text is long enough for ignored.

use std::ops::AddAssign;

use crate::ngrams::{Grams, Key, fits};
use crate::tokens::{Alphabet, Vocabulary, is_space, words};

/// Longest n-gram of characters.
const CHARACTERS: usize = 6;
/// Longest n-gram of words, in chrF++.
const WORDS: usize = 2;
/// The square of beta: the weight of recall.
const WEIGHT: f64 = 4.0;

/// How many n-grams of one order there are, and how many are in both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    candidate: u64,
    reference: u64,
    matched: u64,
}

/// What adds up over pairs: the orders of characters, then of words. The latter stay 0 in chrF and so out of its score.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    orders: [Counts; CHARACTERS + WORDS],
}

impl AddAssign<&Stats> for Stats {
    fn add_assign(&mut self, other: &Stats) {
        for (sum, counts) in self.orders.iter_mut().zip(&other.orders) {
            sum.candidate += counts.candidate;
            sum.reference += counts.reference;
            sum.matched += counts.matched;
        }
    }
}

impl Stats {
    /// The score, 0 to 100.
    pub(crate) fn score(&self) -> f64 {
        let (mut precision, mut recall, mut effective) = (0.0, 0.0, 0.0);
        for counts in self.orders.iter().filter(|counts| counts.candidate > 0 && counts.reference > 0) {
            precision += counts.matched as f64 / counts.candidate as f64;
            recall += counts.matched as f64 / counts.reference as f64;
            effective += 1.0;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / effective, recall / effective);
        100.0 * (1.0 + WEIGHT) * precision * recall / (WEIGHT * precision + recall)
    }

    /// The order at `index` (less one), between two texts. The reference's length decides whether it counts.
    fn set<K: Key, const ORDER: usize>(&mut self, from: usize, candidate: &Grams<K, ORDER>, reference: &Grams<K, ORDER>) {
        for (index, matched) in candidate.matched(reference).into_iter().enumerate() {
            let (ours, theirs) = (candidate.total(index), reference.total(index));
            self.orders[from + index] = Counts { candidate: if theirs > 0 { ours } else { 0 }, reference: theirs, matched };
        }
    }
}

/// The statistics of one pair for chrF and, where asked for, chrF++: of the reference that gives the best score.
#[derive(Default)]
pub(crate) struct Both {
    pub(crate) chrf: Stats,
    pub(crate) with_words: Stats,
}

/// Whether chrF++ is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    CharactersOnly,
    WithWords,
}

impl Both {
    pub(crate) fn of(candidate: &str, references: &[String], variant: Variant) -> Both {
        let mut of_characters = of_characters(candidate, references);
        let with_words = match variant {
            Variant::CharactersOnly => Stats::default(),
            Variant::WithWords => {
                let mut extended = of_characters.clone();
                add_words(&mut extended, candidate, references);
                best(&mut extended)
            }
        };
        Both { chrf: best(&mut of_characters), with_words }
    }
}

/// The first of those with the highest score.
fn best(candidates: &mut [Stats]) -> Stats {
    let Some((first, others)) = candidates.split_first_mut() else { return Stats::default() };
    let mut score = if others.is_empty() { 0.0 } else { first.score() };
    for other in others {
        let better = other.score();
        if better > score {
            score = better;
            std::mem::swap(first, other);
        }
    }
    std::mem::take(first)
}

fn of_characters(candidate: &str, references: &[String]) -> Vec<Stats> {
    let mut alphabet = Alphabet::default();
    let ours = without_space(candidate, &mut alphabet);
    let theirs: Vec<Vec<u32>> = references.iter().map(|reference| without_space(reference, &mut alphabet)).collect();
    if fits::<u64, CHARACTERS>(alphabet.len()) { against::<u64>(&ours, &theirs) } else { against::<u128>(&ours, &theirs) }
}

fn against<K: Key>(candidate: &[u32], references: &[Vec<u32>]) -> Vec<Stats> {
    let ours = Grams::<K, CHARACTERS>::new(candidate);
    let counted = references.iter().map(|reference| {
        let mut stats = Stats::default();
        stats.set(0, &ours, &Grams::new(reference));
        stats
    });
    counted.collect()
}

fn without_space(text: &str, alphabet: &mut Alphabet) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(text.len());
    numbers.extend(text.chars().filter(|&c| !is_space(c)).map(|c| alphabet.number(c)));
    numbers
}

fn add_words(stats: &mut [Stats], candidate: &str, references: &[String]) {
    let mut vocabulary = Vocabulary::new(candidate.len() + references.iter().map(String::len).sum::<usize>());
    let ours = Grams::<u64, WORDS>::new(&vocabulary.number_all(separated(candidate)));
    for (stats, reference) in stats.iter_mut().zip(references) {
        let theirs = Grams::new(&vocabulary.number_all(separated(reference)));
        stats.set(CHARACTERS, &ours, &theirs);
    }
}

/// Words, with one punctuation mark split off: the last character or else the first.
fn separated(text: &str) -> impl Iterator<Item = &str> {
    words(text).flat_map(|word| {
        let (head, tail) = split(word);
        std::iter::once(head).chain((!tail.is_empty()).then_some(tail))
    })
}

fn split(word: &str) -> (&str, &str) {
    let mark = |c: Option<char>| c.is_some_and(|c| c.is_ascii_punctuation());
    if word.len() > 1 && mark(word.chars().next_back()) {
        word.split_at(word.len() - 1)
    } else if word.len() > 1 && mark(word.chars().next()) {
        word.split_at(1)
    } else {
        (word, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_split_off_a_word() {
        let text = "(hi) it's, \"x ! «a» !!";
        assert_eq!(separated(text).collect::<Vec<_>>(), ["(hi", ")", "it's", ",", "\"", "x", "!", "«a»", "!", "!"]);
    }

    #[test]
    fn the_best_reference_counts() {
        let references = ["nothing".to_owned(), "the same".to_owned()];
        let both = Both::of("the same", &references, Variant::WithWords);
        assert!((both.chrf.score() - 100.0).abs() < 1e-9 && (both.with_words.score() - 100.0).abs() < 1e-9);
    }

    #[test]
    fn many_kinds_of_characters_are_counted_alike() {
        let text: String = ('\u{4e00}'..'\u{5400}').collect();
        let half: String = ('\u{4e00}'..'\u{5100}').collect();
        let stats = Both::of(&half, &[text], Variant::CharactersOnly).chrf;
        assert_eq!(stats.orders[5], Counts { candidate: 763, reference: 1531, matched: 763 });
    }
}

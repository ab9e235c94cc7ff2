//! Translation edit rate (Snover et al., 2006) as sacrebleu computes it: the fewest insertions, deletions, replacements and
//! shifts of whole stretches of words, found greedily, within the limits of Tercom and of sacrebleu.

use std::ops::{AddAssign, Range};

use crate::beam::Beam;
use crate::limit::{Excess, afford};
use crate::tokens::{Vocabulary, words};

/// Longest stretch of words that is shifted.
const MAX_SHIFT: usize = 10;
/// Furthest that the reference has it from where the candidate has it.
const MAX_DISTANCE: usize = 50;
/// Shifts tried for a pair of texts; once there are as many, the last round's is not made.
const MAX_TRIED: usize = 1000;

/// What adds up over pairs: edits, and the mean number of words in a pair's references.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    edits: u64,
    length: f64,
}

impl AddAssign<&Stats> for Stats {
    fn add_assign(&mut self, other: &Stats) {
        self.edits += other.edits;
        self.length += other.length;
    }
}

impl Stats {
    /// Against the reference that takes the fewest edits.
    pub(crate) fn of(candidate: &str, references: &[String]) -> Result<Stats, Excess> {
        let lower: Vec<String> = std::iter::once(candidate).chain(references.iter().map(String::as_str)).map(str::to_lowercase).collect();
        let mut vocabulary = Vocabulary::new(lower.iter().map(String::len).sum());
        let mut numbered = lower.iter().map(|text| vocabulary.number_all(words(text)));
        let ours = numbered.next().unwrap_or_default();
        let references: Vec<Vec<u32>> = numbered.collect();
        afford(references.iter().map(|theirs| steps(ours.len(), theirs.len())).sum())?;
        let edits = references.iter().map(|theirs| edits(&ours, theirs)).min().unwrap_or(0);
        let length: usize = references.iter().map(Vec::len).sum();
        Ok(Stats { edits, length: length as f64 / references.len().max(1) as f64 })
    }

    /// The rate in percent, 0 and up; 100 where there is nothing in the references but something in the candidate.
    pub(crate) fn score(&self) -> f64 {
        match self {
            Stats { edits, length } if *length > 0.0 => 100.0 * (*edits as f64 / length),
            Stats { edits: 0, .. } => 0.0,
            Stats { .. } => 100.0,
        }
    }
}

/// An upper bound of the cells that are filled, when each shift tried changes the candidate's first words.
fn steps(candidate: usize, reference: usize) -> u64 {
    (candidate * MAX_DISTANCE + reference) as u64 * MAX_TRIED as u64
}

fn edits(candidate: &[u32], reference: &[u32]) -> u64 {
    if reference.is_empty() {
        return candidate.len() as u64;
    }
    let mut beam = Beam::new(candidate, reference);
    let mut shifts = 0;
    let mut tried = 0;
    while let Some(shifted) = best_shift(&mut beam, reference, &mut tried) {
        beam.set(shifted);
        shifts += 1;
    }
    shifts + u64::from(beam.distance())
}

/// What ranks shifts: what is gained, the length, then how early from and to.
type Rank = (u32, usize, std::cmp::Reverse<(usize, usize)>);

/// The candidate after the shift that gains most, if any gains and not too many were tried.
fn best_shift(beam: &mut Beam, reference: &[u32], tried: &mut usize) -> Option<Vec<u32>> {
    let distance = beam.distance();
    let alignment = beam.alignment();
    let words = beam.candidate().to_vec();
    let mut best: Option<(Rank, Vec<u32>)> = None;
    'all: for from in 0..words.len() {
        for (to, longest) in matches(&words, reference, from) {
            for length in 1..=longest {
                let wrong = |errors: &[bool], at: usize| errors[at..at + length].contains(&true);
                if !wrong(&alignment.candidate_errors, from) || !wrong(&alignment.reference_errors, to) {
                    continue;
                }
                // Not within itself.
                if (from + 1..from + length + 1).contains(&alignment.after[to]) {
                    continue;
                }
                for target in targets(&alignment.after, to, length) {
                    *tried += 1;
                    let gained = best.as_ref().map_or(1, |((gained, ..), _)| *gained);
                    let Some(limit) = distance.checked_sub(gained) else { continue };
                    let shifted = moved(&words, from..from + length, target);
                    let Some(reached) = beam.distance_within(&shifted, limit) else { continue };
                    let rank = (distance - reached, length, std::cmp::Reverse((from, target)));
                    if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                        best = Some((rank, shifted));
                    }
                }
                if *tried >= MAX_TRIED {
                    break 'all;
                }
            }
        }
    }
    best.filter(|_| *tried < MAX_TRIED).map(|(_, shifted)| shifted)
}

/// Where the reference has words that the candidate has at `from`, and how many, in the reference's order.
fn matches<'a>(words: &'a [u32], reference: &'a [u32], from: usize) -> impl Iterator<Item = (usize, usize)> + 'a {
    let near = from.saturating_sub(MAX_DISTANCE)..reference.len().min(from + MAX_DISTANCE + 1);
    near.filter(move |&to| reference[to] == words[from]).map(move |to| {
        let same = words[from..].iter().zip(&reference[to..]).take(MAX_SHIFT).take_while(|(a, b)| a == b);
        (to, same.count())
    })
}

/// Before which of the candidate's words a stretch goes that the reference has at `to`: after those aligned with the word
/// before it and with its own words, each place once where it follows itself.
fn targets(after: &[usize], to: usize, length: usize) -> impl Iterator<Item = usize> + '_ {
    let mut last = None;
    let places = (0..=length).map(move |offset| if to + offset == 0 { 0 } else { after[to + offset - 1] });
    places.filter(move |&place| last.replace(place) != Some(place))
}

/// `words` with a stretch of them moved before the word at `target`, or by as much as `target` is within it.
fn moved(words: &[u32], stretch: Range<usize>, target: usize) -> Vec<u32> {
    let Range { start, end } = stretch;
    let mut moved = words.to_vec();
    if target < start {
        moved[target..end].rotate_right(end - start);
    } else if target > end {
        moved[start..target].rotate_left(end - start);
    } else {
        let until = (end + target - start).min(words.len());
        moved[start..until].rotate_left(end - start);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(candidate: &str, references: &[&str]) -> f64 {
        let references: Vec<String> = references.iter().map(|&r| r.to_owned()).collect();
        Stats::of(candidate, &references).map(|stats| stats.score()).unwrap_or(f64::NAN)
    }

    #[test]
    fn a_shift_is_one_edit() {
        assert!((rate("d e f a b c", &["A b c d e f"]) - 100.0 / 6.0).abs() < 1e-9);
        assert!((rate("a b c", &["a b d", "x"]) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_to_reach_is_all_or_nothing() {
        assert!(rate("", &[""]) == 0.0 && rate("a b", &[""]) == 100.0 && rate("", &["a b"]) == 100.0);
    }

    #[test]
    fn a_stretch_moves_as_the_definition_has_it() {
        let words = [0, 1, 2, 3, 4, 5];
        assert_eq!(moved(&words, 3..5, 1), [0, 3, 4, 1, 2, 5]);
        assert_eq!(moved(&words, 1..3, 5), [0, 3, 4, 1, 2, 5]);
        assert_eq!(moved(&words, 1..3, 2), [0, 3, 1, 2, 4, 5]);
        assert_eq!(moved(&words, 1..3, 3), [0, 3, 4, 1, 2, 5]);
        assert_eq!(moved(&words, 4..6, 6), words);
    }
}

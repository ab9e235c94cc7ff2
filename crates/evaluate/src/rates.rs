//! Edit distance of characters, and word and character error rate with jiwer's default transforms.

use std::ops::{AddAssign, Range};

use crate::edit::{distance, steps};
use crate::limit::{Excess, afford};
use crate::tokens::{Alphabet, Vocabulary, is_space, strip};

/// Edits that turn a reference into the candidate, over the reference's length. The sums of both are those of a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    edits: u64,
    length: u64,
}

impl AddAssign<&Rate> for Rate {
    fn add_assign(&mut self, other: &Rate) {
        self.edits += other.edits;
        self.length += other.length;
    }
}

impl Rate {
    /// 0 and up; where there is nothing in the reference the number of edits, as jiwer has it.
    pub(crate) fn value(&self) -> f64 {
        if self.length == 0 { self.edits as f64 } else { self.edits as f64 / self.length as f64 }
    }

    /// Against the reference with the lowest rate, the first of equals.
    fn lowest<'a>(candidate: &[u32], references: impl Iterator<Item = &'a [u32]> + Clone) -> Result<Rate, Excess> {
        afford(references.clone().map(|reference| steps(candidate, reference)).sum())?;
        let rates = references.map(|reference| Rate { edits: distance(candidate, reference), length: reference.len() as u64 });
        Ok(rates.reduce(|best, rate| if rate.value() < best.value() { rate } else { best }).unwrap_or_default())
    }
}

/// The characters of a pair's texts, numbered.
pub(crate) struct Characters {
    candidate: Text,
    references: Vec<Text>,
}

struct Text {
    numbers: Vec<u32>,
    /// Without the white space around it.
    stripped: Range<usize>,
}

impl Text {
    fn new(text: &str, alphabet: &mut Alphabet) -> Text {
        let numbers = alphabet.number_all(text);
        let start = text.chars().take_while(|&c| is_space(c)).count().min(numbers.len());
        let trailing = text.chars().rev().take_while(|&c| is_space(c)).count();
        Text { stripped: start..start.max(numbers.len() - trailing), numbers }
    }

    fn stripped(&self) -> &[u32] {
        &self.numbers[self.stripped.clone()]
    }
}

impl Characters {
    pub(crate) fn new(candidate: &str, references: &[String]) -> Characters {
        let mut alphabet = Alphabet::default();
        let candidate = Text::new(candidate, &mut alphabet);
        Characters { candidate, references: references.iter().map(|reference| Text::new(reference, &mut alphabet)).collect() }
    }

    /// The distance to the closest reference, in Unicode scalar values.
    pub(crate) fn levenshtein(&self) -> Result<u64, Excess> {
        let ours = &self.candidate.numbers;
        afford(self.references.iter().map(|reference| steps(ours, &reference.numbers)).sum())?;
        Ok(self.references.iter().map(|reference| distance(ours, &reference.numbers)).min().unwrap_or(0))
    }

    /// The character error rate: white space around a text does not count, within it does.
    pub(crate) fn error_rate(&self) -> Result<Rate, Excess> {
        Rate::lowest(self.candidate.stripped(), self.references.iter().map(Text::stripped))
    }
}

/// The word error rate.
pub(crate) fn word_error_rate(candidate: &str, references: &[String]) -> Result<Rate, Excess> {
    let mut vocabulary = Vocabulary::new(candidate.len() + references.iter().map(String::len).sum::<usize>());
    let mut ours = Vec::new();
    spaced(candidate, |word| ours.push(vocabulary.number(word.as_bytes())));
    let mut theirs = vec![Vec::new(); references.len()];
    for (numbers, reference) in theirs.iter_mut().zip(references) {
        spaced(reference, |word| numbers.push(vocabulary.number(word.as_bytes())));
    }
    Rate::lowest(&ours, theirs.iter().map(Vec::as_slice))
}

/// The words between spaces, as jiwer splits them: two white space characters in a row count as a space, whichever they
/// are, but one alone only if it is U+0020. So `a\tb` is one word and `a\t\tb` are two.
fn spaced<'a>(text: &'a str, mut word: impl FnMut(&'a str)) {
    let mut rest = strip(text);
    let mut from = 0;
    while let Some(found) = rest[from..].find(is_space) {
        let gap = from + found;
        let next = gap + rest[gap..].find(|c| !is_space(c)).unwrap_or(0);
        let is_one_character = rest[gap..next].chars().nth(1).is_none();
        if is_one_character && !rest[gap..].starts_with(' ') {
            from = next;
            continue;
        }
        word(&rest[..gap]);
        rest = &rest[next..];
        from = 0;
    }
    if !rest.is_empty() {
        word(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(candidate: &str, references: &[&str]) -> f64 {
        let references: Vec<String> = references.iter().map(|&r| r.to_owned()).collect();
        word_error_rate(candidate, &references).map(|rate| rate.value()).unwrap_or(f64::NAN)
    }

    #[test]
    fn a_lone_tab_joins_and_two_part() {
        let mut found = Vec::new();
        spaced(" \ta\tb  c\u{a0}d \n e f\t", |word| found.push(word));
        assert_eq!(found, ["a\tb", "c\u{a0}d", "e", "f"]);
        spaced(" \n", |word| panic!("{word}"));
    }

    #[test]
    fn the_reference_with_the_lowest_rate_counts() {
        assert!((rate("a b c", &["x y z", "a b d e", "a b d"]) - 1.0 / 3.0).abs() < 1e-12);
        assert!((rate("a b", &[""]) - 2.0).abs() < 1e-12);
        assert!(rate("", &[" "]) == 0.0);
    }

    #[test]
    fn only_the_outer_space_is_free() {
        let characters = Characters::new(" a b", &["ab ".to_owned()]);
        assert_eq!(characters.levenshtein(), Ok(3));
        assert_eq!(characters.error_rate(), Ok(Rate { edits: 1, length: 2 }));
        assert_eq!(Characters::new(" ", &["".to_owned()]).error_rate(), Ok(Rate::default()));
    }
}

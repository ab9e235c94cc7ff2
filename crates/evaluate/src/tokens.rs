//! White space and words as the reference implementations see them, and their numbering.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Python's `str.isspace`: Unicode's white space and the four ASCII separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Python's `str.split()`: the longest stretches without white space.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Python's `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `str.rstrip()`.
pub(crate) fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Numbers words in the order they are met, from 0 and without gaps, so that equality is equality of numbers.
///
/// Hashed with a seed of the process: texts can't be made that collide.
pub(crate) struct Vocabulary<'a> {
    numbers: HashMap<&'a [u8], u32, RandomState>,
}

impl<'a> Vocabulary<'a> {
    /// For texts of `bytes` in all.
    pub(crate) fn new(bytes: usize) -> Vocabulary<'a> {
        // Room for the different words of ordinary texts of that length, and not for more than a cache holds.
        Vocabulary { numbers: HashMap::with_capacity_and_hasher((bytes / 10).min(1 << 14), RandomState::default()) }
    }

    pub(crate) fn number(&mut self, word: &'a [u8]) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(word).or_insert(next)
    }

    pub(crate) fn number_all(&mut self, words: impl Iterator<Item = &'a str>) -> Vec<u32> {
        words.map(|word| self.number(word.as_bytes())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// Numbers characters (Unicode scalar values): ASCII as itself, others from 128 in the order they are met.
#[derive(Default)]
pub(crate) struct Alphabet {
    beyond: HashMap<char, u32, RandomState>,
}

impl Alphabet {
    pub(crate) fn number(&mut self, c: char) -> u32 {
        if c.is_ascii() {
            return c as u32;
        }
        let next = 128 + self.beyond.len() as u32;
        *self.beyond.entry(c).or_insert(next)
    }

    pub(crate) fn number_all(&mut self, text: &str) -> Vec<u32> {
        text.chars().map(|c| self.number(c)).collect()
    }

    /// Every number given is below this.
    pub(crate) fn len(&self) -> usize {
        128 + self.beyond.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_where_python_splits_them() {
        let text = " a\u{1f}b\u{a0}c\u{3000}d\u{200b}e\t\r\n";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c", "d\u{200b}e"]);
        assert_eq!(strip("\u{1c} a b \u{85}"), "a b");
        assert_eq!(strip_end(" a\n "), " a");
    }

    #[test]
    fn numbers_have_no_gaps() {
        let mut alphabet = Alphabet::default();
        assert_eq!(alphabet.number_all("aé漢é"), [97, 128, 129, 128]);
        assert_eq!(alphabet.len(), 130);
        let mut vocabulary = Vocabulary::new(0);
        assert_eq!(vocabulary.number_all(words("b a b")), [0, 1, 0]);
        assert_eq!(vocabulary.len(), 2);
    }
}

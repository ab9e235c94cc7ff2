//! ROUGE (Lin, 2004) as rouge-score computes it: shared n-grams, and longest common subsequences of texts or sentences.

use std::ops::AddAssign;

use serde::Serialize;

use crate::lcs::{self, Lcs};
use crate::limit::{Excess, afford};
use crate::ngrams::Grams;
use crate::stem::stem;
use crate::tokens::Vocabulary;

/// What of the candidate is in the reference, what of the reference in the candidate, and their harmonic mean; each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rouge {
    /// Hits over what the candidate has.
    pub precision: f64,
    /// Hits over what the reference has.
    pub recall: f64,
    /// `2 · precision · recall / (precision + recall)`.
    pub fmeasure: f64,
}

impl Rouge {
    fn new(hits: u64, candidate: u64, reference: u64) -> Rouge {
        let (precision, recall) = (hits as f64 / candidate.max(1) as f64, hits as f64 / reference.max(1) as f64);
        let fmeasure = if hits == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
        Rouge { precision, recall, fmeasure }
    }

    /// The one with the higher F-measure, `self` of equals.
    fn better(self, other: Rouge) -> Rouge {
        if other.fmeasure > self.fmeasure { other } else { self }
    }

    /// Divides a sum by what was summed.
    pub(crate) fn over(self, count: f64) -> Rouge {
        Rouge { precision: self.precision / count, recall: self.recall / count, fmeasure: self.fmeasure / count }
    }
}

impl AddAssign<&Rouge> for Rouge {
    fn add_assign(&mut self, other: &Rouge) {
        self.precision += other.precision;
        self.recall += other.recall;
        self.fmeasure += other.fmeasure;
    }
}

/// Whether words are compared by their stems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stemming {
    /// As they are, in lower case.
    #[default]
    Off,
    /// By their Porter stems where they have more than three letters; for English.
    Porter,
}

/// The tokens of a pair's texts, numbered.
pub(crate) struct Texts {
    candidate: Text,
    references: Vec<Text>,
    symbols: usize,
}

/// Sentences are what stands on a line; those without tokens are left out.
#[derive(Default)]
struct Text {
    tokens: Vec<u32>,
    /// Where each sentence ends.
    ends: Vec<usize>,
}

impl Text {
    fn sentences(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(&start, &end)| &self.tokens[start..end])
    }
}

impl Texts {
    pub(crate) fn new(candidate: &str, references: &[String], stemming: Stemming) -> Texts {
        let spelled: Vec<Spelled> =
            std::iter::once(candidate).chain(references.iter().map(String::as_str)).map(|text| Spelled::new(text, stemming)).collect();
        let mut vocabulary = Vocabulary::new(spelled.iter().map(|spelled| spelled.letters.len()).sum());
        let mut texts = spelled.iter().map(|spelled| spelled.numbered(&mut vocabulary));
        let candidate = texts.next().unwrap_or_default();
        let references = texts.collect();
        Texts { candidate, references, symbols: vocabulary.len() }
    }

    /// `rouge1` and `rouge2`.
    pub(crate) fn ngrams(&self) -> [Rouge; 2] {
        let ours = Grams::<u64, 2>::new(&self.candidate.tokens);
        let mut best = [Rouge::default(); 2];
        for reference in &self.references {
            let theirs = Grams::new(&reference.tokens);
            for (index, hits) in ours.matched(&theirs).into_iter().enumerate() {
                best[index] = best[index].better(Rouge::new(hits, ours.total(index), theirs.total(index)));
            }
        }
        best
    }

    /// `rougeL`: the longest common subsequence, line ends ignored.
    pub(crate) fn longest(&self) -> Result<Rouge, Excess> {
        let ours = &self.candidate.tokens;
        afford(self.references.iter().map(|reference| lcs::steps(ours, &reference.tokens)).sum())?;
        let mut lcs = Lcs::new(self.symbols);
        let scores = self.references.iter().map(|reference| {
            let theirs = &reference.tokens;
            Rouge::new(lcs.length(ours, theirs), ours.len() as u64, theirs.len() as u64)
        });
        Ok(scores.fold(Rouge::default(), Rouge::better))
    }

    /// `rougeLsum`: for each sentence of the reference, the union of its longest common subsequences with the candidate's.
    pub(crate) fn summary(&self) -> Result<Rouge, Excess> {
        afford(self.references.iter().map(|reference| union_steps(reference, &self.candidate)).sum())?;
        let mut lcs = Lcs::new(self.symbols);
        let scores = self.references.iter().map(|reference| {
            let hits = self.union_hits(reference, &mut lcs);
            Rouge::new(hits, self.candidate.tokens.len() as u64, reference.tokens.len() as u64)
        });
        Ok(scores.fold(Rouge::default(), Rouge::better))
    }

    fn union_hits(&self, reference: &Text, lcs: &mut Lcs) -> u64 {
        let candidate = &self.candidate;
        if candidate.ends.len() == 1 && reference.ends.len() == 1 {
            // The union is of one, and no subsequence has a token more often than both texts.
            return lcs.length(&candidate.tokens, &reference.tokens);
        }
        // A token may be hit only as often as the candidate has it; the reference's own count is never the smaller.
        let mut left = vec![0u32; self.symbols];
        for &token in &candidate.tokens {
            left[token as usize] += 1;
        }
        let mut hits = 0;
        let mut marks = Vec::new();
        for theirs in reference.sentences() {
            marks.clear();
            marks.resize(theirs.len(), false);
            for ours in candidate.sentences() {
                lcs.mark(theirs, ours, &mut marks);
            }
            for (&token, _) in theirs.iter().zip(&marks).filter(|&(_, &marked)| marked) {
                let left = &mut left[token as usize];
                hits += u64::from(*left > 0);
                *left = left.saturating_sub(1);
            }
        }
        hits
    }
}

fn union_steps(reference: &Text, candidate: &Text) -> u64 {
    let blocks: usize = reference.sentences().map(|sentence| sentence.len().div_ceil(64)).sum();
    // Each sentence of the candidate also costs setting up, and walking back, every sentence of the reference.
    (blocks * candidate.tokens.len() + candidate.ends.len() * reference.tokens.len()) as u64
}

/// A text's tokens one behind the other, in lower case and stemmed where asked for.
#[derive(Default)]
struct Spelled {
    letters: Vec<u8>,
    /// Where each token ends in `letters`.
    tokens: Vec<usize>,
    /// How many tokens there are by the end of each sentence.
    sentences: Vec<usize>,
}

impl Spelled {
    fn new(text: &str, stemming: Stemming) -> Spelled {
        let mut spelled = Spelled { letters: Vec::with_capacity(text.len()), ..Spelled::default() };
        let mut rest = text.as_bytes();
        while let Some(&next) = rest.first() {
            let run = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            if run > 0 {
                spelled.letters.extend(rest[..run].iter().map(u8::to_ascii_lowercase));
                rest = &rest[run..];
            } else if let Some(after) = rest.strip_prefix("\u{212a}".as_bytes()) {
                // Beyond ASCII, only the Kelvin sign and the dotted capital I have a lower case that is, or begins, in ASCII.
                spelled.letters.push(b'k');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("\u{130}".as_bytes()) {
                spelled.letters.push(b'i');
                spelled.end_token(stemming);
                rest = after;
            } else {
                spelled.end_token(stemming);
                if next == b'\n' {
                    spelled.end_sentence();
                }
                rest = &rest[1..];
            }
        }
        spelled.end_token(stemming);
        spelled.end_sentence();
        spelled
    }

    fn end_token(&mut self, stemming: Stemming) {
        let start = self.tokens.last().copied().unwrap_or(0);
        if stemming == Stemming::Porter && self.letters.len() > start + 3 {
            let mut word = self.letters.split_off(start);
            stem(&mut word);
            self.letters.append(&mut word);
        }
        if self.letters.len() > start {
            self.tokens.push(self.letters.len());
        }
    }

    fn end_sentence(&mut self) {
        if self.tokens.len() > self.sentences.last().copied().unwrap_or(0) {
            self.sentences.push(self.tokens.len());
        }
    }

    fn numbered<'a>(&'a self, vocabulary: &mut Vocabulary<'a>) -> Text {
        let starts = std::iter::once(&0).chain(&self.tokens);
        let tokens = starts.zip(&self.tokens).map(|(&start, &end)| vocabulary.number(&self.letters[start..end])).collect();
        Text { tokens, ends: self.sentences.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ascii_letters_and_digits_in_lower_case() {
        let spelled = Spelled::new("Ünder_4 \u{212a}ey \u{130}x\n\n Flies", Stemming::Off);
        assert_eq!(spelled.letters, b"nder4keyixflies");
        assert_eq!((spelled.tokens, spelled.sentences), (vec![4, 5, 8, 9, 10, 15], vec![5, 6]));
        assert_eq!(Spelled::new("Flies die", Stemming::Porter).letters, b"flidie");
    }

    #[test]
    fn only_two_characters_beyond_ascii_have_a_lower_case_within() {
        let within = ('\u{80}'..=char::MAX).filter(|c| c.to_lowercase().any(|lower| lower.is_ascii()));
        assert_eq!(within.collect::<Vec<_>>(), ['\u{130}', '\u{212a}']);
    }

    #[test]
    fn sentences_are_united_without_counting_twice() {
        let texts = Texts::new("a b\nc d\na", &["a c b d\na b a".to_owned()], Stemming::Off);
        let summary = texts.summary().unwrap_or_default();
        assert_eq!(summary, Rouge::new(5, 5, 7));
        assert_eq!(texts.longest(), Ok(Rouge::new(4, 5, 7)));
    }
}

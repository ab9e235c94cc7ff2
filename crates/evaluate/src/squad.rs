//! Exact match and F1 of the SQuAD v1.1 evaluation script (Rajpurkar et al., 2016).

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::ngrams::Grams;
use crate::tokens::{Vocabulary, words};

/// Both scores of a pair, 0 to 1, each of its best reference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) exact: f64,
    pub(crate) f1: f64,
}

impl Answer {
    pub(crate) fn of(candidate: &str, references: &[String]) -> Answer {
        let candidate = normalized(candidate);
        let references: Vec<String> = references.iter().map(|reference| normalized(reference)).collect();
        let mut vocabulary = Vocabulary::new(candidate.len() + references.iter().map(String::len).sum::<usize>());
        let ours = vocabulary.number_all(words(&candidate));
        let grams = Grams::<u64, 1>::new(&ours);
        let mut best = Answer::default();
        for reference in &references {
            let theirs = vocabulary.number_all(words(reference));
            let [same] = grams.matched(&Grams::new(&theirs));
            best.exact = best.exact.max(if ours == theirs { 1.0 } else { 0.0 });
            best.f1 = best.f1.max(f1(same, ours.len(), theirs.len()));
        }
        best
    }
}

fn f1(same: u64, candidate: usize, reference: usize) -> f64 {
    if same == 0 {
        return 0.0;
    }
    let (precision, recall) = (same as f64 / candidate as f64, same as f64 / reference as f64);
    2.0 * precision * recall / (precision + recall)
}

/// Lower case, without ASCII punctuation, and with a space for each article; white space is left to the reader.
fn normalized(text: &str) -> String {
    let mut bare = text.to_lowercase();
    bare.retain(|c| !c.is_ascii_punctuation());
    let mut kept = String::with_capacity(bare.len());
    let mut rest = bare.as_str();
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !in_word(c)).unwrap_or(rest.len()));
        kept.push_str(if matches!(word, "a" | "an" | "the") { " " } else { word });
        let (between, next) = after.split_at(after.find(in_word).unwrap_or(after.len()));
        kept.push_str(between);
        rest = next;
    }
    kept
}

/// Python's `\w`, less the underscore, which is punctuation and gone: letters and numbers but no combining marks.
fn in_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(candidate: &str, reference: &str) -> (f64, f64) {
        let answer = Answer::of(candidate, &[reference.to_owned()]);
        (answer.exact, answer.f1)
    }

    #[test]
    fn articles_punctuation_and_case_do_not_count() {
        assert_eq!(answer("The Cat, a theory!", "cat theory"), (1.0, 1.0));
        assert_eq!(answer("", "the"), (1.0, 0.0));
        assert_eq!(answer("b_a", "ba"), (1.0, 1.0));
    }

    #[test]
    fn an_article_ends_at_a_mark_but_not_at_a_letter() {
        assert_eq!(normalized("A\u{301} à aé a漢 a😀"), " \u{301} à aé a漢  😀");
    }
}

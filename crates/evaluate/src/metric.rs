//! The metrics and their names.

use std::fmt;

use serde::{Serialize, Serializer};

/// One number, or three for those of ROUGE, that says how close a candidate is to its references.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// `bleu`: n-grams of tokens, 0 to 100, higher is better.
    Bleu,
    /// `chrf`: n-grams of characters, 0 to 100, higher is better.
    Chrf,
    /// `chrf++`: n-grams of characters and words, 0 to 100, higher is better.
    ChrfWords,
    /// `ter`: edits and shifts of words in percent of the reference's, from 0, lower is better.
    Ter,
    /// `rouge1`: words, 0 to 1, higher is better.
    Rouge1,
    /// `rouge2`: pairs of words, 0 to 1, higher is better.
    Rouge2,
    /// `rougeL`: the longest common subsequence of words, 0 to 1, higher is better.
    RougeL,
    /// `rougeLsum`: the same by lines, 0 to 1, higher is better.
    RougeLsum,
    /// `exact_match`: 1 where the answer is a reference, but for case, punctuation and articles; otherwise 0.
    ExactMatch,
    /// `f1`: words of an answer, 0 to 1, higher is better.
    F1,
    /// `levenshtein`: edits of characters, a count, lower is better. A corpus has the sum.
    Levenshtein,
    /// `wer`: edits of words over the reference's words, from 0, lower is better.
    Wer,
    /// `cer`: edits of characters over the reference's characters, from 0, lower is better.
    Cer,
}

/// No metric has this name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown metric {name:?}; known are {}", Metric::KNOWN.join(", "))]
pub struct UnknownMetric {
    /// The name as it was given.
    pub name: String,
}

impl Metric {
    /// Every metric.
    const ALL: [Metric; 13] = [
        Metric::Bleu,
        Metric::Chrf,
        Metric::ChrfWords,
        Metric::Ter,
        Metric::Rouge1,
        Metric::Rouge2,
        Metric::RougeL,
        Metric::RougeLsum,
        Metric::ExactMatch,
        Metric::F1,
        Metric::Levenshtein,
        Metric::Wer,
        Metric::Cer,
    ];

    /// The names that [`Metric::parse`] knows.
    pub const KNOWN: [&str; 14] = [
        "bleu",
        "chrf",
        "chrf++",
        "ter",
        "rouge",
        "rouge1",
        "rouge2",
        "rougeL",
        "rougeLsum",
        "exact_match",
        "f1",
        "levenshtein",
        "wer",
        "cer",
    ];

    /// The metrics of a name: one, or the four of `rouge`.
    pub fn parse(name: &str) -> Result<&'static [Metric], UnknownMetric> {
        if name == "rouge" {
            return Ok(&[Metric::Rouge1, Metric::Rouge2, Metric::RougeL, Metric::RougeLsum]);
        }
        let found = Metric::ALL.iter().find(|metric| metric.name() == name);
        found.map(std::slice::from_ref).ok_or_else(|| UnknownMetric { name: name.to_owned() })
    }

    /// The name, as [`Metric::parse`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Bleu => "bleu",
            Metric::Chrf => "chrf",
            Metric::ChrfWords => "chrf++",
            Metric::Ter => "ter",
            Metric::Rouge1 => "rouge1",
            Metric::Rouge2 => "rouge2",
            Metric::RougeL => "rougeL",
            Metric::RougeLsum => "rougeLsum",
            Metric::ExactMatch => "exact_match",
            Metric::F1 => "f1",
            Metric::Levenshtein => "levenshtein",
            Metric::Wer => "wer",
            Metric::Cer => "cer",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_that_of_its_metrics() {
        for name in Metric::KNOWN {
            let metrics = Metric::parse(name).expect("a known name");
            assert!(name == "rouge" || metrics.iter().map(|metric| metric.name()).eq([name]), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let words = Metric::parse("BLEU").expect_err("an unknown name").to_string();
        assert!(words.starts_with("unknown metric \"BLEU\"; known are bleu, chrf, "), "{words}");
    }
}

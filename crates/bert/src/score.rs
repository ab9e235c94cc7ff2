//! Scoring pairs: what goes in, what comes out, and in which portions it is worked on.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::batch::batches;
use crate::idf::Idf;
use crate::matching::Embedded;
use crate::model::Model;

/// How many tokens' embeddings a call holds at a time; more only if a candidate and a reference alone have more. Each takes four
/// bytes for each number the model has for a token: 50 MB with 384 numbers, 134 MB with 1,024.
const HELD_TOKENS: usize = 1 << 15;

/// One text to be judged, and one or more that it ought to be like.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The text to be judged; may be empty.
    pub candidate: &'a str,
    /// At least one; each may be empty.
    pub references: &'a [String],
}

/// How pairs are scored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// After which layer the embeddings are taken, 0 being those before the first; the last one unless given. `num_layers` in
    /// Python, where it has to be given for a model that is a folder.
    pub layer: Option<usize>,
    /// What tokens count; all the same unless given.
    pub idf: Option<&'a Idf>,
}

/// How close a candidate is to its references, 0 to 1 for all but the strangest texts; not rescaled by a baseline.
///
/// With several references each number is the best that one of them gives, as in Python, so that `f1` need not be that of
/// `precision` and `recall`. All are 0 where a text is empty, and a number is 0 where no token counts (Python: not a number).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// How well the candidate's tokens are found in the reference.
    pub precision: f64,
    /// How well the reference's tokens are found in the candidate.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
}

/// Why pairs have no scores.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// There is nothing to compare with.
    #[error("pair {pair} has no reference; give it one or more")]
    NoReference {
        /// Which pair of the call, from 0.
        pair: usize,
    },
    /// The model has fewer layers.
    #[error("there is no layer {asked}; the model has layers 0 to {last}")]
    NoLayer {
        /// The layer asked for.
        asked: usize,
        /// The last there is.
        last: usize,
    },
    /// The tokenizer can't take a text, as it knows no token for what it doesn't know.
    #[error("the model's tokenizer does not take a text: {0}")]
    Text(#[source] tokenizers::Error),
    /// The model failed, as one does that has an id of its tokenizer no embedding for.
    #[error("the model failed: {0}; its files may not belong together")]
    Model(#[from] candle_core::Error),
}

/// A candidate and one of its references, as indices of texts.
struct Match {
    pair: usize,
    candidate: usize,
    reference: usize,
}

impl Model {
    /// The scores of pairs, in their order.
    ///
    /// A text that is there several times is mostly embedded once. Texts are cut at the number of tokens that the model takes.
    pub fn score(&self, pairs: &[Pair<'_>], options: &Options<'_>) -> Result<Vec<Score>, ScoreError> {
        let last = self.layers();
        let layer = options.layer.unwrap_or(last);
        if layer > last {
            return Err(ScoreError::NoLayer { asked: layer, last });
        }
        if let Some(pair) = pairs.iter().position(|pair| pair.references.is_empty()) {
            return Err(ScoreError::NoReference { pair });
        }
        let (texts, matches) = distinct(pairs);
        let texts = self.workers.map(&texts, |text| self.ids(text))?;
        let mut scores = vec![Score::WORST; pairs.len()];
        let mut rest = matches.as_slice();
        while !rest.is_empty() {
            let (portion, needed) = portion(rest, &texts);
            let embedded = self.embed(&needed, &texts, layer, options.idf)?;
            let found = self.workers.map(portion, |one| embedded[&one.candidate].compare(&embedded[&one.reference]))?;
            for (one, score) in portion.iter().zip(found) {
                scores[one.pair].improve(score);
            }
            rest = &rest[portion.len()..];
        }
        Ok(scores)
    }

    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>, ScoreError> {
        self.texts.ids(text).map_err(ScoreError::Text)
    }

    fn embed(&self, needed: &[usize], texts: &[Vec<u32>], layer: usize, idf: Option<&Idf>) -> Result<HashMap<usize, Embedded>, ScoreError> {
        let ids: Vec<&[u32]> = needed.iter().map(|&text| texts[text].as_slice()).collect();
        let embedded = self.workers.map(&batches(&ids), |(members, batch)| {
            let states = self.encoder.embed(batch, layer)?;
            let mut begin = 0;
            let mut found = Vec::with_capacity(members.len());
            for &member in members {
                let ids = ids[member];
                found.push((needed[member], Embedded::new(states.narrow(0, begin, ids.len())?, self.weights(ids, idf))));
                begin += ids.len();
            }
            Ok::<_, ScoreError>(found)
        })?;
        Ok(embedded.into_iter().flatten().collect())
    }

    /// What each token counts; none of them in an empty text.
    fn weights(&self, ids: &[u32], idf: Option<&Idf>) -> Option<Vec<f32>> {
        let weight = |&id: &u32| match idf {
            Some(idf) => idf.weight(id),
            None if self.texts.is_mark(id) => 0.0,
            None => 1.0,
        };
        (!self.texts.is_empty(ids)).then(|| ids.iter().map(weight).collect())
    }
}

impl Score {
    const WORST: Score = Score { precision: f64::NEG_INFINITY, recall: f64::NEG_INFINITY, f1: f64::NEG_INFINITY };

    fn improve(&mut self, other: Score) {
        self.precision = self.precision.max(other.precision);
        self.recall = self.recall.max(other.recall);
        self.f1 = self.f1.max(other.f1);
    }
}

/// Each text once, and the pairs as indices of them.
fn distinct<'a>(pairs: &[Pair<'a>]) -> (Vec<&'a str>, Vec<Match>) {
    let mut indices: HashMap<&str, usize> = HashMap::new();
    let mut texts = Vec::new();
    let mut index = |text: &'a str| {
        *indices.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() - 1
        })
    };
    let mut matches = Vec::new();
    for (pair, &Pair { candidate, references }) in pairs.iter().enumerate() {
        let candidate = index(candidate);
        matches.extend(references.iter().map(|reference| Match { pair, candidate, reference: index(reference) }));
    }
    (texts, matches)
}

/// As many of the next matches as have no more than [`HELD_TOKENS`], at least one; and the texts they need.
fn portion<'a>(matches: &'a [Match], texts: &[Vec<u32>]) -> (&'a [Match], Vec<usize>) {
    let mut seen = HashSet::new();
    let mut needed = Vec::new();
    let mut tokens = 0;
    for (at, one) in matches.iter().enumerate() {
        let known = needed.len();
        needed.extend([one.candidate, one.reference].into_iter().filter(|&text| seen.insert(text)));
        tokens += needed[known..].iter().map(|&text| texts[text].len()).sum::<usize>();
        if tokens > HELD_TOKENS && at > 0 {
            needed.truncate(known);
            return (&matches[..at], needed);
        }
    }
    (matches, needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_as_many_as_may_be_held() {
        let texts = [vec![0; HELD_TOKENS - 5], vec![0; 5], vec![0; 1], vec![0; HELD_TOKENS]];
        let matches: Vec<Match> =
            [(0, 1), (1, 0), (2, 1), (3, 0)].into_iter().map(|(candidate, reference)| Match { pair: 0, candidate, reference }).collect();
        let (first, needed) = portion(&matches, &texts);
        assert_eq!((first.len(), needed), (2, vec![0, 1]));
        let (second, needed) = portion(&matches[2..], &texts);
        assert_eq!((second.len(), needed), (1, vec![2, 1]));
        let (third, needed) = portion(&matches[3..], &texts);
        assert_eq!((third.len(), needed), (1, vec![3, 0]));
    }
}

//! The kind `evaluate`: texts scored against references, on all cores.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_bert::{Idf, Model, ScoreError};
use postrider_core::job::{Counts, Error};
use postrider_evaluate::{Evaluation, Pair, PairError, Scores};
use postrider_ingest::jobs::{Detail, EvaluateInput};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::progress::Progress;
use crate::worker::Shop;

/// Most pairs of a piece of work, and the bytes of text at which one ends: a piece takes moments, not seconds.
const PAIRS: usize = 128;
const TEXT: usize = 64 << 10;

/// What pieces share.
struct Work {
    input: EvaluateInput,
    bert: Option<Embedding>,
}

/// What `bert_score` is computed with.
struct Embedding {
    model: Arc<Model>,
    layer: Option<usize>,
    /// What tokens count, where not all the same.
    idf: Option<Idf>,
}

/// What came of a piece.
struct Piece {
    evaluation: Evaluation,
    bert: Sum,
    /// The scores of its pairs as JSON, separated by commas, where they are wanted.
    lines: Vec<u8>,
}

/// The sum of scores whose mean is that of the corpus.
#[derive(Clone, Copy, Default)]
struct Sum {
    pairs: u64,
    precision: f64,
    recall: f64,
    f1: f64,
}

/// All scores of a pair or of the corpus.
struct Line<'a> {
    scores: &'a Scores,
    bert: Option<postrider_bert::Score>,
}

/// Scores the pairs of `input`; gives `{"corpus":{…},"pairs":[{…},…]}`.
pub(crate) async fn run(shop: &Shop, input: Bytes, progress: &Progress) -> Result<Vec<u8>, Error> {
    let (jobs, model) = (shop.jobs.clone(), shop.model.clone());
    let prepare = move || {
        let input = EvaluateInput::from_json(&jobs.kinds, &input).map_err(|error| Error::new("invalid_input", error))?;
        let bert = Embedding::of(&input, model)?;
        Ok(Arc::new(Work { input, bert }))
    };
    let work = computed(shop, prepare).await??;
    let pairs = work.input.pairs.len();
    let pieces = pieces(&work.input.pairs).into_iter().map(|range| {
        let work = work.clone();
        async move {
            let done = range.end;
            computed(shop, move || work.score(range)).await?.map(|piece| (done, piece))
        }
    });
    let mut scored = stream::iter(pieces).buffered(shop.options.threads.max(1));
    let mut evaluation = work.evaluation();
    let (mut bert, mut lines) = (Sum::default(), Vec::new());
    while let Some((done, piece)) = scored.try_next().await? {
        evaluation.merge(&piece.evaluation).map_err(|error| Error::new("internal", error))?;
        bert += piece.bert;
        if !lines.is_empty() && !piece.lines.is_empty() {
            lines.push(b',');
        }
        lines.extend_from_slice(&piece.lines);
        progress.set(Counts::of(done, pairs));
    }
    let corpus = Line { scores: &evaluation.corpus(), bert: work.bert.is_some().then(|| bert.mean()) };
    let mut result = Vec::with_capacity(lines.len() + 1024);
    result.extend_from_slice(b"{\"corpus\":");
    serde_json::to_writer(&mut result, &corpus).map_err(|error| Error::new("internal", error))?;
    if work.input.detail == Detail::Pairs {
        result.extend_from_slice(b",\"pairs\":[");
        result.append(&mut lines);
        result.push(b']');
    }
    result.push(b'}');
    Ok(result)
}

impl Embedding {
    /// What the input asks for; with `idf` that takes a pass over all references.
    fn of(input: &EvaluateInput, model: Option<Arc<Model>>) -> Result<Option<Embedding>, Error> {
        let Some(options) = input.bert else { return Ok(None) };
        let model =
            model.ok_or_else(|| Error::new("unavailable", "this worker has no evaluate.bert_model, the server that took the job has"))?;
        let mut idf = options.idf.then(Idf::default);
        if let Some(idf) = &mut idf {
            for pairs in input.pairs.chunks(PAIRS) {
                idf.add(&model, &borrowed(pairs)).map_err(unscored)?;
            }
        }
        Ok(Some(Embedding { model, layer: options.layer, idf }))
    }

    fn score(&self, pairs: &[Pair]) -> Result<Vec<postrider_bert::Score>, Error> {
        let options = postrider_bert::Options { layer: self.layer, idf: self.idf.as_ref() };
        self.model.score(&borrowed(pairs), &options).map_err(unscored)
    }
}

impl Work {
    fn evaluation(&self) -> Evaluation {
        Evaluation::new(self.input.metrics.iter().copied(), self.input.options)
    }

    /// Scores some of the pairs.
    fn score(&self, range: Range<usize>) -> Result<Piece, Error> {
        let (pairs, mut evaluation) = (&self.input.pairs[range.clone()], self.evaluation());
        let embedded = self.bert.as_ref().map(|bert| bert.score(pairs)).transpose()?;
        let (mut sum, mut lines) = (Sum::default(), Vec::new());
        for (place, pair) in pairs.iter().enumerate() {
            let scores = evaluation.score(pair).map_err(|error| Error::new("invalid_input", at(error, range.start + place)))?;
            let bert = embedded.as_ref().and_then(|scores| scores.get(place).copied());
            sum += bert.map(Sum::of).unwrap_or_default();
            if self.input.detail == Detail::Pairs {
                if !lines.is_empty() {
                    lines.push(b',');
                }
                serde_json::to_writer(&mut lines, &Line { scores: &scores, bert }).map_err(|error| Error::new("internal", error))?;
            }
        }
        Ok(Piece { evaluation, bert: sum, lines })
    }
}

impl Sum {
    fn of(score: postrider_bert::Score) -> Sum {
        Sum { pairs: 1, precision: score.precision, recall: score.recall, f1: score.f1 }
    }

    fn mean(self) -> postrider_bert::Score {
        let pairs = self.pairs.max(1) as f64;
        postrider_bert::Score { precision: self.precision / pairs, recall: self.recall / pairs, f1: self.f1 / pairs }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.pairs += other.pairs;
        self.precision += other.precision;
        self.recall += other.recall;
        self.f1 += other.f1;
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (metric, score) in self.scores.iter() {
            map.serialize_entry(metric.name(), &score)?;
        }
        if let Some(bert) = &self.bert {
            map.serialize_entry("bert_score", bert)?;
        }
        map.end()
    }
}

fn borrowed(pairs: &[Pair]) -> Vec<postrider_bert::Pair<'_>> {
    pairs.iter().map(|pair| postrider_bert::Pair { candidate: &pair.candidate, references: &pair.references }).collect()
}

fn unscored(error: ScoreError) -> Error {
    match &error {
        ScoreError::NoReference { .. } | ScoreError::NoLayer { .. } | ScoreError::Text(_) => Error::new("invalid_input", error),
        ScoreError::Model(_) => Error::new("internal", error),
    }
}

/// The error of a pair by its place among all.
fn at(error: PairError, index: usize) -> PairError {
    let index = index as u64;
    match error {
        PairError::NoReference { .. } => PairError::NoReference { pair: index },
        PairError::TooLong { bytes, .. } => PairError::TooLong { pair: index, bytes },
        PairError::TooCostly { metric, steps, .. } => PairError::TooCostly { pair: index, metric, steps },
    }
}

/// Cuts pairs into pieces of work.
fn pieces(pairs: &[Pair]) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut first, mut text) = (0, 0);
    for (index, pair) in pairs.iter().enumerate() {
        text += pair.candidate.len() + pair.references.iter().map(String::len).sum::<usize>();
        if index + 1 - first >= PAIRS || text >= TEXT || index + 1 == pairs.len() {
            pieces.push(first..index + 1);
            (first, text) = (index + 1, 0);
        }
    }
    pieces
}

/// Computes where it holds nobody up, when a core is free for it.
async fn computed<T: Send + 'static>(shop: &Shop, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let permit = shop.cores.clone().acquire_owned().await.map_err(|error| Error::new("internal", error))?;
    let run = move || {
        let _permit = permit; // held until the work is done, even if nobody waits for it any more
        work()
    };
    tokio::task::spawn_blocking(run).await.map_err(|error| {
        tracing::error!(%error, "a piece of an evaluation died");
        Error::new("internal", "a piece of the work died; the operator's log says more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_pairs_once_and_are_bounded() {
        let pair = |bytes: usize| Pair { candidate: "x".repeat(bytes), references: vec![String::new()] };
        let mut pairs: Vec<Pair> = (0..300).map(|_| pair(10)).collect();
        pairs.extend((0..5).map(|_| pair(TEXT)));
        let pieces = pieces(&pairs);
        assert_eq!(pieces, [0..128, 128..256, 256..301, 301..302, 302..303, 303..304, 304..305]);
        assert!(super::pieces(&[]).is_empty());
    }
}

//! The kind `evaluate`: texts scored against references, on all cores.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_core::job::Error;
use postrider_evaluate::{Evaluation, Pair, PairError};
use postrider_ingest::jobs::{Detail, EvaluateInput};

use crate::worker::Shop;

/// Most pairs of a piece of work, and the bytes of text at which one ends: a piece takes moments, not seconds.
const PAIRS: usize = 128;
const TEXT: usize = 64 << 10;

/// Scores the pairs of `input`; gives `{"corpus":{…},"pairs":[{…},…]}`.
pub(crate) async fn run(shop: &Shop, input: Bytes, progress: &Cell<u16>) -> Result<Vec<u8>, Error> {
    let read = move || EvaluateInput::from_json(&input).map_err(|error| Error::new("invalid_input", error));
    let input = Arc::new(computed(shop, read).await??);
    let pieces = pieces(&input.pairs);
    let work = pieces.into_iter().map(|range| {
        let input = input.clone();
        async move {
            let done = range.end;
            computed(shop, move || score(&input, range)).await?.map(|scored| (done, scored))
        }
    });
    let mut scored = stream::iter(work).buffered(shop.options.threads.max(1));
    let mut evaluation = Evaluation::new(input.metrics.iter().copied(), input.options);
    let mut pairs = Vec::new();
    while let Some((done, (piece, lines))) = scored.try_next().await? {
        evaluation.merge(&piece).map_err(|error| Error::new("internal", error))?;
        if !pairs.is_empty() && !lines.is_empty() {
            pairs.push(b',');
        }
        pairs.extend_from_slice(&lines);
        progress.set(u16::try_from(done * 1000 / input.pairs.len()).unwrap_or(1000));
    }
    let mut result = Vec::with_capacity(pairs.len() + 1024);
    result.extend_from_slice(b"{\"corpus\":");
    serde_json::to_writer(&mut result, &evaluation.corpus()).map_err(|error| Error::new("internal", error))?;
    if input.detail == Detail::Pairs {
        result.extend_from_slice(b",\"pairs\":[");
        result.append(&mut pairs);
        result.push(b']');
    }
    result.push(b'}');
    Ok(result)
}

/// Scores some of the pairs; also gives their scores as JSON, separated by commas, where they are wanted.
fn score(input: &EvaluateInput, range: Range<usize>) -> Result<(Evaluation, Vec<u8>), Error> {
    let mut evaluation = Evaluation::new(input.metrics.iter().copied(), input.options);
    let mut lines = Vec::new();
    for (pair, index) in input.pairs[range.clone()].iter().zip(range) {
        let scores = evaluation.score(pair).map_err(|error| Error::new("invalid_input", at(error, index)))?;
        if input.detail == Detail::Pairs {
            if !lines.is_empty() {
                lines.push(b',');
            }
            serde_json::to_writer(&mut lines, &scores).map_err(|error| Error::new("internal", error))?;
        }
    }
    Ok((evaluation, lines))
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

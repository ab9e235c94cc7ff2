//! Walking over rows from the newest to the oldest, through partitions of one hour or day each.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use postrider_core::id::Uid;
use scylla::client::session::Session;

use super::pages::{Answered, Pages};
use crate::store::StoreError;

/// Something that is made of one row or of several that lie together.
pub(super) trait Piece: Sized + Send {
    /// The event it belongs to; pieces lie newest event first.
    fn event(&self) -> Uid;
    /// Takes up what lies behind it, or gives it back as a piece of its own.
    fn absorb(&mut self, next: Self) -> Result<(), Self>;
}

/// An hour or a day to walk through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    /// Its number.
    pub(super) at: i32,
    /// Its first id: where one goes on behind it.
    pub(super) first: Uid,
    /// Hours that it stands for.
    pub(super) hours: usize,
}

/// What a walk meets.
pub(super) enum Met<P> {
    Piece(P),
    /// The end of this leg.
    End(Leg),
}

/// Turns a page's rows into pieces of one row each.
pub(super) type Read<P> = Box<dyn Fn(&Answered) -> Result<Vec<P>, StoreError> + Send + Sync>;

/// Walks through `legs`. `ask` says which partitions make up a leg; the first pages of `ahead` legs are asked for at a time.
pub(super) fn walk<'a, P: Piece + 'a>(
    session: &'a Session,
    what: &'static str,
    legs: Vec<Leg>,
    ahead: usize,
    ask: impl Fn(Leg) -> Result<Vec<Pages>, StoreError> + Send + Sync + 'a,
    read: &'a Read<P>,
) -> impl Stream<Item = Result<Met<P>, StoreError>> + Send + 'a {
    let begin = move |leg: Leg| {
        let partitions = ask(leg);
        async move {
            let mut merged = Merged { session, what, read, parts: partitions?.into_iter().map(Part::new).collect() };
            merged.fill().await?;
            Ok(stream::try_unfold((merged, Some(leg)), |(mut merged, leg)| async move {
                let Some(leg) = leg else { return Ok(None) };
                match merged.next().await? {
                    Some(piece) => Ok(Some((Met::Piece(piece), (merged, Some(leg))))),
                    None => Ok(Some((Met::End(leg), (merged, None)))),
                }
            }))
        }
    };
    stream::iter(legs).map(begin).buffered(ahead).try_flatten()
}

/// The partitions of one leg, read as if they were one.
struct Merged<'a, P> {
    session: &'a Session,
    what: &'static str,
    read: &'a Read<P>,
    parts: Vec<Part<P>>,
}

/// One partition.
struct Part<P> {
    pages: Pages,
    pieces: VecDeque<P>,
}

impl<P: Piece> Merged<'_, P> {
    /// Reads until the first piece of every partition is complete.
    async fn fill(&mut self) -> Result<(), StoreError> {
        let (session, what, read) = (self.session, self.what, self.read);
        try_join_all(self.parts.iter_mut().map(|part| part.fill(session, what, read))).await.map(drop)
    }

    async fn next(&mut self) -> Result<Option<P>, StoreError> {
        self.fill().await?;
        let newest = self.parts.iter_mut().max_by_key(|part| part.pieces.front().map(Piece::event));
        Ok(newest.and_then(|part| part.pieces.pop_front()))
    }
}

impl<P: Piece> Part<P> {
    fn new(pages: Pages) -> Part<P> {
        Part { pages, pieces: VecDeque::new() }
    }

    /// A piece is complete when another one, or nothing, lies behind it.
    async fn fill(&mut self, session: &Session, what: &'static str, read: &Read<P>) -> Result<(), StoreError> {
        while self.pieces.len() < 2 && !self.pages.is_over() {
            let Some(page) = self.pages.next(session, what).await? else { return Ok(()) };
            read(&page)?.into_iter().for_each(|piece| self.append(piece));
        }
        Ok(())
    }

    fn append(&mut self, piece: P) {
        let apart = match self.pieces.back_mut() {
            Some(back) => back.absorb(piece),
            None => Err(piece),
        };
        self.pieces.extend(apart.err());
    }
}

//! What walks over rows meet: events, deliveries, attempts and dead letters.

use bytes::Bytes;
use postrider_core::id::{DeliveryId, EndpointId, Uid};

use super::layout::uid;
use super::pages::Answered;
use super::points::Entry;
use super::walk::{Piece, Read};
use crate::store::codec::decode;
use crate::store::{Attempt, AttemptRow, DeadRow, EndRow, EventRow, StoreError};

/// An event with its chunks so far.
pub(super) struct WholeEvent {
    pub(super) chunks: usize,
    pub(super) id: Uid,
    pub(super) row: EventRow,
}

impl Piece for WholeEvent {
    fn event(&self) -> Uid {
        self.id
    }

    fn absorb(&mut self, next: WholeEvent) -> Result<(), WholeEvent> {
        if next.id != self.id {
            return Err(next);
        }
        self.chunks += next.chunks;
        self.row.targets.extend(next.row.targets);
        Ok(())
    }
}

pub(super) fn events_of() -> Read<WholeEvent> {
    Box::new(|page: &Answered| {
        let chunk = |(id, _, value): (Bytes, i64, Bytes)| Ok(WholeEvent { chunks: 1, id: uid(&id)?, row: decode(&value)? });
        page.rows()?.into_iter().map(chunk).collect()
    })
}

/// The newest rows of one delivery.
pub(super) struct Newest {
    pub(super) rows: usize,
    pub(super) id: DeliveryId,
    pub(super) last: Option<Attempt>,
    pub(super) end: Option<EndRow>,
}

impl Newest {
    pub(super) fn of(entry: Entry, endpoint: EndpointId) -> Newest {
        let attempt = |id, n, row: AttemptRow| Attempt { id, n, row };
        match entry {
            Entry::Attempt(event, n, row) => {
                let id = DeliveryId { event, endpoint };
                Newest { rows: 1, id, last: Some(attempt(id, n, row)), end: None }
            }
            Entry::End(event, row) => Newest { rows: 1, id: DeliveryId { event, endpoint }, last: None, end: Some(row) },
        }
    }
}

impl Piece for Newest {
    fn event(&self) -> Uid {
        self.id.event
    }

    fn absorb(&mut self, next: Newest) -> Result<(), Newest> {
        if next.id != self.id {
            return Err(next);
        }
        self.rows += next.rows;
        self.end = self.end.or(next.end);
        self.last = self.last.take().or(next.last);
        Ok(())
    }
}

/// A row of `attempts` by itself.
pub(super) struct Single(pub(super) Entry);

impl Piece for Single {
    fn event(&self) -> Uid {
        match &self.0 {
            Entry::Attempt(event, ..) | Entry::End(event, _) => *event,
        }
    }

    fn absorb(&mut self, next: Single) -> Result<(), Single> {
        Err(next)
    }
}

/// A row of `dead_letters`.
pub(super) struct DeadEntry {
    pub(super) id: DeliveryId,
    pub(super) dead: DeadRow,
}

impl Piece for DeadEntry {
    fn event(&self) -> Uid {
        self.id.event
    }

    fn absorb(&mut self, next: DeadEntry) -> Result<(), DeadEntry> {
        Err(next)
    }
}

pub(super) fn dead_entries(page: &Answered) -> Result<Vec<DeadEntry>, StoreError> {
    let entry = |(event, endpoint, value): (Bytes, Bytes, Bytes)| {
        let id = DeliveryId { event: uid(&event)?, endpoint: EndpointId(uid(&endpoint)?) };
        Ok(DeadEntry { id, dead: decode(&value)? })
    };
    page.rows()?.into_iter().map(entry).collect()
}

//! A page of a list while it is gathered, and which rows it looks at.

use std::ops::RangeInclusive;

use postrider_core::id::{DeliveryId, Uid};
use postrider_core::time::Time;

use super::{DeliveryFilter, DeliverySummary, MAX_PAGE, Page};

/// Rows that a page looks at; then it ends, full or not.
pub(super) const SCAN_LIMIT: usize = 20_000;

/// Events from `first` up to, not including, `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) first: Uid,
    pub(super) end: Uid,
}

impl Span {
    pub(super) const ALL: Span = Span { first: Uid(0), end: Uid(u128::MAX) };

    pub(super) fn new(since: Option<Time>, until: Option<Time>, before: Option<Uid>) -> Span {
        let until = until.map_or(Uid(u128::MAX), Uid::first_at);
        Span { first: since.map_or(Uid(0), Uid::first_at), end: before.map_or(until, |before| before.min(until)) }
    }

    pub(super) fn of(filter: &DeliveryFilter) -> Span {
        Span::new(filter.since, filter.until, None)
    }

    /// The part of it up to and with `event`.
    pub(super) fn up_to(self, event: Uid) -> Span {
        Span { end: self.end.min(Uid(event.0.saturating_add(1))), ..self }
    }

    pub(super) fn times(self) -> RangeInclusive<Time> {
        self.first.time()..=self.end.time()
    }
}

/// Where a page of deliveries begins: behind this one, or at the newest.
#[derive(Clone, Copy)]
pub(super) struct Behind(pub(super) Option<DeliveryId>);

impl Behind {
    /// The part of `span` that the page may look at.
    pub(super) fn within(self, span: Span) -> Span {
        self.0.map_or(span, |before| span.up_to(before.event))
    }

    pub(super) fn has(self, id: DeliveryId) -> bool {
        self.0.is_none_or(|before| id < before)
    }
}

/// A page while it is gathered: one item more than wanted is looked for, to know whether there is a next page.
pub(super) struct Gather<T, C> {
    limit: usize,
    pub(super) rows: usize,
    items: Vec<T>,
    last: Option<C>,
}

impl<T, C> Gather<T, C> {
    pub(super) fn new(limit: usize) -> Gather<T, C> {
        Gather { limit: limit.clamp(1, MAX_PAGE), rows: 0, items: Vec::new(), last: None }
    }

    /// Takes the item at `cursor`, or notes that what is there is not wanted.
    pub(super) fn offer(&mut self, cursor: C, item: Option<T>) {
        self.last = Some(cursor);
        self.items.extend(item);
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() > self.limit || self.rows >= SCAN_LIMIT
    }

    pub(super) fn finish(mut self, cursor: impl Fn(&T) -> C) -> Page<T, C> {
        let next = if self.items.len() > self.limit {
            self.items.truncate(self.limit);
            self.items.last().map(cursor)
        } else if self.rows >= SCAN_LIMIT {
            self.last
        } else {
            None
        };
        Page { items: self.items, next }
    }
}

pub(super) fn wants(filter: &DeliveryFilter, delivery: &DeliverySummary) -> bool {
    filter.endpoint.is_none_or(|endpoint| endpoint == delivery.id.endpoint)
        && filter.kind.as_ref().is_none_or(|kind| *kind == delivery.kind)
        && filter.state.is_none_or(|state| state == delivery.state)
}

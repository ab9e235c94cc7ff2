//! Lists, newest first, page by page. A page looks at a bounded number of rows and hours.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use tokio::time::timeout;

use super::Store;
use super::hours::MAX_HOURS;
use super::layout::{EVENT_SHARDS, blob, day, first_hour, first_of, hours, virtual_shard};
use super::pages::Pages;
use super::pieces::{DeadEntry, Single, WholeEvent, events_of};
use super::points::{Entry, entries};
use super::walk::{Leg, Met, Piece, Read, walk};
use crate::store::names::check_tenant;
use crate::store::page::{Gather, SCAN_LIMIT, Span};
use crate::store::{Attempt, AttemptCursor, Event, EventFilter, Page, StoreError};

/// Time-out of a page.
const LIST_LIMIT: Duration = Duration::from_secs(10);
/// What looking into an hour counts for. Beyond [`MAX_HOURS`] hours a page ends by this.
pub(super) const HOUR: usize = SCAN_LIMIT.div_ceil(MAX_HOURS as usize);
/// Hours or days looked into at a time.
pub(super) const AHEAD: usize = 4;
/// Hours of one endpoint looked into at a time; each is but one partition.
const ENDPOINT_AHEAD: usize = 16;
/// Fewest and most rows of one answer.
const PAGES: (usize, usize) = (32, 500);

impl Store {
    pub(in crate::store) async fn events(
        &self,
        tenant: &str,
        filter: EventFilter,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Page<Event, Uid>, StoreError> {
        check_tenant(tenant)?;
        let list = async {
            let read = events_of();
            let mut page = Gather::new(limit);
            let mut events = pin!(self.walk_events(tenant, Span::new(filter.since, filter.until, before), limit, &read).await?);
            while let Some(met) = events.try_next().await? {
                match met {
                    Met::Piece(WholeEvent { chunks, id, row }) => {
                        page.rows += chunks;
                        let wanted = filter.kind.as_ref().is_none_or(|kind| *kind == row.kind);
                        page.offer(id, wanted.then_some(Event { id, row, body: None }));
                    }
                    Met::End(leg) => {
                        page.rows += leg.hours * HOUR;
                        page.offer(leg.first, None);
                    }
                }
                if page.is_full() {
                    break;
                }
            }
            Ok(page.finish(|event| event.id))
        };
        within("list events", list).await
    }

    pub(in crate::store) async fn endpoint_attempts(
        &self,
        tenant: &str,
        endpoint: EndpointId,
        before: Option<AttemptCursor>,
        limit: usize,
    ) -> Result<Page<Attempt, AttemptCursor>, StoreError> {
        check_tenant(tenant)?;
        let list = async {
            let span = before.map_or(Span::ALL, |before| Span::ALL.up_to(before.event));
            let owner = tenant.to_owned();
            let read: Read<Single> = Box::new(move |page| Ok(entries(page, &owner)?.into_iter().map(Single).collect()));
            let mut page = Gather::new(limit);
            let mut rows = pin!(self.walk_endpoint(tenant, endpoint, span, limit, &read).await?);
            while let Some(met) = rows.try_next().await? {
                match met {
                    Met::Piece(Single(Entry::Attempt(event, n, row))) => {
                        let cursor = AttemptCursor { event, n };
                        if before.is_none_or(|before| cursor < before) {
                            page.rows += 1;
                            page.offer(cursor, Some(Attempt { id: DeliveryId { event, endpoint }, n, row }));
                        }
                    }
                    Met::Piece(Single(Entry::End(..))) => page.rows += 1,
                    Met::End(leg) => {
                        page.rows += leg.hours * HOUR;
                        page.offer(AttemptCursor { event: leg.first, n: 0 }, None);
                    }
                }
                if page.is_full() {
                    break;
                }
            }
            Ok(page.finish(|attempt| AttemptCursor { event: attempt.id.event, n: attempt.n }))
        };
        within("list attempts", list).await
    }

    /// The hours of a span that hold anything of a tenant.
    pub(super) async fn legs(&self, tenant: &str, span: Span) -> Result<Vec<Leg>, StoreError> {
        let hours = self.hours_of(tenant, hours(&span.times())).await?;
        Ok(hours.into_iter().map(|at| Leg { at, first: first_of(at), hours: 1 }).collect())
    }

    pub(super) async fn walk_events<'a>(
        &'a self,
        tenant: &'a str,
        span: Span,
        limit: usize,
        read: &'a Read<WholeEvent>,
    ) -> Result<impl Stream<Item = Result<Met<WholeEvent>, StoreError>> + Send + 'a, StoreError> {
        let legs = self.legs(tenant, span).await?;
        let ask = move |leg: Leg| {
            let of_shard = |shard: i32| {
                let values = (tenant, leg.at, shard, blob(span.first), blob(span.end));
                Pages::new(&self.inner.statements.events, &values, rows_of(limit))
            };
            (0..EVENT_SHARDS).map(of_shard).collect()
        };
        Ok(walk(&self.inner.session, "list events", legs, AHEAD, ask, read))
    }

    pub(super) async fn walk_endpoint<'a, P: Piece + 'a>(
        &'a self,
        tenant: &'a str,
        endpoint: EndpointId,
        span: Span,
        limit: usize,
        read: &'a Read<P>,
    ) -> Result<impl Stream<Item = Result<Met<P>, StoreError>> + Send + 'a, StoreError> {
        let legs = self.legs(tenant, span).await?;
        let vshard = virtual_shard(endpoint, self.inner.virtual_shards);
        let ask = move |leg: Leg| {
            let values = (vshard, leg.at, blob(endpoint.0), blob(span.first), blob(span.end));
            Ok(vec![Pages::new(&self.inner.statements.attempts, &values, rows_of(limit))?])
        };
        Ok(walk(&self.inner.session, "list attempts", legs, ENDPOINT_AHEAD, ask, read))
    }

    pub(super) async fn walk_dead<'a>(
        &'a self,
        tenant: &'a str,
        span: Span,
        limit: usize,
        read: &'a Read<DeadEntry>,
    ) -> Result<impl Stream<Item = Result<Met<DeadEntry>, StoreError>> + Send + 'a, StoreError> {
        let mut days: BTreeMap<i32, usize> = BTreeMap::new();
        for leg in self.legs(tenant, span).await? {
            *days.entry(day(leg.at)).or_default() += leg.hours;
        }
        let legs = days.into_iter().rev().map(|(at, hours)| Leg { at, first: first_of(first_hour(at)), hours }).collect();
        let ask = move |leg: Leg| {
            let values = (tenant, leg.at, blob(span.first), blob(span.end));
            Ok(vec![Pages::new(&self.inner.statements.dead_letters, &values, rows_of(limit))?])
        };
        Ok(walk(&self.inner.session, "list dead letters", legs, AHEAD, ask, read))
    }
}

/// A page in time, or none.
pub(super) async fn within<T>(what: &'static str, list: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(LIST_LIMIT, list).await.map_err(|_| StoreError::Timeout { what, seconds: LIST_LIMIT.as_secs() })?
}

/// Rows to ask a partition for at a time, where `limit` items are wanted.
pub(super) fn rows_of(limit: usize) -> Option<i32> {
    i32::try_from(limit.saturating_add(2).clamp(PAGES.0, PAGES.1)).ok()
}

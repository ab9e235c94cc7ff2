//! Lists, newest first, page by page. A page looks at a bounded number of rows.

use fjall::{Readable, Snapshot};
use postrider_core::attempt::DeliveryState;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::time::Time;

use super::Store;
use super::keys::{self, Key};
use super::points::summary;
use super::tables::{Tables, unavailable};
use crate::store::codec::decode;
use crate::store::names::check_tenant;
use crate::store::page::{Behind, Gather, Span, wants};
use crate::store::rows::summary_of;
use crate::store::{
    Attempt, AttemptCursor, DeadLetter, DeadRow, DeliveryFilter, DeliverySummary, EndRow, Event, EventFilter, EventRow, Page, StoreError,
};

impl Store {
    pub(in crate::store) async fn events(
        &self,
        tenant: &str,
        filter: EventFilter,
        before: Option<Uid>,
        limit: usize,
    ) -> Result<Page<Event, Uid>, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        let list = move |tables: &Tables| {
            let span = Span::new(filter.since, filter.until, before);
            let mut page = Gather::new(limit);
            walk_events(tables, &tables.db.snapshot(), &tenant, span, &mut |scanned, id, row| {
                page.rows += scanned;
                let wanted = filter.kind.as_ref().is_none_or(|kind| *kind == row.kind);
                page.offer(id, wanted.then_some(Event { id, row, body: None }));
                Ok(!page.is_full())
            })?;
            Ok(page.finish(|event| event.id))
        };
        self.read("list events", list).await
    }

    pub(in crate::store) async fn deliveries(
        &self,
        tenant: &str,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeliverySummary, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        let list = move |tables: &Tables| {
            let query = Query { tables, snapshot: &tables.db.snapshot(), tenant: &tenant, behind: Behind(before) };
            let mut page = Gather::new(limit);
            match (filter.state, filter.endpoint) {
                (Some(DeliveryState::Failed), _) => query.dead(&filter, &mut page)?,
                (Some(DeliveryState::Pending), _) | (_, None) => query.by_event(&filter, &mut page)?,
                (Some(DeliveryState::Succeeded | DeliveryState::Canceled) | None, Some(endpoint)) => {
                    query.by_endpoint(endpoint, &filter, &mut page)?;
                }
            }
            Ok(page.finish(|delivery| delivery.id))
        };
        self.read("list deliveries", list).await
    }

    pub(in crate::store) async fn endpoint_attempts(
        &self,
        tenant: &str,
        endpoint: EndpointId,
        before: Option<AttemptCursor>,
        limit: usize,
    ) -> Result<Page<Attempt, AttemptCursor>, StoreError> {
        check_tenant(tenant)?;
        let scope = Key::scope(keys::ATTEMPT, tenant).with(endpoint.0);
        let list = move |tables: &Tables| {
            let before = before.unwrap_or(AttemptCursor { event: Uid(u128::MAX), n: keys::END });
            let range = scope.with(Uid(0)).into_bytes()..scope.with(before.event).numbered(before.n).into_bytes();
            let mut page = Gather::new(limit);
            newest_rows(tables, &tables.db.snapshot(), Time(0)..=before.event.time(), range, &mut |key, value| {
                let (event, n) = (keys::uid(key, 4)?, keys::number(key)?);
                let id = DeliveryId { event, endpoint };
                let attempt = if n == keys::END { None } else { Some(Attempt { id, n, row: decode(value)? }) };
                page.rows += 1;
                page.offer(AttemptCursor { event, n }, attempt);
                Ok(!page.is_full())
            })?;
            Ok(page.finish(|attempt| AttemptCursor { event: attempt.id.event, n: attempt.n }))
        };
        self.read("list attempts", list).await
    }

    pub(in crate::store) async fn dead_letters(
        &self,
        tenant: &str,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeadLetter, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        let list = move |tables: &Tables| {
            let query = Query { tables, snapshot: &tables.db.snapshot(), tenant: &tenant, behind: Behind(before) };
            let mut page = Gather::new(limit);
            query.dead_letters(Span::ALL, &mut |id, letter| {
                page.rows += 1;
                page.offer(id, letter);
                Ok(!page.is_full())
            })?;
            Ok(page.finish(|letter| letter.delivery.id))
        };
        self.read("list dead letters", list).await
    }
}

/// A list of deliveries.
struct Query<'a> {
    tables: &'a Tables,
    snapshot: &'a Snapshot,
    tenant: &'a str,
    behind: Behind,
}

/// The newest rows of one delivery.
struct Newest {
    id: DeliveryId,
    last: Option<Attempt>,
    end: Option<EndRow>,
}

type Deliveries = Gather<DeliverySummary, DeliveryId>;

impl Query<'_> {
    fn summary(&self, id: DeliveryId, kind: Option<&str>) -> Result<Option<DeliverySummary>, StoreError> {
        summary(self.tables, self.snapshot, self.tenant, id, kind)
    }

    /// Walks the events and looks up each of their targets.
    fn by_event(&self, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let span = self.behind.within(Span::of(filter));
        walk_events(self.tables, self.snapshot, self.tenant, span, &mut |scanned, event, row| {
            page.rows += scanned;
            let mut endpoints: Vec<EndpointId> = row.targets.iter().map(|target| target.endpoint).collect();
            endpoints.sort_unstable_by(|a, b| b.cmp(a));
            endpoints.dedup();
            for endpoint in endpoints {
                let id = DeliveryId { event, endpoint };
                let wanted = filter.endpoint.is_none_or(|wanted| wanted == endpoint);
                if !wanted || !self.behind.has(id) {
                    continue;
                }
                page.rows += 1;
                page.offer(id, self.summary(id, Some(&row.kind))?.filter(|delivery| wants(filter, delivery)));
                if page.is_full() {
                    return Ok(false);
                }
            }
            // Where none of the targets was wanted, the next page begins behind the event.
            page.offer(DeliveryId { event, endpoint: EndpointId(Uid(0)) }, None);
            Ok(!page.is_full())
        })
    }

    /// Walks the attempts and ends of one endpoint; those of one delivery lie together, the end and the newest first.
    fn by_endpoint(&self, endpoint: EndpointId, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let scope = Key::scope(keys::ATTEMPT, self.tenant).with(endpoint.0);
        let span = self.behind.within(Span::of(filter));
        let range = scope.with(span.first).into_bytes()..scope.with(span.end).into_bytes();
        let mut open: Option<Newest> = None;
        newest_rows(self.tables, self.snapshot, span.times(), range, &mut |key, value| {
            let id = DeliveryId { event: keys::uid(key, 4)?, endpoint };
            if !self.behind.has(id) {
                return Ok(true);
            }
            page.rows += 1;
            if let Some(newest) = open.take_if(|newest| newest.id != id) {
                self.offer(newest, filter, page)?;
                if page.is_full() {
                    return Ok(false);
                }
            }
            let newest = open.get_or_insert(Newest { id, last: None, end: None });
            match keys::number(key)? {
                keys::END => newest.end = Some(decode(value)?),
                n if newest.last.is_none() => newest.last = Some(Attempt { id, n, row: decode(value)? }),
                _older => {}
            }
            Ok(true)
        })?;
        match open {
            Some(newest) => self.offer(newest, filter, page),
            None => Ok(()),
        }
    }

    fn offer(&self, newest: Newest, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let Newest { id, last, end } = newest;
        let delivery = match last {
            Some(last) => Some(summary_of(id, last.row.kind.clone(), Some(last), end)),
            None => self.summary(id, None)?,
        };
        page.offer(id, delivery.filter(|delivery| wants(filter, delivery)));
        Ok(())
    }

    /// Walks the dead letters.
    fn dead(&self, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        self.dead_letters(Span::of(filter), &mut |id, letter| {
            page.rows += 1;
            page.offer(id, letter.map(|letter| letter.delivery).filter(|delivery| wants(filter, delivery)));
            Ok(!page.is_full())
        })
    }

    fn dead_letters(
        &self,
        span: Span,
        visit: &mut dyn FnMut(DeliveryId, Option<DeadLetter>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let scope = Key::scope(keys::DEAD, self.tenant);
        let span = self.behind.within(span);
        let range = scope.with(span.first).into_bytes()..scope.with(span.end).into_bytes();
        newest_rows(self.tables, self.snapshot, span.times(), range, &mut |key, value| {
            let id = DeliveryId { event: keys::uid(key, 16)?, endpoint: EndpointId(keys::uid(key, 0)?) };
            if !self.behind.has(id) {
                return Ok(true);
            }
            let dead: DeadRow = decode(value)?;
            visit(id, self.summary(id, None)?.map(|delivery| DeadLetter { delivery, dead }))
        })
    }
}

/// Sees a key and its value, and says whether to go on.
type VisitRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Visits the rows of `range` in the buckets of `times` from the newest to the oldest, until a visit says `false`.
fn newest_rows(
    tables: &Tables,
    snapshot: &Snapshot,
    times: std::ops::RangeInclusive<Time>,
    range: std::ops::Range<Vec<u8>>,
    visit: &mut VisitRow<'_>,
) -> Result<(), StoreError> {
    if range.is_empty() {
        return Ok(());
    }
    for bucket in tables.rows.newest_first(times) {
        for row in snapshot.range(&bucket, range.clone()).rev() {
            let (key, value) = row.into_inner().map_err(unavailable)?;
            if !visit(&key, &value)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Visits the events of `span` from the newest to the oldest with the number of their chunks, until a visit says `false`.
fn walk_events(
    tables: &Tables,
    snapshot: &Snapshot,
    tenant: &str,
    span: Span,
    visit: &mut dyn FnMut(usize, Uid, EventRow) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let scope = Key::scope(keys::EVENT, tenant);
    let range = scope.with(span.first).into_bytes()..scope.with(span.end).into_bytes();
    let mut open: Option<(usize, Uid, EventRow)> = None;
    let mut go_on = true;
    newest_rows(tables, snapshot, span.times(), range, &mut |key, value| {
        let id = keys::uid(key, 4)?;
        let mut chunk: EventRow = decode(value)?;
        match open.take() {
            // Chunks come last to first; chunk 0 speaks for the event.
            Some((chunks, same, newer)) if same == id => {
                chunk.targets.extend(newer.targets);
                open = Some((chunks + 1, id, chunk));
            }
            newer => {
                if let Some((chunks, id, row)) = newer {
                    go_on = visit(chunks, id, row)?;
                }
                open = Some((1, id, chunk));
            }
        }
        Ok(go_on)
    })?;
    match open {
        Some((chunks, id, row)) if go_on => visit(chunks, id, row).map(drop),
        Some(_) | None => Ok(()),
    }
}

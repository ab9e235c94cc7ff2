//! Lists, newest first, page by page. A page looks at a bounded number of rows and hours.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use postrider_core::attempt::DeliveryState;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use tokio::time::timeout;

use super::Store;
use super::hours::MAX_HOURS;
use super::layout::{EVENT_SHARDS, blob, day, first_hour, first_of, hours, uid, virtual_shard};
use super::pages::{Answered, Pages};
use super::points::{Entry, entries};
use super::walk::{Leg, Met, Piece, Read, walk};
use crate::store::codec::decode;
use crate::store::names::check_tenant;
use crate::store::page::{Gather, SCAN_LIMIT, Span, wants};
use crate::store::rows::summary_of;
use crate::store::{
    Attempt, AttemptCursor, AttemptRow, DeadLetter, DeadRow, DeliveryFilter, DeliverySummary, EndRow, Event, EventFilter, EventRow, Page,
    StoreError,
};

/// Time-out of a page.
const LIST_LIMIT: Duration = Duration::from_secs(10);
/// Deliveries looked up at a time.
const LOOK_UPS: usize = 32;
/// What looking up a delivery counts for among the rows that a page looks at.
const LOOK_UP: usize = 10;
/// What looking into an hour counts for. Beyond [`MAX_HOURS`] hours a page ends by this.
const HOUR: usize = SCAN_LIMIT.div_ceil(MAX_HOURS as usize);
/// Hours or days looked into at a time.
const AHEAD: usize = 4;
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

    pub(in crate::store) async fn deliveries(
        &self,
        tenant: &str,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeliverySummary, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let query = Query { store: self, tenant, before, limit };
        let list = async {
            let mut page = Gather::new(limit);
            match (filter.state, filter.endpoint) {
                (Some(DeliveryState::Failed), _) => query.dead(&filter, &mut page).await?,
                (Some(DeliveryState::Pending), _) | (_, None) => query.by_event(&filter, &mut page).await?,
                (Some(DeliveryState::Succeeded | DeliveryState::Canceled) | None, Some(endpoint)) => {
                    query.by_endpoint(endpoint, &filter, &mut page).await?;
                }
            }
            Ok(page.finish(|delivery| delivery.id))
        };
        within("list deliveries", list).await
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

    pub(in crate::store) async fn dead_letters(
        &self,
        tenant: &str,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeadLetter, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let query = Query { store: self, tenant, before, limit };
        let list = async {
            let mut page = Gather::new(limit);
            query.dead_letters(Span::ALL, &mut page, Some).await?;
            Ok(page.finish(|letter| letter.delivery.id))
        };
        within("list dead letters", list).await
    }

    /// The hours of a span that hold anything of a tenant.
    async fn legs(&self, tenant: &str, span: Span) -> Result<Vec<Leg>, StoreError> {
        let hours = self.hours_of(tenant, hours(&span.times())).await?;
        Ok(hours.into_iter().map(|at| Leg { at, first: first_of(at), hours: 1 }).collect())
    }

    async fn walk_events<'a>(
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

    async fn walk_endpoint<'a, P: Piece + 'a>(
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

    async fn walk_dead<'a>(
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

/// A list of deliveries behind `before`.
#[derive(Clone, Copy)]
struct Query<'a> {
    store: &'a Store,
    tenant: &'a str,
    before: Option<DeliveryId>,
    limit: usize,
}

/// What a list of deliveries by event goes through.
enum Step {
    /// Rows were read.
    Read(usize),
    /// A delivery of an event of this kind.
    Delivery(DeliveryId, String),
    /// All before this was seen.
    Past(DeliveryId),
}

/// A step, its delivery looked up.
enum Looked {
    Read(usize),
    Delivery(DeliveryId, Option<DeliverySummary>),
    Past(DeliveryId),
}

type Deliveries = Gather<DeliverySummary, DeliveryId>;

impl Query<'_> {
    fn last_event(&self) -> Uid {
        self.before.map_or(Uid(u128::MAX), |before| before.event)
    }

    fn is_behind(&self, id: DeliveryId) -> bool {
        self.before.is_none_or(|before| id < before)
    }

    /// Walks the events and looks up each of their targets.
    async fn by_event(&self, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let read = events_of();
        let span = Span::of(filter).up_to(self.last_event());
        let met = self.store.walk_events(self.tenant, span, self.limit, &read).await?;
        let steps = met.map_ok(|met| stream::iter(self.steps(met, filter).into_iter().map(Ok))).try_flatten();
        let looked = steps.map(|step| async {
            Ok::<_, StoreError>(match step? {
                Step::Read(rows) => Looked::Read(rows),
                Step::Past(id) => Looked::Past(id),
                Step::Delivery(id, kind) => Looked::Delivery(id, self.store.summary(self.tenant, id, Some(&kind)).await?),
            })
        });
        let mut looked = pin!(looked.buffered(LOOK_UPS));
        while let Some(step) = looked.try_next().await? {
            match step {
                Looked::Read(rows) => page.rows += rows,
                Looked::Past(id) => page.offer(id, None),
                Looked::Delivery(id, delivery) => {
                    page.rows += LOOK_UP;
                    page.offer(id, delivery.filter(|delivery| wants(filter, delivery)));
                }
            }
            if page.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn steps(&self, met: Met<WholeEvent>, filter: &DeliveryFilter) -> Vec<Step> {
        let none = EndpointId(Uid(0));
        match met {
            Met::End(leg) => vec![Step::Past(DeliveryId { event: leg.first, endpoint: none }), Step::Read(leg.hours * HOUR)],
            Met::Piece(WholeEvent { chunks, id: event, row }) => {
                let mut endpoints: Vec<EndpointId> = row.targets.iter().map(|target| target.endpoint).collect();
                endpoints.sort_unstable_by(|a, b| b.cmp(a));
                endpoints.dedup();
                let ids = endpoints.into_iter().map(|endpoint| DeliveryId { event, endpoint });
                let wanted = ids.filter(|id| filter.endpoint.is_none_or(|wanted| wanted == id.endpoint) && self.is_behind(*id));
                let mut steps: Vec<Step> = wanted.map(|id| Step::Delivery(id, row.kind.clone())).collect();
                // Where none of the targets was wanted, the next page begins behind the event.
                steps.extend([Step::Past(DeliveryId { event, endpoint: none }), Step::Read(chunks)]);
                steps
            }
        }
    }

    /// Walks the attempts and ends of one endpoint; those of one delivery lie together, the end and the newest first.
    async fn by_endpoint(&self, endpoint: EndpointId, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let owner = self.tenant.to_owned();
        let read: Read<Newest> =
            Box::new(move |page| Ok(entries(page, &owner)?.into_iter().map(|entry| Newest::of(entry, endpoint)).collect()));
        let span = Span::of(filter).up_to(self.last_event());
        let mut rows = pin!(self.store.walk_endpoint(self.tenant, endpoint, span, self.limit, &read).await?);
        while let Some(met) = rows.try_next().await? {
            match met {
                Met::Piece(newest) if self.is_behind(newest.id) => {
                    let Newest { rows, id, last, end } = newest;
                    page.rows += rows;
                    let delivery = match last {
                        Some(last) => Some(summary_of(id, last.row.kind.clone(), Some(last), end)),
                        None => self.store.summary(self.tenant, id, None).await?,
                    };
                    page.offer(id, delivery.filter(|delivery| wants(filter, delivery)));
                }
                Met::Piece(_) => {}
                Met::End(leg) => {
                    page.rows += leg.hours * HOUR;
                    page.offer(DeliveryId { event: leg.first, endpoint: EndpointId(Uid(0)) }, None);
                }
            }
            if page.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Walks the dead letters.
    async fn dead(&self, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let delivery = |letter: DeadLetter| Some(letter.delivery).filter(|delivery| wants(filter, delivery));
        self.dead_letters(Span::of(filter), page, delivery).await
    }

    async fn dead_letters<T>(
        &self,
        span: Span,
        page: &mut Gather<T, DeliveryId>,
        item: impl Fn(DeadLetter) -> Option<T>,
    ) -> Result<(), StoreError> {
        let read: Read<DeadEntry> = Box::new(dead_entries);
        let met = self.store.walk_dead(self.tenant, span.up_to(self.last_event()), self.limit, &read).await?;
        let looked = met.map(|met| async {
            Ok::<_, StoreError>(match met? {
                Met::End(leg) => (Met::End(leg), None),
                Met::Piece(entry) if !self.is_behind(entry.id) => (Met::Piece(entry), None),
                Met::Piece(entry) => {
                    let delivery = self.store.summary(self.tenant, entry.id, None).await?;
                    (Met::Piece(entry), delivery)
                }
            })
        });
        let mut looked = pin!(looked.buffered(LOOK_UPS));
        while let Some((met, delivery)) = looked.try_next().await? {
            match met {
                Met::Piece(DeadEntry { id, dead }) if self.is_behind(id) => {
                    page.rows += LOOK_UP;
                    page.offer(id, delivery.map(|delivery| DeadLetter { delivery, dead }).and_then(&item));
                }
                Met::Piece(_) => {}
                Met::End(leg) => {
                    page.rows += leg.hours * HOUR;
                    page.offer(DeliveryId { event: leg.first, endpoint: EndpointId(Uid(0)) }, None);
                }
            }
            if page.is_full() {
                break;
            }
        }
        Ok(())
    }
}

/// A page in time, or none.
async fn within<T>(what: &'static str, list: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(LIST_LIMIT, list).await.map_err(|_| StoreError::Timeout { what, seconds: LIST_LIMIT.as_secs() })?
}

/// Rows to ask a partition for at a time, where `limit` items are wanted.
fn rows_of(limit: usize) -> Option<i32> {
    i32::try_from(limit.saturating_add(2).clamp(PAGES.0, PAGES.1)).ok()
}

/// An event with its chunks so far.
struct WholeEvent {
    chunks: usize,
    id: Uid,
    row: EventRow,
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

fn events_of() -> Read<WholeEvent> {
    Box::new(|page: &Answered| {
        let chunk = |(id, _, value): (Bytes, i64, Bytes)| Ok(WholeEvent { chunks: 1, id: uid(&id)?, row: decode(&value)? });
        page.rows()?.into_iter().map(chunk).collect()
    })
}

/// The newest rows of one delivery.
struct Newest {
    rows: usize,
    id: DeliveryId,
    last: Option<Attempt>,
    end: Option<EndRow>,
}

impl Newest {
    fn of(entry: Entry, endpoint: EndpointId) -> Newest {
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
struct Single(Entry);

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
struct DeadEntry {
    id: DeliveryId,
    dead: DeadRow,
}

impl Piece for DeadEntry {
    fn event(&self) -> Uid {
        self.id.event
    }

    fn absorb(&mut self, next: DeadEntry) -> Result<(), DeadEntry> {
        Err(next)
    }
}

fn dead_entries(page: &Answered) -> Result<Vec<DeadEntry>, StoreError> {
    let entry = |(event, endpoint, value): (Bytes, Bytes, Bytes)| {
        let id = DeliveryId { event: uid(&event)?, endpoint: EndpointId(uid(&endpoint)?) };
        Ok(DeadEntry { id, dead: decode(&value)? })
    };
    page.rows()?.into_iter().map(entry).collect()
}

//! Lists of deliveries, by the events that they deliver, by an endpoint, or of those that were given up.

use std::pin::pin;

use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_core::attempt::DeliveryState;
use postrider_core::id::{DeliveryId, EndpointId, Uid};

use super::Store;
use super::lists::{HOUR, within};
use super::pieces::{DeadEntry, Newest, WholeEvent, dead_entries, events_of};
use super::points::entries;
use super::walk::{Leg, Met, Read};
use crate::store::names::check_tenant;
use crate::store::page::{Behind, Gather, Span, wants};
use crate::store::rows::summary_of;
use crate::store::{DeadLetter, DeliveryFilter, DeliverySummary, Page, StoreError};

/// Deliveries looked up at a time.
const LOOK_UPS: usize = 32;
/// What looking up a delivery counts for among the rows that a page looks at.
const LOOK_UP: usize = 10;

impl Store {
    pub(in crate::store) async fn deliveries(
        &self,
        tenant: &str,
        filter: DeliveryFilter,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeliverySummary, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let query = Query { store: self, tenant, behind: Behind(before), limit };
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

    pub(in crate::store) async fn dead_letters(
        &self,
        tenant: &str,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Result<Page<DeadLetter, DeliveryId>, StoreError> {
        check_tenant(tenant)?;
        let query = Query { store: self, tenant, behind: Behind(before), limit };
        let list = async {
            let mut page = Gather::new(limit);
            query.dead_letters(Span::ALL, &mut page, Some).await?;
            Ok(page.finish(|letter| letter.delivery.id))
        };
        within("list dead letters", list).await
    }
}

/// A list of deliveries.
#[derive(Clone, Copy)]
struct Query<'a> {
    store: &'a Store,
    tenant: &'a str,
    behind: Behind,
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
#[expect(clippy::large_enum_variant, reason = "nearly all are deliveries; a box would cost an allocation for each")]
enum Looked {
    Read(usize),
    Delivery(DeliveryId, Option<DeliverySummary>),
    Past(DeliveryId),
}

type Deliveries = Gather<DeliverySummary, DeliveryId>;

impl Query<'_> {
    /// Walks the events and looks up each of their targets.
    async fn by_event(&self, filter: &DeliveryFilter, page: &mut Deliveries) -> Result<(), StoreError> {
        let read = events_of();
        let span = self.behind.within(Span::of(filter));
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
                let wanted = ids.filter(|id| filter.endpoint.is_none_or(|wanted| wanted == id.endpoint) && self.behind.has(*id));
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
        let span = self.behind.within(Span::of(filter));
        let mut rows = pin!(self.store.walk_endpoint(self.tenant, endpoint, span, self.limit, &read).await?);
        while let Some(met) = rows.try_next().await? {
            match met {
                Met::Piece(newest) if self.behind.has(newest.id) => {
                    let Newest { rows, id, last, end } = newest;
                    page.rows += rows;
                    let delivery = match last {
                        Some(last) => Some(summary_of(id, last.row.kind.clone(), Some(last), end)),
                        None => self.store.summary(self.tenant, id, None).await?,
                    };
                    page.offer(id, delivery.filter(|delivery| wants(filter, delivery)));
                }
                Met::Piece(_) => {}
                Met::End(leg) => passed(page, &leg),
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
        let met = self.store.walk_dead(self.tenant, self.behind.within(span), self.limit, &read).await?;
        let looked = met.map(|met| async {
            Ok::<_, StoreError>(match met? {
                Met::End(leg) => (Met::End(leg), None),
                Met::Piece(entry) if !self.behind.has(entry.id) => (Met::Piece(entry), None),
                Met::Piece(entry) => {
                    let delivery = self.store.summary(self.tenant, entry.id, None).await?;
                    (Met::Piece(entry), delivery)
                }
            })
        });
        let mut looked = pin!(looked.buffered(LOOK_UPS));
        while let Some((met, delivery)) = looked.try_next().await? {
            match met {
                Met::Piece(DeadEntry { id, dead }) if self.behind.has(id) => {
                    page.rows += LOOK_UP;
                    page.offer(id, delivery.map(|delivery| DeadLetter { delivery, dead }).and_then(&item));
                }
                Met::Piece(_) => {}
                Met::End(leg) => passed(page, &leg),
            }
            if page.is_full() {
                break;
            }
        }
        Ok(())
    }
}

/// Notes that a leg was walked to its end.
fn passed<T>(page: &mut Gather<T, DeliveryId>, leg: &Leg) {
    page.rows += leg.hours * HOUR;
    page.offer(DeliveryId { event: leg.first, endpoint: EndpointId(Uid(0)) }, None);
}

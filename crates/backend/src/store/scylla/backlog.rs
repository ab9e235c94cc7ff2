//! The backlog: what waits, per partition and endpoint, in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_core::delivery::{Backlogged, Place};
use postrider_core::id::{EndpointId, Uid};
use postrider_core::partition::Partition;

use super::Store;
use super::batches::{Batches, Row};
use super::layout::{blob, order, uid};
use super::pages::Pages;
use super::probe::Stale;
use crate::store::codec::decode;
use crate::store::{Lane, MAX_PAGE, StoreError};

/// Lanes whose first rows are looked up at a time.
const LOOK_UPS: usize = 64;
/// Rows of one answer; each carries a payload.
const PAGE: usize = 100;

const LAST: Uid = Uid(u128::MAX);

impl Store {
    pub(in crate::store) async fn lanes(&self, partition: Partition) -> Result<Vec<Lane>, StoreError> {
        let marks = self.inner.marks.begin(partition)?;
        let (lowest, stale) = self.marks(partition, marks.writer()).await?;
        let looked_up = lowest.into_iter().map(|(endpoint, mark)| self.first(partition, endpoint, mark));
        let found: Vec<Option<Lane>> = stream::iter(looked_up).buffered(LOOK_UPS).try_collect().await?;
        let lanes: Vec<Lane> = found.into_iter().flatten().collect();

        let turn = marks.turn.lock().await;
        let firsts = lanes.iter().map(|lane| (lane.endpoint, lane.first));
        let (decided, rows) = marks.adopt(firsts, &self.inner.stamps)?;
        let mut batches = Batches::default();
        rows.into_iter().for_each(|row| batches.push(row));
        batches.write(&self.inner.session, &self.inner.statements).await?;
        marks.settle(decided);
        marks.adopted();
        drop(turn);
        self.stale().add(stale);
        Ok(lanes)
    }

    /// The lowest mark of each lane, and the removal of all that were found. Leaves out those that `writer` has written.
    async fn marks(&self, partition: Partition, writer: [u8; 16]) -> Result<(BTreeMap<EndpointId, Place>, Vec<Row>), StoreError> {
        let partition = i32::from(partition.0);
        let mut pages = Pages::new(&self.inner.statements.lanes, &(partition,), None)?;
        let (mut lowest, mut stale) = (BTreeMap::<EndpointId, Place>::new(), Vec::new());
        while let Some(page) = pages.next(&self.inner.session, "list lanes").await? {
            for (endpoint, by, order, event, stamp) in page.rows::<(Bytes, Bytes, i64, Bytes, i64)>()? {
                self.inner.stamps.see(stamp);
                let (endpoint, by) = (EndpointId(uid(&endpoint)?), blob(uid(&by)?));
                let mark = Place { order: order.unsigned_abs(), event: uid(&event)? };
                lowest.entry(endpoint).and_modify(|lowest| *lowest = mark.min(*lowest)).or_insert(mark);
                if by != writer {
                    // With the timestamp of what was read: a mark that is written again meanwhile stays.
                    stale.push(Row::Unmark { partition, endpoint: blob(endpoint.0), writer: by, stamp });
                }
            }
        }
        Ok((lowest, stale))
    }

    fn stale(&self) -> std::sync::MutexGuard<'_, Stale> {
        // Whole even if a holder panicked: a queue that is only pushed to and popped from.
        self.inner.stale.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The head of a lane, if anything of it lies at or behind its mark.
    async fn first(&self, partition: Partition, endpoint: EndpointId, mark: Place) -> Result<Option<Lane>, StoreError> {
        let first = self.read_backlog(partition, endpoint, mark, None, 1).await?;
        // The envelope is copied, so that a lane does not hold the payload beside it.
        let lane = |row: Backlogged| Lane { endpoint, first: row.place, due: row.due, meta: Bytes::copy_from_slice(&row.delivery.meta) };
        Ok(first.into_iter().next().map(lane))
    }

    pub(in crate::store) fn load(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        from: Place,
        low: Place,
        until: Option<u64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Backlogged>, StoreError>> + Send + use<> {
        // Now: a row that comes later may lie lower.
        let start = self.inner.marks.start(partition, endpoint, low);
        let store = self.clone();
        async move { store.read_backlog(partition, endpoint, from.max(start), until, limit.min(MAX_PAGE)).await }
    }

    pub(in crate::store) async fn find(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        event: Uid,
    ) -> Result<Option<Backlogged>, StoreError> {
        let start = self.inner.marks.start(partition, endpoint, Place::default());
        let values = (i32::from(partition.0), blob(endpoint.0), order(start.order)?, blob(start.event));
        let mut pages = Pages::new(&self.inner.statements.search, &values, None)?;
        while let Some(page) = pages.next(&self.inner.session, "search a backlog").await? {
            for (order, found) in page.rows::<(i64, Bytes)>()? {
                if uid(&found)? == event {
                    let place = Place { order: order.unsigned_abs(), event };
                    let row = self.read_backlog(partition, endpoint, place, Some(place.order), 1).await?;
                    // It may have gone or moved since; then the search says what it would have said a moment later.
                    return Ok(row.into_iter().find(|row| row.place == place));
                }
            }
        }
        Ok(None)
    }

    /// Up to `limit` rows from `from` on, up to and with order `until`.
    async fn read_backlog(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        from: Place,
        until: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Backlogged>, StoreError> {
        // No row lies beyond what a column can hold.
        let Ok(first) = order(from.order) else { return Ok(Vec::new()) };
        let last = order(until.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
        if first > last || limit == 0 {
            return Ok(Vec::new());
        }
        let values = (i32::from(partition.0), blob(endpoint.0), first, blob(from.event), last, blob(LAST));
        let size = i32::try_from(limit.min(PAGE)).ok();
        let mut pages = Pages::new(&self.inner.statements.load, &values, size)?;
        let mut rows = Vec::new();
        while rows.len() < limit
            && let Some(page) = pages.next(&self.inner.session, "load a backlog").await?
        {
            for (value, stamp) in page.rows::<(Bytes, i64)>()? {
                self.inner.stamps.see(stamp);
                rows.push(decode::<Backlogged>(&value)?);
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

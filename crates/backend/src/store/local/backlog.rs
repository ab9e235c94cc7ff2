//! The backlog: what waits, per partition and endpoint, in order.

use std::ops::Bound;

use bytes::Bytes;
use fjall::Readable;
use postrider_core::delivery::{Backlogged, Place};
use postrider_core::id::{EndpointId, Uid};
use postrider_core::partition::Partition;

use super::tables::{Tables, unavailable};
use super::{Store, keys};
use crate::store::codec::decode;
use crate::store::{Lane, MAX_PAGE, StoreError};

/// Lanes looked up by one read, so that a partition with very many stays within a read's time-out.
const LANES: usize = 256;

const LAST: Place = Place { order: u64::MAX, event: Uid(u128::MAX) };

impl Store {
    pub(in crate::store) async fn lanes(&self, partition: Partition) -> Result<Vec<Lane>, StoreError> {
        let mut lanes: Vec<Lane> = Vec::new();
        loop {
            let behind = lanes.last().map(|lane| lane.endpoint);
            let found = self.read("list lanes", move |tables| some_lanes(tables, partition, behind)).await?;
            let finished = found.len() < LANES;
            lanes.extend(found);
            if finished {
                return Ok(lanes);
            }
        }
    }

    pub(in crate::store) async fn load(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        from: Place,
        until: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Backlogged>, StoreError> {
        let last = Place { order: until.unwrap_or(u64::MAX), event: Uid(u128::MAX) };
        if from > last {
            return Ok(Vec::new());
        }
        let range = keys::backlog(partition, endpoint, from)..=keys::backlog(partition, endpoint, last);
        let load = move |tables: &Tables| {
            let rows = tables.db.snapshot().range(&tables.backlog, range).take(limit.min(MAX_PAGE));
            rows.map(|row| decode(&row.value().map_err(unavailable)?)).collect()
        };
        self.read("load a backlog", load).await
    }

    pub(in crate::store) async fn find(
        &self,
        partition: Partition,
        endpoint: EndpointId,
        event: Uid,
    ) -> Result<Option<Backlogged>, StoreError> {
        let range = keys::backlog(partition, endpoint, Place::default())..=keys::backlog(partition, endpoint, LAST);
        let find = move |tables: &Tables| {
            for row in tables.db.snapshot().range(&tables.backlog, range) {
                let (key, value) = row.into_inner().map_err(unavailable)?;
                if keys::uid(&key, 0)? == event {
                    return decode(&value).map(Some);
                }
            }
            Ok(None)
        };
        self.read("search a backlog", find).await
    }
}

/// Seeks from the first row of one endpoint to the first row of the next.
fn some_lanes(tables: &Tables, partition: Partition, behind: Option<EndpointId>) -> Result<Vec<Lane>, StoreError> {
    let snapshot = tables.db.snapshot();
    let end = keys::backlog(partition, EndpointId(Uid(u128::MAX)), LAST);
    let mut from = match behind {
        None => Bound::Included(keys::lane(partition, EndpointId(Uid(0)))),
        Some(endpoint) => Bound::Excluded(keys::backlog(partition, endpoint, LAST)),
    };
    let mut lanes = Vec::new();
    while lanes.len() < LANES {
        let Some(row) = snapshot.range(&tables.backlog, (from, Bound::Included(end.clone()))).next() else { break };
        let (key, value) = row.into_inner().map_err(unavailable)?;
        let endpoint = EndpointId(keys::uid(&key, 24)?);
        let Backlogged { place, due, delivery } = decode(&value)?;
        // The envelope is copied, so that a lane does not hold the payload beside it.
        lanes.push(Lane { endpoint, first: place, due, meta: Bytes::copy_from_slice(&delivery.meta) });
        from = Bound::Excluded(keys::backlog(partition, endpoint, LAST));
    }
    Ok(lanes)
}

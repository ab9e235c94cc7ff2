//! Lookups of one event, delivery or object.

use bytes::Bytes;
use fjall::{Readable, Snapshot};
use postrider_core::id::{DeliveryId, Uid};
use postrider_core::time::Time;

use super::Store;
use super::keys::{self, Key};
use super::tables::{Tables, unavailable};
use crate::store::codec::decode;
use crate::store::names::{check_key, check_tenant};
use crate::store::rows::{detail_of, summary_of};
use crate::store::{Attempt, Body, DeliveryDetail, DeliverySummary, Event, EventRow, History, MAX_PAGE, ObjectKind, StoreError};

impl Store {
    pub(in crate::store) async fn event(&self, tenant: &str, id: Uid) -> Result<Option<Event>, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        let find = move |tables: &Tables| event_row(tables, &tables.db.snapshot(), &tenant, id);
        let Some(row) = self.read("look up an event", find).await? else { return Ok(None) };
        let body = match &row.body {
            Body::Inline(bytes) => Some(bytes.clone()),
            Body::At(offset) => {
                let record = self.inner.log.read(*offset).await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                record.map(|record| record.payload)
            }
        };
        Ok(Some(Event { id, row, body }))
    }

    pub(in crate::store) async fn named_event(&self, tenant: &str, given_id: &str) -> Result<Option<Uid>, StoreError> {
        check_tenant(tenant)?;
        check_key("an event's id", given_id)?;
        let key = keys::name(tenant, given_id);
        let find = move |tables: &Tables| {
            for rows in tables.rows.newest_first(Time(0)..=Time(u64::MAX)) {
                if let Some(event) = rows.get(&key).map_err(unavailable)? {
                    return decode(&event).map(Some);
                }
            }
            Ok(None)
        };
        self.read("look up an event by its sender's id", find).await
    }

    pub(in crate::store) async fn attempts(&self, tenant: &str, id: DeliveryId) -> Result<History, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        self.read("look up attempts", move |tables| history(tables, &tables.db.snapshot(), &tenant, id)).await
    }

    pub(in crate::store) async fn delivery(&self, tenant: &str, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
        check_tenant(tenant)?;
        let tenant = tenant.to_owned();
        self.read("look up a delivery", move |tables| detail(tables, &tenant, id)).await
    }

    pub(in crate::store) async fn get_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<Option<Bytes>, StoreError> {
        check_tenant(tenant)?;
        check_key("an object's id", id)?;
        let key = keys::object(kind, tenant, id);
        let get = move |tables: &Tables| Ok(tables.config.get(key).map_err(unavailable)?.map(Bytes::from));
        self.read("look up an object", get).await
    }

    pub(in crate::store) async fn list_objects(
        &self,
        kind: ObjectKind,
        tenant: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        check_tenant(tenant)?;
        let scope = keys::object(kind, tenant, "");
        let after = after.map(|id| keys::object(kind, tenant, id));
        let list = move |tables: &Tables| {
            // The first key behind `after` is the same with a zero byte appended.
            let from = after.map_or_else(|| scope.clone(), |key| [key.as_slice(), &[0]].concat());
            let mut objects = Vec::new();
            for row in tables.db.snapshot().range(&tables.config, from..).take(limit.min(MAX_PAGE)) {
                let (key, value) = row.into_inner().map_err(unavailable)?;
                let Some(id) = key.strip_prefix(scope.as_slice()) else { break };
                objects.push((String::from_utf8_lossy(id).into_owned(), Bytes::from(value)));
            }
            Ok(objects)
        };
        self.read("list objects", list).await
    }
}

/// An event's row with the targets of all its chunks.
pub(super) fn event_row(tables: &Tables, snapshot: &Snapshot, tenant: &str, event: Uid) -> Result<Option<EventRow>, StoreError> {
    let Some(rows) = tables.rows.get(event.time()) else { return Ok(None) };
    let mut merged: Option<EventRow> = None;
    for chunk in snapshot.prefix(&rows, Key::scope(keys::EVENT, tenant).with(event).bytes()) {
        let chunk: EventRow = decode(&chunk.value().map_err(unavailable)?)?;
        match &mut merged {
            None => merged = Some(chunk),
            Some(row) => row.targets.extend(chunk.targets),
        }
    }
    Ok(merged)
}

/// The attempts of a delivery and its end.
fn history(tables: &Tables, snapshot: &Snapshot, tenant: &str, id: DeliveryId) -> Result<History, StoreError> {
    let mut history = History::default();
    let Some(rows) = tables.rows.get(id.event.time()) else { return Ok(history) };
    let prefix = Key::scope(keys::ATTEMPT, tenant).with(id.endpoint.0).with(id.event);
    for row in snapshot.prefix(&rows, prefix.bytes()) {
        let (key, value) = row.into_inner().map_err(unavailable)?;
        match keys::number(&key)? {
            keys::END => history.end = Some(decode(&value)?),
            n => history.attempts.push(Attempt { id, n, row: decode(&value)? }),
        }
    }
    Ok(history)
}

fn detail(tables: &Tables, tenant: &str, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
    let snapshot = tables.db.snapshot();
    let history = history(tables, &snapshot, tenant, id)?;
    let event = event_row(tables, &snapshot, tenant, id.event)?;
    Ok(detail_of(id, history, event.as_ref()))
}

/// A delivery's newest rows. `kind` is that of its event, where the caller knows it.
///
/// `None` where there are no rows of it and the caller knows of no event.
pub(super) fn summary(
    tables: &Tables,
    snapshot: &Snapshot,
    tenant: &str,
    id: DeliveryId,
    kind: Option<&str>,
) -> Result<Option<DeliverySummary>, StoreError> {
    let (mut last, mut end) = (None, None);
    if let Some(rows) = tables.rows.get(id.event.time()) {
        let prefix = Key::scope(keys::ATTEMPT, tenant).with(id.endpoint.0).with(id.event);
        for row in snapshot.prefix(&rows, prefix.bytes()).rev() {
            let (key, value) = row.into_inner().map_err(unavailable)?;
            match keys::number(&key)? {
                keys::END => end = Some(decode(&value)?),
                n => {
                    last = Some(Attempt { id, n, row: decode(&value)? });
                    break;
                }
            }
        }
    }
    let kind = match (kind, &last) {
        (Some(kind), _) => kind.to_owned(),
        (None, Some(attempt)) => attempt.row.kind.clone(),
        (None, None) if end.is_none() => return Ok(None),
        (None, None) => event_row(tables, snapshot, tenant, id.event)?.map(|event| event.kind).unwrap_or_default(),
    };
    Ok(Some(summary_of(id, kind, last, end)))
}

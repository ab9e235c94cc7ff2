//! Lookups of one event or delivery.

use bytes::Bytes;
use postrider_core::id::{DeliveryId, Uid};

use super::Store;
use super::layout::{END, blob, event_shard, hour, uid, virtual_shard};
use super::pages::{Answered, Pages};
use crate::store::codec::decode;
use crate::store::names::{check_key, check_tenant};
use crate::store::rows::{detail_of, summary_of};
use crate::store::{Attempt, AttemptRow, Body, DeliveryDetail, DeliverySummary, EndRow, Event, EventRow, History, StoreError};

/// A row of `attempts`.
pub(super) enum Entry {
    Attempt(Uid, u32, AttemptRow),
    End(Uid, EndRow),
}

/// The rows of a page that belong to `tenant`.
pub(super) fn entries(page: &Answered, tenant: &str) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    for (owner, event, n, value) in page.rows::<(String, Bytes, i64, Bytes)>()? {
        if owner != tenant {
            continue;
        }
        let event = uid(&event)?;
        entries.push(match u32::try_from(n) {
            Ok(_) if n == END => Entry::End(event, decode(&value)?),
            Ok(n) => Entry::Attempt(event, n, decode(&value)?),
            Err(_) => return Err(StoreError::Damaged(format!("an attempt with the number {n}"))),
        });
    }
    Ok(entries)
}

impl Store {
    pub(in crate::store) async fn event(&self, tenant: &str, id: Uid) -> Result<Option<Event>, StoreError> {
        check_tenant(tenant)?;
        let values = (tenant, hour(id.time()), event_shard(id), blob(id));
        let mut pages = Pages::new(&self.inner.statements.chunks, &values, None)?;
        let mut event: Option<Event> = None;
        while let Some(page) = pages.next(&self.inner.session, "look up an event").await? {
            for (_, _, value, body) in page.rows::<(Bytes, i64, Bytes, Option<Bytes>)>()? {
                let chunk: EventRow = decode(&value)?;
                match &mut event {
                    None => event = Some(Event { id, row: chunk, body }),
                    Some(event) => event.row.targets.extend(chunk.targets),
                }
            }
        }
        if let Some(Event { row, body: Some(body), .. }) = &mut event {
            row.body = Body::Inline(body.clone());
        }
        Ok(event)
    }

    pub(in crate::store) async fn named_event(&self, tenant: &str, given_id: &str) -> Result<Option<Uid>, StoreError> {
        check_tenant(tenant)?;
        check_key("an event's id", given_id)?;
        let mut pages = Pages::new(&self.inner.statements.named, &(tenant, given_id), None)?;
        let page = pages.next(&self.inner.session, "look up an event by its sender's id").await?;
        let found = page.map(|page| page.rows::<(Bytes,)>()).transpose()?.unwrap_or_default();
        found.first().map(|(event,)| uid(event)).transpose()
    }

    pub(in crate::store) async fn attempts(&self, tenant: &str, id: DeliveryId) -> Result<History, StoreError> {
        check_tenant(tenant)?;
        let mut pages = Pages::new(&self.inner.statements.history, &self.key_of(id), None)?;
        let mut history = History::default();
        while let Some(page) = pages.next(&self.inner.session, "look up attempts").await? {
            for entry in entries(&page, tenant)? {
                match entry {
                    Entry::Attempt(_, n, row) => history.attempts.push(Attempt { id, n, row }),
                    Entry::End(_, row) => history.end = Some(row),
                }
            }
        }
        history.attempts.reverse(); // rows lie newest first
        Ok(history)
    }

    pub(in crate::store) async fn delivery(&self, tenant: &str, id: DeliveryId) -> Result<Option<DeliveryDetail>, StoreError> {
        let (history, event) = tokio::try_join!(self.attempts(tenant, id), self.event(tenant, id.event))?;
        Ok(detail_of(id, history, event.as_ref().map(|event| &event.row)))
    }

    /// A delivery's newest rows. `kind` is that of its event, where the caller knows it.
    ///
    /// `None` where there are no rows of it and the caller knows of no event.
    pub(super) async fn summary(&self, tenant: &str, id: DeliveryId, kind: Option<&str>) -> Result<Option<DeliverySummary>, StoreError> {
        let mut pages = Pages::new(&self.inner.statements.newest, &self.key_of(id), None)?;
        let (mut last, mut end) = (None, None);
        if let Some(page) = pages.next(&self.inner.session, "look up a delivery").await? {
            for entry in entries(&page, tenant)? {
                match entry {
                    Entry::Attempt(_, n, row) => last = last.or(Some(Attempt { id, n, row })),
                    Entry::End(_, row) => end = Some(row),
                }
            }
        }
        let kind = match (kind, &last) {
            (Some(kind), _) => kind.to_owned(),
            (None, Some(attempt)) => attempt.row.kind.clone(),
            (None, None) if end.is_none() => return Ok(None),
            (None, None) => self.event(tenant, id.event).await?.map(|event| event.row.kind).unwrap_or_default(),
        };
        Ok(Some(summary_of(id, kind, last, end)))
    }

    fn key_of(&self, id: DeliveryId) -> (i32, i32, [u8; 16], [u8; 16]) {
        let vshard = virtual_shard(id.endpoint, self.inner.virtual_shards);
        (vshard, hour(id.event.time()), blob(id.endpoint.0), blob(id.event))
    }
}

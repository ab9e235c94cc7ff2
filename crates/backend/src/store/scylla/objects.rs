//! Idempotency keys and configuration: the rows that change by lightweight transactions, and by nothing else.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, RandomState};

use bytes::Bytes;
use futures_util::future::try_join_all;
use postrider_core::id::Uid;
use postrider_core::time::{Millis, Time};
use scylla::client::session::Session;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Store;
use super::batches::WRITE_LIMIT;
use super::conditional::Answer;
use super::failure::failed;
use super::layout::{OBJECT_SHARDS, blob, object_shard, uid};
use super::pages::Pages;
use super::statements::CLAIM_TTL;
use crate::store::names::{check_key, check_tenant};
use crate::store::{Claim, MAX_PAGE, ObjectKind, StoreError};

/// Partitions that share a lock take turns with each other, too.
const TURNS: usize = 256;
/// How often a change that others get ahead of is tried.
const TRIES: usize = 16;
/// Rows that are asked for beyond a partition's share of a page of objects.
const SPARE: usize = 16;

/// Who changes what by a transaction, one after the other.
pub(super) struct Turns {
    hasher: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { hasher: RandomState::new(), locks: (0..TURNS).map(|_| Mutex::default()).collect() }
    }
}

impl Turns {
    fn of(&self, partition: impl Hash) -> &Mutex<()> {
        &self.locks[self.hasher.hash_one(partition) as usize % TURNS]
    }
}

impl Store {
    pub(in crate::store) async fn claim(
        &self,
        tenant: &str,
        key: &str,
        hash: [u8; 32],
        event: Uid,
        now: Time,
    ) -> Result<Claim, StoreError> {
        check_tenant(tenant)?;
        check_key("an idempotency key", key)?;
        let what = "claim an idempotency key";
        self.in_turn(what, (tenant, key), self.claim_in_turn(what, (tenant, key), hash, event, now)).await
    }

    async fn claim_in_turn(
        &self,
        what: &'static str,
        (tenant, key): (&str, &str),
        hash: [u8; 32],
        event: Uid,
        now: Time,
    ) -> Result<Claim, StoreError> {
        let statements = &self.inner.statements;
        let at = i64::try_from(now.0).unwrap_or(i64::MAX);
        for _ in 0..TRIES {
            let mut found = self.conditional(what, &statements.claim, &(tenant, key, hash, blob(event), at)).await?;
            if found.applied {
                return Ok(Claim::New);
            }
            let (Some(taken_by), Some(taken_at)) = (found.blob("event"), found.number("at")) else {
                return Err(StoreError::Damaged("an idempotency key without event".to_owned()));
            };
            let taken_by = uid(&taken_by)?;
            if Time(taken_at.unsigned_abs()) + Millis::from_secs(CLAIM_TTL) > now {
                let same = found.blob("hash").as_deref() == Some(&hash[..]);
                return Ok(match same {
                    // The driver may have asked twice, where the first answer was lost.
                    true if taken_by == event => Claim::New,
                    true => Claim::Same { event: taken_by },
                    false => Claim::Other,
                });
            }
            let values = (hash, blob(event), at, tenant, key, blob(taken_by));
            if self.conditional(what, &statements.reclaim, &values).await?.applied {
                return Ok(Claim::New);
            }
        }
        Err(contended())
    }

    pub(in crate::store) async fn put_object(&self, kind: ObjectKind, tenant: &str, id: &str, value: Bytes) -> Result<(), StoreError> {
        check_object(tenant, id)?;
        let (statements, kind, shard, what) = (&self.inner.statements, name(kind), object_shard(id), "change an object");
        let put = async {
            for _ in 0..TRIES {
                let change = (&value, kind, tenant, shard, id);
                if self.conditional(what, &statements.change_object, &change).await?.applied {
                    return Ok(());
                }
                let make = (kind, tenant, shard, id, &value);
                if self.conditional(what, &statements.make_object, &make).await?.applied {
                    return Ok(());
                }
            }
            Err(contended())
        };
        self.in_turn(what, (kind, tenant, shard), put).await
    }

    pub(in crate::store) async fn delete_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<(), StoreError> {
        check_object(tenant, id)?;
        let (kind, shard, what) = (name(kind), object_shard(id), "delete an object");
        let values = (kind, tenant, shard, id);
        self.in_turn(what, (kind, tenant, shard), self.conditional(what, &self.inner.statements.delete_object, &values)).await.map(drop)
    }

    pub(in crate::store) async fn swap_object(
        &self,
        kind: ObjectKind,
        tenant: &str,
        id: &str,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        check_object(tenant, id)?;
        let (statements, named, shard, what) = (&self.inner.statements, name(kind), object_shard(id), "change an object");
        let swap = async {
            match (old, new) {
                (None, None) => Ok(self.get_object(kind, tenant, id).await?.is_none()),
                (None, Some(new)) => Ok(self.conditional(what, &statements.make_object, &(named, tenant, shard, id, new)).await?.applied),
                (Some(old), Some(new)) => {
                    Ok(self.conditional(what, &statements.swap_object, &(new, named, tenant, shard, id, old)).await?.applied)
                }
                (Some(old), None) => Ok(self.conditional(what, &statements.drop_object, &(named, tenant, shard, id, old)).await?.applied),
            }
        };
        self.in_turn(what, (named, tenant, shard), swap).await
    }

    /// Carries out `work` while nobody else of this process changes rows of the same partition: transactions that
    /// compete for one take many times as long.
    async fn in_turn<T>(
        &self,
        what: &'static str,
        partition: impl Hash,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let turn = self.inner.turns.of(partition);
        let changed = async {
            let _turn = turn.lock().await;
            work.await
        };
        timeout(WRITE_LIMIT, changed).await.map_err(|_| StoreError::Timeout { what, seconds: WRITE_LIMIT.as_secs() })?
    }

    pub(in crate::store) async fn get_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<Option<Bytes>, StoreError> {
        check_object(tenant, id)?;
        let mut pages = Pages::new(&self.inner.statements.object, &(name(kind), tenant, object_shard(id), id), None)?;
        let page = pages.next(&self.inner.session, "look up an object").await?;
        let found = page.map(|page| page.rows::<(Bytes,)>()).transpose()?.unwrap_or_default();
        Ok(found.into_iter().next().map(|(value,)| value))
    }

    pub(in crate::store) async fn list_objects(
        &self,
        kind: ObjectKind,
        tenant: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        check_tenant(tenant)?;
        let statements = &self.inner.statements;
        let statement = if after.is_some() { &statements.objects_behind } else { &statements.objects };
        let limit = limit.clamp(1, MAX_PAGE);
        // Ids are spread evenly: each partition has about its share of them.
        let size = i32::try_from(limit / OBJECT_SHARDS as usize + SPARE).ok();
        let part = |shard: i32| {
            let values = (name(kind), tenant, shard, after.unwrap_or_default());
            Ok(Part { pages: Pages::new(statement, &values, size)?, objects: VecDeque::new() })
        };
        let mut parts = (0..OBJECT_SHARDS).map(part).collect::<Result<Vec<Part>, StoreError>>()?;
        let session = &self.inner.session;
        try_join_all(parts.iter_mut().map(|part| part.fill(session))).await?;
        let mut objects = Vec::new();
        while objects.len() < limit {
            let next = parts.iter_mut().filter(|part| !part.objects.is_empty()).min_by(|a, b| a.objects[0].0.cmp(&b.objects[0].0));
            let Some(part) = next else { break };
            objects.extend(part.objects.pop_front());
            part.fill(session).await?;
        }
        Ok(objects)
    }

    async fn conditional(
        &self,
        what: &'static str,
        statement: &PreparedStatement,
        values: &impl SerializeRow,
    ) -> Result<Answer, StoreError> {
        let answer = self.inner.session.execute_unpaged(statement, values).await;
        Answer::of(answer.map_err(failed(what, WRITE_LIMIT))?)
    }
}

/// The objects of one partition, in order of their ids.
struct Part {
    pages: Pages,
    objects: VecDeque<(String, Bytes)>,
}

impl Part {
    /// Reads until it knows its first object, or that there are no more.
    async fn fill(&mut self, session: &Session) -> Result<(), StoreError> {
        while self.objects.is_empty() {
            let Some(page) = self.pages.next(session, "list objects").await? else { return Ok(()) };
            self.objects.extend(page.rows::<(String, Bytes)>()?);
        }
        Ok(())
    }
}

fn check_object(tenant: &str, id: &str) -> Result<(), StoreError> {
    check_tenant(tenant)?;
    check_key("an object's id", id)
}

fn contended() -> StoreError {
    StoreError::Unavailable(format!("a row was changed by others {TRIES} times while it was to be changed; try again"))
}

/// What a sort of object is called in the table.
fn name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Endpoint => "endpoint",
        ObjectKind::Callback => "callback",
        ObjectKind::SigningSecret => "signing_secret",
        ObjectKind::Tenant => "tenant",
        ObjectKind::ApiKey => "api_key",
        ObjectKind::EventType => "event_type",
        ObjectKind::Usage => "usage",
    }
}

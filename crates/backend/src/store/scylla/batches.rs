//! Rows on their way to the cluster, in batches that each lie in one partition and so are atomic and cheap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::errors::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::failure::failed;
use super::statements::Statements;
use crate::store::StoreError;

/// Time-out of one batch.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Rows of a batch; more make it no cheaper.
const MAX_ROWS: usize = 100;
/// Bytes of a batch; a row that is larger goes alone. ScyllaDB warns of more than 128 KiB.
const MAX_BYTES: usize = 120 * 1024;
/// Batches of one write that are under way at a time.
const IN_FLIGHT: usize = 32;
/// What a row costs beside its value.
const KEYS: usize = 64;

type Id = [u8; 16];

/// A change of one row. Numbers and ids as their columns hold them.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Event { tenant: Arc<str>, hour: i32, shard: i32, id: Id, chunk: i64, value: Vec<u8>, body: Option<Bytes> },
    Name { tenant: Arc<str>, given_id: String, event: Id },
    Hour { tenant: Arc<str>, hour: i32 },
    Attempt { vshard: i32, hour: i32, endpoint: Id, event: Id, n: i64, tenant: Arc<str>, value: Vec<u8> },
    Dead { tenant: Arc<str>, day: i32, event: Id, endpoint: Id, value: Vec<u8>, stamp: i64 },
    Undead { tenant: Arc<str>, day: i32, event: Id, endpoint: Id, stamp: i64 },
    Put { partition: i32, endpoint: Id, order: i64, event: Id, value: Vec<u8>, stamp: i64 },
    Remove { partition: i32, endpoint: Id, order: i64, event: Id, stamp: i64 },
    Mark { partition: i32, endpoint: Id, writer: Id, order: i64, event: Id, stamp: i64 },
    Unmark { partition: i32, endpoint: Id, writer: Id, stamp: i64 },
    Job { tenant: Arc<str>, id: Id, version: i64, value: Vec<u8>, ttl: i32, stamp: i64 },
    JobId { tenant: Arc<str>, hour: i32, shard: i32, id: Id, ttl: i32 },
    JobTenant { id: Id, tenant: Arc<str>, ttl: i32 },
}

/// The partition of a row.
#[derive(PartialEq, Eq, Hash)]
enum Home {
    Events(Arc<str>, i32, i32),
    Names(Arc<str>, String),
    Hours(Arc<str>),
    Attempts(i32, i32),
    Dead(Arc<str>, i32),
    Backlog(i32, Id),
    Lanes(i32),
    Job(Arc<str>, Id),
    JobIds(Arc<str>, i32, i32),
    JobTenant(Id),
}

impl Row {
    fn home(&self) -> Home {
        match self {
            Row::Event { tenant, hour, shard, .. } => Home::Events(tenant.clone(), *hour, *shard),
            Row::Name { tenant, given_id, .. } => Home::Names(tenant.clone(), given_id.clone()),
            Row::Hour { tenant, .. } => Home::Hours(tenant.clone()),
            Row::Attempt { vshard, hour, .. } => Home::Attempts(*vshard, *hour),
            Row::Dead { tenant, day, .. } | Row::Undead { tenant, day, .. } => Home::Dead(tenant.clone(), *day),
            Row::Put { partition, endpoint, .. } | Row::Remove { partition, endpoint, .. } => Home::Backlog(*partition, *endpoint),
            Row::Mark { partition, .. } | Row::Unmark { partition, .. } => Home::Lanes(*partition),
            Row::Job { tenant, id, .. } => Home::Job(tenant.clone(), *id),
            Row::JobId { tenant, hour, shard, .. } => Home::JobIds(tenant.clone(), *hour, *shard),
            Row::JobTenant { id, .. } => Home::JobTenant(*id),
        }
    }

    fn bytes(&self) -> usize {
        KEYS + match self {
            Row::Event { value, body, .. } => value.len() + body.as_ref().map_or(0, Bytes::len),
            Row::Attempt { value, .. } | Row::Dead { value, .. } | Row::Put { value, .. } | Row::Job { value, .. } => value.len(),
            Row::Name { given_id, .. } => given_id.len(),
            Row::Hour { .. } | Row::Undead { .. } | Row::Remove { .. } | Row::Mark { .. } | Row::Unmark { .. } => 0,
            Row::JobId { .. } | Row::JobTenant { .. } => 0,
        }
    }

    fn statement<'a>(&self, statements: &'a Statements) -> &'a PreparedStatement {
        match self {
            Row::Event { .. } => &statements.event,
            Row::Name { .. } => &statements.name,
            Row::Hour { .. } => &statements.hour,
            Row::Attempt { .. } => &statements.attempt,
            Row::Dead { .. } => &statements.dead,
            Row::Undead { .. } => &statements.undead,
            Row::Put { .. } => &statements.put,
            Row::Remove { .. } => &statements.remove,
            Row::Mark { .. } => &statements.mark,
            Row::Unmark { .. } => &statements.unmark,
            Row::Job { .. } => &statements.make_job,
            Row::JobId { .. } => &statements.note_job,
            Row::JobTenant { .. } => &statements.note_tenant,
        }
    }
}

impl SerializeRow for Row {
    fn serialize(&self, ctx: &RowSerializationContext<'_>, writer: &mut RowWriter<'_>) -> Result<(), SerializationError> {
        match self {
            Row::Event { tenant, hour, shard, id, chunk, value, body } => {
                (tenant, hour, shard, id, chunk, value, body).serialize(ctx, writer)
            }
            Row::Name { tenant, given_id, event } => (tenant, given_id, event).serialize(ctx, writer),
            Row::Hour { tenant, hour } => (tenant, hour).serialize(ctx, writer),
            Row::Attempt { vshard, hour, endpoint, event, n, tenant, value } => {
                (vshard, hour, endpoint, event, n, tenant, value).serialize(ctx, writer)
            }
            Row::Dead { tenant, day, event, endpoint, value, stamp } => (tenant, day, event, endpoint, value, stamp).serialize(ctx, writer),
            Row::Undead { tenant, day, event, endpoint, stamp } => (stamp, tenant, day, event, endpoint).serialize(ctx, writer),
            Row::Put { partition, endpoint, order, event, value, stamp } => {
                (partition, endpoint, order, event, value, stamp).serialize(ctx, writer)
            }
            Row::Remove { partition, endpoint, order, event, stamp } => (stamp, partition, endpoint, order, event).serialize(ctx, writer),
            Row::Mark { partition, endpoint, writer: by, order, event, stamp } => {
                (partition, endpoint, by, order, event, stamp).serialize(ctx, writer)
            }
            Row::Unmark { partition, endpoint, writer: by, stamp } => (stamp, partition, endpoint, by).serialize(ctx, writer),
            Row::Job { tenant, id, version, value, ttl, stamp } => (tenant, id, version, value, ttl, stamp).serialize(ctx, writer),
            Row::JobId { tenant, hour, shard, id, ttl } => (tenant, hour, shard, id, ttl).serialize(ctx, writer),
            Row::JobTenant { id, tenant, ttl } => (id, tenant, ttl).serialize(ctx, writer),
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Rows by partition.
#[derive(Default)]
pub(super) struct Batches {
    index: HashMap<Home, usize>,
    groups: Vec<Group>,
}

/// The rows of one partition, in batches.
#[derive(Default)]
struct Group {
    finished: Vec<Vec<Row>>,
    open: Vec<Row>,
    bytes: usize,
}

impl Batches {
    /// Adds a row.
    pub(super) fn push(&mut self, row: Row) {
        self.push_together([row]);
    }

    /// Adds rows of one partition, none of which may be there without the others.
    pub(super) fn push_together<const N: usize>(&mut self, rows: [Row; N]) {
        let Some(first) = rows.first() else { return };
        let at = *self.index.entry(first.home()).or_insert_with(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let bytes: usize = rows.iter().map(Row::bytes).sum();
        if !group.open.is_empty() && (group.open.len() + N > MAX_ROWS || group.bytes + bytes > MAX_BYTES) {
            group.finished.push(std::mem::take(&mut group.open));
            group.bytes = 0;
        }
        group.bytes += bytes;
        group.open.extend(rows);
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Writes all, in any order. What fails first is returned; others may have been written then.
    pub(super) async fn write(self, session: &Session, statements: &Statements) -> Result<(), StoreError> {
        let batches = self.groups.into_iter().flat_map(|group| group.finished.into_iter().chain([group.open]));
        let writes = batches.filter(|rows| !rows.is_empty()).map(|rows| write_batch(session, statements, rows));
        stream::iter(writes).buffer_unordered(IN_FLIGHT).try_collect().await
    }
}

async fn write_batch(session: &Session, statements: &Statements, rows: Vec<Row>) -> Result<(), StoreError> {
    let written = match rows.as_slice() {
        [row] => session.execute_unpaged(row.statement(statements), row).await,
        rows => {
            let of_rows = rows.iter().map(|row| row.statement(statements).clone().into()).collect();
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, of_rows);
            batch.set_is_idempotent(true);
            session.batch(&batch, rows).await
        }
    };
    written.map(drop).map_err(failed("write", WRITE_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(endpoint: u8, size: usize) -> Row {
        Row::Put { partition: 1, endpoint: [endpoint; 16], order: 1, event: [0; 16], value: vec![0; size], stamp: 0 }
    }

    fn remove(endpoint: u8) -> Row {
        Row::Remove { partition: 1, endpoint: [endpoint; 16], order: 1, event: [0; 16], stamp: 0 }
    }

    fn sizes(batches: Batches) -> Vec<Vec<usize>> {
        let sizes = |group: Group| group.finished.iter().chain([&group.open]).map(Vec::len).collect();
        batches.groups.into_iter().map(sizes).collect()
    }

    #[test]
    fn rows_of_one_partition_share_batches_of_limited_size() {
        let mut batches = Batches::default();
        for n in 0..250 {
            batches.push(put(1, 10));
            if n < 3 {
                batches.push(put(2, 70_000));
            }
        }
        assert_eq!(sizes(batches), [vec![100, 100, 50], vec![1, 1, 1]]);
    }

    #[test]
    fn what_belongs_together_is_never_torn() {
        let mut batches = Batches::default();
        batches.push(put(1, 10));
        for _ in 0..60 {
            batches.push_together([remove(1), put(1, 10)]);
        }
        batches.push_together([remove(1), put(1, 200_000)]);
        assert_eq!(sizes(batches), [[99, 22, 2]]);
    }
}

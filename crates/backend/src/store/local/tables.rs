//! The keyspaces of the local store and how they are tuned.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy};
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};
use postrider_core::time::{Millis, Time};
use serde::Serialize;

use super::Options;
use super::buckets::Buckets;
use crate::folder::OpenError;
use crate::store::{StoreError, codec};

/// How long an idempotency key stays taken.
pub(super) const CLAIM_TTL: Millis = Millis::from_secs(86_400);

const MIB: u64 = 1024 * 1024;
const CACHE: u64 = 16 * MIB;
const JOURNALS: u64 = 96 * MIB;
/// Size of a memtable at which it is written out, as fjall counts: about half of the memory it takes.
const MEMTABLE: u64 = 8 * MIB;
/// The same for all memtables together.
const MEMTABLES: u64 = 16 * MIB;
/// Size of a table of rows on disk.
const TABLE: u64 = 8 * MIB;
/// Written-out memtables that are merged at one time, into up to as many tables. With four, fjall's default, and
/// tables of 64 MiB it takes twice the time of a processor; with more of them, reads look into more tables.
const MERGED: u8 = 8;
const OPEN_FILES: usize = 256;

/// Longest between a job's making and its last change for which its row is kept as long as it should be.
const JOB_SLACK: Millis = Millis(2 * DAY.0);

const HOUR: Millis = Millis::from_secs(3600);
const DAY: Millis = Millis::from_secs(86_400);

pub(super) struct Tables {
    pub(super) db: Database,
    pub(super) folder: PathBuf,
    /// Events, attempts, ends and dead letters, by the time of the event.
    pub(super) rows: Buckets,
    /// Idempotency keys, by the time they were claimed.
    pub(super) claims: Buckets,
    /// Jobs, by the time they were made.
    pub(super) jobs: Buckets,
    pub(super) backlog: Keyspace,
    pub(super) config: Keyspace,
    retention: Millis,
    job_retention: Millis,
    min_free_bytes: u64,
}

impl Tables {
    pub(super) fn open(options: &Options) -> Result<Tables, OpenError> {
        let Options { ref folder, retention, job_retention, min_free_bytes } = *options;
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => OpenError::InUse { folder: folder.to_owned() },
            error => OpenError::io(folder)(io::Error::other(words(&error))),
        };
        let db = Database::builder(folder)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .open()
            .map_err(failed)?;
        let meta = db.keyspace("meta", small).map_err(failed)?;
        let span = match meta.get("span").map_err(failed)? {
            None => {
                let span = if retention < Millis(3 * DAY.0) { HOUR } else { DAY };
                meta.insert("span", span.0.to_be_bytes()).map_err(failed)?;
                db.persist(PersistMode::SyncAll).map_err(failed)?;
                span
            }
            Some(bytes) => match bytes.first_chunk() {
                Some(span) => Millis(u64::from_be_bytes(*span)),
                None => return Err(OpenError::io(folder)(io::Error::other("its `meta` keyspace is damaged"))),
            },
        };
        Ok(Tables {
            rows: Buckets::open(&db, "rows", span, rows).map_err(failed)?,
            claims: Buckets::open(&db, "claims", CLAIM_TTL, small).map_err(failed)?,
            jobs: Buckets::open(&db, "jobs", DAY, small).map_err(failed)?,
            backlog: db.keyspace("backlog", small).map_err(failed)?,
            config: db.keyspace("config", small).map_err(failed)?,
            db,
            folder: folder.to_owned(),
            retention,
            job_retention,
            min_free_bytes,
        })
    }

    /// Drops the buckets whose rows are all older than the retention, and says how many.
    pub(super) fn expire(&self, now: Time) -> fjall::Result<usize> {
        // Jobs lie in the bucket of the day they were made, and are kept from their last change on.
        let jobs = self.jobs.expire(now - self.job_retention - JOB_SLACK)?;
        Ok(self.rows.expire(now - self.retention)? + self.claims.expire(now - CLAIM_TTL)? + jobs)
    }

    /// Whether it can be written to; if not, why.
    pub(super) fn check(&self) -> Result<(), String> {
        self.db.persist(PersistMode::Buffer).map_err(|error| words(&error))?;
        let folder = self.folder.display();
        let disk = rustix::fs::statvfs(&self.folder).map_err(|error| format!("{folder} can't be looked at: {error}"))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.min_free_bytes {
            let (free, reserve) = (free / MIB, self.min_free_bytes / MIB);
            return Err(format!("{free} MiB are free on the disk of {folder}, at least {reserve} are needed; free some space"));
        }
        Ok(())
    }

    /// Has the largest memtable written out if it, or all together, are too large.
    pub(super) fn shrink(&self) -> fjall::Result<()> {
        let buckets = self.rows.all().into_iter().chain(self.claims.all()).chain(self.jobs.all());
        let sizes = buckets.chain([self.backlog.clone(), self.config.clone()]).map(|k| (k.tree.active_memtable().size(), k));
        let mut total = 0;
        match sizes.inspect(|(size, _)| total += size).max_by_key(|(size, _)| *size) {
            Some((largest, keyspace)) if largest > MEMTABLE || total > MEMTABLES => keyspace.rotate_memtable().map(drop),
            Some(_) | None => Ok(()),
        }
    }
}

/// The store looks after memtables itself, see [`Tables::shrink`]. Left to it, fjall would look at each keyspace by
/// itself only, so that many quiet ones fill the memory; and it would ask its worker at every commit until the worker
/// gets to it, so that a single worker can block on its own full queue.
const UNLIMITED: u64 = u64::MAX;

/// Many small rows that are written once and seldom read. Read by ranges only, so filters would be of no use.
fn rows() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(UNLIMITED)
        .filter_policy(FilterPolicy::disabled())
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE).with_l0_threshold(MERGED)))
        .data_block_size_policy(BlockSizePolicy::all(8 * 1024))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}

fn small() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(UNLIMITED)
}

/// What a failed operation means to an operator.
pub(super) fn words(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Poisoned => "an earlier write to its disk failed; free space or repair the disk, then restart postrider".to_owned(),
        fjall::Error::Io(error) => format!("its disk refused: {error}"),
        error => error.to_string(),
    }
}

pub(super) fn unavailable(error: fjall::Error) -> StoreError {
    StoreError::Unavailable(words(&error))
}

/// The value of a row.
pub(super) fn encode(row: &impl Serialize, scratch: &mut Vec<u8>) -> Slice {
    scratch.clear();
    *scratch = codec::encode(row, std::mem::take(scratch));
    Slice::new(scratch)
}

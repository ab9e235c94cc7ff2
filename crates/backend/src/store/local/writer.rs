//! The one thread that writes. It gathers what is waiting into one atomic batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Slice};
use postrider_core::id::{JobId, Uid};
use postrider_core::job::Job;
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::keys::{self, Key};
use super::tables::{CLAIM_TTL, Tables, encode, unavailable};
use crate::store::codec::decode;
use crate::store::{Attempt, Claim, Dead, DeadRow, DeliveryWrite, EndRow, EventWrite, Finished, JobWrite, StoreError, Write};

/// Entries at which a batch is written; what waits behind them goes into the next.
const MAX_GATHERED: usize = 4096;
/// How often the disk is looked at.
const CHECK: Duration = Duration::from_millis(200);
/// Bytes after which the memtables are looked at.
const SHRINK: u64 = 256 * 1024;

type Done<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the writer.
pub(super) enum Command {
    Rows { batch: Arc<[Write]>, done: Done<()> },
    Claim { key: Vec<u8>, row: ClaimRow, done: Done<Claim> },
    Object { key: Vec<u8>, value: Option<Bytes>, done: Done<()> },
    Swap { key: Vec<u8>, old: Option<Bytes>, new: Option<Bytes>, done: Done<bool> },
    SwapJob { key: Vec<u8>, id: JobId, job: Box<Job>, done: Done<bool> },
}

/// Who took an idempotency key.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ClaimRow {
    pub(super) hash: [u8; 32],
    pub(super) event: Uid,
    pub(super) at: Time,
}

/// What a command is answered once its batch is written.
enum Answer {
    Written(Done<()>),
    Claimed(Done<Claim>, Result<Claim, StoreError>),
    Swapped(Done<bool>, Result<bool, StoreError>),
}

/// One batch while it is gathered.
struct Round {
    batch: OwnedWriteBatch,
    entries: usize,
    bytes: u64,
    durability: PersistMode,
    answers: Vec<Answer>,
    /// Claims of this round, which can't be read back before it is written.
    claims: BTreeMap<Vec<u8>, ClaimRow>,
    /// Objects of this round, for the same reason.
    objects: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// The versions of this round's jobs, for the same reason.
    jobs: BTreeMap<Vec<u8>, u64>,
    finished: Vec<Arc<Finished>>,
}

pub(super) struct Writer {
    tables: Arc<Tables>,
    feed: broadcast::Sender<Arc<Finished>>,
    checked: Option<Instant>,
    trouble: Option<String>,
    /// Bytes written since the memtables were last looked at.
    grown: u64,
    // Reused from row to row, so that encoding allocates nothing.
    key: Key,
    value: Vec<u8>,
}

impl Writer {
    pub(super) fn new(tables: Arc<Tables>, feed: broadcast::Sender<Arc<Finished>>) -> Writer {
        Writer { tables, feed, checked: None, trouble: None, grown: 0, key: Key::default(), value: Vec::new() }
    }

    /// Writes until all senders are gone.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut round = Round {
                batch: self.tables.db.batch(),
                entries: 0,
                bytes: 0,
                durability: PersistMode::Buffer,
                answers: Vec::new(),
                claims: BTreeMap::new(),
                objects: BTreeMap::new(),
                jobs: BTreeMap::new(),
                finished: Vec::new(),
            };
            let mut gathered = self.gather(&mut round, first);
            while round.entries < MAX_GATHERED && gathered.is_ok() {
                let Ok(command) = commands.try_recv() else { break };
                gathered = self.gather(&mut round, command);
            }
            let Round { batch, bytes, durability, answers, finished, .. } = round;
            let written = gathered.and_then(|()| self.commit(batch.durability(Some(durability)), bytes));
            if written.is_ok() {
                for attempt in finished {
                    // Without listeners there is nobody to tell.
                    let _ = self.feed.send(attempt);
                }
            }
            for answer in answers {
                answer.give(&written);
            }
        }
    }

    /// Writes a batch, unless the disk is too full.
    fn commit(&mut self, batch: OwnedWriteBatch, bytes: u64) -> Result<(), StoreError> {
        if self.checked.is_none_or(|at| at.elapsed() >= CHECK) {
            self.checked = Some(Instant::now());
            self.trouble = self.tables.check().err();
        }
        if let Some(why) = &self.trouble {
            return Err(StoreError::Unavailable(why.clone()));
        }
        batch.commit().map_err(unavailable)?;
        self.grown += bytes;
        if self.grown > SHRINK {
            self.grown = 0;
            // What was committed stays committed; a failure here shows at the next commit.
            if let Err(error) = self.tables.shrink() {
                tracing::error!(%error, "the store can't write its memory to disk");
            }
        }
        Ok(())
    }

    fn gather(&mut self, round: &mut Round, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Rows { batch, done } => {
                round.answers.push(Answer::Written(done));
                round.entries += batch.len();
                for write in batch.iter() {
                    match write {
                        Write::Event(event) => self.event(round, event)?,
                        Write::Delivery(delivery) => self.delivery(round, delivery)?,
                        Write::Job(job) => self.job(round, job)?,
                        Write::JobTenant { id, tenant } => self.job_tenant(round, *id, tenant)?,
                    }
                }
            }
            Command::Claim { key, row, done } => {
                round.entries += 1;
                round.durability = PersistMode::SyncData;
                let claim = self.claim(round, key, row);
                round.answers.push(Answer::Claimed(done, claim.clone()));
                claim?;
            }
            Command::Object { key, value, done } => {
                round.entries += 1;
                round.durability = PersistMode::SyncData;
                round.answers.push(Answer::Written(done));
                self.object(round, key, value);
            }
            Command::Swap { key, old, new, done } => {
                round.entries += 1;
                round.durability = PersistMode::SyncData;
                let swapped = self.swap(round, key, &old, new);
                round.answers.push(Answer::Swapped(done, swapped.clone()));
                swapped?;
            }
            Command::SwapJob { key, id, job, done } => {
                round.entries += 1;
                let swapped = self.swap_job(round, key, id, &job);
                round.answers.push(Answer::Swapped(done, swapped.clone()));
                swapped?;
            }
        }
        Ok(())
    }

    fn event(&mut self, round: &mut Round, write: &EventWrite) -> Result<(), StoreError> {
        let rows = self.tables.rows.get_or_create(write.event.time()).map_err(unavailable)?;
        let key = self.key.set_event(&write.tenant, write.event, write.chunk);
        round.insert(&rows, key, encode(&write.row, &mut self.value));
        if let Some(given_id) = write.row.given_id.as_deref().filter(|_| write.chunk == 0) {
            round.insert(&rows, &keys::name(&write.tenant, given_id), encode(&write.event, &mut self.value));
        }
        Ok(())
    }

    fn delivery(&mut self, round: &mut Round, write: &DeliveryWrite) -> Result<(), StoreError> {
        let DeliveryWrite { tenant, partition, id, attempt, end, dead, remove, put } = write;
        let id = *id;
        if let Some(place) = remove {
            round.batch.remove(&self.tables.backlog, keys::backlog(*partition, id.endpoint, *place));
        }
        if let Some(row) = put {
            round.durability = PersistMode::SyncData;
            let key = keys::backlog(*partition, id.endpoint, row.place);
            round.insert(&self.tables.backlog, &key, encode(row, &mut self.value));
        }
        if attempt.is_none() && end.is_none() && *dead == Dead::Keep {
            return Ok(());
        }
        let rows = self.tables.rows.get_or_create(id.event.time()).map_err(unavailable)?;
        if let Some((end, at)) = *end {
            let key = self.key.set_attempt(tenant, id, keys::END);
            round.insert(&rows, key, encode(&EndRow { end, at }, &mut self.value));
        }
        match dead {
            Dead::Keep => {}
            Dead::Add { at, reason } => {
                let key = self.key.set_dead(tenant, id);
                round.insert(&rows, key, encode(&DeadRow { at: *at, reason: reason.clone() }, &mut self.value));
            }
            Dead::Remove => round.batch.remove(&rows, self.key.set_dead(tenant, id)),
        }
        if let Some((n, row)) = attempt {
            let key = self.key.set_attempt(tenant, id, *n);
            round.insert(&rows, key, encode(row, &mut self.value));
            if self.feed.receiver_count() > 0 {
                let attempt = Attempt { id, n: *n, row: row.clone() };
                round.finished.push(Arc::new(Finished { tenant: tenant.clone(), attempt }));
            }
        }
        Ok(())
    }

    fn object(&self, round: &mut Round, key: Vec<u8>, value: Option<Bytes>) {
        match &value {
            Some(value) => round.insert(&self.tables.config, &key, value.clone().into()),
            None => round.batch.remove(&self.tables.config, key.as_slice()),
        }
        round.objects.insert(key, value);
    }

    fn swap(&self, round: &mut Round, key: Vec<u8>, old: &Option<Bytes>, new: Option<Bytes>) -> Result<bool, StoreError> {
        let present = match round.objects.get(&key) {
            Some(written) => written.clone(),
            None => self.tables.config.get(&key).map_err(unavailable)?.map(Bytes::from),
        };
        let same = present == *old;
        if same {
            self.object(round, key, new);
        }
        Ok(same)
    }

    fn job(&mut self, round: &mut Round, write: &JobWrite) -> Result<(), StoreError> {
        let key = Key::scope(keys::JOB, &write.tenant).with(write.id.0).into_bytes();
        if self.version_of(round, &key, write.id)?.is_none() {
            self.put_job(round, key, write.id, &write.job)?;
        }
        Ok(())
    }

    fn job_tenant(&self, round: &mut Round, id: JobId, tenant: &str) -> Result<(), StoreError> {
        let bucket = self.tables.jobs.get_or_create(id.0.time()).map_err(unavailable)?;
        round.insert(&bucket, Key::owner(id.0).bytes(), tenant.as_bytes().into());
        Ok(())
    }

    fn swap_job(&mut self, round: &mut Round, key: Vec<u8>, id: JobId, job: &Job) -> Result<bool, StoreError> {
        let is_next = self.version_of(round, &key, id)?.is_some_and(|present| present + 1 == job.version);
        if is_next {
            self.put_job(round, key, id, job)?;
        }
        Ok(is_next)
    }

    fn version_of(&self, round: &Round, key: &[u8], id: JobId) -> Result<Option<u64>, StoreError> {
        if let Some(version) = round.jobs.get(key) {
            return Ok(Some(*version));
        }
        let Some(bucket) = self.tables.jobs.get(id.0.time()) else { return Ok(None) };
        let present = bucket.get(key).map_err(unavailable)?;
        present.map(|value| decode::<Job>(&value).map(|job| job.version)).transpose()
    }

    fn put_job(&mut self, round: &mut Round, key: Vec<u8>, id: JobId, job: &Job) -> Result<(), StoreError> {
        round.durability = PersistMode::SyncData;
        let bucket = self.tables.jobs.get_or_create(id.0.time()).map_err(unavailable)?;
        round.insert(&bucket, &key, encode(job, &mut self.value));
        round.jobs.insert(key, job.version);
        Ok(())
    }

    fn claim(&mut self, round: &mut Round, key: Vec<u8>, row: ClaimRow) -> Result<Claim, StoreError> {
        let mut taken = round.claims.get(&key).copied();
        // A claim that still counts was made in this bucket or the one before, each as long as a claim lasts.
        for keyspace in self.tables.claims.newest_first(row.at - CLAIM_TTL..=row.at) {
            if taken.is_none() {
                let value = keyspace.get(&key).map_err(unavailable)?;
                taken = value.map(|value| decode::<ClaimRow>(&value)).transpose()?;
            }
        }
        match taken {
            Some(taken) if taken.at + CLAIM_TTL > row.at && taken.hash == row.hash => Ok(Claim::Same { event: taken.event }),
            Some(taken) if taken.at + CLAIM_TTL > row.at => Ok(Claim::Other),
            Some(_) | None => {
                let keyspace = self.tables.claims.get_or_create(row.at).map_err(unavailable)?;
                round.insert(&keyspace, &key, encode(&row, &mut self.value));
                round.claims.insert(key, row);
                Ok(Claim::New)
            }
        }
    }
}

impl Round {
    fn insert(&mut self, keyspace: &Keyspace, key: &[u8], value: Slice) {
        self.bytes += (key.len() + value.len()) as u64;
        self.batch.insert(keyspace, key, value);
    }
}

impl Answer {
    fn give(self, written: &Result<(), StoreError>) {
        // Who asked may have given up waiting.
        match self {
            Answer::Written(done) => drop(done.send(written.clone())),
            Answer::Claimed(done, claim) => drop(done.send(written.clone().and(claim))),
            Answer::Swapped(done, swapped) => drop(done.send(written.clone().and(swapped))),
        }
    }
}

//! The store in a folder of this machine, on fjall.
//!
//! Writes go through one thread, which gathers them; reads run on tokio's blocking threads, a bounded number at a
//! time, each on a snapshot of its own.

mod backlog;
mod buckets;
mod jobs;
mod keys;
mod lists;
mod points;
mod tables;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc as threads};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postrider_core::id::Uid;
use postrider_core::time::{Millis, Time};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use self::tables::{Tables, unavailable};
use self::writer::{ClaimRow, Command, Writer};
use super::names::{check_key, check_tenant, check_tenants};
use super::{Claim, Finished, ObjectKind, StoreError, Write};
use crate::folder::OpenError;
use crate::log::local::Log;

/// Batches that wait for the writer at most; who brings more waits.
const QUEUE: usize = 64;
/// Reads at one time; each takes a thread.
const READERS: usize = 8;
/// Attempts kept for a slow listener of the feed.
const FEED: usize = 1024;
/// Time-out of a read.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// Time-out of a write, the wait in the queue included.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How often retention is seen to.
const EXPIRY: Duration = Duration::from_secs(600);
/// How long closing waits for what is being written.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Where a local store lies and how long it keeps rows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder; made if it does not exist. One process at a time can have it open.
    pub folder: PathBuf,
    /// How long events and attempts are kept, give or take a bucket: an hour where less than three days were asked
    /// for when the folder was made, else a day.
    pub retention: Millis,
    /// How long jobs are kept, give or take a day.
    pub job_retention: Millis,
    /// Writes are refused while the disk has less than this free: fjall stops for good at the first write that fails.
    /// Less than the log asks for, so that what was accepted can still be worked off.
    pub min_free_bytes: u64,
}

/// A store in a folder. Cloning shares it; it is closed when the last clone is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    tables: Arc<Tables>,
    log: Log,
    readers: Arc<Semaphore>,
    feed: broadcast::Sender<Arc<Finished>>,
    threads: Option<Threads>,
}

/// The store's own threads: each ends when its sender is dropped, and drops its end of `ended` then.
struct Threads {
    commands: mpsc::Sender<Command>,
    expiry: threads::Sender<()>,
    ended: Mutex<threads::Receiver<()>>,
}

impl Store {
    /// Opens a store, or makes one. `log` is where bodies lie that rows only point to.
    pub fn open(options: &Options, log: Log) -> Result<Store, OpenError> {
        let tables = Arc::new(Tables::open(options)?);
        let (feed, _) = broadcast::channel(FEED);
        let (commands, queue) = mpsc::channel(QUEUE);
        let (expiry, stop) = threads::channel();
        let (alive, ended) = threads::channel::<()>();

        let writer = Writer::new(tables.clone(), feed.clone());
        let (written, kept) = (alive.clone(), tables.clone());
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let run = move || {
            let _alive = written;
            writer.run(queue);
        };
        named("store-writer").spawn(run).map_err(OpenError::io(&options.folder))?;
        let run = move || {
            let _alive = alive;
            keep_expiring(&kept, &stop);
        };
        named("store-expiry").spawn(run).map_err(OpenError::io(&options.folder))?;

        let threads = Some(Threads { commands, expiry, ended: Mutex::new(ended) });
        Ok(Store { inner: Arc::new(Inner { tables, log, readers: Arc::new(Semaphore::new(READERS)), feed, threads }) })
    }

    pub(super) async fn write(&self, batch: Arc<[Write]>) -> Result<(), StoreError> {
        check_tenants(&batch)?;
        self.submit(|done| Command::Rows { batch, done }).await
    }

    pub(super) async fn claim(&self, tenant: &str, key: &str, hash: [u8; 32], event: Uid, now: Time) -> Result<Claim, StoreError> {
        check_tenant(tenant)?;
        check_key("an idempotency key", key)?;
        let key = keys::claim(tenant, key);
        self.submit(|done| Command::Claim { key, row: ClaimRow { hash, event, at: now }, done }).await
    }

    pub(super) async fn put_object(&self, kind: ObjectKind, tenant: &str, id: &str, value: Bytes) -> Result<(), StoreError> {
        check_tenant(tenant)?;
        check_key("an object's id", id)?;
        let key = keys::object(kind, tenant, id);
        self.submit(|done| Command::Object { key, value: Some(value), done }).await
    }

    pub(super) async fn delete_object(&self, kind: ObjectKind, tenant: &str, id: &str) -> Result<(), StoreError> {
        check_tenant(tenant)?;
        check_key("an object's id", id)?;
        let key = keys::object(kind, tenant, id);
        self.submit(|done| Command::Object { key, value: None, done }).await
    }

    pub(super) async fn swap_object(
        &self,
        kind: ObjectKind,
        tenant: &str,
        id: &str,
        old: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        check_tenant(tenant)?;
        check_key("an object's id", id)?;
        let key = keys::object(kind, tenant, id);
        self.submit(|done| Command::Swap { key, old, new, done }).await
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Finished>> {
        self.inner.feed.subscribe()
    }

    pub(super) async fn expire(&self, now: Time) -> Result<usize, StoreError> {
        self.read("drop old rows", move |tables| tables.expire(now).map_err(unavailable)).await
    }

    pub(super) fn health(&self) -> Result<(), String> {
        if self.threads().commands.is_closed() {
            return Err("its writer has died; restart postrider".to_owned());
        }
        self.inner.tables.check()
    }

    fn threads(&self) -> &Threads {
        self.inner.threads.as_ref().expect("threads live as long as the store")
    }

    /// Hands a command to the writer and waits for its answer.
    async fn submit<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("its writer has died; restart postrider".to_owned());
        let (done, answer) = oneshot::channel();
        let asked = async {
            self.threads().commands.send(command(done)).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        let late = |_| StoreError::Timeout { what: "write", seconds: WRITE_LIMIT.as_secs() };
        tokio::time::timeout(WRITE_LIMIT, asked).await.map_err(late)?
    }

    /// Runs `work` where waiting for the disk holds nobody up.
    async fn read<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tables) -> Result<T, StoreError> + Send + 'static,
    {
        let gone = |why: String| StoreError::Unavailable(why);
        let (tables, readers) = (self.inner.tables.clone(), self.inner.readers.clone());
        let asked = async {
            let permit = readers.acquire_owned().await.map_err(|error| gone(error.to_string()))?;
            let run = move || {
                let _permit = permit; // Held until the work is done, even if nobody waits for it any more.
                work(&tables)
            };
            tokio::task::spawn_blocking(run).await.map_err(|error| gone(error.to_string()))?
        };
        let late = |_| StoreError::Timeout { what, seconds: READ_LIMIT.as_secs() };
        tokio::time::timeout(READ_LIMIT, asked).await.map_err(late)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(Threads { commands, expiry, ended }) = self.threads.take() {
            drop((commands, expiry));
            let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
            // Nobody ever sends: this waits until both threads have dropped their end.
            if ended.recv_timeout(CLOSE_LIMIT) == Err(threads::RecvTimeoutError::Timeout) {
                tracing::warn!("the store is still writing after {CLOSE_LIMIT:?}; it is left behind");
            }
        }
    }
}

fn keep_expiring(tables: &Tables, stop: &threads::Receiver<()>) {
    while stop.recv_timeout(EXPIRY) == Err(threads::RecvTimeoutError::Timeout) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        match tables.expire(now) {
            Ok(0) => {}
            Ok(buckets) => tracing::info!(buckets, "dropped rows older than the retention"),
            Err(error) => tracing::error!(%error, "old rows can't be dropped; trying again later"),
        }
    }
}

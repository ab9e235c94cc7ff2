//! A store to test with, rows to write into it, and what is left of it after a crash.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use postrider_backend::log;
use postrider_backend::store::{AttemptRow, Body, Dead, DeliveryWrite, EventRow, EventWrite, Store, Target, Write, local, scylla};
use postrider_core::attempt::{Answer, DeliveryState, Report};
use postrider_core::delivery::{Backlogged, Delivery, Place};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::partition::Partition;
use postrider_core::time::{Millis, Time};
use tempfile::TempDir;

/// Runs each test for every variant of the store.
macro_rules! store_contract {
    ($($name:ident),* $(,)?) => {
        mod on_local {
            $(#[tokio::test] async fn $name() { super::$name(crate::world::World::local()).await })*
        }
        mod cluster {
            $(#[tokio::test] async fn $name() { crate::cluster::cql::with_world(super::$name).await })*
        }
    };
}

pub(crate) use store_contract;

pub(crate) const DAY: u64 = 86_400_000;
/// Noon of some day, so that a test can cross midnight when it wants to.
pub(crate) const NOON: u64 = 20_000 * DAY + DAY / 2;
pub(crate) const HERE: Partition = Partition(3);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) log: log::local::Log,
    pub(crate) dir: TempDir,
    /// Where the store is, unless in the folder.
    cluster: Option<scylla::Options>,
}

/// A store that was opened by somebody who knows nothing but what is durable.
pub(crate) struct Reopened {
    pub(crate) store: Store,
    _copy: Option<TempDir>,
}

impl World {
    pub(crate) fn local() -> World {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(&dir);
        World { store: open(&dir.path().join("store"), &log), log, dir, cluster: None }
    }

    pub(crate) async fn cluster(options: &scylla::Options) -> World {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(&dir);
        let store = Store::Scylla(scylla::Store::open(options).await.unwrap());
        World { store, log, dir, cluster: Some(options.clone()) }
    }

    /// The store as a process finds it that starts after a crash at this moment.
    pub(crate) async fn reopened(&self) -> Reopened {
        match &self.cluster {
            Some(options) => Reopened { store: Store::Scylla(scylla::Store::open(options).await.unwrap()), _copy: None },
            None => {
                let copy = crashed(self);
                Reopened { store: open(copy.path(), &self.log), _copy: Some(copy) }
            }
        }
    }

    pub(crate) async fn write(&self, batch: Vec<Write>) {
        self.store.write(batch).await.unwrap();
    }
}

fn log_in(dir: &TempDir) -> log::local::Log {
    log::local::Log::open(&dir.path().join("log"), log::local::Options::default()).unwrap()
}

pub(crate) fn open(folder: &Path, log: &log::local::Log) -> Store {
    let options =
        local::Options { folder: folder.to_owned(), retention: Millis(30 * DAY), job_retention: Millis(7 * DAY), min_free_bytes: 1 << 20 };
    Store::Local(local::Store::open(&options, log.clone()).unwrap())
}

pub(crate) fn uid(at: u64, n: u64) -> Uid {
    Uid::new(Time(at), 0, n << 2)
}

pub(crate) fn endpoint(n: u128) -> EndpointId {
    EndpointId(Uid(n))
}

pub(crate) fn id(event: Uid, to: u128) -> DeliveryId {
    DeliveryId { event, endpoint: endpoint(to) }
}

pub(crate) fn event(tenant: &str, event: Uid, chunk: u32, kind: &str, to: &[u128]) -> Write {
    let targets = to.iter().map(|n| Target { endpoint: endpoint(*n), url: Some(format!("http://{n}/")) }).collect();
    let body = Body::Inline(Bytes::from_static(b"{}"));
    let row = EventRow { given_id: None, kind: kind.to_owned(), metadata: None, targets, key: None, correlation_id: None, body };
    Write::Event(EventWrite { tenant: tenant.into(), event, chunk, row })
}

pub(crate) fn delivery(tenant: &str, id: DeliveryId) -> DeliveryWrite {
    let tenant = tenant.into();
    DeliveryWrite { tenant, partition: HERE, id, attempt: None, end: None, dead: Dead::Keep, remove: None, put: None }
}

pub(crate) fn attempt(tenant: &str, id: DeliveryId, n: u32, state: DeliveryState) -> DeliveryWrite {
    let report = Report {
        started: Time(id.event.time().0 + u64::from(n) * 1000),
        took: Millis(5),
        answer: Answer::Status { code: if state == DeliveryState::Succeeded { 200 } else { 500 }, retry_after: None },
        body: Bytes::from_static(b"answer"),
    };
    DeliveryWrite { attempt: Some((n, AttemptRow { report, next: None, state, kind: "a.b".to_owned() })), ..delivery(tenant, id) }
}

pub(crate) fn backlogged(id: DeliveryId, order: u64) -> Backlogged {
    let (meta, payload) = (Bytes::from_static(b"meta"), Bytes::from_static(b"payload"));
    let delivery = Delivery { id, key: None, since: id.event.time(), attempts: 1, failed: 1, meta, payload };
    Backlogged { place: Place { order, event: id.event }, due: Time(order), delivery }
}

pub(crate) fn put(id: DeliveryId, order: u64) -> Write {
    Write::Delivery(DeliveryWrite { put: Some(backlogged(id, order)), ..delivery("t", id) })
}

pub(crate) fn remove(id: DeliveryId, order: u64) -> Write {
    Write::Delivery(DeliveryWrite { remove: Some(Place { order, event: id.event }), ..delivery("t", id) })
}

/// Follows a list to its end; no page but the last may be short.
pub(crate) async fn all<T, C>(limit: usize, page: impl AsyncFn(Option<C>) -> (Vec<T>, Option<C>)) -> Vec<T> {
    let (mut found, mut next) = page(None).await;
    while let Some(cursor) = next {
        assert_eq!(found.len() % limit, 0, "a short page in the middle");
        let (items, after) = page(Some(cursor)).await;
        assert!(!items.is_empty(), "a cursor that leads to nothing");
        found.extend(items);
        next = after;
    }
    found
}

/// The store's folder as a crash at this moment would leave it.
fn crashed(world: &World) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&world.dir.path().join("store"), copy.path());
    copy
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes below a folder; what vanishes meanwhile counts as gone.
pub(crate) fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |meta| if meta.is_dir() { size(&entry.path()) } else { meta.len() })).sum()
}

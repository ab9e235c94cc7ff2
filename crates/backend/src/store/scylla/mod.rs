//! The store in a cluster of ScyllaDB or Cassandra.
//!
//! Rows are written in batches that each lie in one partition of one table; an id alone names the partition. Rows are
//! never read before they are written, but for idempotency keys and configuration, which change by lightweight
//! transactions. Of two owners of one partition's backlog none can hide the other's rows, see [`marks`].
//!
//! Needed of the cluster: clocks that agree within seconds (NTP), for of two writes of a row the later counts; and
//! repairs or a rebuild of nodes that were down for longer than three hours.

mod backlog;
mod batches;
mod conditional;
mod connect;
mod deliveries;
mod failure;
mod hours;
mod jobs;
mod layout;
mod lists;
mod marks;
mod migrate;
mod objects;
mod options;
mod pages;
mod pieces;
mod points;
mod probe;
mod schema;
mod stamps;
mod statements;
mod walk;
mod write;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_core::time::Time;
use scylla::client::session::Session;
use scylla::cluster::metadata::Strategy;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::batches::WRITE_LIMIT;
use self::connect::{Connected, connect};
use self::hours::Hours;
use self::marks::Marks;
use self::migrate::read_setting;
use self::objects::Turns;
use self::probe::{Health, Stale};
use self::schema::{SETTING_SHARDS, SETTING_VERSION, VERSION};
use self::stamps::Stamps;
use self::statements::Statements;
use super::{Finished, StoreError};

pub use self::failure::{ConnectError, MigrateError, OpenError};
pub use self::migrate::{Migrated, migrate};
pub use self::options::{Login, Options};

/// Time-out of opening a store.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Attempts kept for a slow listener of the feed.
const FEED: usize = 1024;

/// A store in a cluster. Cloning shares it.
///
/// Its connections live on the runtime that it was opened on; use it from others as long as that one runs.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    session: Session,
    statements: Statements,
    virtual_shards: i32,
    /// In seconds.
    job_ttl: i32,
    stamps: Arc<Stamps>,
    hours: Hours,
    marks: Marks,
    turns: Turns,
    stale: Mutex<Stale>,
    feed: broadcast::Sender<Arc<Finished>>,
    health: Health,
    probe: Mutex<Option<AbortHandle>>,
}

impl Store {
    /// Opens the store that [`migrate()`] has made, and looks whether it can be used. Gives up after 10 s.
    pub async fn open(options: &Options) -> Result<Store, OpenError> {
        let late = |_| OpenError::Timeout { seconds: OPEN_LIMIT.as_secs() };
        timeout(OPEN_LIMIT, Store::open_now(options)).await.map_err(late)?
    }

    async fn open_now(options: &Options) -> Result<Store, OpenError> {
        let stamps = Arc::new(Stamps::default());
        let connected = connect(options, stamps.clone(), WRITE_LIMIT).await?;
        let keyspace = &options.keyspace;
        check_copies(&connected, keyspace)?;
        let session = connected.session;
        let found: u32 = setting(&session, keyspace, SETTING_VERSION).await?.unwrap_or_default();
        if found < VERSION {
            return Err(OpenError::Older { keyspace: keyspace.clone(), found, needed: VERSION });
        }
        if found > VERSION {
            return Err(OpenError::Newer { keyspace: keyspace.clone(), found, supported: VERSION });
        }
        let Some(virtual_shards) = setting(&session, keyspace, SETTING_SHARDS).await? else {
            return Err(OpenError::Setting { keyspace: keyspace.clone(), name: SETTING_SHARDS, value: "nothing".to_owned() });
        };
        let statements = Statements::prepare(&session, keyspace).await.map_err(|error| OpenError::Refused(error.to_string()))?;
        let (feed, _) = broadcast::channel(FEED);
        let inner = Arc::new(Inner {
            session,
            statements,
            virtual_shards,
            job_ttl: options.job_ttl(),
            stamps,
            hours: Hours::default(),
            marks: Marks::default(),
            turns: Turns::default(),
            stale: Mutex::default(),
            feed,
            health: Health::default(),
            probe: Mutex::default(),
        });
        probe::start(&inner);
        Ok(Store { inner })
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Finished>> {
        self.inner.feed.subscribe()
    }

    pub(super) async fn expire(&self, _now: Time) -> Result<usize, StoreError> {
        Ok(0) // the nodes drop what is too old
    }

    pub(super) fn health(&self) -> Result<(), String> {
        self.inner.health.get()
    }
}

/// Looks whether a majority of the copies can be had at all.
fn check_copies(connected: &Connected, keyspace: &str) -> Result<(), OpenError> {
    let state = connected.session.get_cluster_state();
    let Some(found) = state.get_keyspace(keyspace) else {
        return Err(OpenError::NoKeyspace { keyspace: keyspace.to_owned() });
    };
    let datacenter = &connected.datacenter;
    let copies = match &found.strategy {
        Strategy::NetworkTopologyStrategy { datacenter_repfactors } => datacenter_repfactors.get(datacenter).copied().unwrap_or_default(),
        Strategy::SimpleStrategy { replication_factor } => *replication_factor,
        // The driver's list of strategies may grow; what it does not know is the operator's own choice.
        _ => return Ok(()),
    };
    let nodes = connected.nodes.get(datacenter).copied().unwrap_or_default();
    if copies == 0 || nodes < copies / 2 + 1 {
        let (keyspace, datacenter) = (keyspace.to_owned(), datacenter.clone());
        return Err(OpenError::TooFewNodes { keyspace, datacenter, replication_factor: copies, nodes });
    }
    if nodes < copies {
        tracing::warn!(nodes, copies, datacenter, "the store has fewer nodes than copies of a row; it can't bear the loss of a node");
    }
    Ok(())
}

async fn setting<T: std::str::FromStr>(session: &Session, keyspace: &str, name: &'static str) -> Result<Option<T>, OpenError> {
    let Some(value) = read_setting(session, keyspace, name).await.map_err(OpenError::Refused)? else { return Ok(None) };
    let parsed = value.parse();
    parsed.map(Some).map_err(|_| OpenError::Setting { keyspace: keyspace.to_owned(), name, value })
}

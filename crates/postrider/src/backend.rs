//! Where everything rests, as the configuration says: in a folder, or on Kafka and ScyllaDB.

use anyhow::Context;
use postrider_backend::directory::Directory;
use postrider_backend::folder::Folder;
use postrider_backend::live::Live;
use postrider_backend::log::{self, Log, LogError, kafka};
use postrider_backend::store::{self, Store, scylla};
use postrider_core::time::Millis;
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;
use crate::failure::Failure;

/// An open backend.
pub(crate) struct Backend {
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) names: Names,
    /// To be dropped last.
    pub(crate) keep: Keep,
}

/// What operators call log and store.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) log: &'static str,
    pub(crate) store: &'static str,
}

/// What must outlive everything that is open.
pub(crate) enum Keep {
    /// The data folder, locked.
    Folder {
        /// Held, not read.
        _folder: Folder,
    },
    /// What the connections to ScyllaDB live on, and what other processes change.
    Cluster {
        /// Of one thread.
        runtime: Runtime,
        /// To be followed from the start.
        changes: Option<kafka::Tail>,
    },
}

impl Backend {
    /// In a folder. Sees to an administrator's key there, too.
    pub(crate) fn embedded(config: &mut Config) -> Result<Backend, Failure> {
        // The store resolves its folder against it, and would panic.
        std::env::current_dir().context("the working directory can't be read; was it deleted?")?;
        let partitions = config.data.partitions;
        let folder = Folder::open(&config.data.dir, partitions).map_err(anyhow::Error::new)?;
        config.ensure_key()?;
        let retention = retention(config);
        let min_free_bytes = config.data.min_free_mib << 20;
        let options = log::local::Options {
            partitions,
            segment_bytes: config.data.segment_mib << 20,
            retention,
            min_free_bytes,
            ..log::local::Options::default()
        };
        let log = log::local::Log::open(&folder.path().join("log"), options).map_err(anyhow::Error::new)?;
        let folder_of_store = folder.path().join("store");
        let job_retention = job_retention(config);
        let options = store::local::Options { folder: folder_of_store, retention, job_retention, min_free_bytes: min_free_bytes / 2 };
        let store = Store::Local(store::local::Store::open(&options, log.clone()).map_err(anyhow::Error::new)?);
        let log = Log::Local(log);
        let directory = Directory::new(store.clone(), log.clone());
        Ok(Backend { log, store, directory, names: Names { log: "log", store: "store" }, keep: Keep::Folder { _folder: folder } })
    }

    /// On Kafka and ScyllaDB, which `migrate` has prepared.
    pub(crate) fn cluster(config: &Config) -> Result<Backend, Failure> {
        let runtime = runtime()?;
        let kafka = kafka::Log::open(kafka_options(config)).map_err(anyhow::Error::new)?;
        let scylla = runtime.block_on(scylla::Store::open(&scylla_options(config))).map_err(anyhow::Error::new)?;
        let (log, store) = (Log::Kafka(kafka), Store::Scylla(scylla));
        // Before anything is read, so that no change falls in between.
        let changes = runtime.block_on(log.changes()).map_err(anyhow::Error::new)?;
        let directory = Directory::new(store.clone(), log.clone());
        let keep = Keep::Cluster { runtime, changes };
        Ok(Backend { log, store, directory, names: Names { log: "kafka", store: "scylla" }, keep })
    }
}

impl Keep {
    /// Takes in what other processes change, until that fails for good.
    pub(crate) fn follow(&mut self, directory: &Directory, failed: impl FnOnce(LogError) + Send + 'static) {
        if let Keep::Cluster { runtime, changes } = self
            && let Some(tail) = changes.take()
        {
            let directory = directory.clone();
            runtime.spawn(async move { failed(directory.follow(tail).await) });
        }
    }
}

impl Keep {
    /// Shows other processes what this one delivers.
    pub(crate) fn show(&self, live: Live, directory: &Directory) {
        if let Keep::Cluster { runtime, .. } = self {
            runtime.spawn(live.show(directory.changes()));
        }
    }
}

/// Makes topics, keyspace and tables, or brings them up to date; says what was done.
pub(crate) fn migrate(config: &Config, grow: kafka::Grow) -> Result<String, Failure> {
    let runtime = runtime()?;
    let migration = kafka::Migration { partitions: config.kafka.partitions, replication_factor: config.kafka.replication_factor, grow };
    let topics = runtime.block_on(kafka::migrate(&kafka_options(config), migration)).map_err(anyhow::Error::new)?;
    let tables = runtime.block_on(scylla::migrate(&scylla_options(config))).map_err(anyhow::Error::new)?;
    Ok(format!("{topics}\n{tables}"))
}

fn runtime() -> anyhow::Result<Runtime> {
    let built = Builder::new_multi_thread().worker_threads(1).thread_name("scylla").enable_all().build();
    built.context("a runtime can't be started")
}

/// Refuses settings that no server is needed to find wrong.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    match config.backend {
        crate::config::Backend::Embedded => Ok(()),
        crate::config::Backend::Cluster => kafka_options(config).check().map_err(|error| Failure::Usage(error.to_string())),
    }
}

fn kafka_options(config: &Config) -> kafka::Options {
    let settings = &config.kafka;
    let properties = settings.properties.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned()));
    kafka::Options {
        brokers: settings.brokers.clone(),
        prefix: settings.prefix.clone(),
        properties: properties.collect(),
        instance_id: settings.instance_id.clone(),
        sources: config.sources.iter().map(|source| source.topic.clone()).collect(),
        outside: config.jobs.outside.iter().map(|outside| outside.kind.clone()).collect(),
    }
}

fn scylla_options(config: &Config) -> scylla::Options {
    let settings = &config.scylla;
    let login = scylla::Login { user: settings.username.clone(), password: settings.password.clone() };
    scylla::Options {
        nodes: settings.nodes.clone(),
        keyspace: settings.keyspace.clone(),
        replication_factor: settings.replication_factor,
        login: Some(login).filter(|login| !login.user.is_empty()),
        ca: Some(settings.ca.clone()).filter(|file| !file.as_os_str().is_empty()),
        datacenter: Some(settings.datacenter.clone()).filter(|name| !name.is_empty()),
        retention: retention(config),
        job_retention: job_retention(config),
    }
}

/// How long jobs are kept.
pub(crate) fn job_retention(config: &Config) -> Millis {
    Millis::from_secs(u64::from(config.jobs.retention_days) * 86_400)
}

fn retention(config: &Config) -> Millis {
    Millis::from_secs(u64::from(config.data.retention_days) * 86_400)
}

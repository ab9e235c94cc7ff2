//! Where everything rests, as the configuration says: in a folder, or on Kafka and ScyllaDB.

use anyhow::Context;
use postrider_backend::directory::Directory;
use postrider_backend::folder::Folder;
use postrider_backend::log::{self, Log};
use postrider_backend::store::{self, Store};
use postrider_core::time::Millis;

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
        let options = store::local::Options { folder: folder_of_store, retention, min_free_bytes: min_free_bytes / 2 };
        let store = Store::Local(store::local::Store::open(&options, log.clone()).map_err(anyhow::Error::new)?);
        let log = Log::Local(log);
        let directory = Directory::new(store.clone());
        Ok(Backend { log, store, directory, names: Names { log: "log", store: "store" }, keep: Keep::Folder { _folder: folder } })
    }
}

fn retention(config: &Config) -> Millis {
    Millis::from_secs(u64::from(config.data.retention_days) * 86_400)
}

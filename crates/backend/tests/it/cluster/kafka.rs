//! Topics of a test's own on a real broker.

use std::collections::BTreeMap;
use std::thread;

use bytes::Bytes;
use postrider_backend::log::kafka::{self, Grow, Migration, Options};
use postrider_backend::log::{Append, Log, Topic};
use postrider_core::partition::Partition;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::Servers;
use crate::log_contract::OURS;

pub(crate) const MIGRATION: Migration = Migration { partitions: 4, replication_factor: 1, grow: Grow::Refuse };

/// A prefix that no other test has. Its topics go when it goes.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) brokers: String,
    mine: bool,
}

impl World {
    /// With topics, and a queue as small as the contract wants it.
    pub(crate) async fn new() -> World {
        let world = World::bare();
        kafka::migrate(&world.options, MIGRATION).await.unwrap();
        world
    }

    /// Without topics.
    pub(crate) fn bare() -> World {
        let brokers = Servers::get().kafka;
        let options = Options {
            brokers: brokers.clone(),
            prefix: format!("test-{:08x}.", getrandom::u32().unwrap()),
            properties: BTreeMap::from([("queue.buffering.max.kbytes".to_owned(), "32".to_owned())]),
            ..Options::default()
        };
        World { options, brokers, mine: true }
    }

    /// The topics of another, which they stay.
    pub(crate) fn of(prefix: &str) -> World {
        let mut world = World::bare();
        world.options.prefix = prefix.to_owned();
        world.mine = false;
        world
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> World {
        self.options.properties.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn open(&self) -> Log {
        Log::Kafka(kafka::Log::open(self.options.clone()).unwrap())
    }

    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    /// A client of the same brokers that is not postrider.
    pub(crate) fn stranger(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.mine {
            return;
        }
        let admin: AdminClient<DefaultClientContext> = self.stranger().create().unwrap();
        let names: Vec<String> = OURS.iter().map(|name| self.topic(name)).collect();
        // A test may be in the middle of its own runtime.
        let delete = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            runtime.block_on(admin.delete_topics(&names, &AdminOptions::new())).map(drop)
        };
        let deleted = thread::spawn(delete).join();
        if !thread::panicking() {
            deleted.unwrap().unwrap();
        }
    }
}

pub(crate) fn record(topic: Topic, partition: u16, payload: impl Into<Bytes>) -> Append {
    Append { topic, partition: Partition(partition), meta: Bytes::from_static(b"meta"), payload: payload.into(), failure: None }
}

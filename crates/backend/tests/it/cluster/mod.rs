//! What needs real servers. `cargo xtask test` starts them; `--skip cluster::` leaves these out.

pub(crate) mod cql;
pub(crate) mod kafka;
mod kafka_group;
mod kafka_log;

mod log_contract {
    crate::log_contract::log_contract!(crate::log_contract::Any::Kafka(crate::cluster::kafka::World::new().await));
}

use std::env;
use std::fs;

use serde::Deserialize;

/// The servers that are there to test with.
#[derive(Deserialize)]
pub(crate) struct Servers {
    pub(crate) kafka: String,
    pub(crate) kafka_sasl_ssl: String,
    pub(crate) kafka_ca: String,
    pub(crate) kafka_user: String,
    pub(crate) kafka_password: String,
}

impl Servers {
    pub(crate) fn get() -> Servers {
        let file = env::var_os("POSTRIDER_TEST_SERVERS").expect("POSTRIDER_TEST_SERVERS is not set: run `cargo xtask test`");
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}

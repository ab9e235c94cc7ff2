//! Several processes on real Kafka and real CQL servers: `cargo xtask test` starts these and names them in
//! `POSTRIDER_TEST_SERVERS`.

mod bad_input;
mod changes;
mod chaos;
mod foreign;
mod jobs;
mod outages;
mod rebalance;
mod servers;
mod stream;
mod view;
mod world;

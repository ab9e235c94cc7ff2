//! Several processes on real Kafka and real CQL servers: `cargo xtask test` starts these and names them in
//! `POSTRIDER_TEST_SERVERS`.

mod bad_input;
mod changes;
mod chaos;
mod dashboards;
mod foreign;
mod jobs;
mod outages;
mod outside;
mod rebalance;
mod servers;
mod stream;
mod traces;
mod view;
mod world;

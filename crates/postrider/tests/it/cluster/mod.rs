//! Several processes on real Kafka and real CQL servers: `cargo xtask test` starts these and names them in
//! `POSTRIDER_TEST_SERVERS`.

mod bad_input;
mod chaos;
mod changes;
mod foreign;
mod rebalance;
mod world;

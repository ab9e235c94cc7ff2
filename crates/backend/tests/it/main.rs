//! What the seams promise, tested across them: one contract for every backend, then what is particular to one.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod blobs_contract;
mod cluster;
mod directory;
mod gate;
mod log_contract;
mod log_kafka;
mod log_local;
mod store_contract;
mod store_jobs;
mod store_local;
mod store_queries;
mod world;

//! The API over a real server and a real embedded backend. There is no engine: what it would write, tests write.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod batches;
mod deliveries;
mod errors;
mod events;
mod files;
mod idempotency;
mod jobs;
mod openapi;
mod serving;
mod streaming;
mod webhooks;
mod world;

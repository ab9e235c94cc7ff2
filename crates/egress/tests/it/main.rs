//! The sender against real receivers on this machine, well-behaved and not.
#![allow(clippy::unwrap_used)] // In helpers too, which the lint does not know to be tests.

mod connections;
mod failures;
mod guard;
mod receiver;
mod responses;
mod tls;
mod waiting;

//! The decisions of a delivery platform, without anything that waits.
//!
//! Architecture invariant: no IO, clock, threads, async or randomness of its own. Time comes in as an argument,
//! chance as a seed, the world as inputs; what is to be done comes out as actions. So every behaviour here can be
//! simulated, replayed from a seed, and tested in microseconds.
//!
//! Read [`shard::Shard`] and [`record::Envelope`] first.

pub mod attempt;
mod backlog;
pub mod breaker;
pub mod concurrency;
pub mod delivery;
pub mod endpoint;
pub mod id;
pub mod job;
mod lane;
pub mod offsets;
mod pace;
pub mod partition;
pub mod pattern;
pub mod rate;
pub mod record;
pub mod retry;
pub mod rng;
pub mod secret;
pub mod shard;
pub mod sign;
pub mod time;
pub mod trace;
pub mod usage;

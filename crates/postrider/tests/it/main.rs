//! The program as its users meet it: the real binary, real HTTP, `kill -9`.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod changes;
mod cli;
mod cluster;
mod jobs;
mod load;
mod no_loss;
mod outage;
mod readme;
mod receiver;
mod signatures;
mod speech;
mod strangers;
mod world;

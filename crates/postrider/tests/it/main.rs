//! The program as its users meet it: the real binary, real HTTP, `kill -9`.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod batch;
mod changes;
mod cli;
mod cluster;
mod collector;
mod dashboards;
mod experiment;
mod generate;
mod http;
mod jobs;
mod load;
mod logs;
mod metrics;
mod no_loss;
mod outage;
mod prometheus;
mod readme;
mod receiver;
mod signatures;
mod speech;
mod strangers;
mod traces;
mod usage;
mod world;

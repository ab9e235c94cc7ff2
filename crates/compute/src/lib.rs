//! The kinds of jobs, and the loop that runs them.
//!
//! A record of a kind's topic wakes the worker that has its partition. The worker claims the job, runs it, writes down what
//! came of it, tells everyone, and only then is the record finished: a worker that dies leaves the record to whoever has
//! the partition next, who waits for the claim's lease to end and begins the job again. Other jobs of the partition are
//! not held up, as what is finished behind an open record is committed with it.
//!
//! Architecture invariant: what may become of a job is [`postrider_core::job`]'s to say; nothing here changes a job but by
//! its transitions.
//!
//! Kinds that workers outside do have a worker here, too, which notices that nothing is heard of a job; what they say is read by
//! [`results::run`].
//!
//! Read [`worker::run`] first, then `run`.

mod batch;
mod budget;
mod evaluate;
mod experiment;
mod generate;
mod heartbeat;
mod http;
mod output;
mod progress;
mod queue;
pub mod results;
mod run;
pub mod sweep;
mod tts;
mod watch;
pub mod worker;

pub use worker::{Compute, ComputeError, ComputeOptions};

//! The commands, one file each.

mod config;
mod demo;
mod dev;
mod endpoint;
mod experiment;
mod health;
mod job;
mod listen;
mod migrate;
mod replay;
mod serve;
mod tail;
mod trigger;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Delivers events to webhooks: signed, retried, isolated from each other, without loss.
#[derive(Parser)]
#[command(name = "postrider", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show everything at work: a server, receivers of all tempers, real input, a summary.
    Demo(demo::Args),
    /// Run a server for development: all roles, durable in one folder.
    Dev(dev::Args),
    /// Run a server as a configuration file says.
    Serve(serve::Args),
    /// Prepare Kafka and ScyllaDB for a cluster; safe to repeat.
    Migrate(migrate::Args),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::Args),
    /// Say whether a server of this machine can work: exit code 0 if so, 1 if not, 3 where there is none.
    Health(health::Args),
    /// Receive deliveries on this machine: verify signatures, print one line for each.
    Listen(listen::Args),
    /// Send events.
    Trigger(trigger::Args),
    /// Manage webhook endpoints.
    Endpoint(endpoint::Args),
    /// Submit jobs, follow them, fetch what they made.
    Job(job::Args),
    /// Run experiments: personas that a model makes up.
    Experiment(experiment::Args),
    /// Watch deliveries as they happen.
    Tail(tail::Args),
    /// Deliver again what an endpoint missed.
    Replay(replay::Args),
}

impl Cli {
    /// Runs the command that was given.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Demo(args) => demo::run(args),
            Command::Dev(args) => dev::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Migrate(args) => migrate::run(args),
            Command::Config(args) => config::run(args),
            Command::Health(args) => health::run(args),
            Command::Listen(args) => listen::run(args),
            Command::Trigger(args) => trigger::run(args),
            Command::Endpoint(args) => endpoint::run(args),
            Command::Job(args) => job::run(args),
            Command::Experiment(args) => experiment::run(args),
            Command::Tail(args) => tail::run(args),
            Command::Replay(args) => replay::run(args),
        }
    }
}

//! An open-loop load driver for a webhook delivery server, with the receiver that its deliveries go to.
//!
//! Architecture invariant: latency runs from the instant an event was *due*, not from when a connection was free to
//! send it, so a server that stalls is charged for the stall (no coordinated omission). And every event that was
//! answered 202 is looked for at its endpoint afterwards: what never arrives is lost, and the run fails.
//!
//! Driver and receiver share one thread and one epoll, because the server under test runs on the same cores.
//!
//! Read [`scenario::Scenario`] and [`ledger::Ledger`] first, then [`run`]; [`page`] makes reports of results.

mod batch;
mod clock;
mod command;
mod course;
mod driver;
mod endpoints;
mod fault;
mod fleet;
mod ledger;
mod load;
mod machine;
mod page;
mod payload;
mod poller;
mod progress;
mod receiver;
mod register;
mod report;
mod run;
mod scenario;
mod schedule;
mod server;
mod settings;
mod stream;
mod summary;
mod values;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Verdict;
use crate::scenario::{Scenario, ScenarioError};
use crate::settings::Settings;

/// Loads a webhook delivery server with events and reconciles what arrives.
#[derive(Parser)]
#[command(version, args_override_self = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// A TOML file with the same settings (`payload_bytes = 1024`); the command line overrides it.
    #[arg(long)]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a page with plots, or tables, of the results that runs left behind with --out.
    Report(page::Options),
}

impl Cli {
    fn scenario(self) -> Result<Scenario, ScenarioError> {
        let file = self.scenario.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Scenario::try_from(self.settings.or(file))
    }
}

/// Exit codes: 0 nothing was lost, 1 something was or the run failed, 2 wrong usage.
fn main() -> ExitCode {
    let mut cli = Cli::parse();
    let done = match cli.command.take() {
        Some(Command::Report(options)) => page::write(&options).map(|()| ExitCode::SUCCESS),
        None => match cli.scenario() {
            Ok(scenario) => run::run(&scenario).and_then(|report| report.publish(scenario.out.as_deref())).map(Verdict::exit_code),
            Err(error) => {
                eprintln!("loadtest: {error}");
                return ExitCode::from(2);
            }
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::FAILURE
    })
}

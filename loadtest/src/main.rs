//! An open-loop load driver for a webhook delivery server, with the receiver that its deliveries go to.
//!
//! Architecture invariant: latency runs from the instant an event was *due*, not from when a connection was free to
//! send it, so a server that stalls is charged for the stall (no coordinated omission). And every event that was
//! answered 202 is looked for at its endpoint afterwards: what never arrives is lost, and the run fails.
//!
//! Driver and receiver share one thread and one epoll, because the server under test runs on the same cores.
//!
//! Read [`scenario::Scenario`] and [`ledger::Ledger`] first, then [`run`].

mod batch;
mod clock;
mod driver;
mod endpoints;
mod ledger;
mod payload;
mod poller;
mod receiver;
mod register;
mod report;
mod run;
mod scenario;
mod schedule;
mod server;
mod stream;
mod values;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::scenario::{Scenario, ScenarioError, Settings};

/// Loads a webhook delivery server with events and reconciles what arrives.
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Cli {
    /// A TOML file with the same settings (`payload_bytes = 1024`); the command line overrides it.
    #[arg(long)]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Cli {
    fn scenario(self) -> Result<Scenario, ScenarioError> {
        let file = self.scenario.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
        Scenario::try_from(self.settings.or(file))
    }
}

/// Exit codes: 0 nothing was lost, 1 something was or the run failed, 2 wrong usage.
fn main() -> ExitCode {
    let scenario = match Cli::parse().scenario() {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("loadtest: {error}");
            return ExitCode::from(2);
        }
    };
    match run::run(&scenario).and_then(|report| report.publish(scenario.out.as_deref())) {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

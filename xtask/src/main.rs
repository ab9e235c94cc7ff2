//! `cargo xtask`: what a developer runs, each as one command.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;

/// Tasks of the workspace.
#[derive(Parser)]
enum Task {
    /// Format, lints, documentation and every test: what must pass before a change lands.
    Test,
    /// Ten thousand seeds of the simulator, in a release build.
    Simulate {
        /// How many seeds.
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
    },
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => test(),
        Task::Simulate { seeds } => cargo(&["run", "--release", "-p", "postrider-sim", "--", "--seeds", &seeds.to_string()]),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&["test", "--workspace"])
}

/// Runs cargo in the workspace and shows what took how long.
fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let started = Instant::now();
    eprintln!("$ cargo {}", arguments.join(" "));
    let status = Command::new(env!("CARGO")).args(arguments).status().context("cargo can't be started")?;
    if !status.success() {
        bail!("`cargo {}` failed", arguments.join(" "));
    }
    eprintln!("  done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

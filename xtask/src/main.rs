//! `cargo xtask`: what a developer runs, each as one command.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;

/// Tasks of the workspace.
#[derive(Parser)]
enum Task {
    /// Format, lints, documentation and every test: what must pass before a change lands.
    Test,
    /// The published Standard Webhooks libraries for Python and Node verify real deliveries. Needs python3 and npm.
    Interop,
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
        Task::Interop => interop(),
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

fn interop() -> anyhow::Result<()> {
    const TESTS: &str = "crates/postrider/tests/interop";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let folder = root.join("target/interop");
    std::fs::create_dir_all(&folder)?;
    cargo(&["build", "--release", "-p", "postrider"])?;
    let python = folder.join("venv/bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "standardwebhooks", "svix"]))?;
    }
    if !folder.join("node_modules/standardwebhooks").exists() {
        run(Command::new("npm").args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"]).arg(&folder).arg("standardwebhooks"))?;
    }
    let (script, verify) = (root.join(TESTS).join("receivers.py"), root.join(TESTS).join("verify.mjs"));
    run(Command::new(&python).env("INTEROP_MODULES", &folder).arg(script).arg(root.join("target/release/postrider")).arg(verify))
}

/// Runs a command to its end.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{:?} can't be started; is it installed?", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
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

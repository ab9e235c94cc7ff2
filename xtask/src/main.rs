//! `cargo xtask`: what a developer runs, each as one command.

mod packages;
mod run;
mod servers;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;

use run::{cargo, cargo_with, run};
use servers::{Engine, Outcome, Up};

/// Tasks of the workspace.
#[derive(Parser)]
enum Task {
    /// Format, lints, documentation and every test: what must pass before a change lands. Starts the servers that the
    /// tests need, and ends what it started.
    Test {
        /// What runs the servers: Docker where it is usable, else Java.
        #[arg(long)]
        with: Option<Engine>,
    },
    /// Starts a real Kafka and a real CQL server, empty, on free ports of this machine.
    Up(Up),
    /// Ends the servers that `up` started, and only those, and deletes their data.
    Down {
        /// The file that `up` wrote [default: target/servers/servers.json]
        #[arg(long)]
        file: Option<PathBuf>,
    },
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
    let task = Task::parse();
    let done = run::outlive_interrupts().and_then(|()| match task {
        Task::Test { with } => test(with),
        Task::Up(options) => up(&options),
        Task::Down { file } => servers::down(file.as_deref()),
        Task::Interop => interop(),
        Task::Simulate { seeds } => cargo(&["run", "--release", "-p", "postrider-sim", "--", "--seeds", &seeds.to_string()]),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(options: &Up) -> anyhow::Result<()> {
    let (servers, outcome) = servers::up(options)?;
    match outcome {
        Outcome::Started => println!("started"),
        Outcome::WereUp => println!("already up"),
    }
    print!("{servers}");
    println!("export {}={}", servers::VARIABLE, servers.file().display());
    Ok(())
}

fn test(with: Option<Engine>) -> anyhow::Result<()> {
    let given = std::env::var_os(servers::VARIABLE).map(PathBuf::from);
    if let Some(file) = &given {
        servers::check(file).with_context(|| format!("the servers that {} names", servers::VARIABLE))?;
    }
    packages::need("espeak-ng")?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Built before the servers start: they would only take memory and time from the compiler.
    cargo(&["test", "--workspace", "--no-run"])?;
    let test = |file: &Path| cargo_with(&["test", "--workspace"], &[(servers::VARIABLE, file)]);
    if let Some(file) = given {
        return test(&file);
    }
    let (servers, outcome) = servers::up(&Up::everything(with))?;
    let tested = test(servers.file());
    let ended = match outcome {
        Outcome::Started => servers::down(Some(servers.file())),
        Outcome::WereUp => Ok(()),
    };
    tested.and(ended)
}

fn interop() -> anyhow::Result<()> {
    const TESTS: &str = "crates/postrider/tests/interop";
    let root = root()?;
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

/// The workspace's folder.
fn root() -> anyhow::Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")
}

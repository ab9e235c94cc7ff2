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

/// The variable of the environment that says how many tests run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

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
    packages::need("python3")?;
    // The model is too large for the repository. Does nothing if it is there.
    let (root, script) = (root()?, "crates/bert/tests/reference/model.py");
    run(Command::new("python3").arg(root.join(script)).arg(root.join("target/test-bert")))?;
    // Kafka's client for the worker of the examples; OpenAI's own, which runs its whole flow against ours; OpenTelemetry's
    // messages, which read our spans.
    packages::python(&root.join("target/test-python"), &["confluent-kafka", "openai", "opentelemetry-proto"])?;
    deployment(root)?;
    // Asks every query of dashboards and alerts.
    packages::unpack(&root.join("target/test-prometheus"), "prometheus", &["prometheus", "promtool"])?;
    // Speaks the protocol of S3 over a folder.
    packages::go(&root.join("target/test-s3"), "github.com/versity/versitygw/cmd/versitygw", "v1.8.0")?;
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Built before the servers start: they would only take memory and time from the compiler.
    cargo(&["test", "--workspace", "--no-run"])?;
    // Most of them wait for servers rather than for a processor.
    let threads = std::env::var_os(THREADS).unwrap_or_else(|| "4".into());
    let test = |file: &Path| cargo_with(&["test", "--workspace"], &[(servers::VARIABLE, file.as_os_str()), (THREADS, &threads)]);
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

/// What checks the chart, the compose file and the systemd unit. Nothing of it needs a cluster, Docker or a running systemd.
fn deployment(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("target/test-deploy");
    if packages::in_path("systemd-analyze").is_none() {
        packages::install(&["systemd"], "Tests need systemd-analyze, which comes with systemd")?;
    }
    let python = packages::python(
        &folder,
        &["kubernetes-validate", "compose-spec", "cloudcoil-models-keda", "cloudcoil-models-prometheus-operator"],
    )?;
    run(Command::new(python).arg(root.join("xtask/tests/deploy/helm.py")).arg(folder))
}

fn interop() -> anyhow::Result<()> {
    const TESTS: &str = "crates/postrider/tests/interop";
    let root = root()?;
    let folder = root.join("target/interop");
    std::fs::create_dir_all(&folder)?;
    cargo(&["build", "--release", "-p", "postrider"])?;
    let python = packages::python(&folder.join("venv"), &["standardwebhooks", "svix"])?;
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

//! A real Kafka and a real CQL server for tests, on this machine.
//!
//! [`up`] starts them, empty, and writes where they are; [`down`] ends just those. Tests find the file's path in
//! [`VARIABLE`]. With a usable Docker engine they are the images of `docker-compose.yml`, otherwise Java programs that
//! Maven fetches: Kafka itself, and Cassandra in ScyllaDB's place.

mod cassandra;
mod certificates;
mod docker;
mod file;
mod folder;
mod jars;
mod java;
mod kafka;
mod ports;
mod probe;
mod process;
mod running;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

pub(crate) use file::Servers;

use java::Java;
use process::Ended;
use running::{Host, Running, Started};

use crate::root;

/// The variable of the environment that names the servers' file for tests.
pub(crate) const VARIABLE: &str = "POSTRIDER_TEST_SERVERS";

/// What runs the servers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Containers: Kafka and ScyllaDB.
    Docker,
    /// Java processes: Kafka and Cassandra. Their command lines are in the file, so a test can kill and restart them.
    Jvm,
}

/// One of the servers.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Kafka.
    Kafka,
    /// ScyllaDB or Cassandra.
    Cql,
}

/// Which servers to start, and where.
#[derive(Args)]
pub(crate) struct Up {
    /// Folder for data and logs; another one gives a second set of servers [default: target/servers]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where to write what tests need to know [default: DIR/servers.json]
    #[arg(long)]
    file: Option<PathBuf>,
    /// Only this server.
    #[arg(long)]
    only: Option<Server>,
    /// What runs the servers: Docker where it is usable, else Java.
    #[arg(long)]
    with: Option<Engine>,
    /// The servers may be killed and started again with the command lines of the file. Tables are made more slowly then.
    #[arg(long)]
    mortal: bool,
    /// The CQL server speaks TLS only and asks for a login: user and password are `cassandra`. Only with Java.
    #[arg(long)]
    secure: bool,
}

impl Up {
    /// All servers at their usual place.
    pub(crate) fn everything(with: Option<Engine>) -> Self {
        Self { dir: None, file: None, only: None, with, mortal: false, secure: false }
    }

    fn manner(&self) -> cassandra::Manner {
        cassandra::Manner { mortal: self.mortal, secure: self.secure }
    }

    fn wants(&self, server: Server) -> bool {
        self.only.is_none_or(|only| only == server)
    }
}

/// Whether [`up`] had something to do.
pub(crate) enum Outcome {
    /// They did not run, or not all of them.
    Started,
    /// They ran and answered.
    WereUp,
}

/// Starts the servers and waits until they answer. Does nothing if those that the file names answer; replaces them
/// otherwise.
///
/// # Errors
/// A server can't be fetched, or does not answer in three minutes: with the end of its log. Nothing is left running.
pub(crate) fn up(options: &Up) -> anyhow::Result<(Servers, Outcome)> {
    let usual = target()?;
    let dir = options.dir.clone().unwrap_or_else(|| usual.clone());
    fs::create_dir_all(&dir).with_context(|| format!("{} can't be made", dir.display()))?;
    let dir = dir.canonicalize()?;
    let file = std::path::absolute(options.file.clone().unwrap_or_else(|| dir.join("servers.json")))?;
    let _lock = lock(&file)?;
    if let Some(servers) = Servers::read(&file)? {
        if servers.are_what(options) && answer(&servers).is_ok() {
            return Ok((servers, Outcome::WereUp));
        }
        end(&servers)?;
    }
    let mut servers = Servers::new(&file, &dir)?;
    let engine = options.with.unwrap_or_else(|| if docker::usable() { Engine::Docker } else { Engine::Jvm });
    let started = match engine {
        Engine::Docker => start_containers(options, &mut servers)?,
        Engine::Jvm => start_processes(options, &mut servers, &usual.join("jars"))?,
    };
    servers.write_config()?;
    let hosts = started.wait_until_ready()?;
    for (name, host) in hosts {
        match host {
            Host::Process { child, .. } => servers.pids.insert(name.to_owned(), child.id()).map(drop),
            Host::Container(container) => servers.containers.insert(name.to_owned(), container).map(drop),
        };
    }
    servers.write()?;
    Ok((servers, Outcome::Started))
}

/// Ends the servers that `file` names (by default those of `target/servers`), deletes their data and the file. Their logs
/// stay.
pub(crate) fn down(file: Option<&Path>) -> anyhow::Result<()> {
    let file = match file {
        Some(file) => std::path::absolute(file)?,
        None => target()?.join("servers.json"),
    };
    if !file.exists() {
        println!("no servers: {} does not exist", file.display());
        return Ok(());
    }
    let _lock = lock(&file)?;
    match Servers::read(&file)? {
        Some(servers) => end(&servers),
        None => Ok(()), // someone else was faster
    }
}

/// Fails if one of the servers that `file` names does not answer.
pub(crate) fn check(file: &Path) -> anyhow::Result<()> {
    match Servers::read(file)? {
        Some(servers) => answer(&servers),
        None => bail!("{} does not exist", file.display()),
    }
}

fn answer(servers: &Servers) -> anyhow::Result<()> {
    if let Some(kafka) = &servers.kafka {
        probe::kafka(&kafka.plaintext).with_context(|| format!("Kafka at {} does not answer", kafka.plaintext))?;
    }
    if let Some(cql) = &servers.cql {
        let probe = if servers.cql_authority.is_some() { probe::anybody } else { probe::cql };
        probe(cql).with_context(|| format!("the CQL server at {cql} does not answer"))?;
    }
    Ok(())
}

fn start_processes(options: &Up, servers: &mut Servers, cache: &Path) -> anyhow::Result<Started> {
    let java = Java::find_or_install()?;
    let libs = {
        fs::create_dir_all(cache).with_context(|| format!("{} can't be made", cache.display()))?;
        let _lock = lock(&cache.join("fetch"))?;
        let wanted = |server, pack: jars::Pack| options.wants(server).then(|| pack.resolve(cache, &java)).transpose();
        (wanted(Server::Kafka, kafka::PACK)?, wanted(Server::Cql, cassandra::PACK)?)
    };
    let mut started = Started::default();
    // The slower one first: both start side by side.
    if let Some(lib) = libs.1 {
        let (address, command) =
            cassandra::prepare(folder::fresh(&servers.dir, "cassandra", servers.file())?, &java, &lib, options.manner())?;
        let (probe, authority) = match options.secure {
            true => (probe::anybody as fn(&str) -> _, Some(command.dir.join("ca.pem"))),
            false => (probe::cql as fn(&str) -> _, None),
        };
        started.push(Running::process("cassandra", &command, address.clone(), probe)?);
        (servers.cql, servers.cql_authority) = (Some(address), authority);
        servers.commands.insert("cassandra".to_owned(), command);
    }
    if let Some(lib) = libs.0 {
        let (broker, command) = kafka::prepare(folder::fresh(&servers.dir, "kafka", servers.file())?, &java, &lib)?;
        started.push(Running::process("kafka", &command, broker.address.plaintext.clone(), probe::kafka)?);
        servers.kafka = Some(broker.address);
        servers.commands.insert("kafka".to_owned(), command);
    }
    Ok(started)
}

fn start_containers(options: &Up, servers: &mut Servers) -> anyhow::Result<Started> {
    if options.secure {
        bail!("--secure is for servers that Java runs: add --with jvm");
    }
    let mut started = Started::default();
    if options.wants(Server::Cql) {
        let (address, name) = docker::start_scylla()?;
        started.push(Running::container("scylla", name, address.clone(), probe::cql));
        servers.cql = Some(address);
    }
    if options.wants(Server::Kafka) {
        let (address, name) = docker::start_kafka(&servers.dir, servers.file())?;
        started.push(Running::container("kafka", name, address.plaintext.clone(), probe::kafka));
        servers.kafka = Some(address);
    }
    Ok(started)
}

/// Ends what a file names, each after a look whether it is what it was.
fn end(servers: &Servers) -> anyhow::Result<()> {
    for (name, pid) in &servers.pids {
        let command = servers.commands.get(name).with_context(|| format!("the file names process {pid}, but no command for {name}"))?;
        match command.end(*pid)? {
            Ended::Now => println!("{name} (process {pid}) ended"),
            Ended::WasGone => println!("{name} (process {pid}) had ended before"),
        }
    }
    for (name, container) in &servers.containers {
        let was = if docker::remove(container)? { "ended" } else { "had ended before" };
        println!("{name} (container {container}) {was}");
    }
    for command in servers.commands.values() {
        folder::delete_data(&command.dir)?;
    }
    if let Some(folder) = servers.config.as_deref().and_then(Path::parent) {
        folder::delete_data(folder)?;
    }
    fs::remove_file(servers.file()).with_context(|| format!("{} can't be deleted", servers.file().display()))
}

/// Held while the servers of `file` change: of two callers, the second finds what the first did.
fn lock(file: &Path) -> anyhow::Result<File> {
    let path = file.with_extension("lock");
    let lock = File::create(&path).with_context(|| format!("{} can't be made", path.display()))?;
    let deadline = Instant::now() + Duration::from_secs(600);
    while let Err(error) = lock.try_lock() {
        if let fs::TryLockError::Error(error) = error {
            return Err(error).with_context(|| format!("{} can't be locked", path.display()));
        }
        crate::run::check_interrupted()?;
        if Instant::now() > deadline {
            bail!("another `cargo xtask` has held {} for ten minutes", path.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(lock)
}

/// `target/servers`, wherever cargo's target folder is.
fn target() -> anyhow::Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::path::absolute(folder)?,
        None => root()?.join("target"),
    };
    Ok(target.join("servers"))
}

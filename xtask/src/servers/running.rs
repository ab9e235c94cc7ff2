//! Servers that were started just now, until they answer. Those that are not kept are ended.

use std::fs;
use std::io;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::docker;
use super::process::CommandLine;
use crate::run::check_interrupted;

/// How long a server may take to answer, on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_secs(180);
/// How much of a failed server's log is shown.
const LINES: usize = 30;

/// One server on its way up.
pub(super) struct Running {
    name: &'static str,
    host: Host,
    started: Instant,
    address: String,
    answers: fn(&str) -> io::Result<()>,
}

/// What a server runs as.
pub(super) enum Host {
    Process { child: Child, command: CommandLine },
    Container(String),
}

impl Running {
    /// Starts `command`, which is to answer at `address`.
    pub(super) fn process(
        name: &'static str,
        command: &CommandLine,
        address: String,
        answers: fn(&str) -> io::Result<()>,
    ) -> anyhow::Result<Self> {
        let child = command.start().with_context(|| format!("{name} can't be started"))?;
        Ok(Self { name, host: Host::Process { child, command: command.clone() }, started: Instant::now(), address, answers })
    }

    /// A container that was started, and is to answer at `address`.
    pub(super) fn container(name: &'static str, container: String, address: String, answers: fn(&str) -> io::Result<()>) -> Self {
        Self { name, host: Host::Container(container), started: Instant::now(), address, answers }
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = self.started + PATIENCE;
        loop {
            check_interrupted()?;
            if !self.host.runs()? {
                bail!("{} ended while it started. The end of its log:\n{}", self.name, self.host.log_tail());
            }
            let Err(error) = (self.answers)(&self.address) else { return Ok(()) };
            if Instant::now() > deadline {
                let (name, address, log) = (self.name, &self.address, self.host.log_tail());
                bail!("{name} does not answer at {address} after {} s ({error}). The end of its log:\n{log}", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Host {
    fn runs(&mut self) -> anyhow::Result<bool> {
        match self {
            Self::Process { child, .. } => Ok(child.try_wait()?.is_none()),
            Self::Container(name) => Ok(docker::runs(name)),
        }
    }

    fn log_tail(&self) -> String {
        match self {
            Self::Process { command, .. } => match fs::read(&command.log) {
                Ok(log) => {
                    let log = String::from_utf8_lossy(&log);
                    let lines: Vec<&str> = log.lines().collect();
                    format!("{}\n({})", lines[lines.len().saturating_sub(LINES)..].join("\n"), command.log.display())
                }
                Err(error) => format!("{} can't be read: {error}", command.log.display()),
            },
            Self::Container(name) => docker::log_tail(name, LINES),
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process { child, .. } => {
                child.kill()?;
                child.wait()?;
            }
            Self::Container(name) => {
                docker::remove(name)?;
            }
        }
        Ok(())
    }
}

/// Servers that end with this value, unless they all came to answer.
#[derive(Default)]
pub(super) struct Started(Vec<Running>);

impl Started {
    pub(super) fn push(&mut self, running: Running) {
        self.0.push(running);
    }

    /// Waits until every server answers and leaves them running; by name, what they run as.
    ///
    /// # Errors
    /// One ends, or does not answer in time; then all are ended.
    pub(super) fn wait_until_ready(mut self) -> anyhow::Result<Vec<(&'static str, Host)>> {
        for running in &mut self.0 {
            running.wait_until_ready()?;
            eprintln!("{} answers at {} ({:.1} s)", running.name, running.address, running.started.elapsed().as_secs_f64());
        }
        Ok(std::mem::take(&mut self.0).into_iter().map(|running| (running.name, running.host)).collect())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for running in &mut self.0 {
            if let Err(error) = running.host.end() {
                eprintln!("{} can't be ended: {error:#}", running.name);
            }
        }
    }
}

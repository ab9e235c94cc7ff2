//! Processes that outlive the one that started them, and are known again by their command line.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// How long a server may take to end by itself; after that it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone.
const DEATH: Duration = Duration::from_secs(5);

/// All that it takes to start a server: no variable of the environment is set for it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CommandLine {
    /// Program and arguments. They name the server's own folder, so no other process has the same.
    pub(super) argv: Vec<String>,
    /// Working directory.
    pub(super) dir: PathBuf,
    /// Where standard output and error are appended.
    pub(super) log: PathBuf,
}

impl CommandLine {
    /// Starts the process in a group of its own, so that Ctrl-C in the terminal does not reach it.
    pub(super) fn start(&self) -> anyhow::Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("the log {} can't be opened", self.log.display()))?;
        let (program, arguments) = self.argv.split_first().context("a command line starts with its program")?;
        Command::new(program)
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} can't be started"))
    }

    /// Ends process `pid`, if it is one that this command line started: ids are given to others after a process's end.
    ///
    /// # Errors
    /// It is still there although it was killed.
    pub(super) fn end(&self, pid: u32) -> anyhow::Result<Ended> {
        if !self.is(pid) {
            return Ok(Ended::WasGone);
        }
        for (signal, wait) in [(Signal::TERM, PATIENCE), (Signal::KILL, DEATH)] {
            let id = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))?;
            match kill_process(id, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => bail!("process {pid} can't be ended: {error}"),
            }
            let deadline = Instant::now() + wait;
            while Instant::now() < deadline {
                if !self.is(pid) {
                    return Ok(Ended::Now);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        bail!("process {pid} does not end, not even by SIGKILL; its log is {}", self.log.display())
    }

    /// Whether `pid` runs, and has this command line. One that has ended and waits to be reaped has none.
    fn is(&self, pid: u32) -> bool {
        let proc = Path::new("/proc");
        if proc.join("self/cmdline").exists() {
            let mut wanted = self.argv.join("\0").into_bytes();
            wanted.push(0);
            return fs::read(proc.join(pid.to_string()).join("cmdline")).is_ok_and(|found| found == wanted);
        }
        let ps = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).stderr(Stdio::null()).output();
        ps.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim_end() == self.argv.join(" "))
    }
}

/// What became of a process that was to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ran, and no longer does.
    Now,
    /// It had ended before.
    WasGone,
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, Ended};
    use std::path::Path;
    use std::process::Child;
    use std::time::{Duration, Instant};

    /// A process that runs until it is ended, at the latest by the end of the test.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn command(dir: &Path, script: &str) -> CommandLine {
        let argv = ["sh", "-c", script, &dir.display().to_string()].map(str::to_owned).to_vec();
        CommandLine { argv, dir: dir.to_owned(), log: dir.join("log") }
    }

    fn start(command: &CommandLine) -> Running {
        let running = Running(command.start().unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !command.is(running.0.id()) {
            assert!(Instant::now() < deadline, "the process does not get its command line");
        }
        running
    }

    #[test]
    fn a_process_is_ended_once() {
        let dir = tempfile::tempdir().unwrap();
        let command = command(dir.path(), "while :; do sleep 0.05; done");
        let running = start(&command);
        assert_eq!(command.end(running.0.id()).unwrap(), Ended::Now);
        assert_eq!(command.end(running.0.id()).unwrap(), Ended::WasGone);
    }

    #[test]
    fn a_stranger_with_the_same_id_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut stranger = start(&command(dir.path(), "while :; do sleep 0.05; done"));
        let ours = command(dir.path(), "another script");
        assert_eq!(ours.end(stranger.0.id()).unwrap(), Ended::WasGone);
        assert!(stranger.0.try_wait().unwrap().is_none(), "the stranger still runs");
    }
}

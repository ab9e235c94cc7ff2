//! One run of the program, within limits.
//!
//! What holds: an environment of its own, `/` as the folder, nothing inherited but three pipes, a process group that ends
//! when the run is given up, and limits of address space, processor time, open files and the size of a file, set by
//! `prlimit`, which is Linux's. A run has a time-out, and what it writes is bounded.
//!
//! What does not: it runs as the same user, may read and write that user's files, start processes and open sockets. There is
//! no seccomp filter and no namespace. Whoever needs those starts the server within them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::error::SpeechError;

/// Longest time of one run. A part of a text takes tenths of a second, so this is for a machine in trouble.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes that one run may give: 25 minutes of audio. A part takes three, or ten of digits alone at the lowest rate.
pub(crate) const MAX_OUTPUT: u64 = 64 << 20;
/// Most bytes kept of what the program complains; the rest is read and dropped.
const MAX_COMPLAINT: u64 = 2 << 10;

/// Each limit in the unit of `setrlimit`, the address space and sizes in bytes, processor time in seconds.
const LIMITS: [(Resource, u64); 5] = [
    (Resource::As, 512 << 20),
    (Resource::Cpu, 30),
    (Resource::Nofile, 32),
    (Resource::Core, 0),
    // The library of PulseAudio, which espeak-ng opens without need, makes a file in memory of just this size.
    (Resource::Fsize, 64 << 20),
];

/// All of the environment but ESPEAK_DATA_PATH. Without the folders and server that it names, PulseAudio's library makes no
/// folders and connects to no one, whatever this machine's settings; and no user's dictionaries change how words sound.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("LANG", "C.UTF-8"),
    ("HOME", "/nonexistent"),
    ("PULSE_CLIENTCONFIG", "/dev/null"),
    ("PULSE_RUNTIME_PATH", "/nonexistent"),
    ("PULSE_SERVER", "unix:/nonexistent"),
];

/// The program, and what it is told of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Sandbox {
    /// An absolute path, as the program is started elsewhere.
    pub(crate) program: PathBuf,
    /// ESPEAK_DATA_PATH, where it is set.
    pub(crate) data: Option<OsString>,
}

/// A process that waits for its input, with its limits in force. Dropping it ends it and what it started.
pub(crate) struct Running {
    child: Child,
}

impl Sandbox {
    /// Starts the program with these arguments.
    ///
    /// Errors: [`SpeechError::Start`]; the program does not run then.
    pub(crate) fn start(&self, arguments: &[impl AsRef<OsStr>]) -> Result<Running, SpeechError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().envs(ENVIRONMENT).current_dir("/");
        if let Some(data) = &self.data {
            command.env("ESPEAK_DATA_PATH", data);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let running = Running { child: command.spawn().map_err(SpeechError::Start)? };
        running.limit().map_err(SpeechError::Start)?;
        Ok(running)
    }
}

impl Running {
    fn limit(&self) -> io::Result<()> {
        for (resource, limit) in LIMITS {
            // Only root may raise what this process has itself, and so the child.
            let limit = Some(getrlimit(resource).maximum.map_or(limit, |own| own.min(limit)));
            prlimit(self.pid(), resource, Rlimit { current: limit, maximum: limit })?;
        }
        Ok(())
    }

    /// `None` once the process has ended and was reaped: its number may be another's then.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    /// What the program writes, to be read by the future that [`Running::finish`] takes.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is piped, and taken once")
    }

    /// Hands over the input and gives what `read` makes of the output, once the program has ended well.
    ///
    /// Errors: those of `read`, and why the program did not end well.
    pub(crate) async fn finish<T>(mut self, input: &[u8], read: impl Future<Output = Result<T, SpeechError>>) -> Result<T, SpeechError> {
        timeout(TIMEOUT, self.talk(input, read)).await.map_err(|_| SpeechError::TimedOut)?
    }

    async fn talk<T>(&mut self, input: &[u8], read: impl Future<Output = Result<T, SpeechError>>) -> Result<T, SpeechError> {
        let stdin = self.child.stdin.take().expect("stdin is piped, and taken once");
        let stderr = self.child.stderr.take().expect("stderr is piped, and taken once");
        // All at once, as the program may wait for any of them.
        let (answer, (), complaint) = tokio::try_join!(read, hand_over(stdin, input), complaint(stderr))?;
        let status = self.child.wait().await.map_err(SpeechError::Pipe)?;
        if !status.success() {
            return Err(SpeechError::Failed { status, complaint });
        }
        Ok(answer)
    }
}

impl Drop for Running {
    /// Ends what the program itself started; `kill_on_drop` ends the program, and tokio reaps it.
    fn drop(&mut self) {
        if let Some(group) = self.pid() {
            // It may have ended by itself just now.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn hand_over(mut stdin: ChildStdin, input: &[u8]) -> Result<(), SpeechError> {
    match stdin.write_all(input).await {
        // Its exit status and complaint say why it does not listen.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        sent => sent.map_err(SpeechError::Pipe),
    }
}

async fn complaint(mut stderr: ChildStderr) -> Result<String, SpeechError> {
    let mut beginning = Vec::new();
    (&mut stderr).take(MAX_COMPLAINT).read_to_end(&mut beginning).await.map_err(SpeechError::Pipe)?;
    tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await.map_err(SpeechError::Pipe)?;
    Ok(String::from_utf8_lossy(&beginning).trim().to_owned())
}

/// What is read, as text, of up to 1 MiB.
pub(crate) async fn text(stdout: impl AsyncRead + Unpin) -> Result<String, SpeechError> {
    let mut bytes = Vec::new();
    stdout.take(1 << 20).read_to_end(&mut bytes).await.map_err(SpeechError::Pipe)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

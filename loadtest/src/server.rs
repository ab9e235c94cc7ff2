//! The server under test: where it listens, what its process uses, and starting one.

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a started server may take until it listens.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end once it is told to; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the end of a process is looked for.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// `HOST:PORT`, for the `host` header.
    pub(crate) host: String,
    /// The socket it stands for.
    pub(crate) socket: SocketAddr,
}

impl FromStr for Address {
    type Err = anyhow::Error;

    /// Reads `http://HOST:PORT`.
    fn from_str(url: &str) -> anyhow::Result<Address> {
        let host = url.strip_prefix("http://").with_context(|| format!("{url} is not an http:// URL; TLS is not spoken here"))?;
        let host = host.trim_end_matches('/');
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let mut sockets = with_port.to_socket_addrs().with_context(|| format!("{url} names no host and port"))?;
        let socket = sockets.next().with_context(|| format!("{url} has no address"))?;
        Ok(Address { host: host.to_owned(), socket })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.host)
    }
}

/// A process whose use of the machine is read from `/proc` (proc(5)).
#[derive(Clone, Debug)]
pub(crate) struct Process {
    folder: String,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The most that was resident at any time (`VmHWM`).
    pub(crate) peak: u64,
    /// What is resident now (`VmRSS`).
    pub(crate) resident: u64,
}

impl Process {
    /// The process numbered `pid`.
    pub(crate) fn of(pid: u32) -> Process {
        Process { folder: format!("/proc/{pid}") }
    }

    /// This very process.
    pub(crate) fn own() -> Process {
        Process { folder: "/proc/self".to_owned() }
    }

    /// CPU time used so far, in user and kernel mode, by all its threads.
    ///
    /// Errors: there is no such process any more.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = self.read("stat")?;
        // The second field is the program's name in parentheses, which may hold spaces itself.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
        let ticks: Vec<u64> = fields.into_iter().flatten().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let [user, system] = ticks[..] else { bail!("{}/stat can't be read", self.folder) };
        Ok(Duration::from_secs_f64((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Memory in use.
    ///
    /// Errors: there is no such process any more.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = self.read("status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
        };
        let memory = field("VmHWM:").zip(field("VmRSS:")).map(|(peak, resident)| Memory { peak, resident });
        memory.with_context(|| format!("{}/status tells no memory; has the process ended?", self.folder))
    }

    /// Open files, sockets among them.
    ///
    /// Errors: there is no such process any more, or it is another user's.
    pub(crate) fn files(&self) -> anyhow::Result<u64> {
        let folder = format!("{}/fd", self.folder);
        let about = fs::metadata(&folder).with_context(|| format!("process {} has ended", self.folder))?;
        // Since Linux 6.2 the folder's size is their number; before, they have to be counted.
        match about.len() {
            0 => Ok(fs::read_dir(&folder).with_context(|| format!("cannot look into {folder}"))?.count() as u64),
            count => Ok(count),
        }
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        fs::read_to_string(format!("{}/{file}", self.folder)).with_context(|| format!("process {} has ended", self.folder))
    }
}

/// Where a process that was started will listen.
pub(crate) struct Url(Receiver<String>);

/// What is known of where a process listens.
pub(crate) enum Announced {
    /// At this URL.
    At(String),
    /// It has not said so yet.
    NotYet,
    /// It has ended without saying so.
    Never,
}

impl Url {
    /// What it has said until now.
    pub(crate) fn look(&self) -> Announced {
        match self.0.try_recv() {
            Ok(url) => Announced::At(url),
            Err(TryRecvError::Empty) => Announced::NotYet,
            Err(TryRecvError::Disconnected) => Announced::Never,
        }
    }
}

/// A process of a server that was started for the run. Dropping it kills it; [`Spawned::stop`] lets it end by itself.
pub(crate) struct Spawned {
    child: Child,
}

impl Spawned {
    /// Runs `command` with `api_key` in `POSTRIDER_API_KEY`; where it listens comes through the [`Url`].
    ///
    /// Errors: it can't be started.
    pub(crate) fn start(command: &str, api_key: &str) -> anyhow::Result<(Spawned, Url)> {
        let (spawned, url) = Spawned::read(command, api_key)?;
        Ok((spawned, Url(url)))
    }

    /// Starts `command` the same way and waits until it prints `listening on http://…`; gives that URL.
    ///
    /// Errors: it can't be started, ends, or prints no such line within a minute.
    pub(crate) fn serving(command: &str, api_key: &str) -> anyhow::Result<(Spawned, String)> {
        let (spawned, url) = Spawned::read(command, api_key)?;
        let url = listening(&url).with_context(|| format!("`{command}` does not listen"))?;
        Ok((spawned, url))
    }

    /// Starts `command`; where it listens comes through the receiver.
    fn read(command: &str, api_key: &str) -> anyhow::Result<(Spawned, Receiver<String>)> {
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")]) // exec: the child's number is the server's own
            .env("POSTRIDER_API_KEY", api_key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{command}`"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let (found, url) = sync_channel(1);
        thread::spawn(move || forward(stdout, &found));
        Ok((Spawned { child }, url))
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process::of(self.child.id())
    }

    /// Stops it where it is.
    pub(crate) fn freeze(&self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::STOP).context("cannot freeze the server")
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::CONT).context("cannot thaw the server")
    }

    /// Ends it with SIGTERM, also while it is frozen, and after [`STOP_TIMEOUT`] with SIGKILL, which is an error.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot end the server")?;
            self.thaw()?;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("the server did not end within {} s of SIGTERM and was killed", STOP_TIMEOUT.as_secs());
            }
            thread::sleep(STOP_POLL);
        }
        Ok(())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A key for a server that is started for the run.
pub(crate) fn random_key() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("loadtest_{:016x}{:016x}", word(), word())
}

fn listening(url: &Receiver<String>) -> anyhow::Result<String> {
    match url.recv_timeout(START_TIMEOUT) {
        Ok(url) => Ok(url),
        Err(RecvTimeoutError::Timeout) => bail!("no `listening on http://…` within {} s", START_TIMEOUT.as_secs()),
        Err(RecvTimeoutError::Disconnected) => bail!("it ended without printing `listening on http://…`"),
    }
}

/// Reads the server's output to its end, so that it never waits for a full pipe; shows it until the server listens.
fn forward(stdout: ChildStdout, found: &SyncSender<String>) {
    let mut url = None;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if url.is_none() {
            eprintln!("{line}");
            url = listening_url(&line);
            url.iter().for_each(|url| drop(found.try_send(url.clone()))); // nobody waits any more after a time-out
        }
    }
}

fn listening_url(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split_whitespace().next().map(|host| format!("http://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        let address: Address = "http://127.0.0.1:8080/".parse().expect("valid");
        assert_eq!((address.to_string().as_str(), address.socket.port()), ("http://127.0.0.1:8080", 8080));
        assert_eq!("http://127.0.0.1".parse::<Address>().expect("valid").socket.port(), 80);
        for bad in ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "http://127.0.0.1:99999"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_tells_what_it_uses_and_one_that_is_gone_does_not() {
        let own = Process::own();
        let memory = own.memory().expect("it lives");
        assert!(memory.peak >= memory.resident && memory.resident > 0 && own.files().expect("it lives") >= 3);
        let before = own.cpu().expect("it lives");
        let deadline = Instant::now() + Duration::from_secs(20);
        while own.cpu().expect("it lives") == before {
            assert!(Instant::now() < deadline, "CPU time never grows");
        }
        assert!(Process::of(u32::MAX).cpu().is_err() && Process::of(u32::MAX).memory().is_err());
    }

    #[test]
    fn a_started_server_says_where_it_listens_and_ends_when_told() {
        let (spawned, url) =
            Spawned::serving("sh -c 'echo $POSTRIDER_API_KEY; echo listening on http://h:1 now; exec sleep 60'", "k").expect("it starts");
        assert_eq!(url, "http://h:1");
        let process = spawned.process();
        assert!(process.memory().is_ok());
        spawned.stop().expect("sleep ends when told");
        assert!(process.memory().is_err());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error() {
        let error = Spawned::serving("true", "k").err().expect("it does not listen");
        assert!(format!("{error:#}").contains("ended without printing"), "{error:#}");
    }
}

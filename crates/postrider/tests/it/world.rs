//! The real binary: started in a folder of its own, ended by its own pid, asked over HTTP.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use postrider_core::rng::Rng;
use reqwest::{Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::receiver::Receiver;

pub(crate) const KEY: &str = "sk_test";
/// How long anything may take that a test waits for: a limit for what hangs, far above what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// How long a server may take until it listens, whatever it finds in its folder.
const START: Duration = Duration::from_secs(30);

/// Tests that need the machine for themselves, as they measure time or load it, take turns.
pub(crate) async fn machine() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Chance that repeats itself: `POSTRIDER_TEST_SEED` chooses another.
pub(crate) fn chance() -> Rng {
    let seed = std::env::var("POSTRIDER_TEST_SEED").map_or(1, |seed| seed.parse().expect("POSTRIDER_TEST_SEED is a number"));
    println!("POSTRIDER_TEST_SEED={seed}");
    Rng::new(seed)
}

/// The Python that has what tests need of it.
pub(crate) fn python() -> PathBuf {
    let named = std::env::var_os("POSTRIDER_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-python/bin/python"));
    assert!(python.exists(), "{} is missing; `cargo xtask test` makes it", python.display());
    python
}

/// Waits until `look` finds something, and returns it.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A run of the program; killed when dropped, and then shows what it wrote if the test failed.
pub(crate) struct Process {
    child: Child,
    output: File,
    errors: File,
}

impl Process {
    pub(crate) fn start(args: &[&str]) -> Process {
        Process::start_in(args, &[])
    }

    /// With these variables in its environment.
    pub(crate) fn start_in(args: &[&str], environment: &[(&str, &str)]) -> Process {
        let (output, errors) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
        command
            .args(args)
            .env("POSTRIDER_API_KEY", KEY)
            .envs(environment.iter().copied())
            .stdout(output.try_clone().unwrap())
            .stderr(errors.try_clone().unwrap());
        Process { child: command.spawn().unwrap(), output, errors }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory, as Linux calls them: `VmRSS` now, `VmHWM` at most so far.
    pub(crate) fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn output(&self) -> String {
        text(&self.output)
    }

    pub(crate) fn errors(&self) -> String {
        text(&self.errors)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it goes on running");
    }

    /// The address it says it listens on, once it does.
    async fn address(&mut self) -> SocketAddr {
        let started = Instant::now();
        while started.elapsed() < START {
            let output = self.output();
            if let Some((_, rest)) = output.split_once("listening on http://")
                && let Some((address, _)) = rest.split_once('\n')
            {
                return address.parse().unwrap();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it did not start: {status}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it does not listen after {START:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended can't be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- stdout\n{}--- stderr\n{}", self.output(), self.errors());
        }
    }
}

/// What was written so far; the position that the writer shares stays where it is.
pub(crate) fn text(file: &File) -> String {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A folder with a server's configuration and data.
pub(crate) struct Home(TempDir);

impl Home {
    /// A home with these settings beside the defaults, in TOML.
    pub(crate) fn new(settings: &str) -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::write(home.config(), settings).unwrap();
        home
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.path().join("postrider.toml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Starts the program on this home.
    pub(crate) fn open(&self, listen: &str) -> Process {
        self.open_in(listen, &[])
    }

    fn open_in(&self, listen: &str, environment: &[(&str, &str)]) -> Process {
        let (data, config) = (self.data(), self.config());
        let args = ["dev", "--data", data.to_str().unwrap(), "--config", config.to_str().unwrap(), "--listen", listen];
        Process::start_in(&args, environment)
    }
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) home: Home,
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) api: Api,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::at(Home::new("")).await
    }

    pub(crate) async fn at(home: Home) -> Server {
        Server::at_in(home, &[]).await
    }

    /// With these variables in its environment.
    pub(crate) async fn at_in(home: Home, environment: &[(&str, &str)]) -> Server {
        let mut process = home.open_in("127.0.0.1:0", environment);
        let address = process.address().await;
        let api = Api::at(&format!("http://{address}"));
        Server { home, process, address, api }
    }

    /// Where operators are answered, for a home that says so.
    pub(crate) async fn admin(&self) -> String {
        eventually("the admin address", async || {
            let output = self.process.output();
            output.split_once("admin on http://").and_then(|(_, rest)| rest.split_once('\n')).map(|(address, _)| address.to_owned())
        })
        .await
    }

    /// Starts it again where it was, once it has ended. Returns how long it took to listen.
    pub(crate) async fn restart(&mut self) -> Duration {
        let started = Instant::now();
        self.process = self.home.open(&self.address.to_string());
        assert_eq!(self.process.address().await, self.address);
        started.elapsed()
    }

    /// Ends it with SIGTERM. Returns how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let started = Instant::now();
        self.process.terminate();
        let status = self.process.ended().await;
        assert!(status.success(), "{status}");
        started.elapsed()
    }
}

/// A client of a server.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: String,
}

impl Api {
    pub(crate) fn at(url: &str) -> Api {
        Api { http: reqwest::Client::new(), url: url.to_owned() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(KEY).timeout(Duration::from_secs(30))
    }

    /// A request of somebody who has no key.
    pub(crate) fn without_key(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).timeout(Duration::from_secs(30))
    }

    /// What a request with a JSON body is answered.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        answer(self.request(method, path).json(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        succeeded(path, answer(self.request(Method::GET, path)).await)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        succeeded(path, self.ask(Method::POST, path, body).await)
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Value {
        succeeded(path, self.ask(Method::PATCH, path, body).await)
    }

    pub(crate) async fn delete(&self, path: &str) {
        succeeded(path, answer(self.request(Method::DELETE, path)).await);
    }

    /// Registers `receiver` with these settings; returns the endpoint.
    pub(crate) async fn register(&self, receiver: &Receiver, mut settings: Value) -> Value {
        settings["url"] = receiver.url().into();
        self.post("/v1/webhooks", settings).await
    }

    /// Has an event accepted; returns its id.
    pub(crate) async fn send(&self, event: Value) -> String {
        let receipt = self.post("/v1/events", event).await;
        receipt["id"].as_str().unwrap().to_owned()
    }

    /// Has a batch of events accepted, in order.
    pub(crate) async fn send_all(&self, events: Vec<Value>) {
        let count = events.len();
        let results = self.post("/v1/events/batch", Value::Array(events)).await;
        assert_eq!(results["accepted"], count, "{results}");
    }

    /// The only delivery of an event, once it is known.
    pub(crate) async fn delivery(&self, event: &str) -> Value {
        let path = format!("/v1/events/{event}");
        eventually("the event has a delivery", async || Some(self.get(&path).await["deliveries"].get(0)?.clone())).await
    }

    /// Waits until the only delivery of an event stands at `status`.
    pub(crate) async fn until_delivery_is(&self, event: &str, status: &str) -> Value {
        let delivery = async || Some(self.delivery(event).await).filter(|delivery| delivery["status"] == status);
        eventually(&format!("the delivery is {status}"), delivery).await
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.bytes().await.unwrap();
    let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (status, value)
}

#[track_caller]
fn succeeded(path: &str, (status, value): (StatusCode, Value)) -> Value {
    assert!(status.is_success(), "{path}: {status} {value}");
    value
}

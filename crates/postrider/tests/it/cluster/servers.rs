//! Servers of a test's own, which may die.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::world::{address, servers};
use crate::world::eventually;

/// Longest that a connection to a server of this machine may take.
const CONNECT: Duration = Duration::from_secs(1);

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Kafka,
    Cql,
}

impl Server {
    /// What it is called where its address is.
    fn address(self) -> &'static str {
        match self {
            Server::Kafka => "kafka",
            Server::Cql => "cql",
        }
    }

    /// What it is called where its process is.
    fn process(self) -> &'static str {
        match self {
            Server::Kafka => "kafka",
            Server::Cql => "cassandra",
        }
    }
}

/// A Kafka and a CQL server that nobody else uses; ended when dropped.
pub(crate) struct Servers {
    dir: TempDir,
    xtask: PathBuf,
    known: Value,
    again: Vec<Child>,
}

impl Servers {
    /// Starts both, empty; they may die.
    pub(crate) async fn start() -> Servers {
        Servers::start_with(&["--mortal"]).await
    }

    /// Starts a CQL server that speaks TLS only and asks for a login.
    pub(crate) async fn start_secure_cql() -> Servers {
        Servers::start_with(&["--only", "cql", "--secure"]).await
    }

    async fn start_with(options: &[&str]) -> Servers {
        let xtask = servers()["xtask"].as_str().map(PathBuf::from).expect("the servers' file is an old one; run `cargo xtask test`");
        let mut started = Servers { dir: tempfile::tempdir().unwrap(), xtask, known: Value::Null, again: Vec::new() };
        let mut up = started.command("up");
        up.arg("--dir").arg(started.dir.path()).args(["--with", "jvm"]).args(options);
        let status = tokio::process::Command::from(up).status().await.unwrap();
        assert!(status.success(), "servers of our own: {status}");
        started.known = serde_json::from_str(&fs::read_to_string(started.file()).unwrap()).unwrap();
        started
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("servers.json")
    }

    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.xtask);
        command.arg(task).arg("--file").arg(self.file()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// The file of the authority that vouches for the CQL server.
    pub(crate) fn cql_authority(&self) -> String {
        address(&self.known, "cql_ca")
    }

    pub(crate) fn address(&self, server: Server) -> String {
        address(&self.known, server.address())
    }

    /// `kill -9`. Returns once nobody listens any more.
    pub(crate) async fn kill(&mut self, server: Server) {
        let pid = self.known["pids"][server.process()].as_i64().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        eventually("the server is gone", async || (!self.listens(server)).then_some(())).await;
    }

    /// Starts it where it was, on what it had written. Returns once it listens.
    pub(crate) async fn restart(&mut self, server: Server) {
        let line = &self.known["commands"][server.process()];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let argv: Vec<String> = line["argv"].as_array().unwrap().iter().map(text).collect();
        let log = File::options().append(true).open(Path::new(&text(&line["log"]))).unwrap();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(text(&line["dir"])).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.again.push(child);
        eventually("the server listens again", async || self.listens(server).then_some(())).await;
    }

    fn listens(&self, server: Server) -> bool {
        let address: SocketAddr = self.address(server).parse().unwrap();
        TcpStream::connect_timeout(&address, CONNECT).is_ok()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.again {
            // One that has ended can't be killed, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        let down = self.command("down").status();
        if !down.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("servers of our own were not ended: {down:?}");
        }
    }
}

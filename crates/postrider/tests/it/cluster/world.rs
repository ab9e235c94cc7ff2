//! A cluster of our own on servers that tests share: topics and keyspace under a name that nobody else has.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Api, Process, eventually};

/// Where the servers are, as `cargo xtask up` writes it.
pub(crate) fn servers() -> Value {
    let file = std::env::var("POSTRIDER_TEST_SERVERS").expect("POSTRIDER_TEST_SERVERS names no servers; run `cargo xtask test`");
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// A server's address.
pub(crate) fn address(servers: &Value, name: &str) -> String {
    servers[name].as_str().unwrap_or_else(|| panic!("no address of {name} in {servers}")).to_owned()
}

/// One of Kafka's own tools.
pub(crate) fn tool(servers: &Value, class: &str, args: &[&str]) -> tokio::process::Command {
    let argv: Vec<&str> =
        servers["kafka_tool"].as_array().expect("the file names the tools").iter().map(|arg| arg.as_str().unwrap()).collect();
    let mut command = tokio::process::Command::new(argv[0]);
    command.args(&argv[1..]).arg(class).args(args).kill_on_drop(true);
    command
}

/// Topics and keyspace of one test, and the configuration that its processes share.
pub(crate) struct Cluster {
    folder: TempDir,
    pub(crate) name: String,
}

impl Cluster {
    /// A cluster that has been migrated, with these settings, in TOML, beside those it needs.
    pub(crate) async fn new(sources: &str, partitions: u16) -> Cluster {
        let servers = servers();
        Cluster::on(&address(&servers, "kafka"), &address(&servers, "cql"), sources, partitions).await
    }

    /// The same on servers of the test's own.
    pub(crate) async fn on(kafka: &str, cql: &str, sources: &str, partitions: u16) -> Cluster {
        let cluster = Cluster::configured(kafka, cql, sources, partitions);
        let mut migrate = cluster.run(&["migrate", "--config", &cluster.config()], &[]);
        let status = migrate.ended().await;
        assert!(status.success(), "{status}: {}", migrate.errors());
        cluster
    }

    /// One that has not been migrated.
    pub(crate) fn configured(kafka: &str, cql: &str, sources: &str, partitions: u16) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let unique = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp").to_ascii_lowercase();
        let name = format!("t{unique}");
        let unless_given = |table: &str, settings: String| match sources.contains(table) {
            true => String::new(),
            false => format!("{table}\n{settings}\n"),
        };
        let blobs = unless_given("[blobs]", format!("url = \"file://{}/blobs\"", folder.path().display()));
        let egress = unless_given("[egress]", "allow = [\"127.0.0.0/8\"]".to_owned());
        let settings = format!(
            "backend = \"cluster\"\n{sources}\n{blobs}{egress}[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = 1\n\
             [kafka]\nbrokers = \"{kafka}\"\nprefix = \"{name}.\"\npartitions = {partitions}\nreplication_factor = 1\n\
             [scylla]\nnodes = [\"{cql}\"]\nkeyspace = \"{name}\"\nreplication_factor = 1\n",
        );
        fs::write(folder.path().join("postrider.toml"), settings).unwrap();
        Cluster { folder, name }
    }

    pub(crate) fn config(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("postrider.toml")
    }

    pub(crate) fn run(&self, args: &[&str], environment: &[(&str, &str)]) -> Process {
        Process::start_in(args, environment)
    }

    /// Starts a process with these roles, and waits until it runs.
    pub(crate) async fn start(&self, roles: &'static str) -> Node {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut node = Node { process: self.spawn(roles, port), roles, listen: port, admin: port };
        node.wait().await;
        node
    }

    fn spawn(&self, roles: &str, listen: SocketAddr) -> Process {
        let listen = listen.to_string();
        self.run(&["serve", "--config", &self.config(), "--roles", roles], &[("POSTRIDER__SERVER__LISTEN", &listen)])
    }

    /// Starts a process that has ended again, where it was.
    pub(crate) async fn restart(&self, node: &mut Node) {
        node.process = self.spawn(node.roles, node.listen);
        node.wait().await;
    }
}

/// One process of a cluster.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) roles: &'static str,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Node {
    async fn wait(&mut self) {
        self.admin = eventually("the process runs", async || {
            let output = self.process.output();
            let runs = output.contains("listening on ") || output.contains("running without an API");
            let (_, rest) = output.split_once("admin on http://").filter(|_| runs)?;
            Some(rest.split_once('\n')?.0.parse().unwrap())
        })
        .await;
    }

    pub(crate) fn api(&self) -> Api {
        Api::at(&format!("http://{}", self.listen))
    }

    /// What `/readyz` answers: whether it is ready, and the whole.
    pub(crate) async fn ready(&self) -> (bool, Value) {
        let answer = reqwest::get(format!("http://{}/readyz", self.admin)).await.unwrap();
        let ready = answer.status().is_success();
        (ready, answer.json().await.unwrap())
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Ends it with SIGTERM.
    pub(crate) async fn stop(&mut self) {
        self.process.terminate();
        let status = self.process.ended().await;
        assert!(status.success(), "{status}: {}", self.process.errors());
    }
}

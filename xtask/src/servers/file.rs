//! The file that says where the servers are: what tests read, and what `down` ends.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::process::CommandLine;
use super::{Server, Up, folder};

/// Everything about the servers that were started together.
#[derive(Serialize, Deserialize)]
pub(crate) struct Servers {
    /// Where this is kept.
    #[serde(skip)]
    file: PathBuf,
    #[serde(flatten)]
    pub(super) kafka: Option<Kafka>,
    /// `HOST:PORT` of the CQL server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cql: Option<String>,
    /// PEM file of the authority that vouches for it; without one it speaks no TLS and asks for no password.
    #[serde(rename = "cql_ca", default, skip_serializing_if = "Option::is_none")]
    pub(super) cql_authority: Option<PathBuf>,
    /// Process ids, by server; empty with Docker.
    #[serde(default)]
    pub(super) pids: BTreeMap<String, u32>,
    /// Names of containers, by server; only with Docker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) containers: BTreeMap<String, String>,
    /// How each process was started. Started again after its end, it comes back with its data on the same ports.
    #[serde(default)]
    pub(super) commands: BTreeMap<String, CommandLine>,
    /// The configuration of a Postrider on these servers, where there are both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<PathBuf>,
    /// The folder of data and logs.
    #[serde(default)]
    pub(super) dir: PathBuf,
    /// This program, so that a test can have servers of its own: `xtask up --dir DIR --file FILE`.
    #[serde(default)]
    pub(super) xtask: PathBuf,
}

/// Where Kafka is, and how to be let in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kafka {
    /// `HOST:PORT` for anybody.
    #[serde(rename = "kafka")]
    pub(super) plaintext: String,
    /// `HOST:PORT` for those who know the password or make themselves a token: SASL over TLS with `PLAIN`,
    /// `SCRAM-SHA-256`, `SCRAM-SHA-512`, or `OAUTHBEARER` with unsigned tokens.
    #[serde(rename = "kafka_sasl_ssl")]
    pub(super) sasl_ssl: String,
    /// PEM file of the authority that vouches for the TLS certificate.
    #[serde(rename = "kafka_ca")]
    pub(super) authority: PathBuf,
    #[serde(rename = "kafka_user")]
    pub(super) user: String,
    #[serde(rename = "kafka_password")]
    pub(super) password: String,
    /// Runs a tool of Kafka's when its class and arguments are appended, such as
    /// `org.apache.kafka.tools.ConsoleProducer`; it reaches the broker at `kafka`.
    #[serde(rename = "kafka_tool", default)]
    pub(super) tool: Vec<String>,
}

impl Servers {
    /// Nothing yet, to be kept in `file`.
    pub(super) fn new(file: &Path, dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            file: file.to_owned(),
            kafka: None,
            cql: None,
            cql_authority: None,
            pids: BTreeMap::new(),
            containers: BTreeMap::new(),
            commands: BTreeMap::new(),
            config: None,
            dir: dir.to_owned(),
            xtask: this_program()?,
        })
    }

    /// Reads `file`; nothing if it does not exist.
    pub(super) fn read(file: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{} can't be read", file.display())),
        };
        let mut servers: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `cargo xtask up` writes; delete it if nothing needs it", file.display()))?;
        servers.file = file.to_owned();
        Ok(Some(servers))
    }

    /// Writes the file at once: whoever waits for it never reads half of it.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let partial = self.file.with_extension("partial");
        fs::write(&partial, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&partial, &self.file))
            .with_context(|| format!("{} can't be written", self.file.display()))
    }

    /// Whether they are all that is wanted, and as it is wanted.
    pub(super) fn are_what(&self, options: &Up) -> bool {
        let (kafka, cql) = (options.wants(Server::Kafka), options.wants(Server::Cql));
        let is_open = !options.secure;
        self.kafka.is_some() >= kafka
            && self.cql.is_some() >= cql
            && (!cql || self.cql_authority.is_none() == is_open)
            && self.config.is_some() >= (kafka && cql && is_open)
    }

    /// Writes the configuration of a Postrider on these servers, if both are there and let everybody in.
    pub(super) fn write_config(&mut self) -> anyhow::Result<()> {
        let (Some(kafka), Some(cql), None) = (&self.kafka, &self.cql, &self.cql_authority) else { return Ok(()) };
        let folder = folder::fresh(&self.dir, "cluster", &self.file)?;
        let blobs = folder::data(&folder);
        let path = folder.join("postrider.toml");
        let text = format!(
            "backend = \"cluster\"\n\n[kafka]\nbrokers = {:?}\nreplication_factor = 1\n\n[scylla]\nnodes = [{cql:?}]\nreplication_factor = 1\n\n\
             [blobs]\nurl = \"file://{}\"\n\n# Receivers on this machine.\n[egress]\nallow = [\"127.0.0.0/8\"]\n",
            kafka.plaintext,
            blobs.display().to_string().replace('%', "%25").replace(' ', "%20"),
        );
        fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
        self.config = Some(path);
        Ok(())
    }

    /// Where this is kept.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kafka) = &self.kafka {
            writeln!(out, "  kafka  {}   SASL over TLS {}", kafka.plaintext, kafka.sasl_ssl)?;
        }
        if let Some(cql) = &self.cql {
            writeln!(out, "  cql    {cql}")?;
        }
        if let Some(config) = &self.config {
            writeln!(out, "  a Postrider on both: --config {}", config.display())?;
        }
        Ok(())
    }
}

/// Where this program lies. When a newer build has replaced it meanwhile, Linux says that it was deleted; the newer one
/// lies at the same place.
fn this_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("the path of this program is unknown")?;
    let replaced = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(replaced.unwrap_or(path))
}

//! Kafka: one node that is broker and controller, with a listener for anybody and one for those who log in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::file::Kafka;
use super::jars::Pack;
use super::java::Java;
use super::process::CommandLine;
use super::{certificates, folder, ports};

/// The server, its command line (which formats its storage) and words for its log.
pub(super) const PACK: Pack = Pack {
    name: "kafka-4.1.0",
    artifacts: &["org.apache.kafka:kafka_2.13:4.1.0", "org.apache.kafka:kafka-tools:4.1.0", "org.slf4j:slf4j-simple:1.7.36"],
};
const USER: &str = "postrider";

/// A broker that is configured, but not started.
pub(super) struct Broker {
    /// Where it will be.
    pub(super) address: Kafka,
    /// Where its configuration lies: `server.properties`, `server.pem`, `ca.pem`.
    pub(super) folder: PathBuf,
    /// Ports of the listeners, without and with login.
    pub(super) ports: [u16; 2],
    cluster: String,
}

/// What differs between a broker on this machine and one in a container.
pub(super) struct Inside<'a> {
    /// The address it listens on.
    pub(super) host: &'a str,
    /// Where it finds its configuration.
    pub(super) folder: &'a Path,
    /// Where it keeps its data.
    pub(super) data: &'a Path,
}

impl Broker {
    /// Chooses ports and a password and writes the configuration into `folder`; `inside` says how the broker sees it.
    pub(super) fn configure(folder: PathBuf, inside: &Inside<'_>) -> anyhow::Result<Self> {
        let [plaintext, sasl_ssl, controller] = ports::free()?;
        let password = hex::<12>()?;
        certificates::write(&folder)?;
        let path = folder.join("server.properties");
        fs::write(&path, properties(inside, [plaintext, sasl_ssl, controller], &password))
            .with_context(|| format!("{} can't be written", path.display()))?;
        let address = Kafka {
            plaintext: format!("127.0.0.1:{plaintext}"),
            sasl_ssl: format!("127.0.0.1:{sasl_ssl}"),
            authority: folder.join("ca.pem"),
            user: USER.to_owned(),
            password,
            tool: Vec::new(),
        };
        Ok(Self { address, folder, ports: [plaintext, sasl_ssl], cluster: cluster()? })
    }

    /// The arguments of Kafka's `format` that prepare the data folder: the cluster's id, and the user for SCRAM, whose
    /// password is kept there. `properties` is the path of the configuration as the broker sees it.
    pub(super) fn format(&self, properties: &str) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["format", "--standalone", "-t", &self.cluster, "-c", properties].iter().map(ToString::to_string).collect();
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            arguments.push("--add-scram".to_owned());
            arguments.push(format!("{mechanism}=[name={USER},password={}]", self.address.password));
        }
        arguments
    }
}

/// Prepares a broker that runs on this machine; what is returned starts it.
pub(super) fn prepare(folder: PathBuf, java: &Java, lib: &Path) -> anyhow::Result<(Broker, CommandLine)> {
    let data = folder::data(&folder);
    let mut broker = Broker::configure(folder.clone(), &Inside { host: "127.0.0.1", folder: &folder, data: &data })?;
    let properties = folder.join("server.properties").display().to_string();
    let classes = format!("{}/*", lib.display());
    let formatted = Command::new(&java.java)
        .args(["-XX:TieredStopAtLevel=1", "-cp", &classes, "kafka.tools.StorageTool"])
        .args(broker.format(&properties))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} can't be started", java.java.display()))?;
    if !formatted.status.success() {
        let words = [formatted.stdout, formatted.stderr].concat();
        bail!("Kafka's storage can't be formatted: {}", String::from_utf8_lossy(&words).trim());
    }
    broker.address.tool = [&java.java.display().to_string(), "-Xmx256m", "-cp", &classes].map(str::to_owned).to_vec();
    let options = ["-Xms256m", "-Xmx1g", "-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", &classes, "kafka.Kafka", &properties];
    let argv = std::iter::once(java.java.display().to_string()).chain(options.iter().map(ToString::to_string)).collect();
    Ok((broker, CommandLine { argv, log: folder.join("kafka.log"), dir: folder }))
}

fn properties(inside: &Inside<'_>, ports: [u16; 3], password: &str) -> String {
    let [plaintext, sasl_ssl, controller] = ports;
    let host = inside.host;
    let login = "org.apache.kafka.common.security";
    let (folder, data) = (inside.folder.display(), inside.data.display());
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://{host}:{plaintext},SASL_SSL://{host}:{sasl_ssl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plaintext},SASL_SSL://127.0.0.1:{sasl_ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}

# A topic that migrate did not make is a mistake to be seen.
auto.create.topics.enable=false
# There is one node.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Fifty partitions of each internal topic would be most of the work of starting.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
log.segment.bytes=67108864
num.network.threads=2
num.io.threads=4
# Tests of takeovers wait for sessions to expire.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100

sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{password}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub=\"{USER}\";
"
    )
}

/// A new cluster id: 16 bytes in URL-safe base64. It goes on a command line, so it starts with no dash.
fn cluster() -> anyhow::Result<String> {
    let mut bytes = random::<16>()?;
    bytes[0] &= 0x7f; // the first character stays within A–Z, a–f
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// `N` random bytes in hexadecimal.
pub(super) fn hex<const N: usize>() -> anyhow::Result<String> {
    Ok(random::<N>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

//! Cassandra, which stands in for ScyllaDB where there is no Docker: the same protocol, driver and CQL.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::jars::Pack;
use super::java::Java;
use super::process::CommandLine;
use super::{certificates, folder, ports};

pub(super) const PACK: Pack = Pack { name: "cassandra-5.0.4", artifacts: &["org.apache.cassandra:cassandra-all:5.0.4"] };

/// What Cassandra reaches into of the Java runtime, as `MODULE/PACKAGE`: it exports these to itself …
const EXPORTS: [&str; 9] = [
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
];
/// … and opens these.
const OPENS: [&str; 15] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
];

/// How much is asked of a server.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// It may be killed. One that may not makes tables faster, and forgets them when it is.
    pub(super) mortal: bool,
    /// It speaks TLS only, with the certificate in `server.pem`, and asks for a login (`cassandra`, `cassandra`).
    pub(super) secure: bool,
}

/// Chooses ports and writes the configuration into `folder`; the command line starts the server at `IP:PORT`.
pub(super) fn prepare(folder: PathBuf, java: &Java, lib: &Path, manner: Manner) -> anyhow::Result<(String, CommandLine)> {
    let [cql, storage] = ports::free()?;
    let mut yaml = settings(&folder::data(&folder), cql, storage);
    if manner.secure {
        certificates::write(&folder)?;
        yaml += &secured(&folder);
    }
    for (name, text) in [("cassandra.yaml", yaml), ("logback.xml", LOGBACK.to_owned())] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))?;
    }
    let agent = jar(lib, "jamm-")?;
    let mut argv = vec![java.java.display().to_string()];
    argv.extend(["-Xms512m", "-Xmx2g", "-XX:+UseG1GC"].map(str::to_owned));
    argv.extend(EXPORTS.iter().map(|package| format!("--add-exports={package}=ALL-UNNAMED")));
    argv.extend(OPENS.iter().map(|package| format!("--add-opens={package}=ALL-UNNAMED")));
    argv.extend([
        format!("-javaagent:{}", agent.display()),
        "-Djdk.attach.allowAttachSelf=true".to_owned(),
        "-Dio.netty.tryReflectionSetAccessible=true".to_owned(),
        format!("-Dcassandra.config=file://{}", folder.join("cassandra.yaml").display().to_string().replace(' ', "%20")),
        format!("-Dcassandra.storagedir={}", folder::data(&folder).display()),
        format!("-Dlogback.configurationFile={}", folder.join("logback.xml").display()),
        // There is nobody to gossip with, and no ring that would have to settle.
        "-Dcassandra.ring_delay_ms=0".to_owned(),
        "-Dcassandra.skip_wait_for_gossip_to_settle=0".to_owned(),
        "-Dcassandra-foreground=yes".to_owned(),
        // What it writes to tables is safe all the same; those of the schema are not flushed with each change.
        format!("-Dcassandra.unsafesystem={}", !manner.mortal),
        "-cp".to_owned(),
        format!("{}/*", lib.display()),
        "org.apache.cassandra.service.CassandraDaemon".to_owned(),
    ]);
    Ok((format!("127.0.0.1:{cql}"), CommandLine { argv, log: folder.join("cassandra.log"), dir: folder }))
}

fn jar(lib: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let mut entries = fs::read_dir(lib).with_context(|| format!("{} can't be read", lib.display()))?.flatten();
    entries
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("{} has no {prefix}*.jar; delete the folder, it is fetched again", lib.display()))
}

/// What stands below [`settings`] for a server that not everybody may ask.
fn secured(folder: &Path) -> String {
    format!(
        "
authenticator: PasswordAuthenticator
client_encryption_options:
  enabled: true
  optional: false
  keystore: {}
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
",
        quoted(&folder.join("server.pem"))
    )
}

/// In YAML's single quotes only the quote itself is special.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

/// `cassandra.yaml`. What it does not say is Cassandra's default.
fn settings(data: &Path, cql: u16, storage: u16) -> String {
    let path = |name: &str| quoted(&data.join(name));
    format!(
        "cluster_name: postrider
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
storage_port: {storage}
native_transport_port: {cql}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: '127.0.0.1:{storage}'
auto_bootstrap: false

data_file_directories: [{}]
commitlog_directory: {}
saved_caches_directory: {}
hints_directory: {}
cdc_raw_directory: {}

# There is no other replica, and tests kill this server: with the default, periodic, it lost 33 to 500 acknowledged rows
# each time.
commitlog_sync: group
commitlog_sync_group_window: 5ms
memtable_allocation_type: heap_buffers
hinted_handoff_enabled: false
auto_snapshot: false

# Idle threads of a stage spin before they sleep; the defaults, made for many cores, spend more of two on that than on work.
native_transport_max_threads: 4
concurrent_reads: 4
concurrent_writes: 4
concurrent_compactors: 1

# A small machine that compiles and tests beside it is no reason to fail.
read_request_timeout: 10s
write_request_timeout: 10s
cas_contention_timeout: 5s
",
        path("tables"),
        path("commitlog"),
        path("saved_caches"),
        path("hints"),
        path("cdc_raw"),
    )
}

const LOGBACK: &str = "<configuration>
  <appender name=\"STDOUT\" class=\"ch.qos.logback.core.ConsoleAppender\">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %F:%L %msg%n</pattern></encoder>
  </appender>
  <root level=\"INFO\"><appender-ref ref=\"STDOUT\"/></root>
</configuration>
";

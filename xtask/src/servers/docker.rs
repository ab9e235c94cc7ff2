//! The servers as containers, from the images of `docker-compose.yml`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::file::Kafka;
use super::kafka::{Broker, Inside, hex};
use super::{folder, ports};

/// The one place that names images and their versions.
const COMPOSE: &str = include_str!("../../../docker-compose.yml");
/// Where a container sees the broker's configuration, and where it keeps its data.
const CONFIGURATION: &str = "/etc/postrider-kafka";
const DATA: &str = "/tmp/postrider-kafka";

/// Whether there is a Docker engine that answers.
pub(super) fn usable() -> bool {
    let asked = Command::new("docker").arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Starts Kafka as a container and returns its name.
pub(super) fn start_kafka(dir: &Path, file: &Path) -> anyhow::Result<(Kafka, String)> {
    let folder = folder::fresh(dir, "kafka", file)?;
    let inside = Inside { host: "0.0.0.0", folder: Path::new(CONFIGURATION), data: Path::new(DATA) };
    let mut broker = Broker::configure(folder, &inside)?;
    let properties = format!("{CONFIGURATION}/server.properties");
    let format: Vec<String> = broker.format(&properties).into_iter().map(|argument| format!("'{argument}'")).collect();
    // A container that is started again finds its data formatted.
    let script = format!(
        "/opt/kafka/bin/kafka-storage.sh {} --ignore-formatted && exec /opt/kafka/bin/kafka-server-start.sh {properties}",
        format.join(" ")
    );
    let mut arguments = vec!["-v".to_owned(), format!("{}:{CONFIGURATION}:ro", broker.folder.display())];
    for port in broker.ports {
        arguments.extend(["-p".to_owned(), format!("127.0.0.1:{port}:{port}")]);
    }
    arguments.extend(["-e", "KAFKA_HEAP_OPTS=-Xms256m -Xmx1g", "--entrypoint", "sh"].map(str::to_owned));
    let name = run("kafka", &arguments, image("apache/kafka:")?, &["-c", &script])?;
    broker.address.tool = ["docker", "exec", "-i", &name, "/opt/kafka/bin/kafka-run-class.sh"].map(str::to_owned).to_vec();
    Ok((broker.address, name))
}

/// Starts ScyllaDB as a container and returns its address and name.
pub(super) fn start_scylla() -> anyhow::Result<(String, String)> {
    let [port] = ports::free()?;
    let arguments = ["-p".to_owned(), format!("127.0.0.1:{port}:9042")];
    let limits = ["--smp", "1", "--memory", "1G", "--overprovisioned", "1", "--developer-mode", "1", "--reactor-backend", "epoll"];
    let name = run("scylla", &arguments, image("scylladb/scylla:")?, &limits)?;
    Ok((format!("127.0.0.1:{port}"), name))
}

/// Ends a container and deletes its data; whether there was one.
pub(super) fn remove(name: &str) -> anyhow::Result<bool> {
    let answer = Command::new("docker").args(["rm", "-f", "-v", name]).stdin(Stdio::null()).output().context("docker can't be started")?;
    let words = String::from_utf8_lossy(&answer.stderr);
    if words.contains("No such container") {
        return Ok(false);
    }
    if !answer.status.success() {
        bail!("container {name} can't be removed: {}", words.trim());
    }
    Ok(true)
}

/// Whether the container runs.
pub(super) fn runs(name: &str) -> bool {
    let asked = Command::new("docker").args(["inspect", "-f", "{{.State.Running}}", name]).stdin(Stdio::null()).output();
    asked.is_ok_and(|answer| answer.stdout.starts_with(b"true"))
}

/// What the container said last.
pub(super) fn log_tail(name: &str, lines: usize) -> String {
    match Command::new("docker").args(["logs", "--tail", &lines.to_string(), name]).stdin(Stdio::null()).output() {
        Ok(answer) => String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned(),
        Err(error) => format!("docker can't be started: {error}"),
    }
}

/// Runs a container in the background under a name that nobody else uses.
fn run(server: &str, options: &[String], image: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let name = format!("postrider-{server}-{}", hex::<4>()?);
    crate::run::run(
        Command::new("docker").args(["run", "-d", "--name", &name]).args(options).arg(image).args(arguments).stdout(Stdio::null()),
    )
    .with_context(|| format!("{image} can't be run; `--with jvm` runs the servers without Docker"))?;
    Ok(name)
}

/// The image of `docker-compose.yml` that starts so.
fn image(prefix: &str) -> anyhow::Result<&'static str> {
    let mut images = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("image:")).map(str::trim);
    images.find(|image| image.starts_with(prefix)).with_context(|| format!("docker-compose.yml names no image {prefix}…"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_images_have_versions() {
        for prefix in ["apache/kafka:", "scylladb/scylla:"] {
            let image = super::image(prefix).unwrap();
            assert!(image[prefix.len()..].starts_with(|first: char| first.is_ascii_digit()), "{image}");
        }
    }
}

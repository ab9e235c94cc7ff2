//! Java 17 and Maven: found, or installed where that is allowed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::packages::{in_path, install};

/// The version that both servers run on: Kafka 4 takes no older, Cassandra 5 no newer.
const VERSION: u32 = 17;
const PACKAGES: [&str; 2] = ["openjdk-17-jre-headless", "maven"];

/// The programs that are needed to fetch and run the servers.
pub(super) struct Java {
    /// Absolute path of `java`.
    pub(super) java: PathBuf,
    /// `mvn`, as it can be started.
    pub(super) mvn: PathBuf,
}

impl Java {
    /// Finds Java 17 (in `JAVA_HOME`, `PATH`, `/usr/lib/jvm`) and Maven; installs both with apt-get when they are missing
    /// and this is root on Debian or its kin.
    ///
    /// # Errors
    /// One is missing and can't be installed: says what to install.
    pub(super) fn find_or_install() -> anyhow::Result<Self> {
        if let Some(found) = Self::find() {
            return Ok(found);
        }
        let advice = "Kafka and Cassandra run on Java 17 and are fetched by Maven. Install both (set JAVA_HOME if Java 17 is not \
                      the first on PATH), or start Docker";
        install(&PACKAGES, advice)?;
        Self::find().with_context(|| format!("{} were installed, but are not found. {advice}", PACKAGES.join(" and ")))
    }

    fn find() -> Option<Self> {
        let homes = std::env::var_os("JAVA_HOME").map(PathBuf::from).into_iter();
        let installed = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
        let java = homes.map(|home| home.join("bin/java")).chain(in_path("java")).chain(installed.map(|home| home.join("bin/java")));
        Some(Self { java: java.into_iter().find(|java| version(java) == Some(VERSION))?, mvn: in_path("mvn")? })
    }
}

fn version(java: &Path) -> Option<u32> {
    let answer = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&answer.stderr))
}

/// 17 from `openjdk version "17.0.15" 2025-04-15`.
fn major(text: &str) -> Option<u32> {
    text.split_once("version \"")?.1.split(['.', '"', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_version_is_read_from_what_java_prints() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment"), Some(17));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(major("java version \"1.8.0_401\""), Some(1));
        assert_eq!(major("command not found"), None);
    }
}

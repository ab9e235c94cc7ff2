//! The jars of a server, fetched once with Maven.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::java::Java;
use crate::run::{check_interrupted, run};

/// Attempts to fetch, because a mirror may hiccup among a hundred files.
const TRIES: usize = 3;

/// A server as Maven knows it.
pub(super) struct Pack {
    /// Names the folder of the jars, with the version: another version is fetched anew.
    pub(super) name: &'static str,
    /// `GROUP:ARTIFACT:VERSION` of what is needed; Maven adds what these need in turn.
    pub(super) artifacts: &'static [&'static str],
}

impl Pack {
    /// The folder of all jars under `cache`, fetched if it is not there yet.
    pub(super) fn resolve(&self, cache: &Path, java: &Java) -> anyhow::Result<PathBuf> {
        let folder = cache.join(self.name);
        if folder.exists() {
            return Ok(folder);
        }
        let partial = cache.join(format!("{}.partial", self.name));
        fs::create_dir_all(&partial).with_context(|| format!("{} can't be made", partial.display()))?;
        let pom = cache.join(format!("{}.xml", self.name));
        fs::write(&pom, self.pom()).with_context(|| format!("{} can't be written", pom.display()))?;
        eprintln!("fetching {} with Maven", self.name);
        let mut command = Command::new(&java.mvn);
        command.args(["-B", "-q", "-f"]).arg(&pom).args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
        command.arg(format!("-DoutputDirectory={}", partial.display()));
        let mut tries = 1;
        while let Err(error) = run(&mut command) {
            check_interrupted()?;
            if tries == TRIES {
                return Err(error).with_context(|| format!("{} could not be fetched", self.artifacts.join(", ")));
            }
            tries += 1;
            eprintln!("{error:#}; trying again");
        }
        // Renamed when complete: a fetch that was cut short is not taken for the whole.
        fs::rename(&partial, &folder).with_context(|| format!("{} can't be renamed", partial.display()))?;
        Ok(folder)
    }

    fn pom(&self) -> String {
        let mut dependencies = String::new();
        for artifact in self.artifacts {
            let mut parts = artifact.split(':');
            let (group, id, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            dependencies +=
                &format!("<dependency><groupId>{group}</groupId><artifactId>{id}</artifactId><version>{version}</version></dependency>\n");
        }
        format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n<modelVersion>4.0.0</modelVersion>\n\
             <groupId>postrider</groupId><artifactId>{}</artifactId><version>1</version><packaging>pom</packaging>\n\
             <dependencies>\n{dependencies}</dependencies>\n</project>\n",
            self.name
        )
    }
}

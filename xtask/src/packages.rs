//! Programs of the system that tests need: found, or installed where that is allowed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::run;

/// The first program of that name on `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Installs `packages` with apt-get, for root on Debian or its kin. `advice` says what else can be done.
pub(crate) fn install(packages: &[&str], advice: &str) -> anyhow::Result<()> {
    let names = packages.join(" and ");
    if !rustix::process::geteuid().is_root() || in_path("apt-get").is_none() {
        bail!("{names} can't be installed. {advice}");
    }
    eprintln!("installing {names}");
    let apt = |arguments: &[&str]| run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-q"])
        .and_then(|()| apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages].concat()))
        .with_context(|| advice.to_owned())
}

/// Sees to the program `name`, which a package of that name brings.
pub(crate) fn need(name: &str) -> anyhow::Result<()> {
    match in_path(name) {
        Some(_) => Ok(()),
        None => install(&[name], &format!("Tests need the program {name}: install the package of that name")),
    }
}

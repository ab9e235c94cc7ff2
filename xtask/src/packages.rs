//! Programs of the system that tests need: found, or installed where that is allowed.

use std::path::{Path, PathBuf};
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

/// Sees to `programs` in `folder`/usr/bin: links to those on `PATH`, or else those of Debian's `package`, unpacked there. It is
/// not installed, as that would start its service.
pub(crate) fn unpack(folder: &Path, package: &str, programs: &[&str]) -> anyhow::Result<()> {
    let bin = folder.join("usr/bin");
    if programs.iter().all(|program| bin.join(program).is_file()) {
        return Ok(());
    }
    std::fs::create_dir_all(&bin)?;
    let found: Vec<PathBuf> = programs.iter().filter_map(|program| in_path(program)).collect();
    if found.len() == programs.len() {
        for (program, name) in found.iter().zip(programs) {
            std::os::unix::fs::symlink(program, bin.join(name)).with_context(|| format!("a link to {}", program.display()))?;
        }
        return Ok(());
    }
    let advice = || format!("Tests need {}: put them on PATH", programs.join(" and "));
    eprintln!("unpacking {package} into {}", folder.display());
    // In a folder of its own, as the file's name has the version.
    let fetched = folder.join("fetched");
    std::fs::create_dir_all(&fetched)?;
    let download = || run(Command::new("apt-get").args(["download", "-q", package]).current_dir(&fetched));
    let update = || run(Command::new("apt-get").args(["update", "-q"]));
    download().or_else(|_| update().and_then(|()| download())).with_context(advice)?;
    let mut files = std::fs::read_dir(&fetched)?;
    let file = files.next().with_context(advice)??.path();
    run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(folder)).with_context(advice)?;
    std::fs::remove_dir_all(&fetched).with_context(|| format!("{} can't be removed", fetched.display()))
}

/// The Python of the virtual environment in `folder`, which has these packages; made if it is not there.
pub(crate) fn python(folder: &Path, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let (python, done) = (folder.join("bin/python"), folder.join("installed"));
    let wanted = packages.join("\n");
    // A folder that an older version made may lack some.
    if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    eprintln!("installing {} into {}", packages.join(" and "), folder.display());
    if let Err(error) = run(Command::new("python3").args(["-m", "venv"]).arg(folder)) {
        // Debian has it in a package of its own.
        install(&["python3-venv"], "Tests need Python with its module venv").map_err(|_| error)?;
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    std::fs::write(&done, wanted)?;
    Ok(python)
}

/// Sees to the program that Go makes of `package` at `version`, in `folder`.
pub(crate) fn go(folder: &Path, package: &str, version: &str) -> anyhow::Result<()> {
    let name = package.rsplit('/').next().unwrap_or(package);
    let done = folder.join("installed");
    let wanted = format!("{package}@{version}");
    if folder.join(name).is_file() && std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("building {wanted} into {}", folder.display());
    let folder = std::path::absolute(folder)?;
    run(Command::new("go").args(["install", &wanted]).env("GOBIN", &folder))
        .with_context(|| format!("Tests need {name}: install Go 1.24 or newer, or put the program into {} yourself", folder.display()))?;
    std::fs::write(&done, wanted)?;
    Ok(())
}

//! What the tests here ask: the program as it was built with them, and what `cargo xtask test` installs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// A file of the repository.
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A run of the program from the repository's folder, with nothing of Postrider's in its environment.
///
/// Cargo builds it along with the workspace's tests, for its own, and puts it above the folder of this one.
pub(crate) fn postrider(arguments: &[&str]) -> Command {
    let program = program();
    assert!(program.exists(), "{} is missing: run `cargo build -p postrider`", program.display());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POSTRIDER")) {
        command.env_remove(name);
    }
    command
}

/// Where the program is.
pub(crate) fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().join("postrider")
}

/// A run of Helm.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    finished(Command::new(root().join("target/test-deploy/helm")).args(arguments).current_dir(root()), "")
}

/// Holds `text` against the schemas of `kind`; see schemas.py.
pub(crate) fn schemas(kind: &str, text: &str) -> Output {
    let script = root().join("xtask/tests/deploy/schemas.py");
    finished(Command::new(root().join("target/test-deploy/bin/python")).arg(script).arg(kind), text)
}

/// What a successful run printed.
#[track_caller]
pub(crate) fn accepted(output: Output) -> String {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    said.into_owned()
}

/// What a failed run said about it.
#[track_caller]
pub(crate) fn refused(output: &Output) -> String {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "it was accepted: {said}{errors}");
    errors.into_owned()
}

fn finished(command: &mut Command, input: &str) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => panic!("{:?}: {error}; run `cargo xtask test`, which installs it", command.get_program()),
    };
    // Who refuses it early reads no further; its exit code says so.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

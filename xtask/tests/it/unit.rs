//! The systemd unit.

use std::fs;
use std::process::Command;

use crate::tools::{accepted, postrider, program, read};

const UNIT: &str = "deploy/systemd/postrider.service";

/// The values of a key of the unit, in order.
fn values(key: &str) -> Vec<String> {
    let unit = read(UNIT);
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

#[test]
fn systemd_understands_it_and_finds_it_locked_down() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("postrider.service");
    // With a program that exists here.
    fs::write(&unit, read(UNIT).replace("/usr/local/bin/postrider", program().to_str().unwrap())).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
    let verified = analyze(&["verify"]);
    assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "a key that it does not know is only warned about");
    accepted(verified);
    // In tenths: 1.3 of 10. What is left is the network, and system calls of limits and priorities.
    accepted(analyze(&["security", "--offline=true", "--threshold=13"]));
}

#[test]
fn its_command_starts_the_program_which_then_misses_the_key() {
    let command = values("ExecStart").pop().unwrap();
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    assert!(arguments.contains(&"/etc/postrider/postrider.toml"), "{command}");
    let arguments: Vec<&str> =
        arguments.iter().map(|&argument| if argument.starts_with("/etc/") { "deploy/systemd/postrider.toml" } else { argument }).collect();
    let run = postrider(&arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.code() == Some(2) && errors.contains("POSTRIDER_API_KEY"), "{errors}");
}

#[test]
fn its_configuration_is_fine_and_writes_where_it_may() {
    accepted(postrider(&["config", "check", "deploy/systemd/postrider.toml"]).output().unwrap());
    let shown = accepted(postrider(&["config", "show", "--config", "deploy/systemd/postrider.toml"]).output().unwrap());
    let shown: toml::Table = shown.parse().unwrap();
    assert_eq!(shown["data"]["dir"].as_str().unwrap(), format!("/var/lib/{}", values("StateDirectory")[0]));
    let drain = shown["server"]["drain_seconds"].as_integer().unwrap();
    assert!(values("TimeoutStopSec")[0].parse::<i64>().unwrap() > drain, "systemd kills it while it drains");
    let files = values("LimitNOFILE")[0].parse::<i64>().unwrap();
    assert!(files > shown["limits"]["connections"].as_integer().unwrap(), "too few files for its connections");
}

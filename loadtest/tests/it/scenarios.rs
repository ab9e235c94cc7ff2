//! The scenarios that come with the program, each shortened, against the real server on its embedded backend.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{code, number, read};

/// Where the scenarios are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The server's program, which tests of the whole workspace have built beside this one.
fn postrider() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("postrider");
    assert!(program.exists(), "{} is not there; run `cargo build -p postrider` first", program.display());
    program
}

/// Runs `scenario` with `options` against a server in a folder of its own.
fn run(scenario: &str, options: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, out, data) = (folder.path().join("postrider.toml"), folder.path().join("result.json"), folder.path().join("data"));
    let ports = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"";
    let text = format!("backend = \"embedded\"\n[server]\n{ports}\n[data]\ndir = {data:?}\n[egress]\nallow = [\"127.0.0.0/8\"]\n");
    fs::write(&config, text).expect("written");
    let server = format!("{} serve --config {}", postrider().display(), config.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("--scenario").arg(self::folder().join(scenario).with_extension("toml"));
    command.args(["--spawn", &server, "--warmup", "500ms"]).args(options).arg("--disk").arg(&data).arg("--out").arg(&out);
    if scenario == "drain" {
        command.args(["--fill", &format!("{server} --roles api")]);
    }
    let output = command.env_remove("POSTRIDER_API_KEY").output().expect("it runs");
    let report = read(&out, &output);
    assert_eq!((code(&output), number(&report, "/lost")), (0, 0), "{report:#}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["name"], scenario);
    report
}

/// Every file of the folder is a scenario that can be run, and has a test here by its name.
#[test]
fn every_scenario_can_be_run() {
    let here = include_str!("scenarios.rs");
    let files = fs::read_dir(folder()).expect("the scenarios").map(|entry| entry.expect("an entry").path());
    let names: Vec<String> = files.filter_map(|file| file.file_stem().and_then(OsStr::to_str).map(str::to_owned)).collect();
    assert!(names.len() >= 9, "{names:?}");
    for name in names {
        assert!(here.contains(&format!("run(\"{name}\", ")), "no test runs {name}");
        // Nothing listens there, so nothing is sent; what is wrong with the file itself is said before that, with 2.
        let fill: &[&str] = if name == "drain" { &["--fill", "false"] } else { &[] };
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        let run = command.arg("--scenario").arg(folder().join(&name).with_extension("toml")).args(["--spawn", "false"]).args(fill).output();
        let run = run.expect("it runs");
        assert_eq!(code(&run), 1, "{name}: {}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn loads_of_every_shape_arrive() {
    let short = ["--rate", "200", "--duration", "2s"];
    assert_eq!(number(&run("steady", &short), "/accepted"), 500);
    let favourite = run("favourite", &short);
    assert!(number(&favourite, "/favourite_latency_us/count") > 100, "{favourite:#}");
    let strangers = run("strangers", &short);
    assert!(number(&strangers, "/endpoints/hang/requests") > 0 && number(&strangers, "/endpoints/fail/requests") > 0, "{strangers:#}");
    for busy in [run("flood", &["--connections", "4", "--duration", "2s"]), run("crowd", &["--endpoints", "500", "--duration", "2s"])] {
        assert!(number(&busy, "/delivered") > 0, "{busy:#}");
    }
}

#[test]
fn a_backlog_is_filled_by_one_process_and_worked_off_by_another() {
    let report = run("drain", &["--events", "2000", "--endpoints", "20"]);
    assert_eq!((number(&report, "/accepted"), number(&report, "/delivered")), (2000, 2000), "{report:#}");
    assert_eq!(number(&report, "/scenario/backlog"), 2000);
}

#[test]
fn what_was_accepted_arrives_although_the_server_is_killed() {
    let report = run("rebalance", &["--rate", "100", "--duration", "6s", "--fault", "kill@1s+1s"]);
    let course = report["course"].as_array().expect("intervals");
    assert!(course.len() >= 5 && course.iter().any(|interval| interval["rss_bytes"] == 0), "it was gone for a while: {report:#}");
    assert!(report.pointer("/faults/0/recovered_s").is_some_and(Value::is_number), "{report:#}");
    assert!(course.iter().any(|interval| interval["disk_bytes"].as_u64() > Some(0)), "{report:#}");
}

#[test]
fn what_was_accepted_arrives_although_no_receiver_answered() {
    let report = run("outage", &["--rate", "100", "--duration", "6s", "--fault", "outage@1s+1s"]);
    assert!(number(&report, "/endpoints/healthy/requests") > number(&report, "/delivered"), "attempts failed: {report:#}");
}

#[test]
fn a_soak_keeps_book_of_what_grows() {
    let options = ["--rate", "100", "--duration", "6s", "--endpoints", "50", "--fault", "freeze@1s+1s"];
    let report = run("soak", &options);
    for grows in ["rss_bytes", "open_files", "disk_bytes"] {
        let last = report["course"].as_array().and_then(|course| course.last()).expect("intervals");
        assert!(last[grows].as_u64() > Some(0), "{grows} in {last:#}");
    }
}

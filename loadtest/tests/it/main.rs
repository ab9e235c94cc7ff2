//! The driver as a program, against a bare server that delivers well or badly.

mod docs;
mod fake;
mod report;
mod scenarios;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use fake::Fault;
use serde_json::Value;

/// Runs a short load against `server` and gives its exit code and its report.
fn load(server: SocketAddr, options: &[&str]) -> (i32, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("result.json");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["--url", &format!("http://{server}"), "--api-key", "k"])
        .args(["--duration", "2s", "--warmup", "500ms", "--rate", "500", "--endpoints", "20", "--connections", "8"])
        .arg("--out")
        .arg(&out)
        .args(options)
        .output()
        .expect("it runs");
    (code(&output), read(&out, &output))
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

pub(crate) fn read(out: &Path, output: &Output) -> Value {
    let json = std::fs::read(out).unwrap_or_else(|error| panic!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_slice(&json).expect("JSON")
}

pub(crate) fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {pointer} in {report:#}"))
}

#[test]
fn everything_accepted_arrives_whatever_the_bad_endpoints_do() {
    let server = fake::start(Fault::None);
    let bad = "hang=10%,fail=10%,close=10%,throttle=10%,slow=10%,flap=10%";
    let pid = std::process::id().to_string();
    let (code, report) = load(server, &["--bad", bad, "--server-pid", &pid]);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(number(&report, "/accepted"), 1250);
    for nothing in ["/lost", "/queued", "/duplicated", "/unsent", "/unanswered", "/unconfirmed", "/stray", "/signatures/failed"] {
        assert_eq!(number(&report, nothing), 0, "{nothing} in {report:#}");
    }
    let mut expected = 0;
    for (temper, endpoints) in [("healthy", 8), ("slow", 2), ("flap", 2), ("hang", 2), ("fail", 2), ("close", 2), ("throttle", 2)] {
        assert_eq!(number(&report, &format!("/endpoints/{temper}/endpoints")), endpoints);
        assert!(number(&report, &format!("/endpoints/{temper}/requests")) > 0, "{temper} in {report:#}");
        if ["healthy", "slow", "flap"].contains(&temper) {
            expected += number(&report, &format!("/endpoints/{temper}/accepted"));
        }
    }
    assert_eq!(number(&report, "/delivered"), expected);
    assert!(number(&report, "/signatures/checked") > 0);
    assert!(number(&report, "/latency_us/count") > 0 && number(&report, "/ingest_latency_us/count") == 1000);
    assert!(number(&report, "/server/peak_rss_bytes") > 0);
}

#[test]
fn a_lost_event_is_found_and_fails_the_run() {
    let server = fake::start(Fault::LosesOneIn(100));
    let (code, report) = load(server, &["--drain-timeout", "1s"]);
    assert_eq!((code, number(&report, "/lost"), number(&report, "/accepted")), (1, 12, 1250));
    assert_eq!(number(&report, "/endpoints/healthy/lost"), 12);
}

#[test]
fn a_repeated_delivery_is_counted_and_is_no_failure() {
    let server = fake::start(Fault::RepeatsOneIn(100));
    let (code, report) = load(server, &[]);
    assert_eq!((code, number(&report, "/duplicated"), number(&report, "/lost")), (0, 12, 0));
}

#[test]
fn a_wrong_signature_fails_the_run() {
    let server = fake::start(Fault::SignsWrongly);
    let (code, report) = load(server, &[]);
    assert_eq!((code, number(&report, "/lost")), (1, 0));
    assert_eq!(number(&report, "/signatures/failed"), number(&report, "/signatures/checked"));
    assert!(report["signatures"]["first_failure"].as_str().expect("a reason").contains("no signature matches"));
}

#[test]
fn events_that_were_refused_are_counted_by_status_and_not_missed() {
    let server = fake::start(Fault::RefusesOneIn(10));
    let (code, report) = load(server, &[]);
    assert_eq!((code, number(&report, "/refused/503"), number(&report, "/accepted")), (0, 125, 1125));
    assert_eq!(number(&report, "/delivered"), 1125);
}

#[test]
fn results_of_a_batch_are_taken_one_by_one() {
    let server = fake::start(Fault::RefusesOneIn(10));
    let (code, report) = load(server, &["--batch", "50", "--rate", "2000", "--delay", "5"]);
    assert_eq!((code, number(&report, "/accepted"), number(&report, "/delivered")), (0, 4500, 4500));
    assert_eq!(number(&report, "/refused/202"), 500);
}

#[test]
fn a_closed_loop_keeps_every_connection_busy() {
    let server = fake::start(Fault::Stalls(Duration::from_millis(20)));
    let (code, report) = load(server, &["--rate", "max"]);
    let accepted = number(&report, "/accepted");
    assert!(code == 0 && (200..=1000).contains(&accepted), "8 connections at 50/s each for 2.5 s, not {accepted}");
}

#[test]
fn a_server_that_stalls_is_charged_for_the_wait_of_every_event() {
    let server = fake::start(Fault::Stalls(Duration::from_millis(50)));
    let (code, report) = load(server, &["--rate", "50", "--connections", "1", "--duration", "1s", "--warmup", "0s"]);
    assert_eq!((code, number(&report, "/accepted")), (0, 50), "{report:#}");
    // The last event is due after 0.98 s and can't be sent before 2.45 s, 50 ms after each of the others.
    assert!(number(&report, "/ingest_latency_us/max") > 1_400_000, "{report:#}");
    assert!(number(&report, "/latency_us/p50") > 600_000, "{report:#}");
}

#[test]
fn what_a_server_was_too_slow_to_take_is_unsent_and_not_lost() {
    let server = fake::start(Fault::Stalls(Duration::from_millis(100)));
    let options = ["--rate", "50", "--connections", "1", "--duration", "1s", "--warmup", "0s", "--drain-timeout", "500ms"];
    let (code, report) = load(server, &options);
    assert_eq!((code, number(&report, "/lost"), number(&report, "/unanswered")), (0, 0, 0), "{report:#}");
    assert_eq!(number(&report, "/unsent") + number(&report, "/accepted"), 50);
    assert!(number(&report, "/unsent") > 20, "{report:#}");
}

#[test]
fn a_scenario_file_and_a_server_of_its_own() {
    let server = fake::start(Fault::None);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, out) = (folder.path().join("scenario.toml"), folder.path().join("result.json"));
    let spawn = format!("sh -c 'echo listening on http://{server}; exec sleep 60'");
    let text = format!("spawn = [\"{spawn}\"]\nrate = 200\nduration = \"1s\"\nwarmup = \"100ms\"\nendpoints = 5\nout = {out:?}\n");
    std::fs::write(&file, text).expect("written");
    let run = Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("--scenario").arg(&file).args(["--rate", "300"]).output().expect("it runs");
    let report = read(&out, &run);
    assert_eq!((code(&run), number(&report, "/accepted")), (0, 330), "{report:#}");
    assert!(number(&report, "/server/end_rss_bytes") > 0);
    assert!(String::from_utf8_lossy(&run.stdout).contains("sound: everything accepted arrived"));
}

#[test]
fn what_cannot_be_run_is_said_in_words() {
    let server = format!("http://{}", fake::start(Fault::None));
    for (options, expected, words) in [
        (vec!["--url", &server], 2, "POSTRIDER_API_KEY"),
        (vec!["--url", &server, "--api-key", "k", "--batch", "5000"], 2, "batch must be from 1 to 1000"),
        (vec!["--rate", "fast"], 2, "is not a rate"),
        (vec!["--scenario", "/nowhere"], 2, "cannot read scenario /nowhere"),
        (vec!["--url", &server, "--api-key", "wrong"], 1, "answered 401"),
        (vec!["--url", "http://127.0.0.1:1", "--api-key", "k"], 1, "cannot reach the server at http://127.0.0.1:1"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(&options).env_remove("POSTRIDER_API_KEY").output().expect("it runs");
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(code(&run) == expected && said.contains(words), "{options:?}: {said}");
    }
}

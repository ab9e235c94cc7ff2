//! Jobs that workers outside do: the example of the documentation as it stands there, and workers that say what they should not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::foreign::{consume, produce};
use super::world::{Cluster, address, servers};
use crate::jobs::calls;
use crate::metrics::scrape;
use crate::receiver::Receiver;
use crate::signatures::assert_accepted;
use crate::world::{Api, answer, eventually, python};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const KINDS: &str =
    "[[jobs.outside]]\nkind = \"wordcount\"\ntimeout_seconds = 60\n[[jobs.outside]]\nkind = \"silent\"\ntimeout_seconds = 2\n";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Starts the example with the Python that `cargo xtask test` has seen to.
fn worker(cluster: &Cluster) -> Child {
    Command::new(python())
        .arg(Path::new(ROOT).join("docs/examples/outside_worker.py"))
        .env("KAFKA", address(&servers(), "kafka"))
        .env("PREFIX", format!("{}.", cluster.name))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn submit(api: &Api, kind: &str, input: Value, receiver: &Receiver) -> String {
    let job = json!({ "kind": kind, "input": input, "webhook_url": receiver.url() });
    let (status, answer) = answer(api.request(Method::POST, "/v1/jobs").header("traceparent", TRACE).json(&job)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

/// The one call of a job's end, however often it was made.
async fn call(receiver: &Receiver, job: &str) -> Value {
    let made = eventually("the job's call", async || calls(receiver).remove(job)).await;
    let ids: BTreeSet<&str> = made.iter().map(|got| got.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "{job} has ended more than once");
    made[0].json()
}

#[tokio::test]
async fn the_workers_of_the_documentation_die_and_every_job_is_completed_once() {
    let cluster = Cluster::new(KINDS, 4).await;
    let node = cluster.start("api,router,deliver,compute").await;
    let (api, receiver) = (node.api(), Receiver::answering(200).await);
    let mut jobs = Vec::new();
    for n in 1..=12 {
        let text = "one two three\n".repeat(8 * n);
        jobs.push((submit(&api, "wordcount", json!({ "text": text }), &receiver).await, 8 * n));
    }
    let bad = submit(&api, "wordcount", json!({ "no": "text" }), &receiver).await;
    let mut first = worker(&cluster);
    eventually("a job in the middle", async || {
        let running = api.get("/v1/jobs?status=processing&kind=wordcount").await;
        (receiver.count() > 2 && running["jobs"].get(0).is_some()).then_some(())
    })
    .await;
    first.kill().await.unwrap();
    let _second = worker(&cluster);
    for (job, lines) in &jobs {
        let body = call(&receiver, job).await;
        assert_eq!((&body["status"], &body["kind"]), (&json!("completed"), &json!("wordcount")), "{body}");
        assert_eq!(body["result"], json!({ "lines": lines, "words": 3 * lines }));
        let shown = api.get(&format!("/v1/jobs/{job}")).await;
        assert_eq!((&shown["status"], &shown["result"]), (&json!("completed"), &body["result"]));
    }
    assert_eq!(call(&receiver, &bad).await["error"]["code"], "bad_input");
    let secret = api.get("/v1/signing-secret").await["secret"].as_str().unwrap().to_owned();
    receiver.got().iter().for_each(|got| assert_accepted(got, &secret));
}

#[tokio::test]
async fn what_workers_should_not_say_changes_nothing() {
    let (servers, cluster) = (servers(), Cluster::new(KINDS, 2).await);
    let kafka = address(&servers, "kafka");
    let node = cluster.start("api,router,deliver,compute").await;
    let (api, receiver) = (node.api(), Receiver::answering(200).await);
    let silent = submit(&api, "silent", json!({}), &receiver).await;
    let done = submit(&api, "wordcount", json!({ "text": "a b" }), &receiver).await;
    let large = submit(&api, "wordcount", json!({ "text": "c" }), &receiver).await;
    let canceled = submit(&api, "wordcount", json!({ "text": "d" }), &receiver).await;
    let built_in = submit(&api, "evaluate", json!({ "candidates": ["a"], "references": ["a"], "metrics": ["f1"] }), &receiver).await;
    api.delete(&format!("/v1/jobs/{canceled}")).await;
    assert_eq!(call(&receiver, &built_in).await["status"], "completed");

    // What a worker in any language sees.
    let records = consume(&servers, &kafka, &format!("{}.jobs.wordcount", cluster.name), 3).await;
    let record = records.iter().find(|record| record.contains(r#"{"text":"a b"}"#)).unwrap_or_else(|| panic!("{records:?}"));
    for part in ["tenant:default", &format!("traceparent:{TRACE}"), "content-type:application/json"] {
        assert!(record.contains(part), "{part} is not in {record}");
    }

    let say = |key: &str, value: Value| format!("x:y\t{key}\t{value}");
    let unknown = format!("job_{}", "0".repeat(26));
    let lines = [
        "x:y\tk\tthis is not JSON".to_owned(),
        say(&unknown, json!({ "job_id": unknown, "status": "completed" })),
        say(&built_in, json!({ "job_id": built_in, "status": "failed", "error": { "code": "x", "message": "y" } })),
        say("elsewhere", json!({ "job_id": done, "status": "completed" })),
        say(&done, json!({ "job_id": done, "status": "finished" })),
        say(&done, json!({ "job_id": done, "status": "processing", "progress": 0.5 })),
        say(&done, json!({ "job_id": done, "status": "completed", "result": { "words": 2 } })),
        say(&done, json!({ "job_id": done, "status": "failed", "error": { "code": "late", "message": "too late" } })),
        say(&canceled, json!({ "job_id": canceled, "status": "completed", "result": "late" })),
        say(&silent, json!({ "job_id": silent, "status": "processing" })),
        say(&large, json!({ "job_id": large, "status": "completed", "result": "x".repeat(300_000) })),
    ];
    produce(&servers, &kafka, &format!("{}.job-results", cluster.name), &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;

    let body = call(&receiver, &done).await;
    assert_eq!((&body["status"], &body["result"]), (&json!("completed"), &json!({ "words": 2 })), "{body}");
    let body = call(&receiver, &large).await;
    let link = body["result_url"].as_str().unwrap_or_else(|| panic!("{body}"));
    let (status, result) = answer(api.without_key(Method::GET, &link[link.find("/v1/download").unwrap()..])).await;
    assert_eq!((status, result.as_str().map(str::len)), (StatusCode::OK, Some(300_000)));
    let body = call(&receiver, &silent).await;
    assert_eq!((&body["status"], &body["error"]["code"]), (&json!("failed"), &json!("timeout")), "{body}");

    let letters = consume(&servers, &kafka, &format!("{}.dead-letters", cluster.name), 5).await;
    for (what, reason) in [
        ("this is not JSON", "the body is not JSON"),
        (unknown.as_str(), "there is no job"),
        (built_in.as_str(), "there is no job"),
        (done.as_str(), "the record's key must be the job's id"),
        ("finished", "status"),
    ] {
        let is_it = |letter: &&String| letter.contains(what) && letter.contains(reason);
        let letter = letters.iter().find(is_it).unwrap_or_else(|| panic!("{what}, {reason}: {letters:?}"));
        for part in [format!("failure-topic:{}.job-results", cluster.name), "failure-partition:".to_owned(), "failure-offset:".to_owned()] {
            assert!(letter.contains(&part), "{part} is not in {letter}");
        }
    }
    assert_eq!(call(&receiver, &canceled).await["status"], "canceled");
    for (job, status) in [(&done, "completed"), (&canceled, "canceled"), (&silent, "failed"), (&built_in, "completed")] {
        assert_eq!(api.get(&format!("/v1/jobs/{job}")).await["status"], status);
    }
}

#[tokio::test]
async fn jobs_that_wait_for_a_worker_outside_are_counted_and_those_it_has_are_not() {
    let (servers, cluster) = (servers(), Cluster::new(KINDS, 2).await);
    let kafka = address(&servers, "kafka");
    let node = cluster.start("api,router,deliver,compute").await;
    let (api, receiver) = (node.api(), Receiver::answering(200).await);
    let mut jobs = Vec::new();
    for n in 0..3 {
        jobs.push(submit(&api, "wordcount", json!({ "text": n.to_string() }), &receiver).await);
    }
    let waiting = async |count: f64| {
        let shown = async || (scrape(&node.admin.to_string()).await["job_queue_length{kind=\"wordcount\"}"] == count).then_some(());
        eventually(&format!("{count} jobs wait"), shown).await;
    };
    let say = async |lines: &[Value]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("x:y\t{}\t{line}", line["job_id"].as_str().unwrap())).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        produce(&servers, &kafka, &format!("{}.job-results", cluster.name), &lines).await;
    };
    waiting(3.0).await;
    say(&[json!({ "job_id": jobs[0], "status": "processing" }), json!({ "job_id": jobs[1], "status": "processing" })]).await;
    waiting(1.0).await;
    say(&jobs.iter().map(|job| json!({ "job_id": job, "status": "completed" })).collect::<Vec<_>>()).await;
    for job in &jobs {
        assert_eq!(call(&receiver, job).await["status"], "completed");
    }
    waiting(0.0).await;
}

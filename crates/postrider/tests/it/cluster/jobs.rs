//! Jobs on several processes that die, freeze and end.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_test_servers::{Asked, FakeUpstream, Reply, S3};
use serde_json::{Value, json};

use crate::jobs::{
    SETTINGS, a_running_job_is_canceled, assert_all_ended, assert_completed_once, calls, evaluation, is_running, results, submit,
};
use crate::receiver::Receiver;
use crate::world::{Api, eventually};
use crate::{batch, experiment, generate, http, speech, usage};

use super::world::Cluster;

const PARTITIONS: u16 = 4;

#[tokio::test]
async fn workers_that_are_killed_or_end_leave_every_job_with_one_end() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let (mut first, mut second) = (cluster.start("compute").await, cluster.start("compute").await);
    let receiver = Receiver::answering(200).await;
    let api = front.api();
    let mut jobs = Vec::new();
    for _ in 0..16 {
        jobs.push(submit(&api, evaluation(300, &receiver)).await);
    }
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    first.process.kill();
    cluster.restart(&mut first).await;
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    second.stop().await;
    cluster.restart(&mut second).await;
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    second.process.kill();
    assert_all_ended(&api, &receiver, &jobs, 300).await;
}

/// A job of each kind, by its kind.
async fn one_of_each(api: &Api, receiver: &Receiver, web: &http::Web) -> Vec<(&'static str, String)> {
    let experiment = json!({ "kind": "experiment", "input": experiment::experiment(12), "webhook_url": receiver.url() });
    let speech = json!({ "text": speech::OROMO.repeat(100), "language": "om", "webhook_url": receiver.url() });
    vec![
        ("evaluate", submit(api, evaluation(1000, receiver)).await),
        ("tts", speech::speak(api, speech).await),
        ("generate", generate::submit(api, generate::chat("count", receiver)).await),
        ("experiment", generate::submit(api, experiment).await),
        ("http", http::submit(api, json!({ "url": web.url(), "timeout_seconds": 5 }), receiver).await),
    ]
}

#[tokio::test]
async fn kills_in_the_middle_of_jobs_of_every_kind_end_each_once() {
    every_kind_ends_once("", async |_| {}).await;
}

/// As above, where the blobs lie in a bucket of a server that dies as well.
#[tokio::test]
async fn jobs_of_every_kind_end_once_where_their_blobs_are_on_s3() {
    let mut s3 = S3::start().await;
    every_kind_ends_once(&on_s3(&s3), async |n| {
        if n == 1 {
            s3.kill();
            tokio::time::sleep(Duration::from_secs(2)).await; // for as long as it is gone
            s3.restart().await;
        }
    })
    .await;
    assert!(s3.count("some/where/jobs") > 0 && s3.count("some/where/files") > 0, "nothing was kept there");
}

/// Settings that keep the blobs there.
pub(crate) fn on_s3(s3: &S3) -> String {
    format!(
        "[blobs]\nurl = \"s3://{}/some/where\"\nendpoint = {:?}\naccess_key_id = {:?}\nsecret_access_key = {:?}\n\
         [egress]\nallow = [\"127.0.0.0/8\"]\nextra_ca = {:?}\n",
        S3::BUCKET,
        s3.endpoint(),
        S3::KEY_ID,
        S3::KEY,
        s3.certificates().authority(),
    )
}

/// Kills both workers while they do jobs of every kind; `meanwhile` happens after each.
async fn every_kind_ends_once(settings: &str, mut meanwhile: impl AsyncFnMut(usize)) {
    const LINES: usize = 60;
    let upstream = FakeUpstream::start(|asked: &Asked| match experiment::persona_asked_for(asked) {
        Some(Reply::Say(text)) => Reply::Slowly(Duration::from_millis(20), text),
        Some(other) => other,
        None => Reply::Slowly(Duration::from_millis(50), "one two three four five six seven eight".to_owned()),
    })
    .await;
    let cluster = Cluster::new(&generate::settings(&upstream, &format!("[batch]\nrequests = 2\n{settings}")), PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let mut workers = [cluster.start("compute").await, cluster.start("compute").await];
    let (receiver, wants) = (Receiver::answering(200).await, Receiver::answering(200).await);
    // It answers once nobody is killed any more.
    let web = http::Web::answering(["hang", "hang", http::OK]).await;
    let api = front.api();
    api.register(&wants, json!({ "events": ["batch.completed"] })).await;
    let jobs = one_of_each(&api, &receiver, &web).await;
    let lines: String = (0..LINES).map(|n| batch::line(&n.to_string(), "count")).collect();
    let batch = batch::submitted(&api, lines).await;
    for (n, worker) in workers.iter_mut().enumerate() {
        let asked = upstream.count();
        eventually("work", async || (is_running(&api).await && upstream.count() >= asked + 5).then_some(())).await;
        worker.process.kill();
        meanwhile(n).await;
        cluster.restart(worker).await;
    }

    let ended = batch::until(&api, &batch, "completed").await;
    assert_eq!(batch::lines(&api, &ended["output_file_id"]).await.len(), LINES);
    batch::told(&wants, "batch.completed", &batch).await;
    eventually("a call for every job", async || (calls(&receiver).len() == jobs.len()).then_some(())).await;
    let calls = calls(&receiver);
    for (kind, job) in &jobs {
        let body = calls[job][0].json();
        assert_eq!((&body["status"], generate::ids(&calls[job]).len()), (&json!("completed"), 1), "{kind}: {body}");
        match *kind {
            "evaluate" => assert_eq!(results(&api, &body).await["pairs"].as_array().unwrap().len(), 1000),
            "tts" => assert!(speech::seconds(&speech::fetched(&api, body["audio_url"].as_str().unwrap()).await.1) > 200.0),
            "generate" => assert_eq!(body["result"]["content"], "one two three four five six seven eight"),
            "http" => assert_eq!(body["result"]["status_code"], 200, "{body}"),
            _experiment => assert_eq!(names(&api, job).await, (1..=12).map(|n| format!("Persona {n}")).collect()),
        }
    }
    assert_completed_once(&api, &jobs.into_iter().map(|(_, job)| job).collect::<Vec<_>>()).await;
}

/// The names in an experiment's file.
async fn names(api: &Api, job: &str) -> BTreeSet<String> {
    let response = api.request(reqwest::Method::GET, &format!("/v1/download/{job}")).send().await.unwrap();
    let text = response.text().await.unwrap();
    let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned();
    text.lines().map(name).collect()
}

#[tokio::test]
async fn a_worker_that_was_frozen_ends_no_job_that_another_has_taken_over() {
    /// Enough that they still run when the worker is frozen.
    const PAIRS: usize = 400;
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let first = cluster.start("compute").await;
    let receiver = Receiver::answering(200).await;
    let api = front.api();
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(submit(&api, evaluation(PAIRS, &receiver)).await);
    }
    eventually("a running job", async || is_running(&api).await.then_some(())).await;
    first.freeze();
    let second = cluster.start("compute").await;
    assert_all_ended(&api, &receiver, &jobs, PAIRS).await;
    first.thaw();
    // It finds out that its jobs are others' by now, and does new ones.
    let more = vec![submit(&api, evaluation(10, &receiver)).await];
    assert_all_ended(&api, &receiver, &more, 10).await;
    assert_all_ended(&api, &receiver, &jobs, PAIRS).await;
    drop(second);
}

#[tokio::test]
async fn a_job_that_runs_elsewhere_stops_when_it_is_canceled() {
    let cluster = Cluster::new(SETTINGS, PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let _worker = cluster.start("compute").await;
    a_running_job_is_canceled(&front.api()).await;
}

#[tokio::test]
async fn openais_own_client_runs_the_whole_flow_on_processes_of_one_role() {
    let upstream = batch::upstream().await;
    let cluster = Cluster::new(&generate::settings(&upstream, batch::HURRIED), PARTITIONS).await;
    let nodes = tokio::join!(cluster.start("api"), cluster.start("router"), cluster.start("deliver"), cluster.start("compute"));
    batch::assert_openais_client_is_served(nodes.0.listen).await;
}

#[tokio::test]
async fn tokens_that_two_workers_use_are_counted_together_and_exactly() {
    let upstream = usage::upstream().await;
    let cluster = Cluster::new(&usage::limited(&upstream, usage::LIMIT), PARTITIONS).await;
    let front = cluster.start("api,router,deliver").await;
    let (_first, _second) = (cluster.start("compute").await, cluster.start("compute").await);
    let (api, wants) = (front.api(), Receiver::answering(200).await);
    api.register(&wants, json!({ "events": ["usage.limit_exceeded"] })).await;
    usage::used(&api, usage::LIMIT).await;
    let exceeded = usage::alarm(&wants, "usage.limit_exceeded").await.json();
    assert_eq!(exceeded["data"]["current_usage"], usage::LIMIT, "{exceeded}");
    // Only then is it known to each of them what the other has used.
    tokio::time::sleep(Duration::from_secs(1)).await;
    usage::assert_all_is_used(&api, &upstream).await;
    usage::alarm(&wants, "usage.limit_exceeded").await;
}

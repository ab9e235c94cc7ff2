//! Jobs from their submission to their callback, whatever becomes of their workers. The same stories are played on one
//! process and, in `cluster::jobs`, on many.

use std::collections::{BTreeMap, BTreeSet};

use postrider_test_servers::S3;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::receiver::{Got, Receiver, Reply};
use crate::signatures::assert_accepted;
use crate::speech::fetched;
use crate::world::{Api, Home, PATIENCE, Server, answer, eventually};

pub(crate) const EVALUATE: &str = "/api/v1/async/evaluate";
/// Jobs wait no longer for a dead worker, and workers not for jobs, than a test has time for.
pub(crate) const SETTINGS: &str = "[jobs]\nlease_seconds = 3\n[evaluate]\nconcurrency = 3\n";

/// An evaluation of `count` pairs; a thousand take a debug build about a second.
pub(crate) fn evaluation(count: usize, receiver: &Receiver) -> Value {
    let text = |n: usize| (0..60).map(|word| format!("word{} ", (n * 7 + word * word) % 97)).collect::<String>();
    let pair = |n: usize| json!({ "candidate": text(n), "references": [text(n + 1), text(n + 2)] });
    json!({ "pairs": (0..count).map(pair).collect::<Vec<_>>(), "metrics": ["bleu", "chrf"], "webhook_url": receiver.url() })
}

pub(crate) async fn submit(api: &Api, job: Value) -> String {
    let (status, answer) = api.ask(Method::POST, EVALUATE, job).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

/// The calls of each job, by its id.
pub(crate) fn calls(receiver: &Receiver) -> BTreeMap<String, Vec<Got>> {
    let mut calls: BTreeMap<String, Vec<Got>> = BTreeMap::new();
    for got in receiver.got() {
        calls.entry(got.json()["job_id"].as_str().unwrap().to_owned()).or_default().push(got);
    }
    calls
}

/// Each job has ended once, and its receivers, the events and the API agree on how.
pub(crate) async fn assert_all_ended(api: &Api, receiver: &Receiver, jobs: &[String], pairs: usize) {
    eventually("a call for every job", async || {
        let calls = calls(receiver);
        jobs.iter().all(|job| calls.contains_key(job)).then_some(())
    })
    .await;
    let calls = calls(receiver);
    for job in jobs {
        let shown = api.get(&format!("/v1/jobs/{job}")).await;
        assert_eq!(shown["status"], "completed", "{shown}");
        let calls = &calls[job];
        let ids: BTreeSet<&str> = calls.iter().map(|got| got.header("webhook-id")).collect();
        assert_eq!(ids.len(), 1, "{job} has ended more than once");
        let body = calls[0].json();
        assert_eq!((&body["status"], &body["timestamp"]), (&json!("completed"), &shown["completed_at"]));
        assert_eq!(shown["webhook_delivery"]["delivery_id"], *ids.first().unwrap());
        assert_eq!(results(api, &body).await["pairs"].as_array().unwrap().len(), pairs);
    }
    assert_completed_once(api, jobs).await;
}

/// Events of a job's end, which nobody wants, lie there under one id each.
pub(crate) async fn assert_completed_once(api: &Api, jobs: &[String]) {
    let events = eventually("an event for every job", async || {
        let mut events: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut path = "/v1/events?type=job.completed&limit=250".to_owned();
        loop {
            let page = api.get(&path).await;
            for event in page["events"].as_array().unwrap() {
                let shown = api.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await;
                // The call itself is an event, too, of another shape.
                if let Some(job) = shown["data"]["job_id"].as_str() {
                    events.entry(job.to_owned()).or_default().insert(event["id"].as_str().unwrap().to_owned());
                }
            }
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/events?type=job.completed&limit=250&after={next}");
        }
        jobs.iter().all(|job| events.contains_key(job)).then_some(events)
    })
    .await;
    for job in jobs {
        assert_eq!(events[job].len(), 1, "{job}: {:?}", events[job]);
    }
}

/// The results of a call: in it, or where its link leads, for which no key is needed.
pub(crate) async fn results(api: &Api, body: &Value) -> Value {
    match body["results_url"].as_str() {
        None => body["results"].clone(),
        Some(link) => {
            let path = &link[link.find("/v1/download").unwrap()..];
            let (status, results) = answer(api.without_key(Method::GET, path)).await;
            assert_eq!(status, StatusCode::OK, "{results}");
            results
        }
    }
}

pub(crate) async fn is_running(api: &Api) -> bool {
    let running = api.get("/v1/jobs?status=processing").await;
    !running["jobs"].as_array().unwrap().is_empty()
}

/// Waits until a worker has got somewhere with this job.
pub(crate) async fn until_it_moves(api: &Api, job: &str) {
    eventually("progress", async || {
        let shown = api.get(&format!("/v1/jobs/{job}")).await;
        assert_ne!(shown["status"], "completed", "it was to take longer");
        (shown["progress"].as_f64().unwrap() > 0.0).then_some(())
    })
    .await;
}

/// Cancels a job that runs: it stops, says so, never completes, and makes way for the next.
pub(crate) async fn a_running_job_is_canceled(api: &Api) {
    let receiver = Receiver::answering(200).await;
    let long = submit(api, evaluation(20_000, &receiver)).await;
    until_it_moves(api, &long).await;
    let (status, body) = api.ask(Method::DELETE, &format!("/v1/jobs/{long}"), Value::Null).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("canceled")));
    let (again, _) = api.ask(Method::DELETE, &format!("/v1/jobs/{long}"), Value::Null).await;
    assert_eq!(again, StatusCode::CONFLICT);
    let short: Vec<String> = vec![submit(api, evaluation(10, &receiver)).await];
    assert_all_ended(api, &receiver, &short, 10).await;
    let calls = &calls(&receiver)[&long];
    assert!(calls.iter().all(|got| got.json()["status"] == "canceled"), "{calls:?}");
    assert_eq!(calls.iter().map(|got| got.header("webhook-id")).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(api.get(&format!("/v1/jobs/{long}")).await["status"], "canceled");
}

#[tokio::test]
async fn five_hundred_pairs_come_back_in_a_signed_call() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["job.*"] })).await;
    let mut job = evaluation(500, &receiver);
    job["metrics"] = json!(["bleu", "rouge", "f1"]);
    job["metadata"] = json!({ "batch": 7 });
    let id = submit(&server.api, job).await;
    let got = &receiver.wait_for(1).await[0];
    let secret = server.api.get("/v1/signing-secret").await["secret"].as_str().unwrap().to_owned();
    assert_accepted(got, &secret);
    let body = got.json();
    assert_eq!((body["job_id"].as_str(), &body["status"]), (Some(id.as_str()), &json!("completed")));
    assert_eq!((&body["metadata"]["batch"], got.header("x-webhook-event")), (&json!(7), "job.completed"));
    let (corpus, pairs) = (&body["results"]["corpus"], body["results"]["pairs"].as_array().unwrap());
    assert!(corpus["bleu"].is_f64() && corpus["rougeLsum"]["fmeasure"].is_f64() && pairs.len() == 500);
    // To endpoints each change is an event of the usual form.
    let mut kinds: Vec<String> = wants.wait_for(3).await.iter().map(|got| got.json()["type"].as_str().unwrap().to_owned()).collect();
    kinds.retain(|kind| kind != "job.progress");
    assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), 3, "{kinds:?}");
    assert!(kinds.iter().all(|kind| ["job.pending", "job.processing", "job.completed"].contains(&kind.as_str())));
    let shown = eventually("the call's row", async || {
        let shown = server.api.get(&format!("/v1/jobs/{id}")).await;
        (shown["webhook_delivery"]["status"] == "succeeded").then_some(shown)
    })
    .await;
    assert_eq!((&shown["progress"], &shown["webhook_delivery"]["attempts"]), (&json!(1.0), &json!(1)));
    assert_eq!(shown["result"]["corpus"], *corpus);
}

#[tokio::test]
async fn large_inputs_and_results_lie_in_the_bucket_that_the_environment_opens() {
    /// Their result is over 256 KiB.
    const PAIRS: usize = 6000;
    let s3 = S3::start().await;
    let (ca, endpoint) = (s3.certificates().authority(), s3.endpoint());
    let settings = format!("[blobs]\nurl = \"s3://{}\"\nendpoint = {endpoint:?}\n[egress]\nextra_ca = {ca:?}\n", S3::BUCKET);
    let key = [("AWS_ACCESS_KEY_ID", S3::KEY_ID), ("AWS_SECRET_ACCESS_KEY", S3::KEY)];
    let server = Server::at_in(Home::new(&settings), &key).await;
    let receiver = Receiver::answering(200).await;
    let id = submit(&server.api, evaluation(PAIRS, &receiver)).await;
    let call = receiver.wait_for(1).await[0].json();
    assert_eq!((&call["job_id"], &call["status"]), (&json!(id), &json!("completed")));
    assert!(call["results_url"].is_string(), "it is small");
    assert_eq!(results(&server.api, &call).await["pairs"].as_array().unwrap().len(), PAIRS);
    assert!(s3.count("jobs") > 0, "nothing was kept there");
    assert!(!server.home.data().join("blobs").exists(), "something was kept elsewhere");
    let said = format!("{}{}", server.process.output(), server.process.errors());
    assert!(!said.contains(S3::KEY), "{said}");
}

#[tokio::test]
async fn a_call_is_signed_and_made_as_its_sender_asked() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    for (secret, mark) in [("a-secret-of-its-own", "one"), ("another-secret", "two")] {
        let mut job = evaluation(3, &receiver);
        job["webhook"] = json!({
            "secret": secret, "headers": { "X-Mark": mark }, "payload": { "include": ["job_id", "status", "results"], "exclude": ["status"] },
        });
        let id = submit(&server.api, job).await;
        let got = eventually("the call", async || receiver.got().into_iter().find(|got| got.json()["job_id"] == json!(id))).await;
        assert_accepted(&got, secret);
        assert_eq!(got.header("x-mark"), mark);
        assert_eq!(got.json().as_object().unwrap().keys().collect::<Vec<_>>(), ["job_id", "results"]);
        let shown = server.api.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(shown["webhook_delivery"]["delivery_id"], got.header("webhook-id"));
        assert!(!shown.to_string().contains(secret), "shown where it must not be");
    }
    assert_eq!(server.api.get("/v1/webhooks").await["webhooks"], json!([]), "nobody registered anything");
}

#[tokio::test]
async fn bert_score_is_computed_with_the_model_that_is_configured() {
    let named = std::env::var_os("POSTRIDER_TEST_BERT").map(std::path::PathBuf::from);
    let model = named.unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-bert"));
    let server = Server::at(Home::new(&format!("[evaluate]\nbert_model = \"{}\"\n", model.display()))).await;
    let receiver = Receiver::answering(200).await;
    for idf in [false, true] {
        let job = json!({
            "pairs": [{ "candidate": "a cat sat", "references": ["a cat sat"] }, { "candidate": "tea", "references": ["a long war", "coffee"] }],
            "metrics": ["bert_score", "f1"], "bert_score": { "idf": idf }, "webhook_url": receiver.url(),
        });
        let id = submit(&server.api, job).await;
        let got = eventually("the call", async || receiver.got().into_iter().find(|got| got.json()["job_id"] == json!(id))).await;
        let results = got.json()["results"].clone();
        let of = |line: &Value| line["bert_score"]["f1"].as_f64().unwrap();
        let (same, other) = (of(&results["pairs"][0]), of(&results["pairs"][1]));
        assert!((same - 1.0).abs() < 1e-4 && (0.1..0.95).contains(&other), "{results}");
        assert!((of(&results["corpus"]) - (same + other) / 2.0).abs() < 1e-9);
        assert_eq!(results["pairs"][0]["f1"], 1.0);
    }
    let without = Server::at(Home::new(SETTINGS)).await;
    let job = json!({ "candidates": ["a"], "references": ["b"], "metrics": ["bert_score"] });
    let (status, refused) = without.api.ask(Method::POST, EVALUATE, job).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("evaluate.bert_model"), "{refused}");
}

#[tokio::test]
async fn kills_in_the_middle_of_jobs_end_every_job_once() {
    let mut server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let mut jobs = Vec::new();
    for _ in 0..12 {
        jobs.push(submit(&server.api, evaluation(700, &receiver)).await);
    }
    for _ in 0..2 {
        eventually("a running job", async || is_running(&server.api).await.then_some(())).await;
        server.process.kill();
        server.restart().await;
    }
    assert_all_ended(&server.api, &receiver, &jobs, 700).await;
}

#[tokio::test]
async fn a_worker_that_comes_back_to_more_than_it_may_hold_goes_on() {
    let mut server = Server::at(Home::new(&format!("{SETTINGS}[data]\npartitions = 1\n"))).await;
    let receiver = Receiver::answering(200).await;
    let mut jobs = vec![submit(&server.api, evaluation(1500, &receiver)).await];
    for _ in 0..200 {
        jobs.push(submit(&server.api, evaluation(20, &receiver)).await);
    }
    receiver.wait_until(20).await; // what it has read by now is more than a worker holds
    server.process.kill();
    server.restart().await;
    server.stop().await;
    server.restart().await;
    eventually("a call for every job", async || (calls(&receiver).len() == jobs.len()).then_some(())).await;
    let ended = calls(&receiver);
    assert!(jobs.iter().all(|job| ended[job].iter().all(|got| got.json()["status"] == "completed")));
}

#[tokio::test]
async fn orderly_ends_cost_a_job_nothing_but_time() {
    let mut server = Server::at(Home::new(&format!("{SETTINGS}[server]\ndrain_seconds = 0\n"))).await;
    let receiver = Receiver::answering(200).await;
    let job = submit(&server.api, evaluation(2000, &receiver)).await;
    // More often than a job is begun whose workers die.
    for _ in 0..4 {
        eventually("a running job", async || is_running(&server.api).await.then_some(())).await;
        server.stop().await;
        server.restart().await;
    }
    assert_all_ended(&server.api, &receiver, &[job], 2000).await;
}

#[tokio::test]
async fn a_hundred_thousand_pairs_are_scored_in_bounded_memory_and_a_million_are_refused() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let texts = |count: usize, kinds: usize| (0..count).map(|n| format!("pair {} of texts", n % kinds)).collect::<Vec<_>>();
    let job = |count: usize| json!({ "candidates": texts(count, 10), "references": texts(count, 5), "metrics": ["bleu", "chrf", "exact_match"], "webhook_url": receiver.url() });
    let before = server.process.memory("VmHWM");
    let id = submit(&server.api, job(100_000)).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!((&body["job_id"], &body["status"]), (&json!(id), &json!("completed")), "{body:#}");
    let link = body["results_url"].as_str().unwrap_or_else(|| panic!("a large result is a link: {body:#}"));
    let (_, result) = fetched(&server.api, link).await;
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(result["pairs"].as_array().unwrap().len(), 100_000);
    assert_eq!(result["corpus"]["exact_match"], 0.5, "of ten numbers five are the reference's");
    let more = (server.process.memory("VmHWM") - before) >> 20;
    assert!(more < 128, "{more} MiB");

    let (status, answer) = server.api.ask(Method::POST, "/api/v1/async/evaluate", job(1_000_000)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("100000"), "{answer}");
}

#[tokio::test]
async fn a_running_job_stops_when_it_is_canceled() {
    let server = Server::at(Home::new(SETTINGS)).await;
    a_running_job_is_canceled(&server.api).await;
}

#[tokio::test]
async fn a_job_that_takes_too_long_has_failed_with_the_reason() {
    for settings in ["[jobs]\ntimeout_seconds = 1\n", "[jobs.timeouts]\nevaluate = 1\n"] {
        let server = Server::at(Home::new(settings)).await;
        let receiver = failures().await;
        submit(&server.api, evaluation(20_000, &receiver)).await;
        assert_eq!(receiver.wait_for(1).await[0].json()["error"]["code"], "timeout");
    }
}

#[tokio::test]
async fn a_job_that_can_not_be_done_has_failed_with_the_reason() {
    let server = Server::start().await;
    let receiver = failures().await;
    let long = "x".repeat(400_000);
    let costly = json!({
        "pairs": [{ "candidate": "a", "references": ["b"] }, { "candidate": long, "references": ["y".repeat(400_000)] }],
        "metrics": ["levenshtein"], "webhook_url": receiver.url(),
    });
    let costly = submit(&server.api, costly).await;
    let error = receiver.wait_for(1).await[0].json()["error"].clone();
    assert_eq!(error["code"], "invalid_input");
    assert!(error["message"].as_str().unwrap().starts_with("pair 1 "), "{error}");
    let shown = server.api.get(&format!("/v1/jobs/{costly}")).await;
    assert_eq!((&shown["status"], &shown["error"]), (&json!("failed"), &error));
}

/// Takes nothing but what failed.
async fn failures() -> Receiver {
    Receiver::start(|got| if got.json()["status"] == "failed" { Reply::Status(200) } else { Reply::Status(500) }).await
}

#[tokio::test]
async fn higher_priorities_go_first() {
    let server = Server::at(Home::new("[evaluate]\nconcurrency = 1\n")).await;
    let receiver = Receiver::answering(200).await;
    let mut jobs = Vec::new();
    for priority in [9, 1, 5, 9] {
        // Each is so large that it runs alone.
        let mut job = evaluation(if jobs.is_empty() { 3000 } else { 400 }, &receiver);
        job["priority"] = json!(priority);
        jobs.push(submit(&server.api, job).await);
        // The first keeps the worker busy while the others come.
        eventually("a running job", async || is_running(&server.api).await.then_some(())).await;
    }
    receiver.wait_for(4).await;
    let ended: Vec<String> = receiver.got().iter().map(|got| got.json()["job_id"].as_str().unwrap().to_owned()).collect();
    let mut expected = [&jobs[0], &jobs[3], &jobs[2], &jobs[1]].map(String::clone).to_vec();
    let mut begun = Vec::new();
    for job in &jobs {
        begun.push((server.api.get(&format!("/v1/jobs/{job}")).await["started_at"].as_str().unwrap().to_owned(), job.clone()));
    }
    begun.sort();
    assert_eq!(begun.into_iter().map(|(_, job)| job).collect::<Vec<_>>(), expected);
    expected.sort();
    assert_eq!(ended.into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn from_the_command_line_a_job_is_submitted_followed_and_fetched() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("pairs.json");
    std::fs::write(&input, json!({ "pairs": [{ "candidate": "a b", "references": "a b" }], "metrics": ["exact_match"] }).to_string())
        .unwrap();
    let run = async |args: &[&str]| {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
            .args(args)
            .current_dir(folder.path())
            .env("POSTRIDER_URL", format!("http://{}", server.address))
            .env("POSTRIDER_API_KEY", crate::world::KEY)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap().trim().to_owned(), String::from_utf8(output.stderr).unwrap())
    };
    let input = format!("@{}", input.display());
    let (code, shown, errors) = run(&["job", "submit", "evaluate", "--input", &input, "--wait", "--json"]).await;
    assert_eq!(code, Some(0), "{errors}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["status"], &shown["result"]["corpus"]["exact_match"]), (&json!("completed"), &json!(1.0)));
    let id = shown["job_id"].as_str().unwrap();
    let (_, table, _) = run(&["job", "list", "--kind", "evaluate"]).await;
    assert!(table.contains(id) && table.contains("completed"), "{table}");
    let (_, table, _) = run(&["job", "show", id]).await;
    assert!(table.contains("\"exact_match\": 1.0"), "{table}");
    let (code, file, errors) = run(&["job", "download", id]).await;
    assert_eq!((code, file.as_str()), (Some(0), format!("{id}.json").as_str()), "{errors}");
    let fetched: Value = serde_json::from_slice(&std::fs::read(folder.path().join(&file)).unwrap()).unwrap();
    assert_eq!(fetched, shown["result"]);
    let (code, _, errors) = run(&["job", "cancel", id]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("has ended"), "{errors}");
    let long = folder.path().join("long.json");
    let pair = json!({ "candidate": "one two three ".repeat(20), "references": "four five six ".repeat(20) });
    std::fs::write(&long, json!({ "pairs": vec![pair; 20_000], "metrics": ["bleu", "chrf"] }).to_string()).unwrap();
    let (_, long, errors) = run(&["job", "submit", "evaluate", "--input", &format!("@{}", long.display())]).await;
    assert!(long.starts_with("job_"), "{long}{errors}");
    let (code, _, errors) = run(&["job", "cancel", &long]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(server.api.get(&format!("/v1/jobs/{long}")).await["status"], "canceled");
    let (code, _, errors) = run(&["job", "submit", "dance", "--input", "{}"]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("evaluate"), "{errors}");
}

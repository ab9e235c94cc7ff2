//! `postrider experiment run` and the kind behind it, from the file to the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use postrider_test_servers::{Asked, FakeUpstream, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::generate::{server, submit};
use crate::receiver::{Got, Receiver};
use crate::signatures::assert_accepted;
use crate::world::{PATIENCE, Server, eventually};

/// Answers with the persona that is asked for.
fn persona(asked: &Asked) -> Reply {
    persona_asked_for(asked).unwrap()
}

/// The persona that is asked for, if one is.
pub(crate) fn persona_asked_for(asked: &Asked) -> Option<Reply> {
    let prompt = asked.body["messages"].as_array().unwrap().get(1)?["content"].as_str().unwrap();
    let number = prompt.split_once("This is persona ")?.1.split(' ').next().unwrap();
    let persona = json!({
        "name": format!("Persona {number}"), "age": 30, "height_m": 1.7, "owns_land": true, "crops": ["teff", "coffee"], "mood": "extra",
    });
    Some(Reply::Say(persona.to_string()))
}

pub(crate) fn experiment(count: u32) -> Value {
    json!({
        "experiment_id": "exp-abc123", "name": "Farmers", "model": "m-1", "count": count, "prompt": "farmers",
        "fields": { "name": "text", "age": "integer", "crops": "list of text" },
    })
}

/// The events that a hook got, by type; each with the ids under which it came.
fn told(hook: &Receiver) -> BTreeMap<String, BTreeMap<String, Vec<Got>>> {
    let mut told: BTreeMap<String, BTreeMap<String, Vec<Got>>> = BTreeMap::new();
    for got in hook.got() {
        let kind = got.json()["event"].as_str().unwrap().to_owned();
        told.entry(kind).or_default().entry(got.header("webhook-id").to_owned()).or_default().push(got);
    }
    told
}

/// Runs the program on a file of this text.
async fn run(server: &Server, text: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("experiment.yaml");
    std::fs::write(&file, text).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["experiment", "run", "experiment.yaml"])
        .args(more)
        .current_dir(folder.path())
        .env("POSTRIDER_URL", format!("http://{}", server.address))
        .env("POSTRIDER_API_KEY", crate::world::KEY)
        .env("WEBHOOK_SECRET", "a-secret-of-its-own")
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The file that the documentation shows, with webhooks that exist.
fn file(hook: &Receiver, slack: &Receiver) -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/jobs.md")).unwrap();
    let (_, from) = docs.split_once("```yaml\n# experiment.yaml\n").unwrap();
    let (file, _) = from.split_once("```").unwrap();
    file.replace("https://example.com/webhook", &hook.url()).replace("https://hooks.slack.com/services/…", &slack.url())
}

/// The place of `text` in a file, as errors name it.
fn place(file: &str, text: &str) -> String {
    let before = &file[..file.find(text).unwrap()];
    let line = before.rsplit('\n').next().unwrap();
    format!("experiment.yaml:{}:{}: ", before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[tokio::test]
async fn a_file_becomes_personas_and_everyone_is_told_as_they_asked() {
    let upstream = FakeUpstream::start(|asked| match asked.n {
        // The model needs to be told twice, once.
        1 => Reply::Say("Here you are: Persona 2!".to_owned()),
        _ => persona(asked),
    })
    .await;
    let server = server(&upstream, "").await;
    let (hook, slack, wants) = (Receiver::answering(200).await, Receiver::answering(200).await, Receiver::answering(200).await);
    server.api.register(&wants, json!({ "events": ["persona.created"] })).await;
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("personas.ndjson");
    // Who names no events gets all of an experiment.
    let text = file(&hook, &slack).replacen("    events: [\"generation.completed\", \"generation.failed\"]\n", "", 1);
    let (code, shown, errors) = run(&server, &text, &["--output", out.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{shown}{errors}");
    assert!(shown.contains("persona 1 of 3") && shown.contains("persona 3 of 3") && shown.contains("persona count"), "{shown}");
    let lines: Vec<Value> = std::fs::read_to_string(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected =
        |n: usize| json!({ "name": format!("Persona {n}"), "age": 30, "height_m": 1.7, "owns_land": true, "crops": ["teff", "coffee"] });
    assert_eq!(lines, [expected(1), expected(2), expected(3)]);

    let completed =
        eventually("the end", async || told(&hook).remove("generation.completed")).await.into_values().next().unwrap().remove(0);
    assert_accepted(&completed, "a-secret-of-its-own");
    let body = completed.json();
    assert_eq!(body["experiment_id"], "exp-abc123");
    assert!(body["run_id"].as_str().unwrap().starts_with("run_") && body["timestamp"].is_string(), "{body}");
    let data = &body["data"];
    assert_eq!((&data["persona_count"], data["duration_seconds"].is_f64()), (&json!(3), true), "{data}");
    let cost = data["prompt_tokens"].as_f64().unwrap() * 2.5 + data["completion_tokens"].as_f64().unwrap() * 10.0;
    assert!(cost > 0.0 && (data["cost_usd"].as_f64().unwrap() - cost / 1e6).abs() < 1e-6, "{data}");
    let path = data["output_path"].as_str().unwrap();
    let made = server.api.request(Method::GET, path).send().await.unwrap();
    assert_eq!((made.status(), made.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "application/x-ndjson"), "{path}");
    assert_eq!(made.bytes().await.unwrap(), std::fs::read(&out).unwrap());

    eventually("all personas", async || told(&hook).get("persona.created").is_some_and(|all| all.len() == 3).then_some(())).await;
    let all = told(&hook);
    assert_eq!(all["generation.started"].len(), 1);
    assert!(all.keys().all(|kind| kind.starts_with("generation.") || kind.starts_with("persona.")), "{:?}", all.keys());
    let slack = &slack.wait_for(1).await[0].json();
    assert_eq!(slack.as_object().unwrap().keys().collect::<Vec<_>>(), ["text"]);
    assert!(slack["text"].as_str().unwrap().starts_with("*generation.completed* exp-abc123: "), "{slack}");
    let event = wants.wait_for(3).await[0].json();
    assert_eq!((&event["type"], &event["data"]["experiment_id"]), (&json!("persona.created"), &json!("exp-abc123")));
    assert!(event["data"]["persona"]["name"].as_str().unwrap().starts_with("Persona "));
    // What was wrong was said to the model.
    let asked = upstream.asked();
    assert!(asked[2].prompt().starts_with("No: that is not one JSON object"), "{}", asked[2].prompt());
    assert_eq!(asked.len(), 4);
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_before_anything_is_done() {
    let upstream = FakeUpstream::start(persona).await;
    let server = server(&upstream, "").await;
    let hook = Receiver::answering(200).await;
    let good = file(&hook, &hook);
    for (text, at, words) in [
        (good.replace("${WEBHOOK_SECRET}", "${POSTRIDER_NOT_SET}"), "\"${POSTRIDER_NOT_SET}\"", "POSTRIDER_NOT_SET"),
        (good.replace("prompt: ", "promt: "), "promt: ", "the nearest is `prompt`"),
        (good.replace("count: 3", "count: many"), "many", ""),
    ] {
        let (code, _, errors) = run(&server, &text, &[]).await;
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(&place(&text, at)) && errors.contains(words), "{errors}");
    }
    let (code, _, errors) = run(&server, &good.replace("count: 3", "count: 100000"), &[]).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("input.count") && errors.contains("1000"), "{errors}");
    assert_eq!((upstream.count(), hook.count()), (0, 0));
}

#[tokio::test]
async fn a_run_as_json_is_a_line_for_everything_and_fails_with_its_job() {
    let upstream = FakeUpstream::start(|asked| if asked.n == 0 { persona(asked) } else { Reply::Say("no".to_owned()) }).await;
    let server = server(&upstream, "").await;
    let hook = Receiver::answering(200).await;
    let (code, shown, errors) = run(&server, &file(&hook, &hook), &["--json"]).await;
    assert_eq!(code, Some(1), "{errors}");
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    assert_eq!((&last["status"], &last["error"]["code"]), (&json!("failed"), &json!("invalid_persona")));
    let failed = eventually("the end", async || hook.got().into_iter().find(|got| got.json()["event"] == "generation.failed")).await;
    assert_eq!(failed.json()["data"]["error"]["code"], "invalid_persona");
    assert_eq!(upstream.count(), 5, "a persona is asked for a bounded number of times");
}

#[tokio::test]
async fn a_worker_that_takes_over_goes_on_and_tells_nobody_twice() {
    let upstream = FakeUpstream::start(|asked| match persona(asked) {
        Reply::Say(text) => Reply::Slowly(Duration::from_millis(20), text),
        other => other,
    })
    .await;
    let mut server = server(&upstream, "").await;
    let hook = Receiver::answering(200).await;
    let webhooks = json!([{ "url": hook.url(), "events": ["generation.*", "persona.*"] }]);
    let id = submit(&server.api, json!({ "kind": "experiment", "input": experiment(30), "webhooks": webhooks })).await;
    let mut made = 0;
    for _ in 0..2 {
        eventually("more personas", async || (upstream.count() >= made + 5).then_some(())).await;
        server.process.kill();
        made = upstream.count();
        server.restart().await;
    }
    let shown = eventually("the end", async || {
        let shown = server.api.get(&format!("/v1/jobs/{id}")).await;
        assert_ne!(shown["status"], "failed", "{shown}");
        (shown["status"] == "completed").then_some(shown)
    })
    .await;
    assert_eq!(shown["result"]["persona_count"], 30);
    assert!(upstream.count() <= 34, "{} answers for 30 personas: what was there is not asked for again", upstream.count());
    let text = server.api.request(Method::GET, &format!("/v1/download/{id}")).send().await.unwrap().text().await.unwrap();
    let names: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].take()).collect();
    assert_eq!(names, (1..=30).map(|n| json!(format!("Persona {n}"))).collect::<Vec<_>>());
    eventually("all is told", async || {
        let told = told(&hook);
        (told.get("persona.created")?.len() == 30 && told.contains_key("generation.completed")).then_some(())
    })
    .await;
    let told = told(&hook);
    assert_eq!((told["generation.started"].len(), told["generation.completed"].len()), (1, 1));
    let indexes: BTreeSet<u64> = told["persona.created"].values().map(|got| got[0].json()["data"]["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes.len(), 30, "each persona under one id");
}

#[tokio::test]
async fn an_experiment_stops_when_it_is_canceled() {
    let upstream = FakeUpstream::start(|asked| if asked.n < 3 { persona(asked) } else { Reply::HangAfter(1) }).await;
    let server = server(&upstream, "").await;
    let hook = Receiver::answering(200).await;
    let webhooks = json!([{ "url": hook.url(), "events": ["generation.failed"] }]);
    let id = submit(&server.api, json!({ "kind": "experiment", "input": experiment(30), "webhooks": webhooks })).await;
    eventually("an upstream that hangs", async || (upstream.count() >= 4).then_some(())).await;
    let (status, _) = server.api.ask(Method::DELETE, &format!("/v1/jobs/{id}"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let told = hook.wait_for(1).await[0].json();
    assert_eq!((&told["event"], &told["data"]["error"]["code"]), (&json!("generation.failed"), &json!("canceled")));
    assert_eq!(server.api.get(&format!("/v1/jobs/{id}")).await["status"], "canceled");
}

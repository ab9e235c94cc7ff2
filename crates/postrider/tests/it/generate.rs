//! Jobs of the kind `generate`, against an upstream that speaks the real protocol and fails as real ones do.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_test_servers::{Asked, FakeUpstream, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::jobs::{calls, is_running};
use crate::receiver::{Got, Receiver};
use crate::signatures::assert_accepted;
use crate::world::{Api, Home, Server, eventually};

const UPSTREAM_KEY: &str = "sk-upstream-0123456789";

/// Has a server ask this upstream, and be less patient than it would be elsewhere.
pub(crate) fn settings(upstream: &FakeUpstream, more: &str) -> String {
    let upstream = format!("base_url = \"{}\"\napi_key = \"{UPSTREAM_KEY}\"\nidle_seconds = 2\ntries = 2", upstream.base_url());
    format!("[jobs]\nlease_seconds = 3\n[upstream]\n{upstream}\n{more}\n")
}

pub(crate) async fn server(upstream: &FakeUpstream, more: &str) -> Server {
    Server::at(Home::new(&settings(upstream, more))).await
}

pub(crate) async fn submit(api: &Api, job: Value) -> String {
    let (status, answer) = api.ask(Method::POST, "/v1/jobs", job).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

pub(crate) fn chat(prompt: &str, receiver: &Receiver) -> Value {
    let input = json!({ "model": "m-1", "messages": [{ "role": "user", "content": prompt }], "temperature": 0.3 });
    json!({ "kind": "generate", "input": input, "webhook_url": receiver.url() })
}

/// The events of a type that an endpoint got.
fn of_type(receiver: &Receiver, kind: &str) -> Vec<Got> {
    receiver.got().into_iter().filter(|got| got.header("x-webhook-event") == kind).collect()
}

pub(crate) fn ids(got: &[Got]) -> BTreeSet<String> {
    got.iter().map(|got| got.header("webhook-id").to_owned()).collect()
}

#[tokio::test]
async fn a_completion_is_told_as_programs_expect_it() {
    let upstream = FakeUpstream::saying("The response content").await;
    let server = server(&upstream, "").await;
    let (receiver, wants, hook) = (Receiver::answering(200).await, Receiver::answering(200).await, Receiver::answering(200).await);
    let endpoint = server.api.register(&wants, json!({ "events": ["completion.*"] })).await;
    let secret = server.api.get(&format!("/v1/webhooks/{}/secret", endpoint["id"].as_str().unwrap())).await["secret"].clone();
    let mut job = chat("say it", &receiver);
    job["webhooks"] = json!([{ "url": hook.url(), "events": ["completion.finished"], "secret": "hook-secret" }]);
    let id = submit(&server.api, job).await;
    let call = receiver.wait_for(1).await[0].json();
    assert_eq!(
        (&call["status"], &call["kind"], &call["result"]["content"]),
        (&json!("completed"), &json!("generate"), &json!("The response content"))
    );
    let finished = eventually("the event", async || of_type(&wants, "completion.finished").pop()).await;
    assert_accepted(&finished, secret.as_str().unwrap());
    let expected = json!({
        "completion_id": "chatcmpl-fake0", "model": "m-1", "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5,
        "finish_reason": "stop", "content": "The response content", "request_id": "req_fake_0",
    });
    assert_eq!(finished.json()["data"], expected);
    assert_eq!(finished.json()["type"], "completion.finished");
    let started = eventually("the first event", async || of_type(&wants, "completion.started").pop()).await;
    assert_eq!(started.json()["data"]["job_id"], json!(id));
    let hooked = &hook.wait_for(1).await[0];
    assert_accepted(hooked, "hook-secret");
    assert_eq!((&hooked.json()["type"], &hooked.json()["data"]), (&json!("completion.finished"), &expected));
    assert_eq!(hook.count(), 1, "it wants the end alone");
    let shown = server.api.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(shown["result"], expected);
    assert_eq!(upstream.asked()[0].headers["authorization"], format!("Bearer {UPSTREAM_KEY}"));
    let everything = format!("{shown} {}{}", server.process.output(), server.process.errors());
    assert!(!everything.contains(UPSTREAM_KEY) && !everything.contains("hook-secret"), "a secret is shown");
}

#[tokio::test]
async fn a_text_that_grows_is_told_in_pieces() {
    let text = "one two three four five six seven eight nine ten eleven twelve";
    let upstream = FakeUpstream::start(move |_| Reply::Slowly(Duration::from_millis(250), text.to_owned())).await;
    let server = server(&upstream, "").await;
    let (receiver, wants) = (Receiver::answering(200).await, Receiver::answering(200).await);
    server.api.register(&wants, json!({ "events": ["completion.streaming"] })).await;
    submit(&server.api, chat("count", &receiver)).await;
    receiver.wait_for(1).await;
    let mut pieces: Vec<Value> = wants.wait_for(1).await.iter().map(|got| got.json()["data"].clone()).collect();
    pieces.sort_by_key(|piece| piece["offset"].as_u64());
    let mut whole = String::new();
    for piece in &pieces {
        assert_eq!(piece["offset"], whole.len(), "{pieces:?}");
        whole.push_str(piece["content"].as_str().unwrap());
    }
    assert!(!whole.is_empty() && text.starts_with(&whole), "{whole}");
}

#[tokio::test]
async fn what_an_upstream_fails_of_is_what_the_job_fails_of() {
    let upstream = FakeUpstream::start(|asked: &Asked| match asked.prompt() {
        "hang" => Reply::Hang,
        "cut" => Reply::CutAfter(3),
        "limited" => Reply::Limited("0".to_owned()),
        "stranger" => Reply::Status(401),
        "wrong" => Reply::Status(400),
        "garbage" => Reply::Garbage,
        _ => Reply::Status(500),
    })
    .await;
    let server = server(&upstream, "").await;
    let (receiver, wants) = (Receiver::answering(200).await, Receiver::answering(200).await);
    server.api.register(&wants, json!({ "events": ["completion.failed"] })).await;
    for (prompt, code) in [
        ("hang", "upstream_timeout"),
        ("cut", "upstream_cut"),
        ("limited", "upstream_rate_limited"),
        ("stranger", "upstream_unauthorized"),
        ("wrong", "upstream_refused"),
        ("garbage", "upstream_malformed"),
        ("broken", "upstream_failed"),
    ] {
        let id = submit(&server.api, chat(prompt, &receiver)).await;
        let call = eventually("the call", async || calls(&receiver).remove(&id)).await[0].json();
        assert_eq!((&call["status"], &call["error"]["code"]), (&json!("failed"), &json!(code)), "{prompt}: {call}");
        let told = eventually("the event", async || wants.got().into_iter().find(|got| got.json()["data"]["job_id"] == json!(id))).await;
        assert_eq!(told.json()["data"]["error"]["code"], code);
        assert!(!call.to_string().contains(&upstream.base_url()), "the upstream's address is the operator's");
    }
    let upstream = FakeUpstream::start(|asked| if asked.n == 0 { Reply::CutAfter(2) } else { Reply::Say("well then".to_owned()) }).await;
    let server = self::server(&upstream, "").await;
    let id = submit(&server.api, chat("again", &receiver)).await;
    let call = eventually("the call", async || calls(&receiver).remove(&id)).await[0].json();
    assert_eq!((&call["status"], &call["result"]["content"]), (&json!("completed"), &json!("well then")));
}

#[tokio::test]
async fn kills_in_the_middle_of_completions_end_each_once() {
    let text = "one two three four five six seven eight";
    let upstream = FakeUpstream::start(move |_| Reply::Slowly(Duration::from_millis(100), text.to_owned())).await;
    let mut server = server(&upstream, "").await;
    let (receiver, wants) = (Receiver::answering(200).await, Receiver::answering(200).await);
    server.api.register(&wants, json!({ "events": ["completion.started", "completion.finished"] })).await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(submit(&server.api, chat("count", &receiver)).await);
    }
    for _ in 0..2 {
        let asked = upstream.count();
        eventually("a running job", async || is_running(&server.api).await.then_some(())).await;
        eventually("a question to the upstream", async || (upstream.count() > asked || asked >= jobs.len()).then_some(())).await;
        server.process.kill();
        server.restart().await;
    }
    eventually("a call for every job", async || (calls(&receiver).len() == jobs.len()).then_some(())).await;
    for (job, calls) in calls(&receiver) {
        assert_eq!(ids(&calls).len(), 1, "{job} has ended more than once");
        assert_eq!((&calls[0].json()["status"], &calls[0].json()["result"]["content"]), (&json!("completed"), &json!(text)));
    }
    for kind in ["completion.started", "completion.finished"] {
        eventually("an event for every job", async || (ids(&of_type(&wants, kind)).len() >= jobs.len()).then_some(())).await;
        assert_eq!(ids(&of_type(&wants, kind)).len(), jobs.len(), "{kind}: one id for each job, whoever tells it");
    }
}

#[tokio::test]
async fn a_completion_stops_when_it_is_canceled() {
    let upstream = FakeUpstream::start(|asked| match asked.prompt() {
        "long" => Reply::Slowly(Duration::from_millis(100), "word ".repeat(5000)),
        _ => Reply::Say("short".to_owned()),
    })
    .await;
    let server = server(&upstream, "").await;
    let (receiver, wants) = (Receiver::answering(200).await, Receiver::answering(200).await);
    server.api.register(&wants, json!({ "events": ["completion.failed", "completion.finished"] })).await;
    let id = submit(&server.api, chat("long", &receiver)).await;
    eventually("a question to the upstream", async || (upstream.count() > 0).then_some(())).await;
    let (status, _) = server.api.ask(Method::DELETE, &format!("/v1/jobs/{id}"), Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(receiver.wait_for(1).await[0].json()["status"], "canceled");
    let told = &wants.wait_for(1).await[0].json();
    assert_eq!((&told["type"], &told["data"]["error"]["code"]), (&json!("completion.failed"), &json!("canceled")));
    let other = submit(&server.api, chat("else", &receiver)).await;
    eventually("another job's call", async || calls(&receiver).remove(&other)).await;
    assert_eq!(server.api.get(&format!("/v1/jobs/{id}")).await["status"], "canceled");
}

#[tokio::test]
async fn without_an_upstream_its_kinds_alone_are_unavailable() {
    let server = Server::at(Home::new("[server]\nadmin_listen = \"127.0.0.1:0\"\n")).await;
    let receiver = Receiver::answering(200).await;
    let (status, refused) = server.api.ask(Method::POST, "/v1/jobs", chat("a", &receiver)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused["detail"].as_str().unwrap().contains("upstream.base_url"), "{refused}");
    let admin = eventually("the admin address", async || {
        let output = server.process.output();
        output.split_once("admin on http://").and_then(|(_, rest)| rest.split_once('\n')).map(|(address, _)| address.to_owned())
    })
    .await;
    let ready: Value = reqwest::get(format!("http://{admin}/readyz")).await.unwrap().json().await.unwrap();
    let kind = |name: &str| ready["jobs"].as_array().unwrap().iter().find(|kind| kind["name"] == name).unwrap().clone();
    assert_eq!((&ready["ready"], &kind("evaluate")["state"]), (&json!(true), &json!("ok")));
    for name in ["generate", "experiment"] {
        assert_eq!(kind(name)["state"], "unavailable");
        assert!(kind(name)["reason"].as_str().unwrap().contains("upstream.base_url"));
    }
}

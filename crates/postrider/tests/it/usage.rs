//! The tokens that a tenant may use in a month: what it is told as they run out, and what fails then.

use postrider_test_servers::{Asked, FakeUpstream, Reply};
use serde_json::{Value, json};

use crate::batch;
use crate::experiment;
use crate::generate::{ids, settings, submit};
use crate::jobs::calls;
use crate::receiver::{Got, Receiver};
use crate::world::{Api, Home, Server, eventually};

/// What a completion takes: its prompt has two words, its answer three.
const EACH: u64 = 5;
pub(crate) const LIMIT: u64 = 200;

pub(crate) async fn upstream() -> FakeUpstream {
    let other = || Reply::Say("what it says".to_owned());
    FakeUpstream::start(move |asked: &Asked| experiment::persona_asked_for(asked).unwrap_or_else(other)).await
}

/// As [`settings`], with so many tokens.
pub(crate) fn limited(upstream: &FakeUpstream, tokens: u64) -> String {
    settings(upstream, &format!("monthly_tokens = {tokens}"))
}

fn chat(receiver: &Receiver) -> Value {
    json!({
        "kind": "generate", "webhook_url": receiver.url(),
        "input": { "model": "m-1", "messages": [{ "role": "user", "content": "say it" }] },
    })
}

/// Has completions of so many tokens made, all at once.
pub(crate) async fn used(api: &Api, tokens: u64) {
    let receiver = Receiver::answering(200).await;
    let count = tokens / EACH;
    for _ in 0..count {
        submit(api, chat(&receiver)).await;
    }
    let calls = eventually("a call for every job", async || Some(calls(&receiver)).filter(|calls| calls.len() as u64 == count)).await;
    for call in calls.values().flatten() {
        assert_eq!(call.json()["status"], "completed", "{:?}", call.json());
    }
}

/// What is told of a type, once it is: all under one id.
pub(crate) async fn alarm(wants: &Receiver, kind: &str) -> Got {
    let told = eventually(&format!("{kind} is told"), async || {
        let told: Vec<Got> = wants.got().into_iter().filter(|got| got.header("x-webhook-event") == kind).collect();
        (!told.is_empty()).then_some(told)
    })
    .await;
    assert_eq!(ids(&told).len(), 1, "{kind} was told more than once");
    told[0].clone()
}

/// Nothing that asks the upstream is done any more, and its sender hears why.
pub(crate) async fn assert_all_is_used(api: &Api, upstream: &FakeUpstream) {
    let (asked, receiver) = (upstream.count(), Receiver::answering(200).await);
    let experiment = json!({ "kind": "experiment", "input": experiment::experiment(3), "webhook_url": receiver.url() });
    for job in [chat(&receiver), experiment] {
        submit(api, job).await;
    }
    for got in receiver.wait_for(2).await {
        let call = got.json();
        assert_eq!((&call["status"], &call["error"]["code"]), (&json!("failed"), &json!("usage_limit_exceeded")), "{call}");
        assert!(call["error"]["message"].as_str().unwrap().contains("upstream.monthly_tokens"), "{call}");
    }
    let batch = batch::submitted(api, batch::line("one", "say it") + &batch::line("two", "say it")).await;
    let ended = batch::until(api, &batch, "completed").await;
    let failures = batch::lines(api, &ended["error_file_id"]).await;
    let codes: Vec<&Value> = failures.values().map(|line| &line["error"]["code"]).collect();
    assert_eq!(codes, [&json!("usage_limit_exceeded"); 2], "{failures:?}");
    assert_eq!(upstream.count(), asked, "the upstream was asked for more");
}

#[tokio::test]
async fn a_tenant_is_told_as_its_tokens_run_out_and_a_kill_forgets_none() {
    let upstream = upstream().await;
    let mut server = Server::at(Home::new(&limited(&upstream, LIMIT))).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["usage.*"] })).await;
    used(&server.api, 155).await;
    assert_eq!(wants.count(), 0);
    server.process.kill();
    server.restart().await;
    used(&server.api, EACH).await;
    let warning = alarm(&wants, "usage.limit_warning").await.json();
    assert!(warning["data"]["reset_at"].as_str().unwrap().ends_with("-01T00:00:00.000Z"), "{warning}");
    let mut data = warning["data"].clone();
    data.as_object_mut().unwrap().remove("reset_at");
    assert_eq!(data, json!({ "metric": "tokens", "current_usage": 160, "limit": LIMIT, "percentage": 80 }));
    // Lines of batches count as well.
    let lines: String = (0..7).map(|n| batch::line(&n.to_string(), "say it")).collect();
    let batch = batch::submitted(&server.api, lines).await;
    batch::until(&server.api, &batch, "completed").await;
    used(&server.api, EACH).await;
    let exceeded = alarm(&wants, "usage.limit_exceeded").await.json();
    assert_eq!((&exceeded["data"]["current_usage"], &exceeded["data"]["percentage"]), (&json!(LIMIT), &json!(100)));
    assert_all_is_used(&server.api, &upstream).await;
    assert_eq!(wants.count(), 2, "each is told once");
    // More is allowed.
    std::fs::write(server.home.config(), limited(&upstream, LIMIT * 2)).unwrap();
    server.stop().await;
    server.restart().await;
    let receiver = Receiver::answering(200).await;
    let experiment = json!({ "kind": "experiment", "input": experiment::experiment(3), "webhook_url": receiver.url() });
    let job = submit(&server.api, experiment).await;
    assert_eq!(receiver.wait_for(1).await[0].json()["status"], "completed");
    let shown = server.api.get(&format!("/v1/jobs/{job}")).await;
    let tokens = shown["result"]["prompt_tokens"].as_u64().unwrap() + shown["result"]["completion_tokens"].as_u64().unwrap();
    assert!(tokens > 0 && tokens < LIMIT, "{shown}");
    used(&server.api, EACH).await;
}

//! What is logged: fields to find things by, nothing that nobody may see, and no flood.

use reqwest::Method;
use serde_json::{Value, json};

use crate::collector::{Collector, send};
use crate::jobs::calls;
use crate::load::event;
use crate::receiver::{Receiver, Reply};
use crate::world::{Home, KEY, Process, Server, eventually};

/// What stands in all that must not be logged.
const MARK: &str = "geheim-";

fn lines(process: &Process) -> Vec<Value> {
    let text = process.errors();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The lines that say `message`, once there are `count`.
async fn said(server: &Server, message: &str, count: usize) -> Vec<Value> {
    eventually(message, async || {
        // The last line may not be whole yet.
        let text = server.process.errors();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found: Vec<Value> = lines.filter(|line| line["message"] == message).collect();
        (found.len() >= count).then_some(found)
    })
    .await
}

#[tokio::test]
async fn failures_are_logged_with_what_they_are_found_by() {
    let server = Server::at(Home::new("[tracing]\nformat = \"json\"\n")).await;
    let (failing, closing) = (Receiver::answering(503).await, Receiver::start(|_| Reply::Close).await);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut endpoints = Vec::new();
    for (receiver, kind) in [(&failing, "a.b"), (&closing, "c.d")] {
        endpoints.push(server.api.register(receiver, json!({ "events": [kind], "retry": { "schedule": [1] } })).await);
    }
    let sent = send(&server.api, "a.b", &[("traceparent", &format!("00-{trace}-00f067aa0ba902b7-00"))]).await;
    let delivery = server.api.until_delivery_is(&sent, "failed").await;
    let found = said(&server, "an attempt failed", 2).await;
    for (line, attempt) in found.iter().zip(1..) {
        assert_eq!((&line["level"], &line["tenant"], &line["event"]), (&json!("INFO"), &json!("default"), &json!(sent)), "{line}");
        assert_eq!((&line["delivery"], &line["endpoint"]), (&delivery["id"], &endpoints[0]["id"]));
        assert_eq!((&line["attempt"], &line["status"], &line["trace"]), (&json!(attempt), &json!(503), &json!(trace)));
        assert_eq!(line["next_attempt_at"].is_string(), attempt == 1);
    }
    let dead = &said(&server, "a delivery was given up", 1).await[0];
    assert_eq!((&dead["level"], &dead["delivery"], &dead["attempts"]), (&json!("WARN"), &delivery["id"], &json!(2)));
    send(&server.api, "c.d", &[]).await;
    let closed = &said(&server, "an attempt failed", 3).await[2];
    assert_eq!((&closed["failure"], &closed["status"]), (&json!("closed"), &Value::Null), "{closed}");

    server.api.send_all((0..500).map(|n| event("a.b", n)).collect()).await;
    let opened = &said(&server, "an endpoint fails; nothing is sent to it for a while", 1).await[0];
    assert_eq!((&opened["endpoint"], &opened["tenant"]), (&endpoints[0]["id"], &json!("default")), "{opened}");
}

#[tokio::test]
async fn a_dead_endpoint_does_not_flood_the_log() {
    let server = Server::at(Home::new("[server]\nworkers = 1\n[tracing]\nformat = \"json\"\n")).await;
    let dead = Receiver::answering(410).await;
    // Each a dead endpoint of its own, given up at once.
    let events = (0..1000).map(|n| json!({ "type": "a.b", "data": {}, "webhook_url": format!("{}/{n}", dead.url()) }));
    server.api.send_all(events.collect()).await;
    dead.wait_until(1000).await;
    // Later ones say what was left out before.
    let counted = async || {
        let request = json!({ "type": "a.b", "data": {}, "webhook_url": dead.url() });
        server.api.send(request).await;
        let failed: Vec<Value> = said(&server, "an attempt failed", 1).await;
        let left: u64 = failed.iter().map(|line| line["left_out"].as_u64().unwrap()).sum();
        (left + failed.len() as u64 >= 1000).then_some(failed.len())
    };
    let told = eventually("what was not said is counted", counted).await;
    assert!(told < 500, "{told} lines");
}

#[tokio::test]
async fn secrets_and_payloads_reach_no_log() {
    let collector = Collector::start().await;
    let settings =
        format!("[server]\nadmin_listen = \"127.0.0.1:0\"\n[tracing]\nfilter = \"trace\"\nformat = \"json\"\n{}", collector.settings(1.0));
    let mut server = Server::at(Home::new(&settings)).await;
    let api = &server.api;
    let body = || format!("{MARK}answer");
    let flaky = Receiver::start(|got| if got.number("x-webhook-attempt") == 1 { Reply::Status(500) } else { Reply::Status(200) }).await;
    let (closing, called) = (Receiver::start(|_| Reply::Close).await, Receiver::start(move |_| Reply::With(200, "x-answer", body())).await);
    let mut secrets = vec![MARK.to_owned(), KEY.to_owned()];
    for (receiver, kind) in [(&flaky, "a.flaky"), (&closing, "a.closing")] {
        let url = format!("{}?token={MARK}url", receiver.url());
        let settings = json!({
            "url": url, "events": [kind], "retry": { "schedule": [1] }, "secret": format!("{MARK}secret"),
            "headers": { "authorization": format!("Bearer {MARK}header") }, "description": format!("{MARK}words"),
            "metadata": { "m": format!("{MARK}metadata") },
        });
        let endpoint = api.post("/v1/webhooks", settings).await;
        let path = format!("/v1/webhooks/{}", endpoint["id"].as_str().unwrap());
        let data = json!({ "type": kind, "data": { "card": format!("{MARK}payload") }, "metadata": { "m": format!("{MARK}metadata") } });
        let sent = api.send(data.clone()).await;
        let fate = if kind == "a.flaky" { "succeeded" } else { "failed" };
        let delivery = api.until_delivery_is(&sent, fate).await;
        let rotated = api.post(&format!("{path}/rotate-secret"), json!({})).await;
        secrets.push(rotated["secret"].as_str().unwrap().to_owned());
        api.post(&format!("{path}/test"), json!({})).await;
        api.post(&format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap()), json!({})).await;
        let again = api.send(data).await;
        api.until_delivery_is(&again, fate).await;
    }
    secrets.push(api.get("/v1/signing-secret").await["secret"].as_str().unwrap().to_owned());
    secrets.push(api.post("/v1/signing-secret/rotate", json!({})).await["secret"].as_str().unwrap().to_owned());
    let wrong = format!("{{\"type\": 7, \"data\": \"{MARK}payload\"");
    let (status, _) =
        crate::world::answer(api.request(Method::POST, "/v1/events").header("content-type", "application/json").body(wrong)).await;
    assert!(status.is_client_error());
    crate::world::answer(api.without_key(Method::GET, "/v1/events").bearer_auth(format!("{MARK}key"))).await;

    let pairs = json!([{ "candidate": format!("{MARK}text"), "references": [format!("{MARK}reference")] }]);
    let callbacks = Receiver::answering(200).await;
    let [url, callback] = [&called, &callbacks].map(|receiver| format!("{}?token={MARK}url", receiver.url()));
    for (kind, input) in [
        ("evaluate", json!({ "pairs": pairs, "metrics": ["bleu"] })),
        ("http", json!({ "url": url, "headers": { "authorization": format!("Bearer {MARK}header") }, "body": format!("{MARK}body") })),
        ("http", json!({ "url": format!("{}?token={MARK}url", closing.url()), "timeout_seconds": 1 })),
    ] {
        let job = json!({
            "kind": kind, "input": input, "webhook_url": callback, "metadata": { "m": format!("{MARK}metadata") },
            "webhook": { "secret": format!("{MARK}callback"), "headers": { "x-mine": format!("{MARK}header") } },
        });
        let accepted = api.post("/v1/jobs", job).await;
        let id = accepted["job_id"].as_str().unwrap();
        if input["timeout_seconds"].is_null() {
            eventually("the job's call", async || calls(&callbacks).remove(id)).await;
        } else {
            eventually("the job runs", async || (api.get(&format!("/v1/jobs/{id}")).await["status"] == "processing").then_some(())).await;
            api.delete(&format!("/v1/jobs/{id}")).await;
        }
    }
    server.stop().await;
    for level in ["TRACE", "DEBUG", "INFO", "WARN"] {
        assert!(lines(&server.process).iter().any(|line| line["level"] == level), "nothing is logged at {level}");
    }
    let all = server.process.errors() + &collector.said();
    assert!(all.contains("ingest event") && all.contains("run job"), "spans are missing");
    let leaks: Vec<&str> = all.lines().filter(|line| secrets.iter().any(|secret| line.contains(secret.as_str()))).collect();
    assert!(leaks.is_empty(), "{} lines, such as {}", leaks.len(), leaks[0]);
}

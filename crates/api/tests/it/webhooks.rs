//! Managing endpoints.

use postrider_core::attempt::DeliveryState;
use postrider_core::id::{DeliveryId, Uid};
use postrider_core::record::{Command, Envelope};
use postrider_core::secret::Secret;
use postrider_core::sign::{verify_plain, verify_standard};
use postrider_core::time::Time;
use postrider_ingest::clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{World, ok, problem, soon};

#[tokio::test]
async fn an_endpoint_lives_from_its_registration_to_its_deletion() {
    let world = World::new().await;
    let given = json!({
        "url": "https://a.example/hook", "events": ["completion.finished", "batch.*"], "description": "d", "environment": "e",
        "headers": {"X-Team": "a"}, "timeout": 20, "rate_limit": 5, "max_in_flight": 2, "ordering": "key",
        "retry": {"schedule": [1, 60]}, "metadata": {"owner": {"name": "o"}},
    });
    let created = ok(world.post("/v1/webhooks", given.clone()).send().await.unwrap(), 201).await;
    for (field, value) in given.as_object().unwrap() {
        assert_eq!(created[field], *value, "{field}");
    }
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!((&created["status"], created.get("disabled_reason")), (&json!("enabled"), None));
    let path = format!("/v1/webhooks/{}", created["id"].as_str().unwrap());
    let shown = ok(world.get(&path).send().await.unwrap(), 200).await;
    assert_eq!((shown.get("secret"), &shown["created_at"]), (None, &created["created_at"]));
    assert_eq!(ok(world.get(&format!("{path}/secret")).send().await.unwrap(), 200).await, json!({"secret": created["secret"]}));

    let patch =
        json!({"url": "https://b.example/", "timeout": null, "headers": {"X-Team": null, "X-B": "1"}, "metadata": {"owner": {"x": 1}}});
    let changed = ok(world.request("PATCH", &path).json(&patch).send().await.unwrap(), 200).await;
    assert_eq!((&changed["url"], &changed["timeout"]), (&json!("https://b.example/"), &Value::Null));
    assert_eq!((&changed["headers"], &changed["ordering"]), (&json!({"X-B": "1"}), &json!("key")));
    assert_eq!(changed["metadata"], json!({"owner": {"name": "o", "x": 1}}));

    let disabled = ok(world.request("POST", &format!("{path}/disable")).send().await.unwrap(), 200).await;
    assert_eq!((&disabled["status"], &disabled["disabled_reason"]), (&json!("disabled"), &json!("disabled by its owner")));
    let enabled = ok(world.request("POST", &format!("{path}/enable")).send().await.unwrap(), 200).await;
    assert_eq!(enabled["status"], "enabled");

    let deleted = world.request("DELETE", &path).send().await.unwrap();
    assert_eq!((deleted.status().as_u16(), deleted.headers().contains_key("x-request-id")), (204, true));
    problem(world.get(&path).send().await.unwrap(), 404).await;
    problem(world.request("DELETE", &path).send().await.unwrap(), 404).await;
    problem(world.request("PATCH", &path).json(&json!({})).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let world = World::new().await;
    let wrong = json!({
        "url": "ftp://a/", "events": ["a", "b..c", 3], "secret": "a b", "description": 1, "environment": "",
        "headers": {"host": "a", "X-Webhook-Event": "a", "webhook-id": "a", "a b": "c", "ok": "\n", "Content-Length": "1"},
        "timeout": 0, "rate_limit": 100_001, "max_in_flight": 257, "ordering": "fifo", "retry": {"schedule": [0]},
        "metadata": [], "enabled": "yes", "colour": "red",
    });
    let (slug, mut fields) = problem(world.post("/v1/webhooks", wrong).send().await.unwrap(), 422).await;
    fields.sort();
    let expected = [
        "colour",
        "description",
        "enabled",
        "environment",
        "events.1",
        "events.2",
        "headers.Content-Length",
        "headers.X-Webhook-Event",
        "headers.a b",
        "headers.host",
        "headers.ok",
        "headers.webhook-id",
        "max_in_flight",
        "metadata",
        "ordering",
        "rate_limit",
        "retry.schedule",
        "secret",
        "timeout",
        "url",
    ];
    assert_eq!((slug.as_str(), fields), ("invalid", expected.map(str::to_owned).to_vec()));
    for (given, field) in [
        (json!({}), "url"),
        (json!({"url": "http://a.example", "events": []}), "events"),
        (json!({"url": "http://a.example", "retry": {"schedule": [1], "max_attempts": 1}}), "retry"),
        (json!({"url": "http://a.example", "retry": {"max_attempts": 51}}), "retry.max_attempts"),
        (json!({"url": "http://a.example", "metadata": {"x": "y".repeat(17_000)}}), "metadata"),
    ] {
        assert_eq!(problem(world.post("/v1/webhooks", given).send().await.unwrap(), 422).await.1, [field]);
    }
}

#[tokio::test]
async fn a_refused_patch_changes_nothing() {
    let world = World::new().await;
    let path = format!("/v1/webhooks/{}", world.endpoint("https://a.example/").await);
    let before = ok(world.get(&path).send().await.unwrap(), 200).await;
    for (patch, fields) in [
        (json!({"timeout": 5, "colour": "red"}), ["colour"]),
        (json!({"url": null}), ["url"]),
        (json!({"secret": "new"}), ["secret"]),
        (json!({"id": "ep_1"}), ["id"]),
    ] {
        assert_eq!(problem(world.request("PATCH", &path).json(&patch).send().await.unwrap(), 422).await.1, fields);
    }
    assert_eq!(ok(world.get(&path).send().await.unwrap(), 200).await, before);
}

#[tokio::test]
async fn endpoints_are_listed_page_by_page() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(world.endpoint(&format!("https://a.example/{n}")).await);
    }
    let (mut found, mut path) = (Vec::new(), "/v1/webhooks?limit=2".to_owned());
    loop {
        let page = ok(world.get(&path).send().await.unwrap(), 200).await;
        found.extend(page["webhooks"].as_array().unwrap().iter().map(|webhook| webhook["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/webhooks?limit=2&after={next}");
    }
    assert_eq!(found, ids);
}

#[tokio::test]
async fn secrets_are_given_rotated_and_shown() {
    let world = World::new().await;
    let given = json!({"url": "https://a.example/", "secret": "whsec_my_secret_key"});
    let created = ok(world.post("/v1/webhooks", given).send().await.unwrap(), 201).await;
    assert_eq!(created["secret"], "whsec_my_secret_key");
    let path = format!("/v1/webhooks/{}", created["id"].as_str().unwrap());
    let rotated = ok(world.request("POST", &format!("{path}/rotate-secret")).send().await.unwrap(), 200).await;
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_") && rotated["previous_expires_at"].is_string());
    let again = world.post(&format!("{path}/rotate-secret"), json!({"secret": "mine", "grace_seconds": 0}));
    assert_eq!(ok(again.send().await.unwrap(), 200).await, json!({"secret": "mine", "previous_expires_at": null}));
    assert_eq!(ok(world.get(&format!("{path}/secret")).send().await.unwrap(), 200).await, json!({"secret": "mine"}));

    let signing = ok(world.get("/v1/signing-secret").send().await.unwrap(), 200).await;
    let rotated = ok(world.request("POST", "/v1/signing-secret/rotate").send().await.unwrap(), 200).await;
    assert_ne!(rotated["secret"], signing["secret"]);
    assert_eq!(ok(world.get("/v1/signing-secret").send().await.unwrap(), 200).await["secret"], rotated["secret"]);
}

/// A receiver that answers one request, and says what it got.
async fn receive_one(listener: TcpListener, answer: &str) -> (String, String) {
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
            if body.len() >= length {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return (head.to_owned(), body.to_owned());
            }
        }
        assert_ne!(soon(stream.read_buf(&mut got)).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_test_delivery_is_signed_like_a_real_one_and_judged() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let given = json!({"url": url, "events": ["order.*", "order.created"], "headers": {"X-Mine": "1"}});
    let created = ok(world.post("/v1/webhooks", given).send().await.unwrap(), 201).await;
    let path = format!("/v1/webhooks/{}/test", created["id"].as_str().unwrap());
    let answer = "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 2\r\n\r\nno";
    let (sent, (head, body)) = tokio::join!(world.post(&path, json!({"data": {"n": 1}})).send(), receive_one(listener, answer));
    let sample = ok(sent.unwrap(), 200).await;

    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    let secret = Secret::new(created["secret"].as_str().unwrap());
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let (id, signature) = (header("webhook-id"), header("webhook-signature"));
    assert_eq!(verify_standard(&secret, id, timestamp, body.as_bytes(), signature, Time(timestamp * 1000)), Ok(()));
    assert_eq!(verify_plain(&secret, body.as_bytes(), header("x-webhook-signature")), Ok(()));
    assert_eq!((header("x-mine"), header("x-webhook-event")), ("1", "order.created"));
    assert_eq!(sample["request"]["body"], body);
    assert_eq!(sample["request"]["headers"]["webhook-id"], id);
    assert_eq!((&sample["response"]["status_code"], &sample["response"]["body"]), (&json!(302), &json!("no")));
    assert_eq!(sample["verdict"]["ok"], false);
    let wrong: Vec<_> = sample["verdict"]["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert!(wrong.iter().any(|check| check["name"] == "redirect"), "{wrong:?}");

    let refused = ok(world.request("POST", &path).send().await.unwrap(), 200).await;
    assert_eq!((&refused["response"]["status_code"], &refused["verdict"]["ok"]), (&Value::Null, &json!(false)));
    assert_eq!(problem(world.post(&path, json!({"type": "a b"})).send().await.unwrap(), 422).await.1, ["type"]);
}

#[tokio::test]
async fn what_failed_is_replayed_page_by_page() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/").await;
    for n in 0..4 {
        let id = world.event(json!({"type": "a", "data": n})).await;
        let delivery = DeliveryId { event: id.parse().unwrap(), endpoint: endpoint.parse().unwrap() };
        let state = if n == 0 { DeliveryState::Succeeded } else { DeliveryState::Failed };
        world.write_attempt(delivery, 1, "a", 500, state).await;
    }
    let path = format!("/v1/webhooks/{endpoint}/replay");
    let since = "2020-01-01T00:00:00Z";
    let first = ok(world.post(&path, json!({"since": since, "limit": 2})).send().await.unwrap(), 202).await;
    assert_eq!(first["replayed"], 2);
    let rest = ok(world.post(&path, json!({"since": since, "after": first["next"]})).send().await.unwrap(), 202).await;
    assert_eq!(rest, json!({"replayed": 1, "next": null}));
    assert_eq!(ok(world.post(&path, json!({"since": since, "status": "all"})).send().await.unwrap(), 202).await["replayed"], 4);
    let later = json!({"since": "2100-01-01T00:00:00Z"});
    assert_eq!(ok(world.post(&path, later).send().await.unwrap(), 202).await, json!({"replayed": 0, "next": null}));
    assert_eq!(problem(world.post(&path, json!({"status": "lost"})).send().await.unwrap(), 422).await.1, ["since", "status"]);
    let records = world.records(postrider_backend::log::Topic::Deliveries).await;
    let replays = records.iter().filter(|record| Envelope::decode(&record.meta).unwrap().command == Command::Replay);
    assert_eq!(replays.filter(|record| !record.payload.is_empty()).count(), 7);
}

#[tokio::test]
async fn attempts_and_statistics_tell_how_an_endpoint_did() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/").await;
    let empty = ok(world.get(&format!("/v1/webhooks/{endpoint}/stats")).send().await.unwrap(), 200).await;
    assert_eq!((&empty["attempts"], &empty["success_rate"], &empty["latency_ms"]["p50"]), (&json!(0), &Value::Null, &Value::Null));
    for n in 0..4_u64 {
        let event = Uid::new(Time(clock::now().0 - 10 + n), 0, n << 2);
        let delivery = DeliveryId { event, endpoint: endpoint.parse().unwrap() };
        let (code, state) = if n == 0 { (500, DeliveryState::Pending) } else { (200, DeliveryState::Succeeded) };
        world.write_attempt(delivery, n as u32 + 1, "a", code, state).await;
    }
    let stats = ok(world.get(&format!("/v1/webhooks/{endpoint}/stats")).send().await.unwrap(), 200).await;
    assert_eq!((&stats["attempts"], &stats["succeeded"], &stats["failed"]), (&json!(4), &json!(3), &json!(1)));
    assert_eq!((&stats["success_rate"], &stats["latency_ms"]), (&json!(0.75), &json!({"p50": 20, "p95": 40, "p99": 40})));
    assert!(stats["last_success_at"].is_string() && stats["last_failure_at"].is_string());

    let (mut numbers, mut path) = (Vec::new(), format!("/v1/webhooks/{endpoint}/attempts?limit=3"));
    loop {
        let page = ok(world.get(&path).send().await.unwrap(), 200).await;
        numbers.extend(page["attempts"].as_array().unwrap().iter().map(|attempt| attempt["n"].as_u64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/webhooks/{endpoint}/attempts?limit=3&after={next}");
    }
    assert_eq!(numbers, [4, 3, 2, 1]);
}

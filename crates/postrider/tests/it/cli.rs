//! The client commands: what they print, what they change, how they end.

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use postrider_core::secret::Secret;
use postrider_core::sign::Signer;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{Home, Process, Server, eventually};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &str = r#"{"id":"evt_1","type":"order.created","data":{"total":3}}"#;

/// Runs a command to its end; gives its exit code and what it wrote.
async fn run(args: &[&str]) -> (i32, String, String) {
    let mut process = Process::start(args);
    let code = process.ended().await.code().expect("it ends by itself");
    (code, process.output(), process.errors())
}

/// A command against `server` that must succeed; gives its output.
async fn ask(server: &Server, args: &[&str]) -> String {
    let url = format!("http://{}", server.address);
    let (code, output, errors) = run(&[args, &["--server", &url]].concat()).await;
    assert_eq!(code, 0, "{args:?}: {output}{errors}");
    output
}

/// The same with `--json`.
async fn ask_json(server: &Server, args: &[&str]) -> Value {
    serde_json::from_str(&ask(server, &[args, &["--json"]].concat()).await).unwrap()
}

/// A `listen` of its own port with these options, once it listens, and its URL.
async fn listen(options: &[&str]) -> (Process, String) {
    let process = Process::start(&[&["listen", "--port", "0"], options].concat());
    let url = eventually("it listens", async || {
        let said = process.output() + &process.errors();
        let (_, rest) = said.split_once("listening on ")?;
        Some(rest.split_once('\n')?.0.to_owned())
    })
    .await;
    (process, url)
}

/// Posts a delivery signed with `secret`.
async fn deliver(url: &str, secret: &str, attempt: u32) -> StatusCode {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed = Signer::new(&Secret::new(secret), []).sign("dlv_1", timestamp, BODY.as_bytes());
    let request = reqwest::Client::new()
        .post(url)
        .header("webhook-id", "dlv_1")
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signed.standard)
        .header("x-webhook-signature", signed.plain)
        .header("x-webhook-event", "order.created")
        .header("x-webhook-attempt", attempt);
    request.body(BODY).send().await.unwrap().status()
}

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn listen_verifies_fails_on_request_and_ends_after_its_count() {
    let (mut listener, url) = listen(&["--secret", SECRET, "--fail-first", "1", "--count", "2", "--json"]).await;
    for (attempt, status) in [(1, 500), (2, 200), (3, 200)] {
        assert_eq!(deliver(&url, SECRET, attempt).await, status);
    }
    assert_eq!(listener.ended().await.code(), Some(0));
    let shown = lines(&listener.output());
    assert_eq!(shown.iter().map(|line| &line["status"]).collect::<Vec<_>>(), [500, 200, 200]);
    let last = &shown[2];
    assert_eq!((&last["id"], &last["type"], &last["attempt"]), (&json!("dlv_1"), &json!("order.created"), &json!(3)));
    assert_eq!((&last["signature"], &last["body"]["data"]["total"]), (&json!("valid"), &json!(3)));
}

#[tokio::test]
async fn listen_refuses_a_wrong_signature_and_fails_in_the_end() {
    let (mut listener, url) = listen(&["--secret", SECRET, "--count", "1"]).await;
    assert_eq!(deliver(&url, "another", 1).await, StatusCode::UNAUTHORIZED);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    let large = reqwest::Client::new().post(&url).body(vec![b'x'; 2 << 20]).send().await;
    // The answer comes before the body is read to its end, so that the connection may break instead.
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(deliver(&url, SECRET, 1).await, StatusCode::OK);
    assert_eq!(listener.ended().await.code(), Some(1));
    let output = listener.output();
    assert!(output.contains("signature BAD (webhook-signature: no signature matches") && output.contains("signature ok"), "{output}");
    assert!(listener.errors().contains("1 of 2 requests had a wrong signature"));
}

#[tokio::test]
async fn commands_end_with_the_code_that_tells_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let nowhere = ["--server", "http://127.0.0.1:1"];
    for (args, expected, words) in [
        ([&["endpoint", "list"][..], &nowhere].concat(), 3, "cannot reach http://127.0.0.1:1"),
        ([&["tail"][..], &nowhere].concat(), 3, "postrider dev"),
        ([&["trigger", "a.b"][..], &nowhere].concat(), 3, "POSTRIDER_URL"),
        (vec!["trigger", "a.b", "--data", "{\"a\":\n}"], 2, "--data is not JSON: expected value at line 2 column 1"),
        (vec!["trigger", "a.b", "--data", "@/nowhere"], 2, "--data @/nowhere"),
        (vec!["trigger", "a.b", "--count", "2", "--id", "x"], 2, "cannot be used with"),
        (vec!["replay", "--endpoint", "x", "--since", "yesterday"], 2, "must be RFC 3339"),
        (vec!["endpoint", "add", "http://a/", "--events", "a..b"], 2, "dotted words"),
        (vec!["endpoint", "add", "http://a/", "--header", "x"], 2, "NAME=VALUE"),
        (vec!["endpoint", "list", "--server", "nonsense"], 2, "POSTRIDER_URL `nonsense`"),
        (vec!["listen", "--port", &port], 1, "choose another --port"),
    ] {
        let (code, _, errors) = run(&args).await;
        assert!(code == expected && errors.contains(words), "{args:?} ended with {code}: {errors}");
    }
}

#[tokio::test]
async fn refusals_are_told_in_the_servers_words() {
    let server = Server::start().await;
    let url = format!("http://{}", server.address);
    for (args, words) in [
        (vec!["endpoint", "show", "ep_nothing"], "(404)"),
        (vec!["endpoint", "add", "ftp://a/"], "url: "),
        (vec!["endpoint", "list", "--api-key", "wrong"], "(401)"),
        (vec!["trigger", "a b"], "type: "),
    ] {
        let (code, _, errors) = run(&[&args[..], &["--server", &url]].concat()).await;
        assert!(code == 1 && errors.contains(words), "{args:?} ended with {code}: {errors}");
    }
}

#[tokio::test]
async fn an_endpoint_lives_its_life_by_commands() {
    let server = Server::start().await;
    let (mut listener, url) = listen(&["--secret", SECRET, "--count", "5", "--json"]).await;
    let add = ["endpoint", "add", &url, "--events", "order.*,webhook.test", "--secret", SECRET, "--header", "x-desk=1"];
    let endpoint = ask_json(&server, &[&add[..], &["--ordering", "key", "--description", "d"]].concat()).await;
    let id = endpoint["id"].as_str().unwrap();
    assert_eq!((&endpoint["secret"], &endpoint["headers"]["x-desk"]), (&json!(SECRET), &json!("1")));

    let test = ask(&server, &["endpoint", "test", id]).await;
    assert!(test.contains("webhook-signature: v1,") && test.contains("Response  200") && test.contains("✓ status"), "{test}");

    let tail_args = ["tail", "--endpoint", id, "--type", "order.*", "--count", "4", "--json", "--server"];
    let address = format!("http://{}", server.address);
    let mut tail = Process::start(&[&tail_args[..], &[&address]].concat());
    eventually("tail is connected", async || tail.errors().contains("following").then_some(())).await;
    let sent = ask(&server, &["trigger", "order.created", "--count", "4", "--key", "k"]).await;
    assert_eq!(sent.lines().filter(|id| id.starts_with("evt_")).count(), 4);
    assert_eq!(tail.ended().await.code(), Some(0));
    assert!(lines(&tail.output()).iter().all(|line| line["status"] == "succeeded" && line["type"] == "order.created"));
    assert_eq!(listener.ended().await.code(), Some(0));

    let list = ask(&server, &["endpoint", "list"]).await;
    assert!(list.starts_with("ID") && list.contains(id) && list.contains("order.*,webhook.test"), "{list}");
    assert_eq!(ask(&server, &["endpoint", "disable", id]).await, format!("{id} is disabled\n"));
    assert_eq!(ask_json(&server, &["endpoint", "show", id]).await["status"], "disabled");
    assert_eq!(ask_json(&server, &["endpoint", "enable", id]).await["status"], "enabled");
    let rotated = ask(&server, &["endpoint", "rotate-secret", id]).await;
    assert!(rotated.starts_with("whsec_") && rotated.contains("signs as well until"), "{rotated}");
    assert_eq!(ask(&server, &["endpoint", "delete", id, "--yes"]).await, format!("{id} is deleted\n"));
    assert_eq!(ask_json(&server, &["endpoint", "list"]).await, json!({ "webhooks": [] }));
}

#[tokio::test]
async fn what_a_receiver_missed_is_replayed() {
    let server = Server::start().await;
    let (mut listener, url) = listen(&["--fail-first", "1", "--count", "1"]).await;
    let endpoint = server.api.post("/v1/webhooks", json!({ "url": url, "events": ["order.*"], "retry": { "max_attempts": 1 } })).await;
    let id = endpoint["id"].as_str().unwrap();
    let event = ask(&server, &["trigger", "order.created", "--data", "{\"n\":1}"]).await;
    server.api.until_delivery_is(event.trim(), "failed").await;
    let replay = ["replay", "--endpoint", id, "--since"];
    assert_eq!(ask_json(&server, &[&replay[..], &["1h", "--until", "30m"]].concat()).await, json!({ "replayed": 0 }));
    assert_eq!(ask(&server, &[&replay[..], &["2020-01-01T00:00:00Z"]].concat()).await, "1 delivery is made again\n");
    server.api.until_delivery_is(event.trim(), "succeeded").await;
    assert_eq!(listener.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_demo_shows_everything_at_work() {
    let mut demo = Process::start(&["demo", "--fast", "--events", "60", "--json"]);
    assert_eq!(demo.ended().await.code(), Some(0));
    let summary: Value = serde_json::from_str(&demo.output()).unwrap();
    assert_eq!((&summary["ok"], &summary["sent"]), (&json!(true), &json!(60)));
    let of = |index: usize, member: &str| summary["receivers"][index][member].as_u64().unwrap();
    let (healthy, flaky, slow, dead) = (0, 1, 2, 3);
    for alive in [healthy, flaky, slow] {
        assert!(of(alive, "delivered") == of(alive, "deliveries") && of(alive, "signatures_wrong") == 0, "{summary:#}");
    }
    assert!(of(healthy, "deliveries") == 60 && of(flaky, "retried") > 0, "{summary:#}");
    assert_eq!((of(dead, "delivered"), of(dead, "retried"), of(dead, "dead_lettered")), (0, 6, 3), "{summary:#}");
    let scores = &summary["evaluation"]["corpus"];
    assert!(summary["evaluation"]["pairs"].as_u64() > Some(0) && scores["bleu"].as_f64() > Some(0.0), "{summary:#}");
}

#[tokio::test]
async fn health_says_whether_the_server_can_work() {
    let server = Server::at(Home::new("[server]\nadmin_listen = \"127.0.0.1:0\"\n")).await;
    let admin = server.admin().await;
    let (code, output, _) = run(&["health", "--admin", &admin]).await;
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<Value>(&output).unwrap()["ready"], true);
    // As in a container that listens on every address.
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    let mut asked = Process::start_in(&["health"], &[("POSTRIDER__SERVER__ADMIN_LISTEN", &everywhere)]);
    assert_eq!(asked.ended().await.code(), Some(0));
    let (code, _, errors) = run(&["health", "--admin", "127.0.0.1:1"]).await;
    assert_eq!(code, 3);
    assert!(errors.contains("cannot reach http://127.0.0.1:1/readyz") && errors.contains("--admin"), "{errors}");
}

//! Batches against an upstream that fails as real ones do, with the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use postrider_test_servers::{Asked, FakeUpstream, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::generate;
use crate::receiver::Receiver;
use crate::world::{Api, KEY, Server, answer, eventually, python};

const BOUNDARY: &str = "XbatchX";
const CHAT: &str = "/v1/chat/completions";

/// Has an upstream asked a few lines at a time, and seconds waited where others wait for minutes; for [`generate::settings`].
pub(crate) const HURRIED: &str = "timeout_seconds = 4\n[batch]\nrequests = 4\nmax_file_mib = 8";
/// The whole flow of OpenAI's client.
const FLOW: Duration = Duration::from_secs(120);

async fn server(upstream: &FakeUpstream) -> Server {
    generate::server(upstream, HURRIED).await
}

/// An upstream that does what the prompt's first word says.
pub(crate) async fn upstream() -> FakeUpstream {
    FakeUpstream::start(|asked: &Asked| match asked.prompt().split(' ').next().unwrap() {
        "refuse" => Reply::Status(400),
        "limit" => Reply::Limited("0".to_owned()),
        "hang" => Reply::Hang,
        "cut" => Reply::CutAfter(2),
        "garbage" => Reply::Garbage,
        "stranger" => Reply::Json(401, json!({ "error": { "message": "wrong key sk-upstream-0123456789" } })),
        "slow" => Reply::Slowly(Duration::from_millis(500), format!("echo of {}", asked.prompt())),
        "short" => Reply::Slowly(Duration::from_millis(30), format!("echo of {}", asked.prompt())),
        _prompt => Reply::Say(format!("echo of {}", asked.prompt())),
    })
    .await
}

pub(crate) fn line(id: &str, prompt: &str) -> String {
    let body = json!({ "model": "m-1", "messages": [{ "role": "user", "content": prompt }] });
    json!({ "custom_id": id, "method": "POST", "url": CHAT, "body": body }).to_string() + "\n"
}

async fn uploaded(api: &Api, text: impl Into<Vec<u8>>) -> String {
    let part = |head: &str| format!("--{BOUNDARY}\r\ncontent-disposition: form-data; {head}\r\n\r\n").into_bytes();
    let form = [
        part("name=\"purpose\""),
        b"batch\r\n".to_vec(),
        part("name=\"file\"; filename=\"a.jsonl\""),
        text.into(),
        format!("\r\n--{BOUNDARY}--\r\n").into_bytes(),
    ];
    let request = api.request(Method::POST, "/v1/files").header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"));
    let (status, file) = answer(request.body(form.concat())).await;
    assert_eq!(status, StatusCode::OK, "{file}");
    file["id"].as_str().unwrap().to_owned()
}

/// Has a batch accepted whose input file is this; says its id.
pub(crate) async fn submitted(api: &Api, text: impl Into<Vec<u8>>) -> String {
    let file = uploaded(api, text).await;
    let batch = api.post("/v1/batches", json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h" })).await;
    assert_eq!((&batch["status"], &batch["input_file_id"]), (&json!("validating"), &json!(file)));
    batch["id"].as_str().unwrap().to_owned()
}

/// The batch once it stands so.
pub(crate) async fn until(api: &Api, id: &str, status: &str) -> Value {
    eventually(&format!("the batch is {status}"), async || {
        let batch = api.get(&format!("/v1/batches/{id}")).await;
        let found = batch["status"].as_str().unwrap();
        assert!(found == status || !["completed", "failed", "cancelled"].contains(&found), "{batch}");
        (found == status).then_some(batch)
    })
    .await
}

/// The lines of a file by their `custom_id`; none twice.
pub(crate) async fn lines(api: &Api, file: &Value) -> BTreeMap<String, Value> {
    let Some(id) = file.as_str() else { return BTreeMap::new() };
    let response = api.request(Method::GET, &format!("/v1/files/{id}/content")).send().await.unwrap();
    let text = response.text().await.unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line["custom_id"].as_str().unwrap().to_owned();
        assert!(found.insert(id, line).is_none(), "twice: {text}");
    }
    found
}

fn counts(batch: &Value) -> [u64; 3] {
    ["total", "completed", "failed"].map(|name| batch["request_counts"][name].as_u64().unwrap())
}

/// The data of the events of a type about a batch, which all have one id.
pub(crate) async fn told(receiver: &Receiver, kind: &str, batch: &str) -> Value {
    eventually(&format!("{kind} is told"), async || {
        let about = |got: &crate::receiver::Got| got.header("x-webhook-event") == kind && got.json()["data"]["batch_id"] == json!(batch);
        let got: Vec<_> = receiver.got().into_iter().filter(about).collect();
        let ids: BTreeSet<_> = got.iter().map(|got| got.header("webhook-id").to_owned()).collect();
        assert!(ids.len() <= 1, "{kind} was told under {ids:?}");
        got.first().map(|got| got.json()["data"].clone())
    })
    .await
}

#[tokio::test]
async fn every_line_comes_to_an_answer_or_to_an_error_of_its_own() {
    let upstream = upstream().await;
    let server = server(&upstream).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["batch.*"] })).await;
    let mut text: String = (0..30).map(|n| line(&format!("good {n}"), &format!("say {n}"))).collect();
    for word in ["refuse", "limit", "hang", "cut", "garbage", "stranger"] {
        text.push_str(&line(word, word));
    }
    // Lines end as they do on Windows, one is blank, and the last has no end.
    let text = text.replace('\n', "\r\n") + "\r\n" + line("last é", "say é").trim_end();
    let id = submitted(&server.api, text).await;
    let batch = until(&server.api, &id, "completed").await;
    assert_eq!(counts(&batch), [37, 31, 6], "{batch}");
    for at in ["in_progress_at", "finalizing_at", "completed_at"] {
        assert!(batch[at].as_u64().unwrap() >= batch["created_at"].as_u64().unwrap(), "{at}: {batch}");
    }
    let answers = lines(&server.api, &batch["output_file_id"]).await;
    assert_eq!(answers.len(), 31);
    for (id, answer) in &answers {
        assert_eq!((&answer["error"], &answer["response"]["status_code"]), (&Value::Null, &json!(200)));
        let prompt = id.replace("good", "say").replace("last", "say");
        assert_eq!(answer["response"]["body"]["choices"][0]["message"]["content"], format!("echo of {prompt}"));
        assert!(answer["response"]["request_id"].as_str().unwrap().starts_with("req_fake"), "{answer}");
        assert!(answer["id"].as_str().unwrap().starts_with("batch_req_"), "{answer}");
    }
    let errors = lines(&server.api, &batch["error_file_id"]).await;
    assert_eq!((errors.len(), &errors["refuse"]["response"]["status_code"]), (6, &json!(400)));
    assert!(errors["refuse"]["response"]["body"]["error"]["message"].is_string());
    assert_eq!(errors["garbage"]["response"]["body"], "<html>this is no JSON");
    for (word, code) in
        [("limit", "upstream_rate_limited"), ("hang", "upstream_timeout"), ("cut", "upstream_cut"), ("stranger", "upstream_unauthorized")]
    {
        assert_eq!((&errors[word]["error"]["code"], &errors[word]["response"]), (&json!(code), &Value::Null), "{word}");
    }
    assert!(!json!(errors).to_string().contains("0123456789"), "the upstream's key is the operator's");

    let end = told(&wants, "batch.completed", &id).await;
    let expected = json!({
        "id": id, "batch_id": id, "status": "completed", "total_requests": 37, "completed": 31, "failed": 6,
        "output_file_id": batch["output_file_id"], "error_file_id": batch["error_file_id"],
        "processing_time_seconds": end["processing_time_seconds"],
    });
    assert_eq!(end, expected);
    assert!(end["processing_time_seconds"].is_u64());
    assert_eq!(told(&wants, "batch.created", &id).await["status"], "validating");
    told(&wants, "batch.processing", &id).await;
    let job = server.api.get(&format!("/v1/jobs/{}", id.replace("batch_", "job_"))).await;
    assert_eq!((&job["kind"], &job["status"], &job["progress"]), (&json!("batch"), &json!("completed"), &json!(1.0)));
    assert_eq!(job["result"]["output_file_id"], batch["output_file_id"]);
}

#[tokio::test]
async fn kills_in_the_middle_of_a_batch_cost_no_line_that_was_answered() {
    const LINES: usize = 200;
    let upstream = upstream().await;
    let mut server = server(&upstream).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["batch.*"] })).await;
    let text: String = (0..LINES).map(|n| line(&n.to_string(), &format!("short {n}"))).collect();
    let id = submitted(&server.api, text).await;
    let mut asked_before = Vec::new();
    for share in [50, 120] {
        eventually("some lines are answered", async || {
            let batch = server.api.get(&format!("/v1/batches/{id}")).await;
            assert_ne!(batch["status"], "completed", "it was to take longer");
            (counts(&batch)[1] >= share).then_some(())
        })
        .await;
        server.process.kill();
        asked_before.push(upstream.count());
        server.restart().await;
        let [total, completed, _] = counts(&server.api.get(&format!("/v1/batches/{id}")).await);
        assert!(total == LINES as u64 && completed >= share, "what was done is known: {completed}");
    }
    let batch = until(&server.api, &id, "completed").await;
    assert_eq!(counts(&batch), [LINES as u64, LINES as u64, 0]);
    let answers = lines(&server.api, &batch["output_file_id"]).await;
    assert_eq!(answers.keys().cloned().collect::<BTreeSet<_>>(), (0..LINES).map(|n| n.to_string()).collect::<BTreeSet<_>>());
    assert_eq!(batch["error_file_id"], Value::Null);
    // Lines under way, and answers of half a second, are lost with a worker, no more.
    let again = upstream.count() - LINES;
    assert!(again < LINES / 2, "{again} lines were asked again; {asked_before:?} before the kills");
    assert_eq!(told(&wants, "batch.completed", &id).await["completed"], json!(LINES));
    told(&wants, "batch.processing", &id).await;
}

#[tokio::test]
async fn a_batch_that_is_cancelled_keeps_what_it_was_answered() {
    let upstream = upstream().await;
    let server = server(&upstream).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["batch.*"] })).await;
    let mut text: String = (0..5).map(|n| line(&n.to_string(), "say it")).collect();
    text.push_str(&line("wrong", "refuse"));
    text.extend((0..100).map(|n| line(&format!("slow {n}"), "slow")));
    let id = submitted(&server.api, text).await;
    eventually("the quick ones are answered", async || {
        let [total, completed, failed] = counts(&server.api.get(&format!("/v1/batches/{id}")).await);
        (total == 106 && completed >= 5 && failed == 1).then_some(())
    })
    .await;
    let canceled = server.api.post(&format!("/v1/batches/{id}/cancel"), Value::Null).await;
    assert!(canceled["cancelling_at"].is_u64(), "{canceled}");
    let batch = until(&server.api, &id, "cancelled").await;
    let [total, completed, failed] = counts(&batch);
    let (answers, errors) = (lines(&server.api, &batch["output_file_id"]).await, lines(&server.api, &batch["error_file_id"]).await);
    assert_eq!((total, completed, failed), (106, answers.len() as u64, errors.len() as u64));
    assert!((5..100).contains(&completed) && errors.contains_key("wrong"), "{batch}");
    let end = told(&wants, "batch.cancelled", &id).await;
    assert_eq!(
        (&end["status"], &end["output_file_id"], &end["completed"]),
        (&json!("cancelled"), &batch["output_file_id"], &json!(completed))
    );
    let asked = upstream.count();
    // The next one has the worker to itself.
    let next = submitted(&server.api, line("1", "say it")).await;
    until(&server.api, &next, "completed").await;
    assert_eq!(upstream.count(), asked + 1, "nothing more is asked for the one that was cancelled");
    assert!(
        wants.got().iter().all(|got| got.header("x-webhook-event") != "batch.completed" || got.json()["data"]["batch_id"] == json!(next))
    );
    let (status, _) = server.api.ask(Method::POST, &format!("/v1/batches/{next}/cancel"), Value::Null).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_file_that_is_wrong_fails_its_batch_with_the_lines_that_are() {
    let upstream = upstream().await;
    let server = server(&upstream).await;
    let wants = Receiver::answering(200).await;
    server.api.register(&wants, json!({ "events": ["batch.failed"] })).await;
    let good = line("1", "say it");
    let many: String =
        (0..50_001).map(|n| json!({"custom_id": n.to_string(), "method": "POST", "url": CHAT, "body": {}}).to_string() + "\n").collect();
    let cases: [(Vec<u8>, Value, &str); 7] = [
        ([good.as_bytes(), b"{\"custom_id\":\"\xff\"}\n"].concat(), json!(2), "invalid_json_line"),
        ([good.as_bytes(), b"this is no JSON"].concat(), json!(2), "invalid_json_line"),
        ([good.as_bytes(), b"\n", good.as_bytes()].concat(), json!(3), "duplicate_custom_id"),
        (b" \n\n".to_vec(), Value::Null, "empty_file"),
        (many.into_bytes(), Value::Null, "too_many_lines"),
        (good.replace("completions\"", "embeddings\"").into_bytes(), json!(1), "invalid_url"),
        ([good.as_bytes(), &vec![b'x'; 5 << 20]].concat(), json!(2), "line_too_long"),
    ];
    for (text, line, code) in cases {
        let id = submitted(&server.api, text).await;
        let batch = until(&server.api, &id, "failed").await;
        let first = &batch["errors"]["data"][0];
        assert_eq!((&first["line"], &first["code"]), (&line, &json!(code)), "{batch}");
        assert!(first["message"].is_string() && batch["failed_at"].is_u64() && batch["output_file_id"].is_null(), "{batch}");
        assert_eq!(told(&wants, "batch.failed", &id).await["status"], "failed");
    }
    let (status, refused) = {
        let missing = json!({ "input_file_id": format!("file-{}b", "0".repeat(26)), "endpoint": CHAT, "completion_window": "24h" });
        server.api.ask(Method::POST, "/v1/batches", missing.clone()).await
    };
    assert_eq!((status, &refused["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("input_file_id")), "{refused}");
    // A file that goes before its batch is begun fails it, too.
    let gone = uploaded(&server.api, good).await;
    server.api.delete(&format!("/v1/files/{gone}")).await;
    let input = json!({ "input_file_id": gone, "endpoint": CHAT, "completion_window": "24h" });
    let job = server.api.post("/v1/jobs", json!({ "kind": "batch", "input": input })).await;
    let id = job["job_id"].as_str().unwrap().replace("job_", "batch_");
    assert_eq!(until(&server.api, &id, "failed").await["errors"]["data"][0]["code"], "file_not_found");
    assert_eq!(upstream.count(), 0, "nobody asks for a file that is wrong");
}

#[tokio::test]
async fn without_an_upstream_batches_are_refused_with_what_to_set() {
    let server = Server::start().await;
    let file = uploaded(&server.api, line("1", "say it")).await;
    let batch = json!({ "input_file_id": file, "endpoint": CHAT, "completion_window": "24h" });
    let (status, refused) = server.api.ask(Method::POST, "/v1/batches", batch).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused["error"]["message"].as_str().unwrap().contains("upstream.base_url"), "{refused}");
}

#[tokio::test]
async fn openais_own_client_runs_the_whole_flow() {
    let upstream = upstream().await;
    let server = server(&upstream).await;
    assert_openais_client_is_served(server.address).await;
}

/// Runs what users of OpenAI's Python client write against the API at `address`; with settings that are [`HURRIED`].
pub(crate) async fn assert_openais_client_is_served(address: SocketAddr) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = tokio::process::Command::new(python());
    command
        .arg(root.join("tests/openai/flow.py"))
        .args([&format!("http://{address}"), KEY])
        .arg(root.join("../../docs/jobs.md"))
        .stdin(Stdio::null())
        .env_remove("http_proxy")
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true);
    let output = tokio::time::timeout(FLOW, command.output()).await.expect("the flow takes too long").unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

//! Files over HTTP, in the shapes that OpenAI's clients know.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::stream;
use postrider_api::ApiLimits;
use postrider_core::id::{FileId, FilePurpose, Uid};
use postrider_ingest::files::{File, Files};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{World, ok, problem};

const BOUNDARY: &str = "XbatchX";

/// A form with these fields: the name, with a file's name where it is one, and the text.
pub(crate) fn form(fields: &[(&str, Option<&str>, &str)]) -> String {
    let mut form = String::new();
    for (name, file, text) in fields {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        form.push_str(&format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n{text}\r\n"));
    }
    form + &format!("--{BOUNDARY}--\r\n")
}

pub(crate) fn upload(world: &World, form: impl Into<Body>) -> RequestBuilder {
    let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
    world.request("POST", "/v1/files").header("content-type", media_type).body(form)
}

/// Uploads a file and says its id.
pub(crate) async fn uploaded(world: &World, purpose: &str, text: &str) -> String {
    let form = form(&[("purpose", None, purpose), ("file", Some("a.jsonl"), text)]);
    let file = ok(upload(world, form).send().await.unwrap(), 200).await;
    file["id"].as_str().unwrap().to_owned()
}

/// The words of an error as OpenAI's clients find them, and the field.
async fn error(response: Response, status: u16) -> (String, Value) {
    let problem = ok(response, status).await;
    assert_eq!((&problem["error"]["message"], &problem["status"]), (&problem["detail"], &json!(status)));
    assert!(problem["error"]["type"].as_str().unwrap().ends_with("_error"), "{problem}");
    (problem["error"]["message"].as_str().unwrap().to_owned(), problem["error"]["param"].clone())
}

/// Blobs of files that lie there.
fn kept(world: &World) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        entries.map(|entry| entry.unwrap().path()).map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&world.folder().join("blobs/files"))
}

#[tokio::test]
async fn a_file_is_uploaded_shown_fetched_and_deleted() {
    let world = World::new().await;
    let text = "{\"a\":1}\n".repeat(1000);
    // A name that looks like a path is a name; the file may come before its purpose.
    let form = form(&[("file", Some("../../etc/pass wd ü.jsonl"), &text), ("purpose", None, "batch")]);
    let file = ok(upload(&world, form).send().await.unwrap(), 200).await;
    let id = file["id"].as_str().unwrap();
    assert!(id.starts_with("file-"), "{file}");
    assert_eq!((&file["object"], &file["bytes"], &file["purpose"]), (&json!("file"), &json!(8000), &json!("batch")));
    assert_eq!((&file["filename"], &file["status"]), (&json!("../../etc/pass wd ü.jsonl"), &json!("processed")));
    assert_eq!(file["expires_at"].as_u64().unwrap() - file["created_at"].as_u64().unwrap(), 7 * 86_400);
    let path = format!("/v1/files/{id}");
    assert_eq!(ok(world.get(&path).send().await.unwrap(), 200).await, file);
    let content = world.get(&format!("{path}/content")).send().await.unwrap();
    assert_eq!(content.headers()["content-disposition"], "attachment");
    assert_eq!(content.text().await.unwrap(), text);
    let part = world.get(&format!("{path}/content")).header("range", "bytes=1-3").send().await.unwrap();
    assert_eq!((part.status(), part.text().await.unwrap().as_str()), (StatusCode::PARTIAL_CONTENT, "\"a\""));
    let deleted = ok(world.request("DELETE", &path).send().await.unwrap(), 200).await;
    assert_eq!(deleted, json!({"id": id, "object": "file", "deleted": true}));
    for response in [
        world.get(&path).send().await,
        world.get(&format!("{path}/content")).send().await,
        world.request("DELETE", &path).send().await,
        world.get("/v1/files/file-x").send().await,
        world.get("/v1/files/..%2f..%2fx").send().await,
    ] {
        assert!(error(response.unwrap(), 404).await.0.starts_with("there is no file"));
    }
    assert_eq!(kept(&world), 0);
}

#[tokio::test]
async fn what_is_wrong_with_an_upload_is_said_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let send = async |form: String| error(upload(&world, form).send().await.unwrap(), 400).await;
    let file = ("file", Some("a"), "x");
    assert_eq!(send(form(&[file])).await.1, "purpose");
    assert_eq!(send(form(&[("purpose", None, "batch")])).await.1, "file");
    assert_eq!(send(form(&[("purpose", None, "batch"), ("file", None, "x")])).await.1, "file");
    assert_eq!(send(form(&[("purpose", None, "batch"), ("file", Some(&"x".repeat(600)), "x")])).await.1, "file");
    assert!(send(form(&[file, ("purpose", None, "dance")])).await.0.contains("fine-tune"));
    assert_eq!(send(form(&[file, ("purpose", None, "batch"), file])).await.1, "file");
    assert_eq!(send(form(&[file, ("purpose", None, "batch"), ("color", None, "red")])).await.1, "color");
    let whole = form(&[("purpose", None, "batch"), file]);
    assert!(send(whole[..whole.len() - 12].to_owned()).await.0.contains("multipart"), "it ended early");
    let plain = world.request("POST", "/v1/files").header("content-type", "text/plain").body("x").send().await.unwrap();
    problem(plain, 415).await;
    let unnamed = world.client.post(format!("http://{}/v1/files", world.address)).send().await.unwrap();
    assert!(error(unnamed, 401).await.0.contains("authorization"));
    assert_eq!(kept(&world), 0);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_whether_its_size_is_said_or_not() {
    let world = World::with_limits(ApiLimits { file_bytes: 1 << 20, ..ApiLimits::default() }).await;
    let sized = |bytes: usize| form(&[("purpose", None, "batch"), ("file", Some("a"), &"x".repeat(bytes))]);
    ok(upload(&world, sized(1 << 20)).send().await.unwrap(), 200).await;
    for bytes in [(1 << 20) + 1, 3 << 20] {
        assert!(error(upload(&world, sized(bytes)).send().await.unwrap(), 413).await.0.contains("1048576"));
    }
    let form = Bytes::from(sized((1 << 20) + 1));
    let chunks: Vec<_> = form.chunks(10_000).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk))).collect();
    error(upload(&world, Body::wrap_stream(stream::iter(chunks))).send().await.unwrap(), 413).await;
    let large = form_field_of(&"x".repeat(10_000));
    assert!(error(upload(&world, large).send().await.unwrap(), 413).await.0.contains("purpose"));
    assert_eq!(kept(&world), 2, "the one that was taken");
}

#[tokio::test]
async fn who_uploads_while_too_many_do_is_told_to_wait() {
    let world = World::with_limits(ApiLimits { uploads: 0, ..ApiLimits::default() }).await;
    let response = upload(&world, form(&[("purpose", None, "batch"), ("file", Some("a"), "x")])).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    assert!(error(response, 503).await.0.contains("uploaded already"));
}

fn form_field_of(text: &str) -> String {
    form(&[("purpose", None, text)])
}

#[tokio::test]
async fn files_are_listed_page_by_page_by_age_and_purpose() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for purpose in ["batch", "vision", "batch", "user_data", "batch"] {
        ids.push(uploaded(&world, purpose, "x").await);
    }
    let list = async |query: &str| {
        let list = ok(world.get(&format!("/v1/files{query}")).send().await.unwrap(), 200).await;
        let names: Vec<String> = list["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(
            (list["first_id"].as_str(), list["last_id"].as_str()),
            (names.first().map(String::as_str), names.last().map(String::as_str))
        );
        (names, list["has_more"].as_bool().unwrap())
    };
    let newest: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(list("").await, (newest.clone(), false));
    assert_eq!(list("?order=asc&limit=10000").await, (ids.clone(), false));
    assert_eq!(list("?limit=2").await, (newest[..2].to_vec(), true));
    assert_eq!(list(&format!("?limit=2&after={}", newest[1])).await, (newest[2..4].to_vec(), true));
    assert_eq!(list(&format!("?limit=2&after={}", newest[3])).await, (newest[4..].to_vec(), false));
    assert_eq!(list("?purpose=batch&limit=2").await, (vec![ids[4].clone(), ids[2].clone()], true));
    assert_eq!(list("?purpose=dance").await, (vec![], false));
    for wrong in ["?order=up", "?limit=0", "?after=7", "?color=red"] {
        error(world.get(&format!("/v1/files{wrong}")).send().await.unwrap(), 400).await;
    }
}

#[tokio::test]
async fn another_tenants_files_are_not_there() {
    let world = World::new().await;
    let files = Files::new(world.blobs.clone());
    let id = FileId { number: Uid::new(postrider_ingest::clock::now(), 0, 4), purpose: FilePurpose::Batch };
    let content = Files::content("other", id.number, 1);
    let bytes = files.write(&content, stream::iter([Ok::<_, std::io::Error>(Bytes::from("secret"))])).await.unwrap();
    let file = File { filename: "a".to_owned(), bytes, lines: 0, created_at: 0, content };
    files.publish("other", id, file).await.unwrap();
    let path = format!("/v1/files/{id}");
    for response in
        [world.get(&path).send().await, world.get(&format!("{path}/content")).send().await, world.request("DELETE", &path).send().await]
    {
        error(response.unwrap(), 404).await;
    }
    assert_eq!(ok(world.get("/v1/files").send().await.unwrap(), 200).await["data"], json!([]));
    let batch = json!({"input_file_id": id.to_string(), "endpoint": "/v1/embeddings", "completion_window": "24h"});
    assert_eq!(error(world.post("/v1/batches", batch).send().await.unwrap(), 400).await.1, "input_file_id");
    assert!(files.find("other", id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_batch_is_a_job_under_another_name() {
    let world = World::new().await;
    let file = uploaded(&world, "batch", "x").await;
    let body = json!({
        "input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"night": "7"},
    });
    let batch = ok(world.post("/v1/batches", body.clone()).send().await.unwrap(), 200).await;
    let id = batch["id"].as_str().unwrap();
    for (member, value) in [
        ("object", json!("batch")),
        ("status", json!("validating")),
        ("endpoint", body["endpoint"].clone()),
        ("input_file_id", body["input_file_id"].clone()),
        ("completion_window", json!("24h")),
        ("metadata", body["metadata"].clone()),
        ("request_counts", json!({"total": 0, "completed": 0, "failed": 0})),
        ("errors", Value::Null),
        ("output_file_id", Value::Null),
        ("cancelled_at", Value::Null),
    ] {
        assert_eq!(batch[member], value, "{member}");
    }
    assert_eq!(batch["expires_at"].as_u64().unwrap() - batch["created_at"].as_u64().unwrap(), 86_400);
    assert_eq!(ok(world.get(&format!("/v1/batches/{id}")).send().await.unwrap(), 200).await, batch);
    let job = id.replace("batch_", "job_");
    assert_eq!(ok(world.get(&format!("/v1/jobs/{job}")).send().await.unwrap(), 200).await["kind"], "batch");

    let canceled = ok(world.post(&format!("/v1/batches/{id}/cancel"), Value::Null).send().await.unwrap(), 200).await;
    assert_eq!((&canceled["status"], &canceled["cancelled_at"]), (&json!("cancelling"), &Value::Null), "nobody has written its files");
    let again = ok(world.post(&format!("/v1/batches/{id}/cancel"), Value::Null).send().await.unwrap(), 200).await;
    assert_eq!(again["cancelling_at"], canceled["cancelling_at"]);

    let evaluation = json!({"pairs": [{"candidate": "a", "references": ["b"]}], "metrics": ["f1"]});
    let other = ok(world.post("/api/v1/async/evaluate", evaluation).send().await.unwrap(), 202).await;
    let other = other["job_id"].as_str().unwrap().replace("job_", "batch_");
    error(world.get(&format!("/v1/batches/{other}")).send().await.unwrap(), 404).await;
    error(world.post(&format!("/v1/batches/{other}/cancel"), Value::Null).send().await.unwrap(), 404).await;
    error(world.get("/v1/batches/x").send().await.unwrap(), 404).await;

    let wrong = async |member: &str, value: Value| {
        let mut body = body.clone();
        body[member] = value;
        error(world.post("/v1/batches", body).send().await.unwrap(), 400).await
    };
    assert_eq!(wrong("endpoint", json!("/v1/images")).await.1, "endpoint");
    assert_eq!(wrong("completion_window", json!("1h")).await.1, "completion_window");
    assert_eq!(wrong("input_file_id", json!(format!("file-{}b", "0".repeat(26)))).await.1, "input_file_id");
    assert_eq!(wrong("metadata", json!(7)).await.1, "metadata");
    assert_eq!(wrong("color", json!("red")).await.1, "color");
    assert!(wrong("input_file_id", json!(uploaded(&world, "vision", "x").await)).await.0.contains("purpose batch"));
}

#[tokio::test]
async fn batches_are_listed_page_by_page_and_other_jobs_are_not() {
    let world = World::new().await;
    let file = uploaded(&world, "batch", "x").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let body = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"});
        let batch = ok(world.post("/v1/batches", body).send().await.unwrap(), 200).await;
        ids.push(batch["id"].as_str().unwrap().to_owned());
        let evaluation = json!({"pairs": [{"candidate": "a", "references": ["b"]}], "metrics": ["f1"]});
        ok(world.post("/api/v1/async/evaluate", evaluation).send().await.unwrap(), 202).await;
    }
    let (mut found, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let list = ok(world.get(&format!("/v1/batches{query}")).send().await.unwrap(), 200).await;
        found.extend(list["data"].as_array().unwrap().iter().map(|batch| batch["id"].as_str().unwrap().to_owned()));
        if !list["has_more"].as_bool().unwrap() {
            break;
        }
        query = format!("?limit=2&after={}", list["last_id"].as_str().unwrap());
    }
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
    ids.reverse();
    assert_eq!(found, ids);
    error(world.get("/v1/batches?limit=101").send().await.unwrap(), 400).await;
}

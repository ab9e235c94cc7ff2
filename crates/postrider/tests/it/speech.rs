//! Jobs of the kind `tts`, with the real espeak-ng.

use std::sync::atomic::{AtomicBool, Ordering};

use postrider_test_servers::{FakeUpstream, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::generate;
use crate::jobs::{SETTINGS, calls, evaluation, is_running, submit};
use crate::receiver::Receiver;
use crate::signatures::assert_accepted;
use crate::world::{Api, Home, Server, eventually};

const SPEAK: &str = "/v1/tts/async";
const BY_UPSTREAM: &str = "[tts]\nengine = \"openai\"\nmodel = \"tts-1\"";
pub(crate) const OROMO: &str = "Akkam jirta? Ani nagaan jira. Kun sagalee kompiitaraa ti. ";

pub(crate) async fn speak(api: &Api, job: Value) -> String {
    let (status, answer) = api.ask(Method::POST, SPEAK, job).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    answer["job_id"].as_str().unwrap().to_owned()
}

/// What a link of a call leads to, for which no key is needed.
pub(crate) async fn fetched(api: &Api, link: &str) -> (String, Vec<u8>) {
    let path = &link[link.find("/v1/download").unwrap()..];
    let response = api.without_key(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    (response.headers()["content-type"].to_str().unwrap().to_owned(), response.bytes().await.unwrap().to_vec())
}

/// The seconds of a whole WAV file of 16 bit mono.
pub(crate) fn seconds(wav: &[u8]) -> f64 {
    let number = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((&wav[..4], &wav[8..16], &wav[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
    assert_eq!((number(4), number(40)), (wav.len() - 8, wav.len() - 44), "the file is not whole");
    number(40) as f64 / number(28) as f64
}

#[tokio::test]
async fn an_oromo_text_comes_back_as_a_link_to_a_playable_file() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let id = speak(&server.api, json!({ "text": OROMO, "language": "oromo", "webhook_url": receiver.url() })).await;
    let got = &receiver.wait_for(1).await[0];
    let secret = server.api.get("/v1/signing-secret").await["secret"].as_str().unwrap().to_owned();
    assert_accepted(got, &secret);
    let body = got.json();
    assert_eq!((&body["job_id"], &body["status"]), (&json!(id), &json!("completed")));
    assert!(body["completed_at"].is_string());
    let (media_type, wav) = fetched(&server.api, body["audio_url"].as_str().unwrap()).await;
    assert_eq!(media_type, "audio/wav");
    assert!((2.0..12.0).contains(&seconds(&wav)), "{} s", seconds(&wav));
    let part = server.api.request(Method::GET, &format!("/v1/download/{id}")).header("range", "bytes=0-3").send().await.unwrap();
    assert_eq!((part.status(), &part.bytes().await.unwrap()[..]), (StatusCode::PARTIAL_CONTENT, &b"RIFF"[..]));
    let ogg =
        json!({ "text": OROMO, "language": "om", "voice": "f3", "rate": 120, "pitch": 70, "format": "ogg", "webhook_url": receiver.url() });
    let ogg = speak(&server.api, ogg).await;
    receiver.wait_for(2).await;
    let (media_type, file) = fetched(&server.api, calls(&receiver)[&ogg][0].json()["audio_url"].as_str().unwrap()).await;
    assert_eq!((media_type.as_str(), &file[..4]), ("audio/ogg", &b"OggS"[..]));
}

#[tokio::test]
async fn what_can_not_be_spoken_is_refused_with_what_could_be() {
    let server = Server::at(Home::new(SETTINGS)).await;
    for (job, field, words) in [
        (json!({ "text": "a", "language": "oromoo" }), "language", "Oromo"),
        (json!({ "text": " ", "language": "om" }), "text", ""),
        (json!({ "text": "a", "language": "om", "voice": "../../etc/passwd" }), "voice", ""),
        (json!({ "text": "a", "language": "om", "rate": 9999 }), "rate", "450"),
        (json!({ "text": "a", "language": "om", "format": "mp3" }), "format", "ogg"),
        (json!({ "text": "a", "language": "om", "webhook_url": "ftp://a/" }), "webhook_url", "http"),
    ] {
        let (status, answer) = server.api.ask(Method::POST, SPEAK, job).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        let error = &answer["errors"][0];
        assert_eq!(error["field"], field, "{answer}");
        assert!(error["message"].as_str().unwrap().contains(words), "{answer}");
    }
}

#[tokio::test]
async fn kills_in_the_middle_of_speeches_leave_whole_files() {
    let mut server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let text = OROMO.repeat(300);
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(speak(&server.api, json!({ "text": text, "language": "om", "webhook_url": receiver.url() })).await);
    }
    for _ in 0..2 {
        eventually("a running job", async || is_running(&server.api).await.then_some(())).await;
        server.process.kill();
        server.restart().await;
    }
    eventually("a call for every job", async || (calls(&receiver).len() == jobs.len()).then_some(())).await;
    let mut lengths = Vec::new();
    for (job, calls) in calls(&receiver) {
        let body = calls[0].json();
        assert_eq!(body["status"], "completed", "{job}: {body}");
        assert!(calls.iter().all(|got| got.header("webhook-id") == calls[0].header("webhook-id")), "{job} has ended more than once");
        lengths.push(seconds(&fetched(&server.api, body["audio_url"].as_str().unwrap()).await.1));
    }
    assert!(lengths.iter().all(|length| *length > 600.0 && *length == lengths[0]), "one text, one length: {lengths:?}");
}

#[tokio::test]
async fn without_espeak_speech_alone_is_unavailable() {
    let home = Home::new("[tts]\nprogram = \"/nowhere/espeak-ng\"\n[server]\nadmin_listen = \"127.0.0.1:0\"\n");
    let server = Server::at(home).await;
    let request = server.api.request(Method::POST, SPEAK).json(&json!({ "text": "a", "language": "om" }));
    let refused = request.send().await.unwrap();
    assert_eq!((refused.status(), refused.headers().contains_key("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, true));
    let words = refused.json::<Value>().await.unwrap()["detail"].as_str().unwrap().to_owned();
    assert!(words.contains("apt-get install espeak-ng"), "{words}");
    let admin = server.admin().await;
    let ready: Value = reqwest::get(format!("http://{admin}/readyz")).await.unwrap().json().await.unwrap();
    assert_eq!(ready["ready"], true);
    let kinds = ready["jobs"].as_array().unwrap();
    assert_eq!((&kinds[0]["name"], &kinds[0]["state"]), (&json!("evaluate"), &json!("ok")));
    assert_eq!((&kinds[1]["name"], &kinds[1]["state"]), (&json!("tts"), &json!("unavailable")));
    let receiver = Receiver::answering(200).await;
    submit(&server.api, evaluation(5, &receiver)).await;
    receiver.wait_for(1).await;
}

#[tokio::test]
async fn an_upstream_speaks_where_it_is_configured_and_only_audio_is_taken() {
    let upstream = FakeUpstream::start(|asked| match asked.body["input"].as_str() {
        Some("text") => Reply::File("text/html", b"<html>".to_vec()),
        _ => Reply::File("audio/mpeg", vec![7; 300_000]),
    })
    .await;
    let server = generate::server(&upstream, BY_UPSTREAM).await;
    let receiver = Receiver::answering(200).await;
    let job = json!({ "text": OROMO, "language": "om", "voice": "nova", "format": "mp3", "webhook_url": receiver.url() });
    let id = speak(&server.api, job).await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!((&body["job_id"], &body["status"]), (&json!(id), &json!("completed")));
    assert_eq!(fetched(&server.api, body["audio_url"].as_str().unwrap()).await, ("audio/mpeg".to_owned(), vec![7; 300_000]));
    let asked = &upstream.asked()[0];
    assert_eq!((asked.path.as_str(), &asked.body["model"], &asked.body["voice"]), ("/v1/audio/speech", &json!("tts-1"), &json!("nova")));
    assert_eq!((&asked.body["input"], &asked.body["response_format"]), (&json!(OROMO), &json!("mp3")));
    let id = speak(&server.api, json!({ "text": "text", "language": "om", "webhook_url": receiver.url() })).await;
    let body = eventually("the call", async || calls(&receiver).remove(&id)).await[0].json();
    assert_eq!((&body["status"], &body["error"]["code"]), (&json!("failed"), &json!("upstream_malformed")));
}

/// A part of a long text as an upstream may give it: here the text itself, as samples behind a header with more in it.
fn samples(text: &str) -> Vec<u8> {
    let samples: Vec<u8> = text.bytes().flat_map(|byte| [byte, 0]).collect();
    let format = [&[16, 0, 0, 0, 1, 0, 1, 0], &24_000_u32.to_le_bytes()[..], &48_000_u32.to_le_bytes(), &[2, 0, 16, 0]].concat();
    let data = [&u32::MAX.to_le_bytes()[..], &samples].concat();
    [b"RIFF\xff\xff\xff\xffWAVEfmt ".to_vec(), format, b"LIST\x04\0\0\0INFOdata".to_vec(), data].concat()
}

/// Speaks part by part, as was asked; what is `held` is not answered at first.
async fn speaking(held: &'static str) -> FakeUpstream {
    let was_held = AtomicBool::new(held.is_empty());
    FakeUpstream::start(move |asked| {
        let text = asked.body["input"].as_str().unwrap();
        assert!(text.len() <= 4096, "OpenAI takes 4,096 characters");
        if text.contains(held) && !was_held.swap(true, Ordering::Relaxed) {
            return Reply::Hang;
        }
        match asked.body["response_format"].as_str() {
            Some("wav") => Reply::File("audio/wav", samples(text)),
            Some("aac") => Reply::File("audio/wav", samples(text)), // has no other
            _ => Reply::File("audio/mpeg", text.as_bytes().to_vec()),
        }
    })
    .await
}

#[tokio::test]
async fn an_upstream_speaks_a_long_text_in_parts_that_make_one_file() {
    let text = OROMO.repeat(400);
    let upstream = speaking("").await;
    let server = generate::server(&upstream, BY_UPSTREAM).await;
    let receiver = Receiver::answering(200).await;
    let spoken = async |format: &str| {
        let id = speak(&server.api, json!({ "text": text, "language": "om", "format": format, "webhook_url": receiver.url() })).await;
        eventually("the call", async || calls(&receiver).remove(&id)).await[0].json()
    };
    let file = async |format: &str| fetched(&server.api, spoken(format).await["audio_url"].as_str().unwrap()).await;

    let (media_type, wav) = file("wav").await;
    assert_eq!((media_type.as_str(), seconds(&wav)), ("audio/wav", text.len() as f64 / 24_000.0));
    assert_eq!(wav[44..].iter().step_by(2).copied().collect::<Vec<u8>>(), text.as_bytes(), "the parts in their order");
    assert!(upstream.count() >= text.len() / 4096);
    assert_eq!(file("mp3").await, ("audio/mpeg".to_owned(), text.clone().into_bytes()));
    let (media_type, ogg) = file("ogg").await;
    assert_eq!((media_type.as_str(), &ogg[..4]), ("audio/ogg", &b"OggS"[..]));

    let failed = spoken("aac").await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("upstream_malformed")));
    assert!(failed["error"]["message"].as_str().unwrap().contains("`audio/wav` where aac was asked for"), "{failed}");
    let job = json!({ "text": text, "language": "om", "format": "flac" });
    let (status, answer) = server.api.ask(Method::POST, SPEAK, job).await;
    assert_eq!((status, &answer["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("format")));
}

#[tokio::test]
async fn a_speech_that_is_canceled_is_told_so_and_has_no_file() {
    let server = Server::at(Home::new(SETTINGS)).await;
    let receiver = Receiver::answering(200).await;
    let id = speak(&server.api, json!({ "text": OROMO.repeat(2000), "language": "om", "webhook_url": receiver.url() })).await;
    let path = format!("/v1/jobs/{id}");
    eventually("it is in the middle", async || (server.api.get(&path).await["progress"].as_f64()? > 0.0).then_some(())).await;
    let (status, body) = server.api.ask(Method::DELETE, &path, Value::Null).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("canceled")));
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!((&body["job_id"], &body["status"], &body["audio_url"]), (&json!(id), &json!("canceled"), &Value::Null));
    let download = server.api.request(Method::GET, &format!("/v1/download/{id}")).send().await.unwrap();
    assert_eq!(download.status(), StatusCode::CONFLICT, "it made no file");
    // What waits behind it has its turn.
    let next = speak(&server.api, json!({ "text": "Akkam", "language": "om", "webhook_url": receiver.url() })).await;
    assert_eq!(eventually("the call", async || calls(&receiver).remove(&next)).await[0].json()["status"], "completed");
}

#[tokio::test]
async fn a_long_speech_of_an_upstream_tells_how_far_it_is_and_survives_a_kill() {
    let text = format!("{} The end.", OROMO.repeat(400));
    let upstream = speaking("The end.").await;
    let mut server = generate::server(&upstream, BY_UPSTREAM).await;
    let receiver = Receiver::answering(200).await;
    let id = speak(&server.api, json!({ "text": text, "language": "om", "webhook_url": receiver.url() })).await;
    let path = format!("/v1/jobs/{id}");
    let far = async || (server.api.get(&path).await["progress"].as_f64()? > 0.7).then_some(());
    eventually("all but the last part is spoken", far).await;
    server.process.kill();
    server.restart().await;
    let body = receiver.wait_for(1).await[0].json();
    assert_eq!((&body["job_id"], &body["status"]), (&json!(id), &json!("completed")));
    assert_eq!(seconds(&fetched(&server.api, body["audio_url"].as_str().unwrap()).await.1), text.len() as f64 / 24_000.0);
}

//! The client against a server that speaks the real protocol, and fails in the ways that such servers do.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use postrider_core::secret::Secret;
use postrider_test_servers::{Asked, Certificates, FakeUpstream, Reply};
use postrider_upstream::{Completion, Upstream, UpstreamError, UpstreamOptions};
use serde_json::{Map, Value, json};

const KEY: &str = "sk-test-0123456789";

fn client(fake: &FakeUpstream, tries: u32) -> Upstream {
    client_with(fake, UpstreamOptions { tries, ..UpstreamOptions::default() })
}

/// One that trusts what `options` say, and tries as often.
fn client_with(fake: &FakeUpstream, options: UpstreamOptions) -> Upstream {
    let options = UpstreamOptions {
        base_url: fake.base_url(),
        api_key: Secret::new(KEY),
        idle: Duration::from_millis(300),
        total: Duration::from_secs(5),
        max_bytes: 1 << 20,
        ..options
    };
    Upstream::new(options).unwrap()
}

fn request() -> Map<String, Value> {
    let request = json!({ "model": "m-1", "messages": [{ "role": "user", "content": "say it" }], "temperature": 0.5, "stream": false });
    request.as_object().unwrap().clone()
}

async fn chat(upstream: &Upstream) -> Result<Completion, UpstreamError> {
    upstream.chat(&request(), |_| {}).await
}

#[tokio::test]
async fn a_streamed_completion_is_gathered_with_its_usage() {
    let fake = FakeUpstream::saying("Akkam jirta, ani nagaan jira").await;
    let mut heard = Vec::new();
    let completion = client(&fake, 1).chat(&request(), |text| heard.push(text.to_owned())).await.unwrap();
    assert_eq!(completion.content, "Akkam jirta, ani nagaan jira");
    assert_eq!((completion.model.as_str(), completion.finish_reason.as_str()), ("m-1", "stop"));
    assert_eq!((completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens), (2, 5, 7));
    assert_eq!((completion.id.as_str(), completion.request_id.as_deref()), ("chatcmpl-fake0", Some("req_fake_0")));
    assert!(heard.windows(2).all(|pair| pair[1].starts_with(&pair[0])), "{heard:?}");
    assert_eq!(heard.last(), Some(&completion.content));
    let asked = &fake.asked()[0];
    assert_eq!((asked.path.as_str(), &asked.body["temperature"]), ("/v1/chat/completions", &json!(0.5)));
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
}

#[tokio::test]
async fn a_whole_answer_to_a_request_for_a_stream_is_read_too() {
    let fake = FakeUpstream::start(|_| Reply::Whole("all at once".to_owned())).await;
    assert_eq!(chat(&client(&fake, 1)).await.unwrap().content, "all at once");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_then_succeeds() {
    for fault in [
        Reply::Hang,
        Reply::HangAfter(3),
        Reply::CutAfter(3),
        Reply::EndAfter(3),
        Reply::ErrorAfter(3),
        Reply::Status(500),
        Reply::Status(409),
        Reply::Limited("1".to_owned()),
    ] {
        let fake = {
            let fault = fault.clone();
            FakeUpstream::start(move |asked: &Asked| if asked.n == 0 { fault.clone() } else { Reply::Say("well then".to_owned()) }).await
        };
        let completion = chat(&client(&fake, 2)).await;
        assert_eq!(completion.map(|completion| completion.content).as_deref(), Ok("well then"), "{fault:?}");
        assert_eq!(fake.count(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn what_fails_again_and_again_is_an_error_of_its_own() {
    for (fault, code, asked) in [
        (Reply::Hang, "upstream_timeout", 2),
        (Reply::HangAfter(3), "upstream_timeout", 2),
        (Reply::CutAfter(3), "upstream_cut", 2),
        (Reply::EndAfter(0), "upstream_cut", 2),
        (Reply::ErrorAfter(3), "upstream_failed", 2),
        (Reply::Status(503), "upstream_failed", 2),
        (Reply::Status(429), "upstream_rate_limited", 2),
        (Reply::Status(401), "upstream_unauthorized", 1),
        (Reply::Status(404), "upstream_refused", 1),
        (Reply::Redirect("http://127.0.0.1:9/".to_owned()), "upstream_refused", 1),
        (Reply::Garbage, "upstream_malformed", 1),
        (Reply::Endless, "upstream_too_large", 1),
        (Reply::Json(200, json!({ "object": "list" })), "upstream_cut", 2),
    ] {
        let fake = {
            let fault = fault.clone();
            FakeUpstream::start(move |_| fault.clone()).await
        };
        let error = chat(&client(&fake, 2)).await.unwrap_err();
        assert_eq!((error.code(), fake.count()), (code, asked), "{fault:?}: {error}");
        assert!(!error.to_string().contains(KEY));
    }
}

#[tokio::test]
async fn a_key_that_the_server_repeats_is_not_passed_on() {
    let answer = json!({ "error": { "message": format!("Incorrect API key provided: {KEY}") } });
    let fake = FakeUpstream::start(move |_| Reply::Json(401, answer.clone())).await;
    let error = chat(&client(&fake, 1)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(KEY), "{error}");
    assert!(error.to_string().contains("upstream.api_key"));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let fake = FakeUpstream::saying("x").await;
    let upstream = client(&fake, 1);
    let gone = fake.base_url();
    drop(fake);
    let error = loop {
        match chat(&upstream).await {
            Err(error @ UpstreamError::Unreachable(_)) => break error,
            // The last connection that was accepted may still be answered, or cut.
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    };
    assert!(!error.to_string().contains(&gone), "{error}");
}

#[tokio::test]
async fn what_is_passed_through_comes_back_as_it_is_but_for_what_may_pass() {
    let fake = FakeUpstream::start(|asked| match asked.n {
        0 => Reply::Limited("0".to_owned()),
        1 => Reply::Status(502),
        2 => Reply::Json(400, json!({ "error": { "message": "no" } })),
        _ => Reply::Json(200, json!({ "data": [] })),
    })
    .await;
    let upstream = client(&fake, 3);
    let refused = upstream.post("/v1/embeddings", Bytes::from_static(br#"{"input":"a"}"#)).await.unwrap();
    assert_eq!((refused.status, refused.request_id.as_deref()), (400, Some("req_fake_2")));
    let done = upstream.post("/v1/embeddings", Bytes::from_static(br#"{"input":"a"}"#)).await.unwrap();
    assert_eq!((done.status, &done.body[..]), (200, &br#"{"data":[]}"#[..]));
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| asked.path == "/v1/embeddings" && asked.body == json!({ "input": "a" })), "{asked:?}");
}

#[tokio::test]
async fn a_spoken_text_comes_in_pieces() {
    let file = vec![7; 300_000];
    let sent = file.clone();
    let fake = FakeUpstream::start(move |_| Reply::File("audio/mpeg; x=y", sent.clone())).await;
    let request = json!({ "model": "tts-1", "input": "Akkam", "voice": "alloy" });
    let mut speech = client(&fake, 1).speech(request.as_object().unwrap()).await.unwrap();
    assert_eq!(speech.media_type, "audio/mpeg");
    let mut got = Vec::new();
    while let Some(piece) = speech.next().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, file);
    assert_eq!(fake.asked()[0].path, "/v1/audio/speech");
}

#[tokio::test]
async fn over_tls_a_server_is_asked_only_if_it_is_who_it_says() {
    let certificates = Certificates::new();
    let fake = FakeUpstream::start_tls(&certificates, |_| Reply::Say("in secret".to_owned())).await;
    assert!(fake.base_url().starts_with("https://"));
    let trusting = |extra_ca| client_with(&fake, UpstreamOptions { tries: 1, extra_ca, ..UpstreamOptions::default() });
    let known = trusting(Some(certificates.authority()));
    for _ in 0..2 {
        assert_eq!(chat(&known).await.unwrap().content, "in secret");
    }
    let body = Bytes::from_static(b"{}");
    assert_eq!(known.post("/v1/embeddings", body).await.unwrap().status, 200);
    let strangers = Certificates::new();
    for other in [None, Some(strangers.authority())] {
        let asked = fake.count();
        let refused = chat(&trusting(other)).await.unwrap_err();
        assert!(refused.code() == "upstream_unreachable" && refused.to_string().contains("certificate"), "{refused}");
        assert_eq!(fake.count(), asked);
    }
}

//! Answers in the forms that OpenAI documents.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{Asked, Reply};

/// What the faulty ones begin to say.
const WORDS: &str = "one two three four five six seven eight nine ten";

/// How a stream of words ends.
#[derive(Clone, Copy)]
enum End {
    Finished,
    Hang,
    Cut,
    Silent,
    Failed,
}

pub(crate) async fn answer(asked: &Asked, reply: Reply) -> Response {
    let is_stream = asked.body["stream"] == json!(true);
    match reply {
        Reply::Say(text) if is_stream => streamed(asked, &text, usize::MAX, End::Finished, None),
        Reply::Slowly(pause, text) if is_stream => streamed(asked, &text, usize::MAX, End::Finished, Some(pause)),
        Reply::Slowly(pause, text) => {
            tokio::time::sleep(pause * u32::try_from(words(&text).len()).unwrap()).await;
            whole(asked, &text)
        }
        Reply::Say(text) | Reply::Whole(text) => whole(asked, &text),
        Reply::Json(status, value) => json_of(asked, status, &value),
        Reply::Status(status) => json_of(asked, status, &error(status)),
        Reply::Limited(wait) => {
            let mut response = json_of(asked, 429, &error(429));
            response.headers_mut().insert(RETRY_AFTER, wait.parse().unwrap());
            response
        }
        Reply::Hang => std::future::pending().await,
        Reply::HangAfter(count) => streamed(asked, WORDS, count, End::Hang, None),
        Reply::CutAfter(count) => streamed(asked, WORDS, count, End::Cut, None),
        Reply::EndAfter(count) => streamed(asked, WORDS, count, End::Silent, None),
        Reply::ErrorAfter(count) => streamed(asked, WORDS, count, End::Failed, None),
        Reply::Garbage => of(asked, 200, "application/json", Body::from("<html>this is no JSON")),
        Reply::Endless => {
            let pieces = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 64 << 10])));
            let begin = stream::once(async { Ok(Bytes::from_static(b"data: {\"id\":\"")) });
            of(asked, 200, "text/event-stream", Body::from_stream(begin.chain(pieces)))
        }
        Reply::File(media_type, bytes) => of(asked, 200, media_type, Body::from(bytes)),
        Reply::Redirect(to) => {
            let mut response = of(asked, 307, "text/plain", Body::empty());
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            response
        }
    }
}

fn of(asked: &Asked, status: u16, media_type: &str, body: Body) -> Response {
    let builder = Response::builder().status(status).header(CONTENT_TYPE, media_type);
    builder.header("x-request-id", format!("req_fake_{}", asked.n)).body(body).unwrap()
}

fn json_of(asked: &Asked, status: u16, value: &Value) -> Response {
    of(asked, status, "application/json", Body::from(value.to_string()))
}

fn error(status: u16) -> Value {
    json!({ "error": { "message": format!("the fake upstream answers {status}"), "type": "fake", "param": null, "code": null } })
}

fn whole(asked: &Asked, text: &str) -> Response {
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "finish_reason": "stop" });
    let value = json!({
        "id": id(asked), "object": "chat.completion", "created": 1_700_000_000, "model": asked.body["model"], "choices": [choice],
        "usage": usage(asked, text),
    });
    json_of(asked, 200, &value)
}

fn id(asked: &Asked) -> String {
    format!("chatcmpl-fake{}", asked.n)
}

/// A token is a word here.
fn usage(asked: &Asked, text: &str) -> Value {
    let (prompt, completion) = (words(asked.prompt()).len(), words(text).len());
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}

/// The words, each with the space before it.
fn words(text: &str) -> Vec<String> {
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn streamed(asked: &Asked, text: &str, most: usize, end: End, pause: Option<Duration>) -> Response {
    let chunk = |choices: Value, usage: Value| {
        let value = json!({
            "id": id(asked), "object": "chat.completion.chunk", "created": 1_700_000_000, "model": asked.body["model"], "choices": choices,
            "usage": usage,
        });
        format!("data: {value}\n\n")
    };
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "finish_reason": reason }]);
    let mut pieces = vec![chunk(choice(json!({ "role": "assistant", "content": "" }), Value::Null), Value::Null)];
    pieces.extend(words(text).iter().take(most).map(|word| chunk(choice(json!({ "content": word }), Value::Null), Value::Null)));
    match end {
        End::Finished => {
            pieces.push(chunk(choice(json!({}), json!("stop")), Value::Null));
            if asked.body["stream_options"]["include_usage"] == json!(true) {
                pieces.push(chunk(json!([]), usage(asked, text)));
            }
            pieces.push("data: [DONE]\n\n".to_owned());
        }
        End::Failed => pieces.push(format!("data: {}\n\n", error(500))),
        End::Hang | End::Cut | End::Silent => {}
    }
    let said = stream::iter(pieces).then(move |piece| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        Ok::<_, io::Error>(Bytes::from(piece))
    });
    let body = match end {
        End::Finished | End::Silent | End::Failed => Body::from_stream(said),
        End::Hang => Body::from_stream(said.chain(stream::pending())),
        End::Cut => Body::from_stream(said.chain(stream::once(async {
            // What was said before goes out first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(io::Error::other("cut"))
        }))),
    };
    of(asked, 200, "text/event-stream", body)
}

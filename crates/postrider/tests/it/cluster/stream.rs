//! What one process delivers, another one streams.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::world::Cluster;
use crate::load::event;
use crate::receiver::{Got, Receiver, Reply};
use crate::world::{Api, Server, eventually};

/// Enough that each of two processes delivers to some.
const ENDPOINTS: usize = 8;
const EVENTS: u64 = 10;

#[tokio::test]
async fn every_process_streams_what_any_of_them_delivers() {
    let cluster = Cluster::new("", 4).await;
    let (apart, beside, _deliver) = tokio::join!(cluster.start("api"), cluster.start("api,deliver"), cluster.start("deliver"));
    assert_streamed(&apart.api(), &beside.api()).await;
}

#[tokio::test]
async fn the_embedded_server_streams_the_same() {
    let server = Server::start().await;
    assert_streamed(&server.api, &server.api).await;
}

/// That each attempt is on the streams of both, once, as the delivery's history tells of it.
async fn assert_streamed(one: &Api, other: &Api) {
    let fails = |got: &Got| got.n != Some(0) && got.number("x-webhook-attempt") == 1;
    let receiver = Receiver::start(move |got| Reply::Status(if fails(got) { 500 } else { 200 })).await;
    for n in 0..ENDPOINTS {
        one.register(&receiver, json!({ "events": [format!("e.{n}"), "all"], "retry": { "schedule": [1] } })).await;
    }
    let streams = [Stream::open(one).await, Stream::open(other).await];

    // Once attempts at each endpoint are seen, all who deliver know that somebody follows.
    for n in 0..ENDPOINTS {
        let kind = format!("e.{n}");
        let shown = async || {
            one.send(event(&kind, 0)).await;
            streams.iter().all(|stream| stream.has(&kind)).then_some(())
        };
        eventually("attempts at the endpoint are streamed", shown).await;
    }

    let mut expected = BTreeSet::new();
    for n in 1..=EVENTS {
        let id = one.send(event("all", n)).await;
        for delivery in succeeded(one, &id).await {
            let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
            for attempt in one.get(&path).await["attempts"].as_array().unwrap() {
                expected.insert(told(&delivery, attempt).to_string());
            }
        }
    }
    assert_eq!(expected.len(), EVENTS as usize * ENDPOINTS * 2);
    for stream in &streams {
        eventually("all attempts are streamed", async || (stream.seen("all").len() >= expected.len()).then_some(())).await;
        let seen = stream.seen("all");
        assert_eq!(seen.len(), expected.len(), "each is streamed once");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

/// The deliveries of an event, once all have succeeded.
async fn succeeded(api: &Api, event: &str) -> Vec<Value> {
    let done = async || {
        let event = api.get(&format!("/v1/events/{event}")).await;
        let deliveries = event["deliveries"].as_array()?;
        let done = deliveries.len() == ENDPOINTS && deliveries.iter().all(|delivery| delivery["status"] == "succeeded");
        done.then(|| deliveries.clone())
    };
    eventually("everything is delivered", done).await
}

/// An attempt as the stream tells of it.
fn told(delivery: &Value, attempt: &Value) -> Value {
    json!({
        "delivery_id": delivery["id"], "event_id": delivery["event_id"], "type": delivery["type"],
        "webhook_id": delivery["webhook_id"], "attempt": attempt["n"], "status_code": attempt["status_code"],
        "status": if attempt["next_attempt_at"].is_null() { "succeeded" } else { "pending" }, "error": attempt["error"],
        "duration_ms": attempt["duration_ms"], "started_at": attempt["started_at"], "next_attempt_at": attempt["next_attempt_at"],
    })
}

/// What a server streams; read until dropped.
struct Stream {
    attempts: Arc<Mutex<Vec<Value>>>,
    reading: JoinHandle<()>,
}

impl Stream {
    async fn open(api: &Api) -> Stream {
        let response = api.request(Method::GET, "/v1/events/stream").send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        let attempts = Arc::<Mutex<Vec<Value>>>::default();
        let reading = tokio::spawn(read(response, attempts.clone()));
        Stream { attempts, reading }
    }

    fn has(&self, kind: &str) -> bool {
        !self.seen(kind).is_empty()
    }

    /// The attempts at events of this type.
    fn seen(&self, kind: &str) -> Vec<String> {
        self.attempts.lock().unwrap().iter().filter(|attempt| attempt["type"] == kind).map(Value::to_string).collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(mut response: Response, attempts: Arc<Mutex<Vec<Value>>>) {
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let message: Vec<u8> = text.drain(..end + 2).collect();
            let message = String::from_utf8(message).unwrap();
            assert!(!message.contains("event: lagged"), "{message}");
            let data = message.lines().find_map(|line| line.strip_prefix("data: "));
            attempts.lock().unwrap().extend(data.map(|data| serde_json::from_str::<Value>(data).unwrap()));
        }
    }
}

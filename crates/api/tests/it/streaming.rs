//! The stream of deliveries.

use postrider_api::ApiLimits;
use postrider_core::attempt::DeliveryState;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_ingest::clock;
use reqwest::Response;
use serde_json::{Value, json};

use crate::world::{World, problem, soon};

/// The next event's name and data.
async fn next(stream: &mut Response, read: &mut String) -> (String, Value) {
    loop {
        if let Some((event, rest)) = read.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start().to_owned();
            let found = (field("event:"), serde_json::from_str(&field("data:")).unwrap());
            *read = rest.to_owned();
            return found;
        }
        let more = soon(stream.chunk()).await.unwrap().expect("the stream goes on");
        read.push_str(std::str::from_utf8(&more).unwrap());
    }
}

#[tokio::test]
async fn attempts_are_streamed_as_they_are_written() {
    let world = World::new().await;
    let (one, other) = (EndpointId(Uid(1)), EndpointId(Uid(2)));
    let mut all = world.get("/v1/events/stream").send().await.unwrap();
    assert_eq!(all.headers()["content-type"], "text/event-stream");
    let mut some = world.get(&format!("/v1/events/stream?webhook={other}&type=b")).send().await.unwrap();
    let event = Uid::new(clock::now(), 0, 0);
    for (endpoint, kind) in [(one, "a"), (other, "a"), (one, "b"), (other, "b")] {
        world.write_attempt(DeliveryId { event, endpoint }, 1, kind, 200, DeliveryState::Succeeded).await;
    }
    let mut read = String::new();
    for (endpoint, kind) in [(one, "a"), (other, "a"), (one, "b"), (other, "b")] {
        let (name, data) = next(&mut all, &mut read).await;
        assert_eq!((name.as_str(), &data["type"]), ("delivery", &json!(kind)));
        assert_eq!(data["webhook_id"], endpoint.to_string());
    }
    let (_, data) = next(&mut some, &mut String::new()).await;
    assert_eq!(data["delivery_id"], DeliveryId { event, endpoint: other }.to_string());
    assert_eq!((&data["status"], &data["status_code"], &data["attempt"]), (&json!("succeeded"), &json!(200), &json!(1)));
}

#[tokio::test]
async fn streams_are_bounded_and_give_their_place_back() {
    let world = World::with_limits(ApiLimits { streams: 1, ..ApiLimits::default() }).await;
    let first = world.get("/v1/events/stream").send().await.unwrap();
    let refused = world.get("/v1/events/stream").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(problem(refused, 503).await.0, "busy");
    drop(first);
    soon(async { while world.get("/v1/events/stream").send().await.unwrap().status() != 200 {} }).await;
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let mut world = World::new().await;
    let mut stream = world.get("/v1/events/stream").send().await.unwrap();
    world.stop();
    soon(async { while stream.chunk().await.unwrap().is_some() {} }).await;
    world.stopped().await;
}

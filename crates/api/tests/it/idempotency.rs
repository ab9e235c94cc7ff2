//! Requests that are repeated.

use std::collections::HashSet;

use postrider_backend::log::Topic;
use postrider_core::attempt::DeliveryState;
use postrider_core::id::DeliveryId;
use postrider_core::record::{Envelope, EventEnvelope};
use reqwest::Response;
use serde_json::{Value, json};

use crate::world::{World, ok, problem};

async fn send(world: &World, key: &str, data: Value) -> Response {
    world.post("/v1/events", json!({"type": "a", "data": data})).header("idempotency-key", key).send().await.unwrap()
}

/// How many different events lie in the log; a repeat that overtook the first one's row has the same number.
async fn events(world: &World) -> usize {
    let records = world.records(Topic::Events).await;
    let numbers: HashSet<_> = records.iter().map(|record| EventEnvelope::decode(&record.meta).unwrap().event).collect();
    numbers.len()
}

#[tokio::test]
async fn a_repeat_gives_the_first_answer_and_one_event() {
    let world = World::new().await;
    let first = ok(send(&world, "k", json!(1)).await, 202).await;
    world.write_events().await;
    assert_eq!(ok(send(&world, "k", json!(1)).await, 202).await, first);
    assert_eq!(problem(send(&world, "k", json!(2)).await, 422).await.0, "idempotency-key-reused");
    assert_eq!(world.records(Topic::Events).await.len(), 1);
}

#[tokio::test]
async fn of_many_repeats_at_once_there_is_one_event() {
    let world = World::new().await;
    let sent = (0..32).map(|_| async { ok(send(&world, "race", json!(1)).await, 202).await["id"].as_str().unwrap().to_owned() });
    let ids: HashSet<String> = futures_util::future::join_all(sent).await.into_iter().collect();
    assert_eq!((ids.len(), events(&world).await), (1, 1));
}

#[tokio::test]
async fn of_different_requests_with_one_key_one_is_taken() {
    let world = World::new().await;
    let sent = (0..16).map(|n| {
        let world = &world;
        async move { send(world, "race", json!(n)).await.status().as_u16() }
    });
    let mut statuses = futures_util::future::join_all(sent).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 202);
    assert!(statuses[1..].iter().all(|status| *status == 422), "{statuses:?}");
    assert_eq!(events(&world).await, 1);
}

#[tokio::test]
async fn a_key_counts_for_each_event_of_a_batch() {
    let world = World::new().await;
    let send = async |second: Value| {
        let batch = json!([{"type": "a", "data": 0}, {"type": "a b", "data": 0}, second]);
        let sent = world.post("/v1/events/batch", batch).header("idempotency-key", "k").send().await.unwrap();
        ok(sent, 202).await
    };
    let first = send(json!({"type": "a", "data": 2})).await;
    world.write_events().await;
    assert_eq!(send(json!({"type": "a", "data": 2})).await, first);
    let changed = send(json!({"type": "a", "data": 3})).await;
    assert_eq!(changed["results"][0], first["results"][0]);
    assert_eq!(changed["results"][2]["error"]["type"], "urn:postrider:problem:idempotency-key-reused");
    assert_eq!(world.records(Topic::Events).await.len(), 2);
}

#[tokio::test]
async fn a_key_must_be_visible_ascii() {
    let world = World::new().await;
    for key in ["", "a b", "é", &"x".repeat(256)] {
        assert_eq!(problem(send(&world, key, json!(1)).await, 422).await.1, ["idempotency-key"], "{key}");
    }
    ok(send(&world, &"x".repeat(255), json!(1)).await, 202).await;
}

#[tokio::test]
async fn a_repeat_makes_up_for_deliveries_that_a_request_which_was_cut_short_left_out() {
    let world = World::new().await;
    let first = world.endpoint("http://127.0.0.1:9/1").await.parse().unwrap();
    let second = world.endpoint("http://127.0.0.1:9/2").await.parse().unwrap();
    let event = json!({"type": "a", "data": 1, "id": "mine"});
    let receipt = ok(world.post("/v1/events", event.clone()).send().await.unwrap(), 202).await;
    let records = world.records(Topic::Deliveries).await;
    let number = Envelope::decode(&records[0].meta).unwrap().event;
    assert_eq!(records.len(), 2);
    let repeated = async || {
        assert_eq!(ok(world.post("/v1/events", event.clone()).send().await.unwrap(), 202).await, receipt);
        world.records(Topic::Deliveries).await.split_off(2)
    };

    // As where the record of the second endpoint did not become durable.
    world.write_events().await;
    world.write_attempt(DeliveryId { event: number, endpoint: first }, 1, "a", 200, DeliveryState::Succeeded).await;
    let more = repeated().await;
    let envelope = Envelope::decode(&more[0].meta).unwrap();
    assert_eq!((more.len(), envelope.event, envelope.endpoint, envelope.row), (1, number, second, None));
    assert_eq!(more[0].payload, records[0].payload);

    world.write_attempt(DeliveryId { event: number, endpoint: second }, 1, "a", 500, DeliveryState::Pending).await;
    assert_eq!(repeated().await.len(), 1, "nothing is missing any more");
}

#[tokio::test]
async fn the_id_of_a_cloud_event_is_one_of_its_source() {
    let world = World::new().await;
    let binary = async |source: &str, kind: &str, body: Value| {
        let request = world.post("/v1/events", body).header("ce-specversion", "1.0").header("ce-id", "1");
        request.header("ce-source", source).header("ce-type", kind).send().await.unwrap()
    };
    ok(binary("/a", "order.created", json!({})).await, 202).await;
    ok(binary("/b", "order.deleted", json!({})).await, 202).await;
    let structured = json!({"specversion": "1.0", "id": "1", "source": "/c", "type": "order.created", "data": 7});
    let structured =
        world.request("POST", "/v1/events").header("content-type", "application/cloudevents+json").body(structured.to_string());
    ok(structured.send().await.unwrap(), 202).await;
    assert_eq!(events(&world).await, 3);
    // A repeat is one, and another event in its name is none.
    world.write_events().await;
    ok(binary("/b", "order.deleted", json!({})).await, 202).await;
    assert_eq!(problem(binary("/b", "order.created", json!({})).await, 422).await.0, "idempotency-key-reused");
    assert_eq!(problem(binary("/b", "order.deleted", json!(1)).await, 422).await.0, "idempotency-key-reused");
    assert_eq!(events(&world).await, 3);
}

//! Requests that are repeated.

use std::collections::HashSet;

use postrider_backend::log::Topic;
use postrider_core::record::EventEnvelope;
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

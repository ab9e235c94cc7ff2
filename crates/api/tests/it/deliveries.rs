//! Deliveries and dead letters.

use bytes::Bytes;
use postrider_backend::log::Topic;
use postrider_backend::store::{Body, EventRow, EventWrite, Target, Write};
use postrider_core::attempt::{DeliveryState, End};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::record::{Command, Envelope};
use postrider_ingest::clock;
use serde_json::{Value, json};

use crate::world::{World, ok, problem};

async fn last_command(world: &World) -> (Command, u32, usize) {
    let records = world.records(Topic::Deliveries).await;
    let last = records.iter().max_by_key(|record| record.offset).unwrap();
    let envelope = Envelope::decode(&last.meta).unwrap();
    (envelope.command, envelope.attempts, last.payload.len())
}

#[tokio::test]
async fn a_delivery_is_shown_with_its_attempts() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/hook").await;
    let event = world.event(json!({"type": "a.b", "data": 1})).await;
    let id = DeliveryId { event: event.parse().unwrap(), endpoint: endpoint.parse().unwrap() };
    world.write_attempt(id, 1, "a.b", 500, DeliveryState::Pending).await;
    let shown = ok(world.get(&format!("/v1/deliveries/{id}")).send().await.unwrap(), 200).await;
    assert_eq!((&shown["id"], &shown["event_id"]), (&json!(id.to_string()), &json!(event)));
    assert_eq!((&shown["webhook_id"], &shown["url"]), (&json!(endpoint), &json!("http://127.0.0.1:9/hook")));
    assert_eq!((&shown["status"], &shown["type"]), (&json!("pending"), &json!("a.b")));
    let attempt = &shown["attempts"][0];
    assert_eq!((&attempt["n"], &attempt["status_code"], &attempt["duration_ms"]), (&json!(1), &json!(500), &json!(10)));
    assert_eq!((&attempt["error"], &attempt["response_body"]), (&Value::Null, &json!("so \u{fffd} it goes")));
    assert_eq!(attempt["next_attempt_at"], shown["next_attempt_at"]);
    assert!(shown["next_attempt_at"].is_string());
}

#[tokio::test]
async fn deliveries_are_listed_by_state_endpoint_and_type() {
    let world = World::new().await;
    let (one, other) = (world.endpoint("http://127.0.0.1:9/1").await, world.endpoint("http://127.0.0.1:9/2").await);
    let event = world.event(json!({"type": "a.b", "data": 1})).await;
    let late = world.event(json!({"type": "c", "data": 1})).await;
    let id = |event: &str, endpoint: &str| DeliveryId { event: event.parse().unwrap(), endpoint: endpoint.parse().unwrap() };
    world.write_attempt(id(&event, &one), 1, "a.b", 200, DeliveryState::Succeeded).await;
    world.write_attempt(id(&event, &other), 3, "a.b", 404, DeliveryState::Failed).await;
    world.write_end(id(&late, &other), End::Canceled).await;
    let list = async |query: &str| {
        let page = ok(world.get(&format!("/v1/deliveries?{query}")).send().await.unwrap(), 200).await;
        page["deliveries"].as_array().unwrap().iter().map(|delivery| delivery["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let ids = |all: &[DeliveryId]| all.iter().map(DeliveryId::to_string).collect::<Vec<_>>();
    assert_eq!(list("").await.len(), 4);
    assert_eq!(list("limit=3").await.len(), 3);
    assert_eq!(list("status=succeeded").await, ids(&[id(&event, &one)]));
    assert_eq!(list("status=pending").await, ids(&[id(&late, &one)]));
    assert_eq!(list("status=canceled").await, ids(&[id(&late, &other)]));
    assert_eq!(list(&format!("webhook={other}&type=a.b")).await, ids(&[id(&event, &other)]));
    let failed = ok(world.get("/v1/deliveries?status=failed").send().await.unwrap(), 200).await;
    assert_eq!((&failed["deliveries"][0]["attempts"], &failed["deliveries"][0]["last_status_code"]), (&json!(3), &json!(404)));

    let dead = ok(world.get("/v1/dead-letters").send().await.unwrap(), 200).await;
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 1);
    let letter = &dead["dead_letters"][0];
    assert_eq!((&letter["id"], &letter["reason"]), (&json!(id(&event, &other).to_string()), &json!("every attempt failed")));
    assert!(letter["dead_at"].is_string() && dead["next"].is_null());
}

#[tokio::test]
async fn a_waiting_delivery_is_retried_and_a_finished_one_replayed() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/").await;
    let event = world.event(json!({"type": "a", "data": 1})).await;
    let id = DeliveryId { event: event.parse().unwrap(), endpoint: endpoint.parse().unwrap() };
    let path = format!("/v1/deliveries/{id}");
    let pending = json!({"id": id.to_string(), "status": "pending"});
    assert_eq!(ok(world.request("POST", &format!("{path}/retry")).send().await.unwrap(), 202).await, pending);
    assert_eq!(last_command(&world).await, (Command::Retry, 0, 0));

    let canceling = json!({"id": id.to_string(), "status": "canceling"});
    assert_eq!(ok(world.request("POST", &format!("{path}/cancel")).send().await.unwrap(), 202).await, canceling);
    assert_eq!(last_command(&world).await.0, Command::Cancel);

    world.write_attempt(id, 5, "a", 500, DeliveryState::Failed).await;
    assert_eq!(ok(world.request("POST", &format!("{path}/retry")).send().await.unwrap(), 202).await, pending);
    let (command, attempts, size) = last_command(&world).await;
    assert_eq!((command, attempts, size > 0), (Command::Replay, 5, true));
    assert_eq!(problem(world.request("POST", &format!("{path}/cancel")).send().await.unwrap(), 409).await.0, "conflict");
}

#[tokio::test]
async fn another_tenants_rows_are_never_found() {
    let world = World::new().await;
    let event = Uid::new(clock::now(), 0, 4);
    let endpoint = EndpointId(Uid(7));
    let row = EventRow {
        given_id: Some("theirs".to_owned()),
        kind: "a".to_owned(),
        metadata: None,
        targets: vec![Target { endpoint, url: Some("http://127.0.0.1:9/".to_owned()) }],
        key: None,
        correlation_id: None,
        body: Body::Inline(Bytes::from_static(b"{\"data\":1}")),
    };
    world.store.write(vec![Write::Event(EventWrite { tenant: "other".into(), event, chunk: 0, row })]).await.unwrap();
    let id = DeliveryId { event, endpoint };
    for path in [format!("/v1/events/{event}"), "/v1/events/theirs".to_owned(), format!("/v1/deliveries/{id}")] {
        assert_eq!(problem(world.get(&path).send().await.unwrap(), 404).await.0, "not-found", "{path}");
    }
    assert_eq!(ok(world.get("/v1/events").send().await.unwrap(), 200).await["events"], json!([]));
    assert_eq!(ok(world.get("/v1/deliveries").send().await.unwrap(), 200).await["deliveries"], json!([]));
}

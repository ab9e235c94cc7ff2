//! Sending, listing, showing and replaying events.

use postrider_backend::log::Topic;
use postrider_core::attempt::DeliveryState;
use postrider_core::id::DeliveryId;
use postrider_core::record::{Command, Envelope};
use postrider_core::trace::Trace;
use serde_json::{Value, json};

use crate::world::{World, ok, problem, soon};

#[tokio::test]
async fn an_event_is_acknowledged_with_its_receipt_and_lies_in_the_log() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/").await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = world
        .post("/v1/events", json!({"type": "a.b", "data": {"n": 1}}))
        .header("traceparent", traceparent)
        .header("tracestate", "rojo=1");
    let receipt = ok(sent.send().await.unwrap(), 202).await;
    assert!(receipt["id"].as_str().unwrap().starts_with("evt_"));
    assert_eq!(receipt["type"], "a.b");
    assert!(receipt["created_at"].as_str().unwrap().ends_with('Z'));
    let records = world.records(Topic::Deliveries).await;
    let envelope = Envelope::decode(&records[0].meta).unwrap();
    assert_eq!((records.len(), envelope.endpoint.to_string()), (1, endpoint));
    assert_eq!(envelope.trace, Trace::read(traceparent, Some("rojo=1")));
    let body: Value = serde_json::from_slice(&records[0].payload).unwrap();
    assert_eq!((&body["id"], &body["data"]), (&receipt["id"], &json!({"n": 1})));
}

#[tokio::test]
async fn a_cloud_event_is_taken_in_all_three_modes() {
    let world = World::new().await;
    let event = json!({"specversion": "1.0", "id": "c1", "source": "/shop", "type": "order.created", "data": {"n": 1}});
    let structured = world.request("POST", "/v1/events").header("content-type", "application/cloudevents+json; charset=utf-8");
    let receipt = ok(structured.body(event.to_string()).send().await.unwrap(), 202).await;
    assert_eq!((&receipt["id"], &receipt["type"]), (&json!("c1"), &json!("order.created")));

    let binary = world.post("/v1/events", json!({"n": 2})).header("ce-specversion", "1.0").header("ce-id", "c2");
    let binary = binary.header("ce-source", "/shop").header("ce-type", "order.paid");
    assert_eq!(ok(binary.send().await.unwrap(), 202).await["id"], "c2");

    for path in ["/v1/events", "/v1/events/batch"] {
        let batch = world.request("POST", path).header("content-type", "application/cloudevents-batch+json");
        let mut third = event.clone();
        third["id"] = json!(path);
        let answer = ok(batch.body(json!([third, {"specversion": "0.3"}]).to_string()).send().await.unwrap(), 202).await;
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(1)));
        assert_eq!(answer["results"][0]["id"], path);
    }
    let missing = world.post("/v1/events", json!(1)).header("ce-specversion", "1.0");
    assert_eq!(problem(missing.send().await.unwrap(), 422).await, ("invalid".to_owned(), vec!["ce-type".to_owned()]));
    assert_eq!(world.records(Topic::Events).await.len(), 4);
}

#[tokio::test]
async fn what_goes_to_an_endpoint_in_order_goes_one_way() {
    let world = World::new().await;
    let ordered = json!({"url": "http://127.0.0.1:9/", "events": ["order.*"], "ordering": "key"});
    ok(world.post("/v1/webhooks", ordered).send().await.unwrap(), 201).await;
    for event in [
        json!({"type": "order.paid", "data": 1, "key": "k"}),
        json!({"type": "order.paid", "data": 2}),
        json!({"type": "other", "data": 3, "key": "k", "webhook_url": "http://127.0.0.1:9/"}),
    ] {
        ok(world.post("/v1/events", event).send().await.unwrap(), 202).await;
    }
    // By the router, as events of the key do that have too many targets to go straight.
    assert_eq!((world.records(Topic::Events).await.len(), world.records(Topic::Deliveries).await.len()), (1, 2));
}

#[tokio::test]
async fn a_batch_may_be_more_than_one_append() {
    let world = World::new().await;
    for n in 0..3 {
        world.endpoint(&format!("http://127.0.0.1:9/{n}")).await;
    }
    let event = |n: usize| json!({"type": "a", "data": "x".repeat(900_000), "id": n.to_string()});
    let answer = ok(world.post("/v1/events/batch", (0..10).map(event).collect()).send().await.unwrap(), 202).await;
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(10), &json!(0)));
    let order: Vec<String> = answer["results"].as_array().unwrap().iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.records(Topic::Deliveries).await.len(), 30);
}

#[tokio::test]
async fn an_event_is_shown_with_its_deliveries() {
    let world = World::new().await;
    let endpoint = world.endpoint("http://127.0.0.1:9/a").await;
    let id = world
        .event(json!({
            "type": "a.b", "data": [1, {"x": null}], "source": "s", "key": "k", "correlation_id": "c",
            "metadata": {"m": 1}, "webhook_url": "http://127.0.0.1:9/b", "created_at": "2026-01-31T12:00:00Z",
        }))
        .await;
    let event = ok(world.get(&format!("/v1/events/{id}")).send().await.unwrap(), 200).await;
    for (field, value) in [
        ("id", json!(id)),
        ("uid", json!(id)),
        ("type", json!("a.b")),
        ("data", json!([1, {"x": null}])),
        ("source", json!("s")),
        ("key", json!("k")),
        ("correlation_id", json!("c")),
        ("metadata", json!({"m": 1})),
        ("created_at", json!("2026-01-31T12:00:00Z")),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    let deliveries = event["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries.iter().any(|d| d["webhook_id"] == endpoint.as_str() && d["status"] == "pending" && d["attempts"] == 0));
    assert!(deliveries.iter().any(|d| d["url"] == "http://127.0.0.1:9/b"));
}

#[tokio::test]
async fn an_event_is_found_by_the_id_its_sender_gave() {
    let world = World::new().await;
    world.event(json!({"type": "a.b", "data": 1, "id": "order/1 ?"})).await;
    let event = ok(world.get("/v1/events/order%2F1%20%3F").send().await.unwrap(), 200).await;
    assert_eq!((&event["id"], &event["data"]), (&json!("order/1 ?"), &json!(1)));
    let same = ok(world.get(&format!("/v1/events/{}", event["uid"].as_str().unwrap())).send().await.unwrap(), 200).await;
    assert_eq!(same, event);
}

#[tokio::test]
async fn an_event_that_is_on_its_way_to_the_store_is_waited_for() {
    let world = World::new().await;
    let receipt = ok(world.post("/v1/events", json!({"type": "a", "data": 1})).send().await.unwrap(), 202).await;
    let path = format!("/v1/events/{}", receipt["id"].as_str().unwrap());
    let (shown, ()) = tokio::join!(soon(world.get(&path).send()), world.write_events());
    assert_eq!(ok(shown.unwrap(), 200).await["data"], 1);
}

#[tokio::test]
async fn events_are_listed_newest_first_page_by_page() {
    let world = World::new().await;
    for n in 0..5 {
        let kind = if n == 2 { "other" } else { "a.b" };
        ok(world.post("/v1/events", json!({"type": kind, "data": n, "id": format!("e{n}"), "source": "s"})).send().await.unwrap(), 202)
            .await;
    }
    world.write_events().await;
    let (mut ids, mut path) = (Vec::new(), "/v1/events?limit=2&type=a.b".to_owned());
    loop {
        let page = ok(world.get(&path).send().await.unwrap(), 200).await;
        for event in page["events"].as_array().unwrap() {
            assert_eq!((&event["source"], event.get("data")), (&json!("s"), None));
            ids.push(event["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/events?limit=2&type=a.b&after={next}");
    }
    assert_eq!(ids, ["e4", "e3", "e1", "e0"]);
    let none = ok(world.get("/v1/events?until=2020-01-01T00:00:00%2B01:00").send().await.unwrap(), 200).await;
    assert_eq!(none, json!({"events": [], "next": null}));
}

#[tokio::test]
async fn a_replay_makes_every_delivery_again() {
    let world = World::new().await;
    let (waiting, done) = (world.endpoint("http://127.0.0.1:9/1").await, world.endpoint("http://127.0.0.1:9/2").await);
    let deleted = world.endpoint("http://127.0.0.1:9/3").await;
    let id = world.event(json!({"type": "a", "data": 1})).await;
    let delivery = DeliveryId { event: id.parse().unwrap(), endpoint: done.parse().unwrap() };
    world.write_attempt(delivery, 2, "a", 200, DeliveryState::Succeeded).await;
    world.request("DELETE", &format!("/v1/webhooks/{deleted}")).send().await.unwrap();

    let path = format!("/v1/events/{id}/replay");
    assert_eq!(ok(world.request("POST", &path).send().await.unwrap(), 202).await, json!({"replayed": 2}));
    assert_eq!(ok(world.post(&path, json!({"webhook": done})).send().await.unwrap(), 202).await, json!({"replayed": 1}));
    let records = world.records(Topic::Deliveries).await;
    let commands: Vec<(Command, String, u32, bool)> = records
        .iter()
        .map(|record| (Envelope::decode(&record.meta).unwrap(), record.payload.is_empty()))
        .filter(|(envelope, _)| envelope.command != Command::Deliver)
        .map(|(envelope, empty)| (envelope.command, envelope.endpoint.to_string(), envelope.attempts, empty))
        .collect();
    assert_eq!(commands.len(), 3);
    assert!(commands.contains(&(Command::Retry, waiting, 0, true)));
    assert_eq!(commands.iter().filter(|command| **command == (Command::Replay, done.clone(), 2, false)).count(), 2);

    let foreign = format!("ep_{}", "0".repeat(26));
    assert_eq!(problem(world.post(&path, json!({"webhook": foreign})).send().await.unwrap(), 422).await.1, ["webhook"]);
}

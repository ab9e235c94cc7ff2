//! Batches.

use postrider_backend::log::Topic;
use serde_json::{Value, json};

use crate::world::{World, ok, problem};

fn good(n: usize) -> Value {
    json!({"type": "a.b", "data": n})
}

#[tokio::test]
async fn a_bad_line_leaves_the_good_ones_alone() {
    let world = World::new().await;
    let lines = format!("{}\r\n\n   \nnot json\n{{\"type\":\"a\"}}\n{}", good(0), good(3));
    for path in ["/v1/events/batch", "/v1/events"] {
        let sent = world.request("POST", path).header("content-type", "application/x-ndjson").body(lines.clone());
        let answer = ok(sent.send().await.unwrap(), 202).await;
        assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(2), &json!(2)));
        let results = answer["results"].as_array().unwrap();
        let statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["accepted", "rejected", "rejected", "accepted"]);
        assert!(results.iter().enumerate().all(|(i, result)| result["index"] == i));
        assert!(results[0]["id"].as_str().unwrap().starts_with("evt_"));
        assert_eq!(results[1]["error"]["type"], "urn:postrider:problem:malformed");
        assert_eq!(results[2]["error"]["errors"][0]["field"], "data");
    }
    assert_eq!(world.records(Topic::Events).await.len(), 4);
}

#[tokio::test]
async fn an_array_of_a_thousand_is_taken_and_one_more_is_not() {
    let world = World::new().await;
    let mut events: Vec<Value> = (0..1000).map(good).collect();
    let answer = ok(world.post("/v1/events/batch", json!(events)).send().await.unwrap(), 202).await;
    assert_eq!(answer["accepted"], 1000);
    events.push(good(1000));
    let (slug, _) = problem(world.post("/v1/events/batch", json!(events)).send().await.unwrap(), 422).await;
    assert_eq!(slug, "invalid");
    assert_eq!(world.records(Topic::Events).await.len(), 1000);
}

#[tokio::test]
async fn what_is_no_batch_is_refused_as_a_whole() {
    let world = World::new().await;
    assert_eq!(problem(world.post("/v1/events/batch", good(1)).send().await.unwrap(), 422).await.0, "invalid");
    let text = world.request("POST", "/v1/events/batch").header("content-type", "text/plain").body("[]");
    assert_eq!(problem(text.send().await.unwrap(), 415).await.0, "unsupported-media-type");
    let open = world.request("POST", "/v1/events/batch").header("content-type", "application/json").body("[{}");
    assert_eq!(problem(open.send().await.unwrap(), 400).await.0, "malformed");
    let empty = ok(world.post("/v1/events/batch", json!([])).send().await.unwrap(), 202).await;
    assert_eq!(empty, json!({"accepted": 0, "rejected": 0, "results": []}));
}

#[tokio::test]
async fn a_large_event_of_a_batch_is_rejected_by_itself() {
    let world = World::new().await;
    let events = json!([good(0), {"type": "a", "data": "x".repeat(1 << 20)}, good(2)]);
    let answer = ok(world.post("/v1/events/batch", events).send().await.unwrap(), 202).await;
    assert_eq!((&answer["accepted"], &answer["results"][1]["error"]["type"]), (&json!(2), &json!("urn:postrider:problem:too-large")));
}

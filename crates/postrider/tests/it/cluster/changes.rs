//! What one process is told, all know.

use std::time::{Duration, Instant};

use serde_json::json;

use super::world::Cluster;
use crate::load::event;
use crate::receiver::Receiver;
use crate::world::eventually;

/// Changes are told; without a word they hold after a minute. Between lies what a busy machine may take.
const TOLD: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_change_reaches_every_process_within_a_second() {
    let cluster = Cluster::new("", 4).await;
    let (first, second, _deliver) = tokio::join!(cluster.start("api,router"), cluster.start("api"), cluster.start("deliver"));
    let (one, other) = (first.api(), second.api());
    let (old, new) = (Receiver::answering(500).await, Receiver::answering(200).await);

    // Registered here, routed there.
    let endpoint = one.register(&old, json!({ "events": ["a"], "retry": { "schedule": vec![1; 30] } })).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // the promise is a second
    other.send(event("a", 1)).await;
    old.wait_until(1).await;

    // What is queued follows a change made elsewhere.
    let path = format!("/v1/webhooks/{}", endpoint["id"].as_str().unwrap());
    let before = old.count();
    let changed = Instant::now();
    other.patch(&path, json!({ "url": new.url() })).await;
    new.wait_until(1).await;
    println!("the new URL was used after {:?}", changed.elapsed());
    assert!(changed.elapsed() < TOLD, "the new URL was used after {:?}", changed.elapsed());
    assert!(old.count() <= before + 2, "the old URL went on being used");

    // Both change it at the same time: neither change is lost.
    for n in 0..10 {
        let rate = json!({ "rate_limit": 100 + n });
        let text = json!({ "description": format!("round {n}") });
        tokio::join!(one.patch(&path, rate), other.patch(&path, text));
        let seen = one.get(&path).await;
        assert_eq!((seen["rate_limit"].as_u64(), seen["description"].as_str()), (Some(100 + n), Some(&*format!("round {n}"))));
    }

    // One signing secret, whoever is asked first.
    let (here, there) = tokio::join!(one.get("/v1/signing-secret"), other.get("/v1/signing-secret"));
    assert_eq!(here["secret"], there["secret"]);

    // Deleted there, no longer routed here.
    other.delete(&path).await;
    let deleted = Instant::now();
    let gone = async || one.request(reqwest::Method::GET, &path).send().await.unwrap().status().as_u16();
    eventually("the endpoint is gone", async || (gone().await == 404).then_some(())).await;
    assert!(deleted.elapsed() < TOLD, "the endpoint was gone after {:?}", deleted.elapsed());
    let taken = new.count();
    let unheard = one.send(event("a", 2)).await;
    let routed = async || Some(one.get(&format!("/v1/events/{unheard}")).await).filter(|event| event["deliveries"].is_array());
    let seen = eventually("the event is shown", routed).await;
    assert_eq!((seen["deliveries"].as_array().unwrap().len(), new.count()), (0, taken), "{seen}");
}

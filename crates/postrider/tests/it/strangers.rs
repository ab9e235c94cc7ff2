//! An endpoint's troubles are its own, and it is treated as it asked to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{Crowd, Load, event};
use crate::receiver::{Got, Receiver, Reply};
use crate::world::{Server, eventually, machine};

/// A receiver that answers the first requests of each delivery with these, and later ones with 200.
async fn failing_first(replies: impl Fn(u64) -> Option<Reply> + Send + Sync + 'static) -> Receiver {
    Receiver::start(move |got| replies(got.number("x-webhook-attempt")).unwrap_or(Reply::Status(200))).await
}

/// When requests came, since the first.
fn times(got: &[Got]) -> Vec<Duration> {
    got.iter().map(|one| one.at - got[0].at).collect()
}

#[tokio::test]
async fn bad_endpoints_do_not_slow_the_healthy_ones() {
    const MAX_IN_FLIGHT: usize = 2;
    let _turn = machine().await;
    let server = Server::start().await;
    let mut receivers = Vec::new();
    for i in 0..60 {
        receivers.push(match i {
            0..3 => Receiver::start(|_| Reply::Hang).await,
            3..6 => Receiver::answering(500).await,
            6 => Receiver::start(|_| Reply::Close).await,
            _ => Receiver::answering(200).await,
        });
    }
    let settings = |i| if i < 3 { json!({ "max_in_flight": MAX_IN_FLIGHT }) } else { json!({}) };
    let crowd = Crowd::register(&server.api, receivers, settings).await;
    let load = Load::start(&server.api, 300, crowd.events());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let accepted = load.stop().await;
    let healthy: BTreeSet<u64> = accepted.iter().copied().filter(|n| n % 60 >= 7).collect();
    crowd.has_all(&healthy).await;

    let mut latencies: Vec<Duration> = Vec::new();
    for receiver in &crowd.receivers[7..] {
        latencies.extend(receiver.got().iter().map(|got| got.latency.unwrap()));
    }
    latencies.sort_unstable();
    let (p99, worst) = (latencies[latencies.len() * 99 / 100], latencies[latencies.len() - 1]);
    println!("{} accepted; to healthy endpoints p99 {p99:?}, at most {worst:?}", accepted.len());
    assert!(accepted.len() > 2500, "only {} were accepted", accepted.len());
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    for (i, receiver) in crowd.receivers[..7].iter().enumerate() {
        assert!(receiver.count() > 0, "endpoint {i} was never tried");
        assert!(i >= 3 || receiver.most_open() <= MAX_IN_FLIGHT, "endpoint {i} had {} requests at a time", receiver.most_open());
    }
    assert_eq!(crowd.repeats().len(), 0);
}

#[tokio::test]
async fn a_rate_limit_holds_in_every_second() {
    let server = Server::start().await;
    let receiver = Receiver::answering(200).await;
    server.api.register(&receiver, json!({ "rate_limit": 5 })).await;
    server.api.send_all((0..20).map(|n| event("a", n)).collect()).await;
    let times = times(&receiver.wait_for(20).await);
    for window in times.windows(7) {
        assert!(window[6] - window[0] >= Duration::from_secs(1), "more than 6 within a second: {times:?}");
    }
    assert!(times[19] < Duration::from_secs(6), "the limit is not used: {times:?}");
}

#[tokio::test]
async fn a_retry_is_the_same_message_at_a_new_time() {
    let server = Server::start().await;
    let receiver = failing_first(|attempt| (attempt < 3).then_some(Reply::Status(500))).await;
    server.api.register(&receiver, json!({ "retry": { "schedule": [2, 4] } })).await; // even a fifth less is another second
    let id = server.api.send(event("a", 1)).await;
    let delivery = server.api.until_delivery_is(&id, "succeeded").await;
    let got = receiver.got();
    assert_eq!(got.iter().map(|got| got.number("x-webhook-attempt")).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(got.iter().all(|one| one.header("webhook-id") == delivery["id"] && one.body == got[0].body));
    for pair in got.windows(2) {
        let stamp = |name| [pair[0].number(name), pair[1].number(name)];
        for [before, after] in [stamp("webhook-timestamp"), stamp("x-webhook-timestamp")] {
            assert!(before < after, "{before} and {after}");
        }
        assert_ne!(pair[0].header("webhook-signature"), pair[1].header("webhook-signature"));
    }
    let times = times(&got);
    let gaps = [times[1], times[2] - times[1]].map(|gap| gap.as_secs_f64());
    assert!((1.6..3.2).contains(&gaps[0]) && (3.2..6.0).contains(&gaps[1]), "{gaps:?}");
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    for status in [429, 503] {
        let server = Server::start().await;
        let receiver = failing_first(move |attempt| (attempt == 1).then(|| Reply::With(status, "retry-after", "3".to_owned()))).await;
        server.api.register(&receiver, json!({ "retry": { "schedule": [1] } })).await;
        server.api.send(event("a", 1)).await;
        let times = times(&receiver.wait_for(2).await);
        assert!(times[1] >= Duration::from_secs(3) && times[1] < Duration::from_secs(5), "{times:?}");
    }
}

#[tokio::test]
async fn gone_disables_the_endpoint() {
    let server = Server::start().await;
    let (gone, witness) = (Receiver::answering(410).await, Receiver::answering(200).await);
    let endpoint = server.api.register(&gone, json!({})).await;
    server.api.register(&witness, json!({})).await;
    let path = format!("/v1/webhooks/{}", endpoint["id"].as_str().unwrap());
    server.api.send(event("a", 1)).await;
    eventually("it is disabled", async || (server.api.get(&path).await["status"] == "disabled").then_some(())).await;
    server.api.send_all((2..10).map(|n| event("a", n)).collect()).await;
    witness.wait_for(9).await;
    assert_eq!(gone.count(), 1);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let server = Server::start().await;
    let elsewhere = Receiver::answering(200).await;
    let location = elsewhere.url();
    let receiver = failing_first(move |attempt| (attempt == 1).then(|| Reply::With(307, "location", location.clone()))).await;
    server.api.register(&receiver, json!({ "retry": { "schedule": [1] } })).await;
    let id = server.api.send(event("a", 1)).await;
    let delivery = server.api.until_delivery_is(&id, "succeeded").await;
    assert_eq!((&delivery["attempts"], receiver.count(), elsewhere.count()), (&json!(2), 2, 0));
}

#[tokio::test]
async fn events_of_a_key_keep_their_order_though_some_fail_and_other_keys_go_on() {
    const KEYS: u64 = 4;
    let server = Server::start().await;
    let failed = Mutex::new(BTreeSet::new());
    let fails = move |n: u64| !n.is_multiple_of(KEYS) && n % 7 == 3 && failed.lock().unwrap().insert(n);
    let receiver = Receiver::start(move |got| Reply::Status(if fails(got.n.unwrap()) { 500 } else { 200 })).await;
    server.api.register(&receiver, json!({ "ordering": "key", "retry": { "schedule": [2, 2, 2] } })).await;
    let keyed = |n| {
        let mut event = event("a", n);
        event["key"] = format!("key-{}", n % KEYS).into();
        event
    };
    server.api.send_all((0..60).map(keyed).collect()).await;
    let complete = async || Some(receiver.taken()).filter(|taken| taken.len() == 60);
    let taken = eventually("everything arrives", complete).await;
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for n in &taken {
        by_key.entry(n % KEYS).or_default().push(*n);
    }
    for (key, order) in by_key {
        assert!(order.is_sorted(), "key {key} arrived as {order:?}");
    }
    let unhindered = receiver.look(|got| got.iter().filter(|got| got.n.is_some_and(|n| n.is_multiple_of(KEYS))).map(|got| got.at).max());
    let (first, last) = receiver.look(|got| (got[0].at, got[got.len() - 1].at));
    assert!(unhindered.unwrap() - first < Duration::from_millis(1600), "a key without failures waited");
    assert!(last - first > Duration::from_millis(1600), "nothing was held up at all");
}

#[tokio::test]
async fn what_can_not_be_delivered_becomes_a_dead_letter_and_is_told() {
    let server = Server::start().await;
    let (dead, mourner) = (Receiver::answering(500).await, Receiver::answering(200).await);
    let endpoint = server.api.register(&dead, json!({ "events": ["order.*"], "retry": { "schedule": [1] } })).await;
    server.api.register(&mourner, json!({ "events": ["webhook.delivery.exhausted"] })).await;
    let id = server.api.send(event("order.created", 1)).await;
    let delivery = server.api.until_delivery_is(&id, "failed").await;
    assert_eq!((dead.count(), &delivery["attempts"]), (2, &json!(2)));
    let told = mourner.wait_for(1).await[0].json();
    assert_eq!(told["type"], "webhook.delivery.exhausted");
    assert_eq!((&told["data"]["delivery_id"], &told["data"]["webhook_id"]), (&delivery["id"], &endpoint["id"]));
    let letters = server.api.get("/v1/dead-letters").await;
    let ids: Vec<_> = letters["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["id"]).collect();
    assert_eq!(ids, [&delivery["id"]], "{letters}");
}

#[tokio::test]
async fn an_answer_that_never_comes_is_a_failure_within_five_seconds() {
    let server = Server::start().await;
    let receiver = failing_first(|attempt| (attempt == 1).then_some(Reply::Hang)).await;
    server.api.register(&receiver, json!({ "retry": { "schedule": [1] } })).await;
    let sent = Instant::now();
    server.api.send(event("a", 1)).await;
    receiver.wait_for(2).await;
    assert!((5.0..8.0).contains(&sent.elapsed().as_secs_f64()), "{:?}", sent.elapsed());
}

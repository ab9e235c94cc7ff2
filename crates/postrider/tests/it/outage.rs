//! An endpoint that comes back drains what waited for it, within its limits, and the others don't notice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::{Load, event, has_all, repeats};
use crate::receiver::{Receiver, Reply};
use crate::world::{Server, machine};

const MAX_IN_FLIGHT: usize = 8;
const RATE_LIMIT: usize = 1000;
const BATCH: u64 = 500;

/// An endpoint that answers 503 until its receiver is back.
struct Outage {
    receiver: Receiver,
    back: Arc<AtomicBool>,
}

impl Outage {
    /// Has `count` events accepted while the endpoint is down.
    async fn begin(server: &Server, count: u64) -> Outage {
        let back = Arc::new(AtomicBool::new(false));
        let is_back = back.clone();
        let status = move || if is_back.load(Ordering::SeqCst) { 200 } else { 503 };
        let receiver = Receiver::start(move |_| Reply::After(Duration::from_millis(1), status())).await;
        let limits = json!({
            "events": ["order.created"],
            "max_in_flight": MAX_IN_FLIGHT,
            "rate_limit": RATE_LIMIT,
            "retry": { "schedule": vec![1; 30] },
        });
        server.api.register(&receiver, limits).await;
        for first in (0..count).step_by(BATCH as usize) {
            let last = count.min(first + BATCH);
            server.api.send_all((first..last).map(|n| event("order.created", n)).collect()).await;
        }
        Outage { receiver, back }
    }

    fn end(&self) {
        self.back.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_endpoint_that_comes_back_drains_in_order_within_its_limits_and_the_others_do_not_notice() {
    let _turn = machine().await;
    let count = std::env::var("POSTRIDER_TEST_OUTAGE").map_or(5000, |count| count.parse().unwrap());
    let server = Server::start().await;
    let healthy = Receiver::answering(200).await;
    server.api.register(&healthy, json!({ "events": ["other"] })).await;
    let load = Load::start(&server.api, 100, |n| event("other", n));
    let outage = Outage::begin(&server, count).await;
    outage.end();
    let started = Instant::now();
    for part in (0..count as usize).step_by(20_000) {
        outage.receiver.wait_until(part).await; // patience is for each part, however many there are
    }
    has_all(&outage.receiver, &(0..count).collect()).await;
    let others = load.stop().await;
    has_all(&healthy, &others).await;
    let drained = started.elapsed();

    let got = outage.receiver.got();
    let tried: BTreeSet<u64> = got.iter().filter(|got| !got.taken).map(|got| got.n.unwrap()).collect();
    let order: Vec<u64> = outage.receiver.taken().into_iter().filter(|n| !tried.contains(n)).collect();
    let mut due = order.clone();
    due.sort_unstable();
    let strayed = order.iter().enumerate().map(|(i, n)| due.binary_search(n).unwrap().abs_diff(i)).max().unwrap();
    let worst = healthy.look(|got| got.iter().map(|got| got.latency.unwrap()).max()).unwrap();
    let busiest = got.windows(RATE_LIMIT + RATE_LIMIT / 50).map(|window| window[window.len() - 1].at - window[0].at).min().unwrap();
    println!(
        "{count} drained in {drained:?}, {} of them tried while down, none further than {strayed} from its turn, \
         {} requests at a time; the others at most {worst:?}",
        tried.len(),
        outage.receiver.most_open()
    );
    assert!(tried.len() <= 30, "{} deliveries were tried in vain", tried.len());
    assert!(strayed < MAX_IN_FLIGHT, "a delivery came {strayed} places from its turn");
    assert!(outage.receiver.most_open() <= MAX_IN_FLIGHT, "{} requests at a time", outage.receiver.most_open());
    assert!(busiest > Duration::from_secs(1), "its rate limit came within {busiest:?}");
    assert!(worst < Duration::from_secs(1), "the others noticed: {worst:?}");
    assert_eq!(repeats(&outage.receiver).len(), 0);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_draining_loses_nothing() {
    const COUNT: u64 = 2000;
    let _turn = machine().await;
    let mut server = Server::start().await;
    let outage = Outage::begin(&server, COUNT).await;
    outage.end();
    outage.receiver.wait_until(COUNT as usize / 2).await;
    server.process.kill();
    server.restart().await;
    has_all(&outage.receiver, &(0..COUNT).collect()).await;
    let repeats = repeats(&outage.receiver).len();
    println!("{repeats} deliveries were repeated");
    assert!(repeats <= 64, "{repeats} deliveries were repeated");
}

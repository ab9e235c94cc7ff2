//! Deliverers come and go: partitions that stay don't notice, those that move are served again at once.

use std::time::{Duration, Instant};

use serde_json::json;

use super::world::Cluster;
use crate::load::{Crowd, Load};
use crate::receiver::Receiver;
use crate::world::machine;

const ENDPOINTS: usize = 64;
/// From a deliverer's coming or going until everything is served again.
const SERVED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn partitions_that_move_are_served_again_within_seconds() {
    let _turn = machine().await;
    let cluster = Cluster::new("", 12).await;
    let (api, first) = tokio::join!(cluster.start("api,router"), cluster.start("deliver"));
    let mut receivers = Vec::new();
    for _ in 0..ENDPOINTS {
        receivers.push(Receiver::answering(200).await);
    }
    let crowd = Crowd::register(&api.api(), receivers, |_| json!({})).await;
    let load = Load::start(&api.api(), 300, crowd.events());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let came = Instant::now();
    let mut second = cluster.start("deliver").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let went = Instant::now();
    second.stop().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    for (what, at) in [("came", came), ("went", went)] {
        let window = |got: &crate::receiver::Got| got.at > at && got.at < at + Duration::from_secs(8);
        let slowest = |receiver: &Receiver| receiver.look(|got| got.iter().filter(|got| window(got)).filter_map(|got| got.latency).max());
        let mut each: Vec<Duration> = crowd.receivers.iter().filter_map(slowest).collect();
        each.sort_unstable();
        println!("a deliverer {what}: slowest delivery by endpoint: median {:?}, at most {:?}", each[each.len() / 2], each[each.len() - 1]);
        assert!(each[each.len() - 1] < SERVED, "a partition was not served for {:?}", each[each.len() - 1]);
    }
    assert_eq!(crowd.repeats().len(), 0, "an orderly hand-over repeats nothing");
    drop(first);
}

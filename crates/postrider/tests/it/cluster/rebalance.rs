//! Deliverers come and go: partitions that stay don't notice, those that move are served again at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postrider_core::partition;
use serde_json::json;

use super::world::{Cluster, servers, tool};
use crate::load::{Crowd, Load};
use crate::receiver::{Got, Receiver};
use crate::world::machine;

const ENDPOINTS: usize = 64;
/// From a deliverer's coming or going until everything is served again.
const SERVED: Duration = Duration::from_secs(5);

/// What is looked at before and after.
const WINDOW: Duration = Duration::from_secs(8);
const PARTITIONS: u16 = 12;

/// Who reads each partition of `deliveries`, as Kafka's own tool says.
async fn readers(cluster: &Cluster) -> BTreeMap<u16, String> {
    let servers = servers();
    let group = format!("{}.deliver.deliveries", cluster.name);
    let args = ["--bootstrap-server", servers["kafka"].as_str().unwrap(), "--describe", "--group", &group];
    let output = tool(&servers, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &args).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Group, topic, partition, three offsets, the member.
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| row.first() == Some(&group.as_str()));
    let readers: BTreeMap<u16, String> = rows.map(|row| (row[2].parse().unwrap(), row[6].to_owned())).collect();
    assert_eq!(readers.len(), usize::from(PARTITIONS), "{text}");
    readers
}

#[tokio::test]
async fn partitions_that_move_are_served_again_within_seconds() {
    let _turn = machine().await;
    let cluster = Cluster::new("", PARTITIONS).await;
    let (api, first) = tokio::join!(cluster.start("api,router"), cluster.start("deliver"));
    let mut receivers = Vec::new();
    for _ in 0..ENDPOINTS {
        receivers.push(Receiver::answering(200).await);
    }
    let crowd = Crowd::register(&api.api(), receivers, |_| json!({})).await;
    let alone = readers(&cluster).await;
    let load = Load::start(&api.api(), 300, crowd.events());
    tokio::time::sleep(WINDOW).await;
    let came = Instant::now();
    let mut second = cluster.start("deliver").await;
    tokio::time::sleep(WINDOW).await;
    let shared = readers(&cluster).await;
    let went = Instant::now();
    second.stop().await;
    tokio::time::sleep(WINDOW).await;
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    for (what, at) in [("came", came), ("went", went)] {
        let window = |got: &Got| got.at > at && got.at < at + WINDOW;
        let slowest = |receiver: &Receiver| receiver.look(|got| got.iter().filter(|got| window(got)).filter_map(|got| got.latency).max());
        let mut each: Vec<Duration> = crowd.receivers.iter().filter_map(slowest).collect();
        each.sort_unstable();
        println!("a deliverer {what}: slowest delivery by endpoint: median {:?}, at most {:?}", each[each.len() / 2], each[each.len() - 1]);
        assert!(each[each.len() - 1] < SERVED, "a partition was not served for {:?}", each[each.len() - 1]);
    }
    let stayed: Vec<&Receiver> = (crowd.receivers.iter().zip(&crowd.ids))
        .filter(|(_, id)| {
            let partition = partition::of_endpoint(id.parse().unwrap(), PARTITIONS).0;
            alone[&partition] == shared[&partition]
        })
        .map(|(receiver, _)| receiver)
        .collect();
    assert!((1..ENDPOINTS).contains(&stayed.len()), "{} endpoints stayed where they were", stayed.len());
    let p99 = |from: Instant| {
        let within = |got: &&Got| got.at >= from && got.at < from + WINDOW;
        let of = |receiver: &&Receiver| receiver.look(|got| got.iter().filter(within).filter_map(|got| got.latency).collect::<Vec<_>>());
        let mut all: Vec<Duration> = stayed.iter().flat_map(of).collect();
        all.sort_unstable();
        all[all.len() * 99 / 100]
    };
    let (before, coming, going) = (p99(came - WINDOW), p99(came), p99(went));
    println!("p99 of {} endpoints that stayed: {before:?} before, {coming:?} as it came, {going:?} as it went", stayed.len());
    assert_eq!(crowd.repeats().len(), 0, "an orderly hand-over repeats nothing");
    drop(first);
}

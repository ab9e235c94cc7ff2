//! Processes die, freeze and are replaced under load: nothing that was accepted is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::world::{Cluster, Node};
use crate::load::{Crowd, Load};
use crate::receiver::{Receiver, Reply};
use crate::world::{chance, machine};

const ENDPOINTS: usize = 200;
/// Of these, so many hang, as many answer 500 at first, and as many close the connection at first.
const BAD: usize = 6;
const RATE: u32 = 500;
/// Longer than the session time-out.
const FROZEN: Duration = Duration::from_secs(14);
/// What may be sent twice for each process that dies or freezes: what was in flight or finished and not yet committed,
/// and for frozen ones what they go on sending until they know.
const REPEATS: usize = 400;

async fn crowd(node: &Node) -> Crowd {
    let mut receivers = Vec::new();
    for i in 0..ENDPOINTS {
        let late = |reply: fn() -> Reply| {
            Receiver::start(move |got| if got.number("x-webhook-attempt") < 3 { reply() } else { Reply::Status(200) })
        };
        receivers.push(match i % (ENDPOINTS / BAD) {
            0 => late(|| Reply::Hang).await,
            1 => late(|| Reply::Status(500)).await,
            2 => late(|| Reply::Close).await,
            _ => Receiver::start(|_| Reply::After(Duration::from_millis(2), 200)).await,
        });
    }
    let settings = |_| json!({ "timeout": 2, "max_in_flight": 8, "retry": { "schedule": vec![1; 30] } });
    Crowd::register(&node.api(), receivers, settings).await
}

async fn nodes(cluster: &Cluster) -> Vec<Node> {
    let mut nodes = Vec::new();
    for roles in ["api,router", "api,router", "deliver", "deliver", "deliver"] {
        nodes.push(cluster.start(roles).await);
    }
    nodes
}

fn seconds(default: u64) -> Duration {
    let set = std::env::var("POSTRIDER_TEST_CHAOS").map(|text| text.parse().expect("POSTRIDER_TEST_CHAOS is a number of seconds"));
    Duration::from_secs(set.unwrap_or(default))
}

#[tokio::test]
async fn whatever_happens_to_processes_loses_nothing() {
    let _turn = machine().await;
    let mut chance = chance();
    let cluster = Cluster::new("", 12).await;
    let mut nodes = nodes(&cluster).await;
    let crowd = crowd(&nodes[0]).await;
    let load = Load::over(nodes[..2].iter().map(Node::api).collect(), RATE, crowd.events());
    let started = Instant::now();
    let (mut happened, mut violent) = (Vec::new(), 0);
    while started.elapsed() < seconds(60) {
        tokio::time::sleep(Duration::from_millis(1500 + chance.below(2000))).await;
        let which = chance.below(nodes.len() as u64) as usize;
        let node = &mut nodes[which];
        match chance.below(3) {
            0 => {
                happened.push((which, "killed"));
                node.process.kill();
                cluster.restart(node).await;
                violent += 1;
            }
            1 => {
                happened.push((which, "frozen"));
                node.freeze();
                tokio::time::sleep(FROZEN).await;
                node.thaw();
                violent += 1;
            }
            _ => {
                happened.push((which, "ended"));
                node.stop().await;
                cluster.restart(node).await;
            }
        }
    }
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    let repeats = crowd.repeats().len();
    println!("{} accepted, {repeats} repeated; {happened:?}", accepted.len());
    assert!(accepted.len() > 5_000, "only {} events were accepted", accepted.len());
    assert!(repeats <= violent * REPEATS, "{repeats} deliveries were repeated");
    join_all(nodes.iter_mut().map(Node::stop)).await;
}

#[tokio::test]
async fn orderly_ends_repeat_nothing() {
    let _turn = machine().await;
    let mut chance = chance();
    let cluster = Cluster::new("", 12).await;
    let mut nodes = nodes(&cluster).await;
    let crowd = crowd(&nodes[0]).await;
    let load = Load::over(nodes[..2].iter().map(Node::api).collect(), RATE, crowd.events());
    let mut ended: BTreeSet<usize> = BTreeSet::new();
    while ended.len() < nodes.len() {
        tokio::time::sleep(Duration::from_millis(500 + chance.below(1500))).await;
        let which = chance.below(nodes.len() as u64) as usize;
        nodes[which].stop().await;
        cluster.restart(&mut nodes[which]).await;
        ended.insert(which);
    }
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    println!("{} accepted", accepted.len());
    assert_eq!(crowd.repeats().len(), 0);
    join_all(nodes.iter_mut().map(Node::stop)).await;
}

//! Processes die, freeze and are replaced under load: nothing that was accepted is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::world::{Cluster, Node};
use crate::load::{Crowd, Load};
use crate::receiver::{Got, Receiver, Reply};
use crate::world::{chance, machine};

const ENDPOINTS: usize = 200;
/// Of these, so many hang at times, as many answer 500 at times, and as many close the connection at times.
const BAD: usize = 6;
const RATE: u32 = 500;
/// Longer than the session time-out.
const FROZEN: Duration = Duration::from_secs(14);
/// Those that hang are tried with one request at a time, each of which takes its time-out.
const SETTLE: Duration = Duration::from_secs(180);
/// What may be sent twice for each process that dies: what was in flight, or finished and not yet committed.
const KILLED_REPEATS: usize = 400;
/// For each that freezes: what all send until its session has expired. A member that is silent while the group is being
/// rearranged keeps the others from committing so long, as Kafka answers one request of a connection after the other, and
/// the first is to join.
const FROZEN_REPEATS: usize = RATE as usize * 10;

async fn crowd(node: &Node) -> Crowd {
    let mut receivers = Vec::new();
    for i in 0..ENDPOINTS {
        let sometimes = |reply: fn() -> Reply| Receiver::start(move |got| if refused(got) { reply() } else { Reply::Status(200) });
        receivers.push(match i % (ENDPOINTS / BAD) {
            0 => sometimes(|| Reply::Hang).await,
            1 => sometimes(|| Reply::Status(500)).await,
            2 => sometimes(|| Reply::Close).await,
            _ => Receiver::start(|_| Reply::After(Duration::from_millis(2), 200)).await,
        });
    }
    let settings = |_| json!({ "timeout": 2, "max_in_flight": 8, "retry": { "schedule": vec![1; 30] } });
    Crowd::register(&node.api(), receivers, settings).await
}

/// One event in ten is not taken at once.
fn refused(got: &Got) -> bool {
    got.number("x-webhook-attempt") < 2 && (got.n.unwrap() / ENDPOINTS as u64).is_multiple_of(10)
}

/// A cluster under load.
struct Siege {
    cluster: Cluster,
    /// Two that take events, then three that deliver.
    nodes: Vec<Node>,
    crowd: Crowd,
    load: Load,
}

impl Siege {
    async fn begin() -> Siege {
        let cluster = Cluster::new("", 12).await;
        let mut nodes = Vec::new();
        for roles in ["api,router", "api,router", "deliver", "deliver", "deliver"] {
            let node = cluster.start(roles).await;
            let (ready, state) = node.ready().await;
            assert!(ready, "{state}");
            nodes.push(node);
        }
        let crowd = crowd(&nodes[0]).await;
        let load = Load::over(nodes[..2].iter().map(Node::api).collect(), RATE, crowd.events());
        Siege { cluster, nodes, crowd, load }
    }
}

fn seconds(default: u64) -> Duration {
    let set = std::env::var("POSTRIDER_TEST_CHAOS").map(|text| text.parse().expect("POSTRIDER_TEST_CHAOS is a number of seconds"));
    Duration::from_secs(set.unwrap_or(default))
}

#[tokio::test]
async fn whatever_happens_to_processes_loses_nothing() {
    let _turn = machine().await;
    let mut chance = chance();
    let Siege { cluster, mut nodes, crowd, load } = Siege::begin().await;
    let started = Instant::now();
    let (mut happened, mut may_repeat) = (Vec::new(), 0);
    while started.elapsed() < seconds(60) {
        tokio::time::sleep(Duration::from_millis(1500 + chance.below(2000))).await;
        let which = chance.below(nodes.len() as u64) as usize;
        let node = &mut nodes[which];
        match chance.below(3) {
            0 => {
                happened.push((which, "killed"));
                node.process.kill();
                cluster.restart(node).await;
                may_repeat += KILLED_REPEATS;
            }
            1 => {
                happened.push((which, "frozen"));
                node.freeze();
                tokio::time::sleep(FROZEN).await;
                node.thaw();
                may_repeat += FROZEN_REPEATS;
            }
            _ => {
                happened.push((which, "ended"));
                node.stop().await;
                cluster.restart(node).await;
            }
        }
    }
    let accepted = load.stop().await;
    let sent = Instant::now();
    while !crowd.missing(&accepted).is_empty() {
        let missing = crowd.missing(&accepted);
        assert!(sent.elapsed() < SETTLE, "{} did not arrive, such as {:?}; {happened:?}", missing.len(), &missing[..missing.len().min(9)]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let repeats = crowd.repeats().len();
    println!("{} accepted, {repeats} repeated; settled in {:?}; {happened:?}", accepted.len(), sent.elapsed());
    assert!(accepted.len() > 5_000, "only {} events were accepted", accepted.len());
    assert!(repeats <= may_repeat, "{repeats} deliveries were repeated");
    join_all(nodes.iter_mut().map(Node::stop)).await;
}

#[tokio::test]
async fn orderly_ends_repeat_nothing() {
    let _turn = machine().await;
    let mut chance = chance();
    let Siege { cluster, mut nodes, crowd, load } = Siege::begin().await;
    for which in [3, 0, 4, 1, 2] {
        tokio::time::sleep(Duration::from_millis(500 + chance.below(2500))).await;
        nodes[which].stop().await;
        cluster.restart(&mut nodes[which]).await;
    }
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    println!("{} accepted", accepted.len());
    assert_eq!(crowd.repeats().len(), 0);
    join_all(nodes.iter_mut().map(Node::stop)).await;
}

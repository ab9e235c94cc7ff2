//! Kafka or the CQL server dies under load and comes back: senders are told at once, nothing accepted is lost, and
//! nobody has to restart anything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::header::RETRY_AFTER;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::servers::{Server, Servers};
use super::world::{Cluster, Node};
use crate::load::{Crowd, event};
use crate::receiver::Receiver;
use crate::world::{Api, eventually, machine};

/// Roles of the processes of each cluster that an outage is tried on.
const MIXES: [&[&str]; 2] = [&["api,router,deliver"], &["api", "router", "deliver"]];
const ENDPOINTS: usize = 20;
/// Requests a second, of each cluster.
const RATE: u64 = 150;
/// Requests under way at most; an answer takes 5 s at most.
const UNDER_WAY: usize = 4096;
/// An answer, whichever it is.
const ANSWERED: Duration = Duration::from_secs(5);
/// From the server's end until `/readyz` says so.
const NOTICED: Duration = Duration::from_secs(10);
/// From its return until `/readyz` says that: the driver waits up to 10 s before it connects to the store again.
const READY: Duration = Duration::from_secs(20);
/// From then on everything new arrives at once, and what waited arrives, too.
const SETTLED: Duration = Duration::from_secs(60);
/// What a process may grow by while a server is away.
const GROWTH: u64 = 64 << 20;
/// Of the events around the outage, so many are looked up.
const LOOKED_AT: usize = 300;
/// One event in so many matches nobody, and goes the router's way. Prime to the number of endpoints, so that each gets some.
const NOBODY: u64 = 7;

fn away() -> Duration {
    let set = std::env::var("POSTRIDER_TEST_OUTAGE_SECONDS").map(|text| text.parse().expect("POSTRIDER_TEST_OUTAGE_SECONDS is a number"));
    Duration::from_secs(set.unwrap_or(15))
}

/// What one request was answered.
struct Answer {
    n: u64,
    asked: Instant,
    took: Duration,
    status: StatusCode,
    told_when: bool,
    id: String,
}

/// Asks at a steady rate, however long the answers take.
struct Requests {
    sending: JoinHandle<Vec<Answer>>,
    stop: CancellationToken,
}

impl Requests {
    fn start(api: Api, event: impl Fn(u64) -> Value + Send + 'static) -> Requests {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let sending = tokio::spawn(async move {
            let (mut asked, room) = (JoinSet::new(), Arc::new(Semaphore::new(UNDER_WAY)));
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay); // a slow machine is asked less, not all at once
            let mut n = 0;
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let place = room.clone().acquire_owned().await.unwrap();
                let (api, body) = (api.clone(), event(n));
                asked.spawn(async move {
                    let answer = ask(&api, n, &body).await;
                    drop(place);
                    answer
                });
                n += 1;
            }
            asked.join_all().await.into_iter().flatten().collect()
        });
        Requests { sending, stop }
    }

    async fn stop(self) -> Vec<Answer> {
        self.stop.cancel();
        self.sending.await.unwrap()
    }
}

/// Nothing where the connection ended just then, as one that was idle for long does.
async fn ask(api: &Api, n: u64, body: &Value) -> Option<Answer> {
    let asked = Instant::now();
    let response = api.request(Method::POST, "/v1/events").json(body).send().await.ok()?;
    let (status, told_when) = (response.status(), response.headers().contains_key(RETRY_AFTER));
    let answer: Value = response.json().await.unwrap();
    let id = answer["id"].as_str().unwrap_or_default().to_owned();
    Some(Answer { n, asked, took: asked.elapsed(), status, told_when, id })
}

/// Waits until all say that they are ready, or that `server` is what is in the way. Returns how long that took.
async fn until_known(nodes: &[Node], server: Server, ready: bool) -> Duration {
    let name = match server {
        Server::Kafka => "kafka",
        Server::Cql => "scylla",
    };
    let started = Instant::now();
    for node in nodes {
        let state = if ready { "ok" } else { "unavailable" };
        let known = async || {
            let (is_ready, told) = node.ready().await;
            let dependencies = told["dependencies"].as_array().unwrap();
            let named = dependencies.iter().any(|one| one["name"] == name && one["state"] == state);
            (is_ready == ready && named).then_some(())
        };
        eventually(&format!("/readyz says that {name} is {state}"), known).await;
    }
    started.elapsed()
}

/// A cluster under load.
struct Side {
    nodes: Vec<Node>,
    api: Api,
    crowd: Crowd,
    requests: Requests,
    /// Bytes that each process had under load, and the most since.
    before: Vec<u64>,
    most: Vec<u64>,
}

impl Side {
    /// One with processes of these roles, once all endpoints are known and memory is what it is under load.
    async fn start(servers: &Servers, roles: &[&'static str]) -> Side {
        let cluster = Cluster::on(&servers.address(Server::Kafka), &servers.address(Server::Cql), "", 8).await;
        let nodes = join_all(roles.iter().map(|roles| cluster.start(roles))).await;
        let api = nodes[0].api();
        let receivers = join_all((0..ENDPOINTS).map(|_| Receiver::answering(200))).await;
        let crowd = Crowd::register(&api, receivers, |_| json!({ "retry": { "schedule": vec![1; 30] } })).await;
        let requests = Requests::start(api.clone(), events(&crowd));
        for receiver in &crowd.receivers {
            receiver.wait_until(10 * RATE as usize / ENDPOINTS).await;
        }
        let before: Vec<u64> = nodes.iter().map(|node| node.process.memory("VmRSS")).collect();
        Side { nodes, api, crowd, requests, most: before.clone(), before }
    }

    /// While a server is away.
    async fn look(&mut self) {
        self.most = self.most.iter().zip(&self.nodes).map(|(most, node)| node.process.memory("VmRSS").max(*most)).collect();
        let (ready, told) = self.nodes[0].ready().await;
        assert!(!ready, "{told}");
    }
}

fn events(crowd: &Crowd) -> impl Fn(u64) -> Value + Send + Clone + 'static {
    let of_crowd = crowd.events();
    move |n| if n % NOBODY == NOBODY - 1 { event("nobody", n) } else { of_crowd(n) }
}

/// When a server was away.
#[derive(Clone, Copy)]
struct Away {
    server: Server,
    killed: Instant,
    gone: Duration,
    restarted: Instant,
    back: Instant,
}

/// A server dies under every mix of roles at once and comes back.
async fn outage(server: Server) {
    let _turn = machine().await;
    let mut servers = Servers::start().await;
    let mut sides = join_all(MIXES.iter().map(|roles| Side::start(&servers, roles))).await;
    let killed = Instant::now();
    servers.kill(server).await;
    let gone = killed.elapsed();
    let noticed = join_all(sides.iter().map(|side| until_known(&side.nodes, server, false))).await;
    while killed.elapsed() < away() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for side in &mut sides {
            side.look().await;
        }
    }
    let restarted = Instant::now();
    servers.restart(server).await;
    let away = Away { server, killed, gone, restarted, back: Instant::now() };
    let ready = join_all(sides.iter().map(|side| until_known(&side.nodes, server, true))).await;
    // A while of everything as usual.
    tokio::time::sleep(Duration::from_secs(5)).await;
    join_all(sides.into_iter().zip(noticed.into_iter().zip(ready)).map(|(side, known)| settled(side, away, known))).await;
}

/// What a cluster did while a server was away, which it noticed and found to be back after these times.
async fn settled(side: Side, away: Away, (noticed, ready): (Duration, Duration)) {
    let Away { server, killed, gone, restarted, back } = away;
    let Side { mut nodes, api, crowd, requests, before, most } = side;
    let noticed = noticed + gone;
    let growth: Vec<u64> = most.iter().zip(&before).map(|(most, before)| (most - before) >> 10).collect();
    let answers = requests.stop().await;
    let stopped = Instant::now();
    let last = answers.iter().map(|answer| answer.n).max().unwrap();
    let unanswered = last + 1 - answers.len() as u64;
    let fresh = (last + 1..).find(|n| n % NOBODY != NOBODY - 1).unwrap();
    let sent = Instant::now();
    api.send(events(&crowd)(fresh)).await;
    let receiver = &crowd.receivers[fresh as usize % ENDPOINTS];
    eventually("a new event arrives", async || receiver.taken().contains(&fresh).then_some(())).await;
    let fresh = sent.elapsed();

    let accepted: Vec<&Answer> = answers.iter().filter(|answer| answer.status == StatusCode::ACCEPTED).collect();
    let due: BTreeSet<u64> = accepted.iter().map(|answer| answer.n).filter(|n| n % NOBODY != NOBODY - 1).collect();
    crowd.has_all(&due).await;
    let arrived = back.elapsed();
    let concerned: Vec<&&Answer> =
        accepted.iter().filter(|answer| answer.asked + ANSWERED > killed && answer.asked < back + ANSWERED).collect();
    for answer in concerned.iter().step_by(concerned.len().div_ceil(LOOKED_AT).max(1)) {
        if due.contains(&answer.n) {
            api.until_delivery_is(&answer.id, "succeeded").await;
        } else {
            let path = format!("/v1/events/{}", answer.id);
            let listed = async || api.request(Method::GET, &path).send().await.unwrap().status().is_success().then_some(());
            eventually("an event that matches nobody is listed", listed).await;
        }
    }

    let during: Vec<&Answer> = answers.iter().filter(|answer| answer.asked > killed + gone && answer.asked < restarted).collect();
    let taken = during.iter().filter(|answer| answer.status == StatusCode::ACCEPTED && answer.asked + answer.took < restarted).count();
    let slowest = during.iter().map(|answer| answer.took).max().unwrap();
    let repeats = crowd.repeats().len();
    println!(
        "{server:?} away for {:?} with {} processes: noticed after {noticed:?}, ready {ready:?} after its return, which took {:?}; {} answers, \
         {unanswered} missing, {} accepted; while away {} asked, {taken} accepted; slowest answer {slowest:?}; grown by {growth:?} KiB from {:?} MiB; a \
         new event arrives in {fresh:?}; everything {arrived:?} after the return ({:?} after the last request); {repeats} repeated",
        restarted - killed,
        nodes.len(),
        back - restarted,
        answers.len(),
        accepted.len(),
        during.len(),
        before.iter().map(|bytes| bytes >> 20).collect::<Vec<_>>(),
        arrived.saturating_sub(stopped - back),
    );
    for Answer { n, status, told_when, .. } in &answers {
        let refused = *status == StatusCode::SERVICE_UNAVAILABLE && *told_when;
        assert!(*status == StatusCode::ACCEPTED || refused, "event {n} was answered {status}; with Retry-After: {told_when}");
    }
    assert!(unanswered < RATE, "{unanswered} requests were not answered at all");
    assert!(slowest < ANSWERED, "an answer took {slowest:?}");
    assert!(noticed < NOTICED && ready < READY, "noticed after {noticed:?}, ready again after {ready:?}");
    assert!(growth.iter().all(|kib| kib << 10 < GROWTH), "memory grew by {growth:?} KiB");
    assert!(arrived < SETTLED, "everything had arrived after {arrived:?}");
    if server == Server::Kafka {
        assert_eq!(taken, 0, "events were accepted without Kafka");
    }
    for node in &mut nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn kafka_dies_and_comes_back() {
    outage(Server::Kafka).await;
}

#[tokio::test]
async fn the_store_dies_and_comes_back() {
    outage(Server::Cql).await;
}

//! What was answered 202 arrives, however the server ends.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::load::{Crowd, Load, event, has_all};
use crate::receiver::{Got, Receiver, Reply};
use crate::world::{Home, Server, chance, eventually, machine};

const ENDPOINTS: usize = 20;
const QUICK: Reply = Reply::After(Duration::from_millis(2), 200);
const RATE: u32 = 1000;
const KILLS: usize = 20;
/// What may be sent twice for each kill: what receivers had not answered yet, and what they had answered within the
/// 15 ms in which rows are gathered and progress is committed.
const REPEATS_PER_KILL: usize = 64;

/// Endpoints whose receivers take 2 ms for each delivery. Two are too slow for their share of the load, and two
/// refuse one event in ten at first, so that there is always something that waits.
async fn crowd(server: &Server) -> Crowd {
    let mut receivers = Vec::new();
    for i in 0..ENDPOINTS {
        receivers.push(match i {
            0..2 => Receiver::start(|_| Reply::After(Duration::from_millis(150), 200)).await,
            2..4 => Receiver::start(|got| if refused(got) { Reply::Status(503) } else { QUICK }).await,
            _ => Receiver::start(|_| QUICK).await,
        });
    }
    Crowd::register(&server.api, receivers, |_| json!({ "max_in_flight": 4, "retry": { "schedule": vec![1; 30] } })).await
}

fn refused(got: &Got) -> bool {
    let nth = got.n.unwrap() / ENDPOINTS as u64;
    got.number("x-webhook-attempt") == 1 && nth.is_multiple_of(10)
}

#[tokio::test]
async fn twenty_kills_lose_nothing_and_repeat_no_more_than_was_in_flight() {
    let _turn = machine().await;
    let mut chance = chance();
    let mut server = Server::start().await;
    let crowd = crowd(&server).await;
    let load = Load::start(&server.api, RATE, crowd.events());
    let (mut kills, mut restarts) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(50 + chance.below(350))).await;
        server.process.kill();
        kills.push(Instant::now());
        restarts.push(server.restart().await);
    }
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    let repeats = crowd.repeats();
    let after = |kill: &Instant| repeats.iter().filter(|at| *at > kill).count();
    let per_kill: Vec<usize> = kills.iter().map(after).chain([0]).collect::<Vec<_>>().windows(2).map(|pair| pair[0] - pair[1]).collect();
    println!("{} accepted; repeated after each kill: {per_kill:?}; slowest restart {:?}", accepted.len(), restarts.iter().max());
    assert!(accepted.len() > 1000, "only {} events were accepted", accepted.len());
    assert!(repeats.len() <= KILLS * REPEATS_PER_KILL, "{} deliveries were repeated", repeats.len());
}

#[tokio::test]
async fn five_orderly_ends_under_load_lose_and_repeat_nothing() {
    let _turn = machine().await;
    let mut chance = chance();
    let mut server = Server::start().await;
    let crowd = crowd(&server).await;
    let load = Load::start(&server.api, RATE, crowd.events());
    let mut stops = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200 + chance.below(300))).await;
        stops.push(server.stop().await);
        server.restart().await;
    }
    let accepted = load.stop().await;
    crowd.has_all(&accepted).await;
    println!("{} accepted; the ends took {stops:?}", accepted.len());
    assert!(accepted.len() > 500, "only {} events were accepted", accepted.len());
    assert_eq!(crowd.repeats().len(), 0);
    assert!(stops.iter().all(|took| *took < Duration::from_secs(20)), "longer than its drain time: {stops:?}");
}

#[tokio::test]
async fn an_end_right_after_the_start_is_an_orderly_one() {
    let mut server = Server::start().await;
    for _ in 0..20 {
        server.stop().await;
        server.restart().await;
    }
}

/// A receiver that answers nothing until it is opened.
async fn gated() -> (Receiver, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let receiver = Receiver::start(move |_| if gate.load(Ordering::SeqCst) { Reply::Status(200) } else { Reply::Hang }).await;
    (receiver, open)
}

/// A server that was killed while it had accepted twenty events and delivered none.
async fn killed_with_work() -> (Server, Receiver, Arc<AtomicBool>) {
    let mut server = Server::start().await;
    let (receiver, open) = gated().await;
    server.api.register(&receiver, json!({})).await;
    for n in 0..20 {
        server.api.send(event("order.created", n)).await;
    }
    server.process.kill();
    (server, receiver, open)
}

fn newest_segment(home: &Home) -> PathBuf {
    let segments = fs::read_dir(home.data().join("log")).unwrap().map(|entry| entry.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeMap::from([(path.clone(), fs::read(&path).unwrap())]) }).collect()
}

#[tokio::test]
async fn a_torn_last_write_is_cut_off_and_nothing_accepted_is_lost() {
    let (mut server, receiver, open) = killed_with_work().await;
    let mut segment = OpenOptions::new().append(true).open(newest_segment(&server.home)).unwrap();
    segment.write_all(&[0x5a; 100]).unwrap();
    open.store(true, Ordering::SeqCst);
    server.restart().await;
    has_all(&receiver, &(0..20).collect()).await;
    server.api.send(event("order.created", 20)).await;
    has_all(&receiver, &(0..21).collect()).await;
}

#[tokio::test]
async fn damage_in_the_middle_is_refused_by_name_and_nothing_is_changed() {
    let (server, _receiver, _open) = killed_with_work().await;
    let path = newest_segment(&server.home);
    let segment = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (middle, mut byte) = (segment.metadata().unwrap().len() / 2, [0]);
    segment.read_exact_at(&mut byte, middle).unwrap();
    segment.write_all_at(&[!byte[0]], middle).unwrap();
    let before = files(&server.home.data());
    let mut refused = server.home.open("127.0.0.1:0");
    assert_eq!(refused.ended().await.code(), Some(1));
    let words = refused.errors();
    assert!(words.contains(path.to_str().unwrap()) && words.contains("damaged at byte"), "{words}");
    assert!(files(&server.home.data()) == before, "files were changed");
}

/// Runs itself again in a mount namespace of its own, where anyone may mount a small disk and nobody has to clean up.
#[tokio::test]
async fn a_full_disk_refuses_events_and_loses_nothing_accepted() {
    const INSIDE: &str = "POSTRIDER_TEST_IN_NAMESPACE";
    if env::var_os(INSIDE).is_some() {
        return on_a_small_disk().await;
    }
    let test = "no_loss::a_full_disk_refuses_events_and_loses_nothing_accepted";
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount"]).arg(env::current_exe().unwrap()).args(["--exact", test]).env(INSIDE, "1");
    let output = tokio::task::spawn_blocking(move || again.output().unwrap()).await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn on_a_small_disk() {
    const MIB: usize = 1 << 20;
    const EVENT: usize = 100_000;
    let home = Home::new(""); // so that 256 MiB are kept free
    fs::create_dir(home.data()).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512m", "none"]).arg(home.data()).status().unwrap();
    assert!(mount.success());
    let server = Server::at(home).await;
    let filler = server.home.data().join("filler");
    fs::write(&filler, vec![0; 200 * MIB]).unwrap();
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let receiver = Receiver::start(move |_| Reply::Status(if gate.load(Ordering::SeqCst) { 200 } else { 503 })).await;
    server.api.register(&receiver, json!({ "retry": { "schedule": vec![1; 30] } })).await;

    let mut accepted = BTreeSet::new();
    let send = async |n: u64| {
        let event = json!({ "type": "order.created", "data": { "n": n, "text": "x".repeat(EVENT) } });
        server.api.request(Method::POST, "/v1/events").json(&event).send().await.unwrap()
    };
    let refusal = loop {
        let n = accepted.len() as u64;
        let response = send(n).await;
        if response.status() != StatusCode::ACCEPTED {
            break response;
        }
        accepted.insert(n);
        assert!(accepted.len() < 512 * MIB / EVENT, "the disk never fills");
    };
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal.headers().contains_key("retry-after"));
    println!("{} events were accepted before the disk was full", accepted.len());
    assert_eq!(server.api.get("/v1/events?limit=10").await["events"].as_array().unwrap().len(), 10);

    fs::remove_file(filler).unwrap();
    let next = accepted.len() as u64;
    eventually("events are accepted again", async || (send(next).await.status() == StatusCode::ACCEPTED).then_some(())).await;
    accepted.insert(next);
    open.store(true, Ordering::SeqCst);
    has_all(&receiver, &accepted).await;
}

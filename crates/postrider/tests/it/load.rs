//! A steady load, and the account of it: what was accepted must arrive.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::receiver::{Got, Receiver, unix_millis};
use crate::world::{Api, eventually};

const CONNECTIONS: u64 = 8;

/// Event number `n`, of type `kind`.
pub(crate) fn event(kind: &str, n: u64) -> Value {
    json!({ "type": kind, "data": { "n": n, "at": unix_millis(), "text": "x".repeat(500) } })
}

/// Sends events at a steady rate over several connections until stopped.
pub(crate) struct Load {
    senders: Vec<JoinHandle<BTreeSet<u64>>>,
    stop: CancellationToken,
}

impl Load {
    /// Sends `event(0)`, `event(1)` and so on.
    pub(crate) fn start(api: &Api, per_second: u32, event: impl Fn(u64) -> Value + Clone + Send + 'static) -> Load {
        Load::over(vec![api.clone()], per_second, event)
    }

    /// The same over several servers in turn.
    pub(crate) fn over(apis: Vec<Api>, per_second: u32, event: impl Fn(u64) -> Value + Clone + Send + 'static) -> Load {
        let stop = CancellationToken::new();
        let pace = Duration::from_secs(1) * CONNECTIONS as u32 / per_second;
        let senders = (0..CONNECTIONS).map(|first| {
            let sending = send(apis.clone(), pace, first, event.clone(), stop.clone());
            tokio::spawn(sending)
        });
        Load { senders: senders.collect(), stop }
    }

    /// Stops sending. Returns the numbers of the events that were accepted.
    pub(crate) async fn stop(self) -> BTreeSet<u64> {
        self.stop.cancel();
        join_all(self.senders).await.into_iter().flat_map(Result::unwrap).collect()
    }
}

/// What is refused or cut off is not sent again, nor counted.
async fn send(apis: Vec<Api>, pace: Duration, first: u64, event: impl Fn(u64) -> Value, stop: CancellationToken) -> BTreeSet<u64> {
    let mut accepted = BTreeSet::new();
    let mut ticks = tokio::time::interval(pace);
    let mut n = first;
    while !stop.is_cancelled() {
        ticks.tick().await;
        let api = &apis[(n / CONNECTIONS) as usize % apis.len()];
        let response = api.request(Method::POST, "/v1/events").json(&event(n)).send().await;
        match response.map(|response| response.status()) {
            Ok(StatusCode::ACCEPTED) => drop(accepted.insert(n)),
            Ok(StatusCode::SERVICE_UNAVAILABLE) | Err(_) => {}
            Ok(other) => panic!("event {n}: {other}"),
        }
        n += CONNECTIONS;
    }
    accepted
}

/// Receivers that share a load: event `n` goes to number `n` modulo their count.
pub(crate) struct Crowd {
    pub(crate) receivers: Vec<Receiver>,
    /// Their endpoints.
    pub(crate) ids: Vec<String>,
}

impl Crowd {
    /// Registers the receivers, each with the settings for its number.
    pub(crate) async fn register(api: &Api, receivers: Vec<Receiver>, settings: impl Fn(usize) -> Value) -> Crowd {
        let mut ids = Vec::new();
        for (i, receiver) in receivers.iter().enumerate() {
            let mut settings = settings(i);
            settings["events"] = json!([format!("load.{i}")]);
            let endpoint = api.register(receiver, settings).await;
            ids.push(endpoint["id"].as_str().unwrap().to_owned());
        }
        Crowd { receivers, ids }
    }

    /// Makes the events for this crowd.
    pub(crate) fn events(&self) -> impl Fn(u64) -> Value + Clone + Send + use<> {
        let count = self.receivers.len() as u64;
        move |n| event(&format!("load.{}", n % count), n)
    }

    /// Waits until every event of `accepted` has been taken by the receiver it goes to.
    pub(crate) async fn has_all(&self, accepted: &BTreeSet<u64>) {
        let count = self.receivers.len() as u64;
        for (i, receiver) in self.receivers.iter().enumerate() {
            let due: BTreeSet<u64> = accepted.iter().copied().filter(|n| n % count == i as u64).collect();
            has_all(receiver, &due).await;
        }
    }

    /// Which of `accepted` have not been taken yet.
    pub(crate) fn missing(&self, accepted: &BTreeSet<u64>) -> Vec<u64> {
        let taken: Vec<BTreeSet<u64>> = self.receivers.iter().map(|receiver| receiver.taken().into_iter().collect()).collect();
        accepted.iter().copied().filter(|n| !taken[*n as usize % taken.len()].contains(n)).collect()
    }

    /// When deliveries were repeated although they had been taken.
    pub(crate) fn repeats(&self) -> Vec<Instant> {
        self.receivers.iter().flat_map(repeats).collect()
    }
}

/// Waits until the receiver has taken all these events.
pub(crate) async fn has_all(receiver: &Receiver, accepted: &BTreeSet<u64>) {
    let complete = async || {
        let may_be = receiver.count() >= accepted.len(); // the rest costs more
        (may_be && accepted.is_subset(&receiver.taken().into_iter().collect())).then_some(())
    };
    eventually("everything accepted arrives", complete).await;
}

/// When a receiver got again what it had taken.
pub(crate) fn repeats(receiver: &Receiver) -> Vec<Instant> {
    receiver.look(|got| {
        let mut taken = BTreeSet::new();
        let repeated = |got: &&Got| got.taken && !taken.insert(got.header("webhook-id").to_owned());
        got.iter().filter(repeated).map(|got| got.at).collect()
    })
}

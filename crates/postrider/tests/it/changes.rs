//! A change to an endpoint reaches what is already queued for it, within a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::load::{event, has_all};
use crate::receiver::{Receiver, Reply};
use crate::world::{Api, Server, eventually};

/// How long a change may take to apply.
const APPLIES: Duration = Duration::from_secs(1);
/// Longer than any wait between two retries of these tests.
const QUIET: Duration = Duration::from_secs(2);

/// An endpoint with an event that was tried in vain and will be again, every second.
struct Waiting {
    server: Server,
    receiver: Receiver,
    status: Arc<AtomicU16>,
    endpoint: Value,
    event: String,
}

impl Waiting {
    async fn start() -> Waiting {
        let server = Server::start().await;
        let status = Arc::new(AtomicU16::new(500));
        let answer = status.clone();
        let receiver = Receiver::start(move |_| Reply::Status(answer.load(Ordering::SeqCst))).await;
        let endpoint = server.api.register(&receiver, json!({ "retry": { "schedule": vec![1; 30] } })).await;
        let event = server.api.send(event("order.created", 1)).await;
        receiver.wait_for(2).await;
        Waiting { server, receiver, status, endpoint, event }
    }

    fn api(&self) -> &Api {
        &self.server.api
    }

    fn path(&self) -> String {
        format!("/v1/webhooks/{}", self.endpoint["id"].as_str().unwrap())
    }

    /// That the receiver gets nothing more from a second after the change on.
    async fn assert_quiet(&self, changed: Instant) {
        tokio::time::sleep(APPLIES + QUIET).await;
        let last = self.receiver.look(|got| got[got.len() - 1].at);
        assert!(last < changed + APPLIES, "it was sent to {:?} after the change", last - changed);
    }
}

#[tokio::test]
async fn a_new_url_gets_what_waited_for_the_old_one() {
    let waiting = Waiting::start().await;
    let new = Receiver::answering(200).await;
    waiting.api().patch(&waiting.path(), json!({ "url": new.url() })).await;
    let changed = Instant::now();
    has_all(&new, &[1].into()).await;
    waiting.assert_quiet(changed).await;
    waiting.api().until_delivery_is(&waiting.event, "succeeded").await;
}

#[tokio::test]
async fn a_disabled_endpoint_gets_nothing_until_it_is_enabled() {
    let waiting = Waiting::start().await;
    waiting.api().post(&format!("{}/disable", waiting.path()), json!({})).await;
    waiting.assert_quiet(Instant::now()).await;
    waiting.status.store(200, Ordering::SeqCst);
    waiting.api().post(&format!("{}/enable", waiting.path()), json!({})).await;
    has_all(&waiting.receiver, &[1].into()).await;
}

#[tokio::test]
async fn what_waits_for_a_deleted_endpoint_is_canceled() {
    let waiting = Waiting::start().await;
    waiting.api().delete(&waiting.path()).await;
    let changed = Instant::now();
    waiting.api().until_delivery_is(&waiting.event, "canceled").await;
    waiting.assert_quiet(changed).await;
}

#[tokio::test]
async fn a_retry_is_signed_with_the_newest_secret() {
    let waiting = Waiting::start().await;
    let rotated = waiting.api().post(&format!("{}/rotate-secret", waiting.path()), json!({})).await;
    let changed = Instant::now();
    let library = Webhook::new(rotated["secret"].as_str().unwrap()).unwrap();
    let newest = async || waiting.receiver.got().into_iter().find(|got| library.verify(&got.body, &got.headers).is_ok());
    eventually("a retry carries a signature of the new secret", newest).await;
    let outdated = waiting.receiver.got().into_iter().rfind(|got| library.verify(&got.body, &got.headers).is_err()).unwrap();
    assert!(outdated.at < changed + APPLIES, "the old secret alone was used {:?} after", outdated.at - changed);
}

//! What a tenant does, one thing after the other, so that it comes out the same each time.

use std::time::Duration;

use postrider_core::id::{DeliveryId, EndpointId};
use reqwest::Method;
use serde_json::{Value, json};

use super::names::{GIVEN_TIME, Names};
use crate::receiver::{Receiver, Reply};
use crate::world::{Api, answer, eventually};

/// Endpoints of the large fan-out; more than the API routes itself.
const CROWD: usize = 18;
/// When a new endpoint is known to all processes.
const KNOWN: Duration = Duration::from_secs(1);
/// Longer than any test.
const NEVER: u32 = 3600;
const EXHAUSTED: &str = "webhook.delivery.exhausted";

/// The receivers, which several stories share: what they answer depends on the request alone.
pub(super) struct Cast {
    good: Receiver,
    flaky: Receiver,
    mended: Receiver,
    broken: Receiver,
    gone: Receiver,
    busy: Receiver,
    moved: Receiver,
    closing: Receiver,
}

impl Cast {
    pub(super) async fn new() -> Cast {
        let first = |failures: u64, reply: fn() -> Reply| {
            Receiver::start(move |got| if got.number("x-webhook-attempt") <= failures { reply() } else { Reply::Status(200) })
        };
        Cast {
            good: Receiver::answering(200).await,
            flaky: first(2, || Reply::Status(500)).await,
            mended: first(2, || Reply::Status(502)).await,
            broken: Receiver::answering(500).await,
            gone: Receiver::answering(410).await,
            busy: first(1, || Reply::With(429, "retry-after", "1".to_owned())).await,
            moved: Receiver::start(|_| Reply::With(307, "location", "http://elsewhere.example/".to_owned())).await,
            closing: first(1, || Reply::Close).await,
        }
    }
}

/// The story as it was told to one server.
pub(super) struct Story<'a> {
    api: &'a Api,
    pub(super) names: Names,
    /// A time in its middle, RFC 3339.
    pub(super) midway: String,
    answers: Vec<Value>,
    /// Events of [`EXHAUSTED`] so far.
    exhausted: usize,
}

impl<'a> Story<'a> {
    pub(super) async fn told(api: &'a Api, cast: &Cast) -> Story<'a> {
        let mut story = Story { api, names: Names::default(), midway: String::new(), answers: Vec::new(), exhausted: 0 };
        story.register_all(cast).await;
        story.send_of_every_form(cast).await;
        story.try_again().await;
        story.give_up().await;
        story.withdraw().await;
        story.replay().await;
        story.change_endpoints().await;
        story
    }

    /// What the story's own requests were answered.
    pub(super) fn answers(&self) -> Value {
        self.answers.iter().map(|answer| self.names.told(answer)).collect()
    }

    /// Every delivery that is listed.
    pub(super) async fn deliveries(&self, api: &Api) -> Vec<String> {
        let list = api.get("/v1/deliveries?limit=250").await;
        assert_eq!(list["next"], Value::Null, "one page holds all deliveries");
        list["deliveries"].as_array().unwrap().iter().map(|delivery| delivery["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn register_all(&mut self, cast: &Cast) {
        let settings = json!({
            "events": ["order.*"], "description": "takes all", "environment": "test", "headers": { "X-Shop": "1" },
            "metadata": { "team": "a" }, "timeout": 20, "max_in_flight": 4,
        });
        self.register("good", &cast.good, settings).await;
        let retried = |events: &str, schedule: &[u32]| json!({ "events": [events], "retry": { "schedule": schedule } });
        self.register("flaky", &cast.flaky, retried("order.created", &[1, 1])).await;
        self.register("mourner", &cast.good, json!({ "events": ["webhook.*"] })).await;
        self.register("mended", &cast.mended, retried("mend.*", &[1])).await;
        self.register("broken", &cast.broken, retried("bill.*", &[1])).await;
        self.register("gone", &cast.gone, retried("leave.*", &[1])).await;
        self.register("busy", &cast.busy, retried("slow.*", &[1])).await;
        self.register("moved", &cast.moved, retried("move.*", &[])).await;
        self.register("closing", &cast.closing, retried("close.*", &[1])).await;
        self.register("doomed", &cast.broken, retried("doom.*", &[NEVER])).await;
        self.register("held", &cast.broken, retried("hold.*", &[NEVER])).await;
        self.register("paused", &cast.broken, retried("pause.*", &[NEVER])).await;
        self.register("ordered", &cast.good, json!({ "events": ["key.*"], "ordering": "key", "rate_limit": 100 })).await;
        self.register("idle", &cast.good, json!({ "events": ["idle.*"], "enabled": false })).await;
        for n in 1..=CROWD {
            self.register(&format!("crowd {n}"), &cast.good, json!({ "events": ["crowd.*"] })).await;
        }
        for n in 1..=2 {
            let url = format!("{}?{n}", cast.good.url());
            self.names.endpoint(EndpointId::of_url("default", &url), &format!("url {n}"));
        }
        tokio::time::sleep(KNOWN).await;
    }

    async fn send_of_every_form(&mut self, cast: &Cast) {
        self.send("plain", json!({ "type": "order.created", "data": { "n": 1 } })).await;
        self.until("plain", "good", "succeeded", 1).await;
        self.until("plain", "flaky", "succeeded", 3).await;

        let full = json!({
            "type": "order.paid", "data": [1, "two", null], "id": "given-1", "source": "shop", "api_version": "2020-01",
            "correlation_id": "request-7", "created_at": GIVEN_TIME, "key": "customer-1", "metadata": { "note": "é" },
            "webhook_url": format!("{}?1", cast.good.url()),
        });
        self.send("full", full.clone()).await;
        self.until("full", "good", "succeeded", 1).await;
        self.until("full", "url 1", "succeeded", 1).await;
        self.post("/v1/events", full.clone()).await; // once more
        self.post("/v1/events", json!({ "type": "order.paid", "data": 2, "id": "given-1" })).await;

        let keyed = |data: u32| json!({ "type": "order.keyed", "data": data }).to_string();
        for (body, count) in [(keyed(1), 1), (keyed(1), 1), (keyed(2), 0)] {
            let receipt = self.raw("/v1/events", &[("idempotency-key", "k1")], &body).await;
            if count > 0 {
                self.names.event(receipt["id"].as_str().unwrap(), "keyed");
            }
        }
        self.until("keyed", "good", "succeeded", 1).await;

        self.send("unwanted", json!({ "type": "nobody.cares", "data": {} })).await;
        self.post("/v1/events", json!({ "type": "not a type", "data": 1 })).await;

        let lines = "{\"type\":\"order.a\",\"data\":1}\n{\"type\":\"order.b\"\n\n{\"type\":\"nobody.c\",\"data\":3}\n\
                     {\"type\":\"order.d\",\"data\":4,\"id\":\"in-a-batch\"}\n{\"type\":\"order.e\"}\n";
        let results = self.raw("/v1/events/batch", &[("content-type", "application/x-ndjson")], lines).await;
        self.name_results(&results, &["line 1", "", "line 3", "line 4", ""]).await;
        let array = json!([{ "type": "order.f", "data": 5 }, { "type": "order.g", "data": 6 }]).to_string();
        for _ in 0..2 {
            let results = self.raw("/v1/events/batch", &[("idempotency-key", "k2")], &array).await;
            self.name_results(&results, &["item 1", "item 2"]).await;
            self.until("item 2", "good", "succeeded", 1).await;
        }
        for event in ["line 1", "line 4", "item 1"] {
            self.until(event, "good", "succeeded", 1).await;
        }

        let cloud = json!({
            "specversion": "1.0", "id": "ce-structured", "source": "/shop", "type": "order.cloud", "time": GIVEN_TIME,
            "partitionkey": "p", "data": { "n": 7 },
        });
        self.raw("/v1/events", &[("content-type", "application/cloudevents+json")], &cloud.to_string()).await;
        self.name_given("ce-structured").await;
        let headers = [("ce-specversion", "1.0"), ("ce-id", "ce-binary"), ("ce-source", "/shop"), ("ce-type", "order.cloud")];
        self.raw("/v1/events", &headers, "{\"n\":8}").await;
        self.name_given("ce-binary").await;
        for event in ["ce-structured", "ce-binary"] {
            self.until(event, "good", "succeeded", 1).await;
        }

        let urls: Vec<String> = (1..=2).map(|n| format!("{}?{n}", cast.good.url())).collect();
        self.send(
            "large",
            json!({ "type": "crowd.all", "data": "x", "id": "large-1", "key": "k", "webhook_urls": urls, "metadata": { "n": 1 } }),
        )
        .await;
        for n in 1..=CROWD {
            self.until("large", &format!("crowd {n}"), "succeeded", 1).await;
        }
        for url in ["url 1", "url 2"] {
            self.until("large", url, "succeeded", 1).await;
        }
    }

    async fn try_again(&mut self) {
        for (event, kind, endpoint) in [("throttled", "slow.a", "busy"), ("cut off", "close.a", "closing")] {
            self.send(event, json!({ "type": kind, "data": {} })).await;
            self.until(event, endpoint, "succeeded", 2).await;
        }
        for n in 1..=3 {
            self.send(&format!("in order {n}"), json!({ "type": "key.a", "data": n, "key": "k" })).await;
        }
        for n in 1..=3 {
            self.until(&format!("in order {n}"), "ordered", "succeeded", 1).await;
        }
        let event = format!("/v1/events/{}", self.names.event_id("throttled"));
        self.midway = self.api.get(&event).await["received_at"].as_str().unwrap().to_owned();
    }

    async fn give_up(&mut self) {
        for (event, kind, endpoint, attempts) in [
            ("unpaid", "bill.due", "broken", 2),
            ("elsewhere", "move.a", "moved", 1),
            ("last straw", "leave.a", "gone", 1),
            ("mended 1", "mend.a", "mended", 2),
            ("mended 2", "mend.b", "mended", 2),
            ("mended 3", "mend.c", "mended", 2),
        ] {
            self.send(event, json!({ "type": kind, "data": { "of": event } })).await;
            self.until(event, endpoint, "failed", attempts).await;
            self.mourn(event).await;
        }
        let gone = format!("/v1/webhooks/{}", self.names.endpoint_id("gone"));
        eventually("the endpoint is disabled", async || (self.api.get(&gone).await["status"] == "disabled").then_some(())).await;
        self.send("too late", json!({ "type": "leave.b", "data": {} })).await;
    }

    async fn withdraw(&mut self) {
        for (event, kind, endpoint) in [
            ("doomed 1", "doom.a", "doomed"),
            ("doomed 2", "doom.b", "doomed"),
            ("canceled", "hold.a", "held"),
            ("waiting", "hold.b", "held"),
            ("hurried", "hold.c", "held"),
            ("canceled and replayed", "hold.d", "held"),
            ("paused", "pause.a", "paused"),
        ] {
            self.send(event, json!({ "type": kind, "data": {} })).await;
            self.until(event, endpoint, "pending", 1).await;
        }
        self.act(Method::DELETE, &format!("/v1/webhooks/{}", self.names.endpoint_id("doomed"))).await;
        for event in ["doomed 1", "doomed 2"] {
            self.until(event, "doomed", "canceled", 1).await;
        }
        self.send("for nobody", json!({ "type": "doom.c", "data": {} })).await;

        for event in ["canceled", "canceled and replayed"] {
            let cancel = format!("/v1/deliveries/{}/cancel", self.delivery(event, "held"));
            self.post(&cancel, json!({})).await;
            self.until(event, "held", "canceled", 1).await;
            self.post(&cancel, json!({})).await;
        }
        self.post(&format!("/v1/deliveries/{}/retry", self.delivery("hurried", "held")), json!({})).await;
        self.until("hurried", "held", "failed", 2).await;
        self.mourn("hurried").await;

        self.post(&format!("/v1/webhooks/{}/disable", self.names.endpoint_id("paused")), json!({})).await;
        self.send("not paused", json!({ "type": "pause.b", "data": {} })).await;
    }

    async fn replay(&mut self) {
        let replay = format!("/v1/events/{}/replay", self.names.event_id("plain"));
        self.post(&replay, json!({})).await;
        self.until("plain", "good", "succeeded", 2).await;
        self.until("plain", "flaky", "succeeded", 4).await;
        self.post(&replay, json!({ "webhook": self.names.endpoint_id("good").to_string() })).await;
        self.until("plain", "good", "succeeded", 3).await;
        self.post(&replay, json!({ "webhook": self.names.endpoint_id("idle").to_string() })).await;
        for event in ["unwanted", "doomed 1"] {
            self.post(&format!("/v1/events/{}/replay", self.names.event_id(event)), json!({})).await;
        }

        self.post(&format!("/v1/events/{}/replay", self.names.event_id("canceled and replayed")), json!({})).await;
        self.until("canceled and replayed", "held", "pending", 2).await;
        self.post(&format!("/v1/deliveries/{}/retry", self.delivery("mended 1", "mended")), json!({})).await;
        self.until("mended 1", "mended", "succeeded", 3).await;
        let since = json!({ "since": self.midway, "limit": 1 });
        self.post(&format!("/v1/webhooks/{}/replay", self.names.endpoint_id("mended")), since).await;
        self.until("mended 3", "mended", "succeeded", 3).await;
    }

    async fn change_endpoints(&mut self) {
        let good = format!("/v1/webhooks/{}", self.names.endpoint_id("good"));
        let change = json!({ "description": null, "metadata": { "team": null, "n": 1 }, "headers": { "X-Shop": "2" } });
        let changed = self.api.ask(Method::PATCH, &good, change).await;
        self.answers.push(json!({ "asked": "to change", "status": changed.0.as_u16(), "body": changed.1 }));
        self.post(&format!("/v1/webhooks/{}/enable", self.names.endpoint_id("idle")), json!({})).await;
        self.post(&format!("{good}/rotate-secret"), json!({})).await;
    }

    async fn register(&mut self, name: &str, receiver: &Receiver, settings: Value) {
        let endpoint = self.api.register(receiver, settings).await;
        self.names.endpoint(endpoint["id"].as_str().unwrap().parse().unwrap(), name);
        self.answers.push(json!({ "asked": name, "body": endpoint }));
    }

    /// Sends an event and waits until it is known.
    async fn send(&mut self, name: &str, event: Value) {
        let receipt = self.post("/v1/events", event).await;
        let id = receipt["id"].as_str().unwrap_or_else(|| panic!("{name}: {receipt}"));
        self.name(id, name).await;
    }

    /// Names the event that has this id, be it ours or the sender's.
    async fn name(&mut self, id: &str, name: &str) {
        let (api, path) = (self.api, format!("/v1/events/{id}"));
        let known = async || Some(answer(api.request(Method::GET, &path)).await.1).filter(|event| event["uid"].is_string());
        let event = eventually("the event is known", known).await;
        self.names.event(event["uid"].as_str().unwrap(), name);
    }

    async fn name_given(&mut self, id: &str) {
        self.name(id, id).await;
    }

    async fn name_results(&mut self, results: &Value, names: &[&str]) {
        let results = results["results"].as_array().unwrap();
        assert_eq!(results.len(), names.len(), "{results:?}");
        for (result, name) in results.iter().zip(names).filter(|(_, name)| !name.is_empty()) {
            self.name(result["id"].as_str().unwrap(), name).await;
        }
    }

    async fn post(&mut self, path: &str, body: Value) -> Value {
        self.note(path, self.api.request(Method::POST, path).json(&body)).await
    }

    async fn act(&mut self, method: Method, path: &str) {
        self.note(path, self.api.request(method, path)).await;
    }

    async fn raw(&mut self, path: &str, headers: &[(&str, &str)], body: &str) -> Value {
        let mut request = self.api.request(Method::POST, path).body(body.to_owned());
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.note(path, request).await
    }

    async fn note(&mut self, path: &str, request: reqwest::RequestBuilder) -> Value {
        let (status, body) = answer(request).await;
        self.answers.push(json!({ "asked": path, "status": status.as_u16(), "body": body }));
        body
    }

    fn delivery(&self, event: &str, endpoint: &str) -> DeliveryId {
        DeliveryId { event: self.names.event_id(event), endpoint: self.names.endpoint_id(endpoint) }
    }

    /// Waits until a delivery stands there after so many attempts.
    async fn until(&self, event: &str, endpoint: &str, status: &str, attempts: usize) {
        let path = format!("/v1/deliveries/{}", self.delivery(event, endpoint));
        let stands = async || {
            let (_, delivery) = answer(self.api.request(Method::GET, &path)).await;
            let made = delivery["attempts"].as_array()?.len();
            (delivery["status"] == status && made == attempts).then_some(())
        };
        eventually(&format!("{event} → {endpoint} is {status} after {attempts}"), stands).await;
    }

    /// Waits until it is told that an event's delivery was given up.
    async fn mourn(&mut self, event: &str) {
        self.exhausted += 1;
        let (api, count) = (self.api, self.exhausted);
        let told = async || {
            let list = api.get(&format!("/v1/events?type={EXHAUSTED}&limit=250")).await;
            let events = list["events"].as_array()?;
            (events.len() == count).then(|| events[0]["uid"].as_str().unwrap().to_owned())
        };
        let uid = eventually(&format!("it is told that {event} was given up"), told).await;
        let name = format!("end of {event}");
        self.names.event(&uid, &name);
        self.until(&name, "mourner", "succeeded", 1).await;
    }
}

//! A server over an embedded backend in a folder of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_api::{Api, ApiLimits, ApiParts, router, serve};
use postrider_backend::blobs::Blobs;
use postrider_backend::directory::Directory;
use postrider_backend::folder::Folder;
use postrider_backend::live::Live;
use postrider_backend::log::{Append, Consumed, Consumer, Group, Log, Record, Topic, local};
use postrider_backend::store::{AttemptRow, Body, Dead, DeliveryWrite, EventRow, EventWrite, Store, Target, Write, local as store};
use postrider_core::attempt::{Answer, DeliveryState, End, Report};
use postrider_core::id::DeliveryId;
use postrider_core::partition::{Partition, of_endpoint};
use postrider_core::record::{Envelope, EventEnvelope};
use postrider_core::secret::Secret;
use postrider_core::time::{Millis, Time};
use postrider_ingest::jobs::{Bert, Jobs, Kinds};
use postrider_ingest::{Ids, Ingest, clock};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) const KEY: &str = "test-key";
const PARTITIONS: u16 = 4;
const SOON: Duration = Duration::from_secs(60);

/// Waits for `work`, but not for ever.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.expect("it happens in time")
}

pub(crate) struct World {
    pub(crate) address: String,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<std::io::Result<()>>>,
    folder: Folder,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> World {
        World::with_limits(ApiLimits::default()).await
    }

    pub(crate) async fn with_limits(limits: ApiLimits) -> World {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("data"), PARTITIONS).unwrap();
        let options = local::Options { partitions: PARTITIONS, ..local::Options::default() };
        let local_log = local::Log::open(&folder.path().join("log"), options).unwrap();
        let (retention, job_retention) = (Millis::from_secs(30 * 86_400), Millis::from_secs(7 * 86_400));
        let options = store::Options { folder: folder.path().join("store"), retention, job_retention, min_free_bytes: 1 << 20 };
        let store = Store::Local(store::Store::open(&options, local_log.clone()).unwrap());
        let log = Log::Local(local_log);
        let directory = Directory::new(store.clone(), log.clone());
        let ingest = Arc::new(Ingest::new(log.clone(), store.clone(), directory.clone(), Ids::new().unwrap()));
        let egress = postrider_egress::Options { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
        let live = Live::new(store.clone(), log.clone(), directory.clone());
        let blobs = Blobs::open(&folder.path().join("blobs")).unwrap();
        let kinds = Kinds {
            speech: Err("install espeak-ng".to_owned()),
            bert: Bert::Missing,
            guard: postrider_egress::Guard::new(egress.allow.clone()),
            outside: Vec::new(),
            upstream: Ok(()),
        };
        let jobs = Arc::new(Jobs::new(ingest.clone(), blobs.clone(), Ids::new().unwrap(), kinds, "http://here".to_owned()));
        let (kept, taken) = (blobs.clone(), jobs.clone());
        let parts = ApiParts { ingest, jobs, blobs, store: store.clone(), directory, live, egress, key: Secret::new(KEY), limits };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, router(Api::new(parts).unwrap()), stopped, Duration::from_secs(2)));
        let client = Client::builder().no_proxy().build().unwrap();
        World { address, log, store, blobs: kept, jobs: taken, client, stop: Some(stop), server: Some(server), folder, _dir: dir }
    }

    /// Where its data lies.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(KEY)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request("GET", path)
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> RequestBuilder {
        self.request("POST", path).json(&body)
    }

    /// Begins to stop the server.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has stopped.
    pub(crate) async fn stopped(&mut self) {
        soon(self.server.take().unwrap()).await.unwrap().unwrap();
    }

    fn consumer(&self, topic: Topic) -> Consumer {
        let group = match topic {
            Topic::Events => Group::Router,
            Topic::Jobs(_) => Group::Compute,
            _other => Group::Deliver,
        };
        self.log.consumers(group, topic, 1, 1 << 20).unwrap().remove(0)
    }

    /// All records of a topic so far.
    pub(crate) async fn records(&self, topic: Topic) -> Vec<Record> {
        // Marks at the end of every partition tell when everything before them was read.
        let mark = |partition| Append {
            topic,
            partition: Partition(partition),
            meta: Bytes::new(),
            payload: Bytes::from_static(b"mark"),
            failure: None,
        };
        let marks = self.log.append((0..PARTITIONS).map(mark).collect()).await.unwrap();
        let (mut records, mut missing) = (Vec::new(), marks.len());
        let mut consumer = self.consumer(topic);
        while missing > 0 {
            if let Consumed::Records(more) = soon(consumer.next()).await.unwrap() {
                missing -= more.iter().filter(|record| marks.contains(&record.offset)).count();
                records.extend(more.into_iter().filter(|record| !record.meta.is_empty()));
            }
        }
        records
    }

    /// Writes the rows of all events in the log, as the deliverer and the router would.
    pub(crate) async fn write_events(&self) {
        let mut writes = Vec::new();
        for record in self.records(Topic::Deliveries).await {
            let envelope = Envelope::decode(&record.meta).unwrap();
            let Some(row) = envelope.row else { continue };
            let target = |t: &postrider_core::record::Target<'_>| Target { endpoint: t.endpoint, url: t.url.map(str::to_owned) };
            writes.push(Write::Event(EventWrite {
                tenant: envelope.tenant.into(),
                event: envelope.event,
                chunk: row.chunk,
                row: EventRow {
                    given_id: row.given_id.map(str::to_owned),
                    kind: envelope.kind.to_owned(),
                    metadata: row.metadata.map(str::to_owned),
                    targets: row.targets.iter().map(target).collect(),
                    key: envelope.key.map(str::to_owned),
                    correlation_id: envelope.correlation_id.map(str::to_owned),
                    body: Body::At(record.offset),
                },
            }));
        }
        for record in self.records(Topic::Events).await {
            let envelope = EventEnvelope::decode(&record.meta).unwrap();
            writes.push(Write::Event(EventWrite {
                tenant: envelope.tenant.into(),
                event: envelope.event,
                chunk: 0,
                row: EventRow {
                    given_id: envelope.given_id.map(str::to_owned),
                    kind: envelope.kind.to_owned(),
                    metadata: envelope.metadata.map(str::to_owned),
                    targets: Vec::new(),
                    key: envelope.key.map(str::to_owned),
                    correlation_id: envelope.correlation_id.map(str::to_owned),
                    body: Body::At(record.offset),
                },
            }));
        }
        self.store.write(writes).await.unwrap();
    }

    /// Writes an attempt, as the deliverer would; a failed delivery is dead-lettered.
    pub(crate) async fn write_attempt(&self, id: DeliveryId, n: u32, kind: &str, code: u16, state: DeliveryState) {
        let now = clock::now();
        let answer = Answer::Status { code, retry_after: None };
        let report = Report { started: now, took: Millis(u64::from(n) * 10), answer, body: Bytes::from_static(b"so \xff it goes") };
        let next = (state == DeliveryState::Pending).then_some(now + Millis::from_secs(60));
        let dead = match state {
            DeliveryState::Failed => Dead::Add { at: now, reason: "every attempt failed".to_owned() },
            DeliveryState::Pending | DeliveryState::Succeeded | DeliveryState::Canceled => Dead::Keep,
        };
        let attempt = Some((n, AttemptRow { report, next, state, kind: kind.to_owned() }));
        self.write_delivery(id, attempt, None, dead).await;
    }

    /// Writes the end of a delivery that no attempt brought about.
    pub(crate) async fn write_end(&self, id: DeliveryId, end: End) {
        self.write_delivery(id, None, Some((end, clock::now())), Dead::Keep).await;
    }

    async fn write_delivery(&self, id: DeliveryId, attempt: Option<(u32, AttemptRow)>, end: Option<(End, Time)>, dead: Dead) {
        let partition = of_endpoint(id.endpoint, PARTITIONS);
        let write = DeliveryWrite { tenant: "default".into(), partition, id, attempt, end, dead, remove: None, put: None };
        self.store.write(vec![Write::Delivery(write)]).await.unwrap();
    }

    /// Registers an endpoint and says its id.
    pub(crate) async fn endpoint(&self, url: &str) -> String {
        let webhook = ok(self.post("/v1/webhooks", serde_json::json!({ "url": url })).send().await.unwrap(), 201).await;
        webhook["id"].as_str().unwrap().to_owned()
    }

    /// Sends an event, writes its row and says its id.
    pub(crate) async fn event(&self, body: Value) -> String {
        let receipt = ok(self.post("/v1/events", body).send().await.unwrap(), 202).await;
        self.write_events().await;
        receipt["id"].as_str().unwrap().to_owned()
    }
}

/// The JSON of a response with this status.
pub(crate) async fn ok(response: Response, status: u16) -> Value {
    let found = response.status().as_u16();
    assert!(response.headers().contains_key("x-request-id"), "every response names its request");
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The slug and the named fields of a problem with this status.
pub(crate) async fn problem(response: Response, status: u16) -> (String, Vec<String>) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let problem = ok(response, status).await;
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], id);
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    let slug = problem["type"].as_str().unwrap().strip_prefix("urn:postrider:problem:").unwrap().to_owned();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    (slug, errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect())
}

//! Accepting events: claimed where they have an id, matched, appended, and only then acknowledged.

use bytes::Bytes;
use postrider_backend::blobs::BlobError;
use postrider_backend::directory::Directory;
use postrider_backend::log::{APPEND_BYTES, Append, Log, LogError, Topic};
use postrider_backend::store::{self, Claim, EventRow, History, Store, StoreError};
use postrider_core::endpoint::Ordering;
use postrider_core::id::{DeliveryId, Uid};
use postrider_core::partition;
use postrider_core::record::{Command, Envelope, EventEnvelope, Target};
use postrider_core::time::Time;
use postrider_core::trace::Trace;
use postrider_spans::{Kind, Span, attribute, handed_on};
use sha2::{Digest, Sha256};

use crate::clock;
use crate::fanout;
use crate::ids::Ids;
use crate::submission::Submission;

/// Takes events in.
pub struct Ingest {
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    ids: Ids,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The tenant it belongs to.
    pub tenant: &'a str,
    /// The `Idempotency-Key` of the request.
    pub idempotency_key: Option<&'a str>,
    /// The trace of the request.
    pub trace: Option<Trace<'a>>,
}

/// What a sender is told of its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The event's number.
    pub event: Uid,
    /// Its id: the sender's own, or ours.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// When it happened, RFC 3339.
    pub created_at: String,
}

impl Receipt {
    /// Of the event with this number.
    pub fn new(number: Uid, event: &Submission<'_>) -> Receipt {
        let id = event.id.as_deref().map_or_else(|| number.to_string(), str::to_owned);
        Receipt { event: number, id, kind: event.kind.clone().into_owned(), created_at: event.created_at(number.time()) }
    }

    /// The JSON that receivers get.
    pub fn body(&self, event: &Submission<'_>) -> Bytes {
        Bytes::from(event.body(&self.id, &self.created_at))
    }
}

/// What is to be known of an event before its body.
pub fn envelope<'a>(tenant: &'a str, trace: Option<Trace<'a>>, number: Uid, event: &'a Submission<'_>) -> EventEnvelope<'a> {
    EventEnvelope {
        tenant,
        event: number,
        given_id: event.id.as_deref(),
        kind: &event.kind,
        key: event.key.as_deref(),
        correlation_id: event.correlation_id.as_deref(),
        trace,
        metadata: event.metadata.map(|metadata| metadata.get()),
        urls: event.urls().collect(),
    }
}

/// An event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log or the store is not available; the same request may be sent again.
    #[error("{0}")]
    Log(#[from] LogError),
    /// As above.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The blobs are not available.
    #[error("{0}")]
    Blobs(#[from] BlobError),
    /// The id or idempotency key belongs to another request.
    #[error("{0} was used before with a different body; use a new one for a new event")]
    KeyReused(&'static str),
}

/// An event that has a number.
struct Begun<'a> {
    number: Uid,
    span: Option<Span>,
    source: Source<'a>,
}

/// An event that is checked and matched, with the records that make it durable.
struct Prepared {
    receipt: Receipt,
    records: Vec<Append>,
}

/// Events of one request, appended in pieces.
struct Batch<'a> {
    log: &'a Log,
    results: Vec<Result<Receipt, IngestError>>,
    /// Those that are not appended yet, and which results are theirs.
    records: Vec<Append>,
    bytes: usize,
    open: Vec<usize>,
    /// Why the log took no more.
    refusal: Option<String>,
}

impl<'a> Batch<'a> {
    fn new(log: &'a Log, count: usize) -> Batch<'a> {
        Batch { log, results: Vec::with_capacity(count), records: Vec::with_capacity(count), bytes: 0, open: Vec::new(), refusal: None }
    }

    /// An event; nothing where it is not to be tried any more.
    async fn push(&mut self, prepared: Result<Option<Prepared>, IngestError>) {
        match prepared {
            Ok(Some(Prepared { receipt, records })) => {
                if !records.is_empty() {
                    self.open.push(self.results.len());
                    self.bytes += records.iter().map(Append::bytes).sum::<usize>();
                    self.records.extend(records);
                }
                self.results.push(Ok(receipt));
            }
            Ok(None) => self.results.push(Err(self.refused())),
            Err(error) => self.results.push(Err(error)),
        }
        if self.bytes >= APPEND_BYTES {
            self.append().await;
        }
    }

    async fn append(&mut self) {
        let (records, open) = (std::mem::take(&mut self.records), std::mem::take(&mut self.open));
        self.bytes = 0;
        if records.is_empty() {
            return;
        }
        if let Err(error) = self.log.append(records).await {
            self.refusal = Some(error.to_string());
            for index in open {
                self.results[index] = Err(self.refused());
            }
        }
    }

    fn refused(&self) -> IngestError {
        IngestError::Log(LogError::Unavailable { reason: self.refusal.clone().unwrap_or_default() })
    }

    async fn end(mut self) -> Vec<Result<Receipt, IngestError>> {
        self.append().await;
        self.results
    }
}

impl Ingest {
    /// Takes events into `log`.
    pub fn new(log: Log, store: Store, directory: Directory, ids: Ids) -> Ingest {
        Ingest { log, store, directory, ids }
    }

    /// Takes one event; durable when it returns. `raw` is what the sender sent, to tell a repeat from a different event.
    pub async fn submit(&self, source: Source<'_>, event: &Submission<'_>, raw: &[u8]) -> Result<Receipt, IngestError> {
        let Begun { number, span, source } = self.begin(source);
        let taken = async {
            let Prepared { receipt, records } = self.prepare(number, source, event, raw).await?;
            if !records.is_empty() {
                self.log.append(records).await?;
            }
            Ok(receipt)
        };
        let taken = taken.await;
        note(span, source.tenant, event, &taken);
        taken
    }

    /// Takes many events. Each has its own result; those that fail leave the others alone, but behind one that the log did not
    /// take none is tried, so that events of one key stay in order.
    pub async fn submit_batch(&self, source: Source<'_>, events: &[(Submission<'_>, &[u8])]) -> Vec<Result<Receipt, IngestError>> {
        let mut batch = Batch::new(&self.log, events.len());
        let mut spans = Vec::with_capacity(events.len());
        for (event, raw) in events {
            let Begun { number, span, source } = self.begin(source);
            spans.push(span);
            match &batch.refusal {
                Some(_) => batch.push(Ok(None)).await,
                None => batch.push(self.prepare(number, source, event, raw).await.map(Some)).await,
            }
        }
        let results = batch.end().await;
        for ((span, result), (event, _)) in spans.into_iter().zip(&results).zip(events) {
            note(span, source.tenant, event, result);
        }
        results
    }

    /// Gives an event its number, and the trace that it hands on.
    fn begin<'a>(&self, source: Source<'a>) -> Begun<'a> {
        let number = self.ids.next(clock::now());
        let span = Span::begin("ingest event", Kind::Server, source.trace, number);
        let trace = handed_on(span.as_ref(), source.trace);
        Begun { number, span, source: Source { trace, ..source } }
    }

    async fn prepare(&self, number: Uid, source: Source<'_>, event: &Submission<'_>, raw: &[u8]) -> Result<Prepared, IngestError> {
        let (number, earlier) = self.claim(source, event, raw, number, clock::now()).await?;
        let receipt = Receipt::new(number, event);
        let body = receipt.body(event);
        let envelope = envelope(source.tenant, source.trace, number, event);
        let records = match earlier {
            None => self.records(&envelope, body).await?,
            Some(row) => self.missing(&envelope, &row.targets, &body).await?,
        };
        records.iter().try_for_each(|record| self.log.check(record))?;
        Ok(Prepared { receipt, records })
    }

    /// The records that make an event durable: its deliveries, or the event itself where a router has to see to it.
    pub(crate) async fn records(&self, event: &EventEnvelope<'_>, body: Bytes) -> Result<Vec<Append>, StoreError> {
        let targets = self.targets(event).await?;
        Ok(if targets.is_empty() || targets.len() > fanout::DIRECT || self.is_ordered(event, &targets).await? {
            vec![fanout::event(event, body, self.log.partitions(Topic::Events))]
        } else {
            self.deliveries(event, &targets, &body)
        })
    }

    /// Whether an endpoint takes events of one key in their order. Those all go by the router: another event of the key may have
    /// so many targets that it has to, and would be overtaken by what goes straight.
    async fn is_ordered(&self, event: &EventEnvelope<'_>, targets: &[Target<'_>]) -> Result<bool, StoreError> {
        if event.key.is_none() {
            return Ok(false);
        }
        for target in targets.iter().filter(|target| target.url.is_none()) {
            let endpoint = self.directory.endpoint(event.tenant, target.endpoint).await?;
            if endpoint.is_some_and(|endpoint| endpoint.ordering == Ordering::Key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The records of an event that is there which may be missing: where it went straight to a few targets, the request that
    /// brought it may have been cut short between them. Shards drop what they have seen.
    async fn missing(&self, event: &EventEnvelope<'_>, targets: &[store::Target], body: &Bytes) -> Result<Vec<Append>, StoreError> {
        if !(2..=fanout::DIRECT).contains(&targets.len()) {
            return Ok(Vec::new());
        }
        let mut missing = Vec::new();
        let partitions = self.log.partitions(Topic::Deliveries);
        for store::Target { endpoint, url } in targets {
            let id = DeliveryId { event: event.event, endpoint: *endpoint };
            let partition = partition::of_endpoint(*endpoint, partitions);
            if self.store.attempts(event.tenant, id).await? == History::default()
                && self.store.find(partition, *endpoint, event.event).await?.is_none()
            {
                missing.push(Target { endpoint: *endpoint, url: url.as_deref() });
            }
        }
        Ok(fanout::repeats(event, &missing, body, partitions))
    }

    /// The event's number, and its row where an earlier request has brought it in already.
    ///
    /// An id or key is claimed before anything is appended. When that request was cut short, its repeat
    /// appends again under the same number: whoever has seen the delivery drops it.
    async fn claim(
        &self,
        source: Source<'_>,
        event: &Submission<'_>,
        raw: &[u8],
        number: Uid,
        now: Time,
    ) -> Result<(Uid, Option<EventRow>), IngestError> {
        let key = source.idempotency_key.map(|key| (format!("key:{key}"), "the Idempotency-Key"));
        let id = event.id.as_deref().map(|id| match event.source.as_deref().filter(|_| event.is_id_of_source) {
            Some(source) => (format!("ce:{}:{source}:{id}", source.len()), "the id"),
            None => (format!("id:{id}"), "the id"),
        });
        if key.is_none() && id.is_none() {
            return Ok((number, None));
        }
        let hash: [u8; 32] = Sha256::digest(raw).into();
        let mut number = number;
        let mut repeated = false;
        for (key, name) in [key, id].into_iter().flatten() {
            match self.store.claim(source.tenant, &key, hash, number, now).await? {
                Claim::New => {}
                Claim::Same { event } => (number, repeated) = (event, true),
                Claim::Other => return Err(IngestError::KeyReused(name)),
            }
        }
        let earlier = if repeated { self.store.event(source.tenant, number).await? } else { None };
        Ok((number, earlier.map(|event| event.row)))
    }

    /// The endpoints an event goes to.
    pub async fn targets<'a>(&self, event: &EventEnvelope<'a>) -> Result<Vec<Target<'a>>, StoreError> {
        let routes = self.directory.routes(event.tenant).await?;
        Ok(fanout::targets(event, &routes.matching(event.kind)))
    }

    /// The records that carry an event to `targets`.
    pub fn deliveries(&self, event: &EventEnvelope<'_>, targets: &[Target<'_>], body: &Bytes) -> Vec<Append> {
        fanout::deliveries(event, targets, body, self.log.partitions(Topic::Deliveries))
    }

    /// Has deliveries that exist tried again, replayed or withdrawn; durable when it returns.
    pub async fn command(&self, tenant: &str, commands: &[Redelivery<'_>]) -> Result<(), LogError> {
        let partitions = self.log.partitions(Topic::Deliveries);
        let records = commands.iter().map(|redelivery| redelivery.record(tenant, partitions)).collect();
        self.log.append(records).await.map(drop)
    }
}

/// Ends the span of an event, if there is one.
fn note(span: Option<Span>, tenant: &str, event: &Submission<'_>, taken: &Result<Receipt, IngestError>) {
    let Some(mut span) = span else { return };
    span.set(attribute::TENANT, tenant);
    span.set(attribute::EVENT_TYPE, &*event.kind);
    match taken {
        Ok(receipt) => span.set(attribute::EVENT, receipt.event.to_string()),
        Err(error) => span.fail(&error.to_string()),
    }
    span.end();
}

/// A command about a delivery that exists.
#[derive(Clone, Debug)]
pub struct Redelivery<'a> {
    /// What is to become of it.
    pub command: Command,
    /// The delivery.
    pub id: DeliveryId,
    /// Its event's type.
    pub kind: &'a str,
    /// Its event's ordering key.
    pub key: Option<&'a str>,
    /// Its event's `X-Correlation-Id`.
    pub correlation_id: Option<&'a str>,
    /// Its URL, where the endpoint is not registered.
    pub url: Option<&'a str>,
    /// Attempts made so far; a replay goes on counting.
    pub attempts: u32,
    /// What receivers get; needed for a replay alone.
    pub body: Bytes,
}

impl Redelivery<'_> {
    fn record(&self, tenant: &str, partitions: u16) -> Append {
        let envelope = Envelope {
            command: self.command,
            tenant,
            event: self.id.event,
            endpoint: self.id.endpoint,
            kind: self.kind,
            key: self.key,
            url: self.url,
            correlation_id: self.correlation_id,
            trace: None,
            attempts: self.attempts,
            row: None,
        };
        Append {
            topic: Topic::Deliveries,
            partition: partition::of_endpoint(self.id.endpoint, partitions),
            meta: envelope.encode().into(),
            payload: self.body.clone(),
            failure: None,
        }
    }
}

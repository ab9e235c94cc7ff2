//! Taking a job in, and withdrawing one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_backend::blobs::Blobs;
use postrider_backend::log::Append;
use postrider_backend::store::{Claim, JobWrite, Store, Write};
use postrider_core::endpoint::Endpoint;
use postrider_core::id::{EndpointId, JobId};
use postrider_core::job::{Counts, Hook, Job, JobKind, Lost, State};
use postrider_core::partition;
use postrider_core::record::JobEnvelope;
use postrider_core::secret::Secret;
use postrider_core::time::Time;
use postrider_core::trace::TraceParent;
use postrider_spans::{Kind as Work, Span, attribute, handed_on};
use sha2::{Digest, Sha256};

use super::kinds::{Kind, Kinds};
use super::submission::{JobSubmission, NewHook};
use super::tell::measure;
use crate::clock;
use crate::ids::Ids;
use crate::ingest::{Ingest, IngestError, Source};

/// An input of more bytes lies among the blobs.
const INLINE_INPUT: usize = 256 << 10;
/// A row that comes so much later than its record, as after this process was frozen, may come too late.
const PROMPT: Duration = Duration::from_secs(20);
/// How often a change that others get ahead of is tried.
pub(super) const TRIES: usize = 16;

/// Takes jobs in and tells of them.
pub struct Jobs {
    pub(super) ingest: Arc<Ingest>,
    pub(super) blobs: Blobs,
    ids: Ids,
    /// What this machine can do.
    pub kinds: Kinds,
    /// What links begin with: scheme, host and port.
    pub(super) public_url: String,
}

/// What the sender of a job is told.
#[derive(Clone, Debug)]
pub struct JobReceipt {
    /// The job.
    pub id: JobId,
    /// As it stands: new, unless the request is a repeat.
    pub job: Job,
}

/// A job was not withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// There is none of this id.
    #[error("there is no such job")]
    Missing,
    /// It has ended.
    #[error("{0}")]
    Over(Lost),
    /// The log or the store is not available; the same request may be sent again.
    #[error("{0}")]
    Ingest(#[from] IngestError),
}

/// What came with a URL, and makes its endpoint one of its own.
struct Own<'a> {
    secret: Option<&'a Secret>,
    headers: &'a BTreeMap<String, String>,
    /// In seconds.
    timeout: Option<u32>,
}

impl Own<'_> {
    fn is_given(&self) -> bool {
        self.secret.is_some() || !self.headers.is_empty() || self.timeout.is_some()
    }
}

/// The blob of a job's input.
fn input_name(id: JobId) -> String {
    format!("{}/input.json", Jobs::folder(id))
}

/// What of a job's input its row shows. It is small, as lists read it.
fn shown(kind: Kind, input: &str) -> Option<String> {
    match kind {
        Kind::BuiltIn(JobKind::Batch) => Some(input.to_owned()),
        Kind::BuiltIn(JobKind::Evaluate | JobKind::Tts | JobKind::Generate | JobKind::Experiment | JobKind::Http) | Kind::Outside(_) => {
            None
        }
    }
}

impl Jobs {
    /// Where the blobs of all jobs lie.
    pub const BLOBS: &str = "jobs";

    /// Jobs enter where `ingest` has its log and store; large inputs go to `blobs`. Links begin with `public_url`.
    pub fn new(ingest: Arc<Ingest>, blobs: Blobs, ids: Ids, kinds: Kinds, public_url: String) -> Jobs {
        Jobs { ingest, blobs, ids, kinds, public_url }
    }

    /// Where the blobs of a job lie: in a folder of the day it was made, so that what is old can be found.
    pub fn folder(id: JobId) -> String {
        format!("{}/{id}", Jobs::day(id.0.time()))
    }

    /// Where the blobs of a day's jobs lie. Days are counted from the Unix epoch.
    pub fn day(at: Time) -> String {
        format!("{}/{}", Jobs::BLOBS, at.0 / 86_400_000)
    }

    pub(super) fn store(&self) -> &Store {
        &self.ingest.store
    }

    /// Takes one job; durable when it returns. `raw` is what the sender sent, to tell a repeat from a different job.
    pub async fn submit(&self, source: Source<'_>, submission: JobSubmission, raw: &[u8]) -> Result<JobReceipt, IngestError> {
        let number = self.ids.next(clock::now());
        let mut span = Span::begin("ingest job", Work::Server, source.trace, number);
        if let Some(span) = &mut span {
            span.set(attribute::TENANT, source.tenant);
            span.set(attribute::JOB_KIND, self.kinds.name(submission.kind));
        }
        let source = Source { trace: handed_on(span.as_ref(), source.trace), ..source };
        let taken = self.submit_as(JobId(number), source, submission, raw).await;
        if let Some(mut span) = span {
            match &taken {
                Ok(receipt) => span.set(attribute::JOB, receipt.id.to_string()),
                Err(error) => span.fail(&error.to_string()),
            }
            span.end();
        }
        taken
    }

    async fn submit_as(&self, mut id: JobId, source: Source<'_>, submission: JobSubmission, raw: &[u8]) -> Result<JobReceipt, IngestError> {
        let now = clock::now();
        if let Some(key) = source.idempotency_key {
            let hash: [u8; 32] = Sha256::digest(raw).into();
            match self.store().claim(source.tenant, &format!("job:{key}"), hash, id.0, now).await? {
                Claim::New => {}
                Claim::Same { event } => {
                    id = JobId(event);
                    // One that nobody has begun may have lost its record; another does no harm.
                    if let Some(job) = self.store().job(source.tenant, id).await?.filter(|job| job.version > 0) {
                        return Ok(JobReceipt { id, job });
                    }
                }
                Claim::Other => return Err(IngestError::KeyReused("the Idempotency-Key")),
            }
        }
        let JobSubmission { kind, input, mut callback, secret, headers, hooks, priority, metadata } = submission;
        let own = Own { secret: secret.as_ref(), headers: &headers, timeout: None };
        if own.is_given() {
            for url in &callback.urls {
                callback.endpoints.push(self.kept(source.tenant, url, &own).await?);
            }
        }
        let no_headers = BTreeMap::new();
        for NewHook { url, secret, timeout, events, format } in hooks {
            let own = Own { secret: secret.as_ref(), headers: &no_headers, timeout };
            let endpoint =
                if own.is_given() { self.kept(source.tenant, &url, &own).await? } else { EndpointId::of_url(source.tenant, &url) };
            callback.hooks.push(Hook { url, endpoint, events, format });
        }
        let trace = source.trace.unwrap_or_else(|| TraceParent::of_job(id.0).into());
        let job = Job {
            version: 0,
            kind: self.kinds.name(kind).to_owned(),
            input: shown(kind, &input),
            callback,
            metadata,
            priority,
            trace: trace.kept(),
            counts: Counts::default(),
            state: State::Pending { claims: 0 },
            told: false,
        };
        let input = Bytes::from(input);
        // Workers outside see the record and nothing else.
        let large = (matches!(kind, Kind::BuiltIn(_)) && input.len() > INLINE_INPUT).then(|| input_name(id));
        if let Some(name) = &large {
            self.blobs.put(name, input.clone()).await?;
        }
        let envelope = JobEnvelope { tenant: source.tenant, job: id, priority, input: large.as_deref(), trace };
        let record = Append {
            topic: kind.topic(),
            partition: partition::of_key(id.to_string().as_bytes(), self.ingest.log.partitions(kind.topic())),
            meta: envelope.encode().into(),
            payload: if large.is_some() { Bytes::new() } else { input },
            failure: None,
        };
        let appended = Instant::now();
        // What is told first is that the job waits, and it does once it has a row; whoever hears of it before will find it.
        let mut records = vec![record];
        records.extend(self.news(source.tenant, id, &job).await?);
        self.ingest.log.append(records.clone()).await?;
        let write = JobWrite { tenant: source.tenant.into(), id, job: job.clone() };
        let tenant = matches!(kind, Kind::Outside(_)).then(|| Write::JobTenant { id, tenant: source.tenant.into() });
        self.store().write([Write::Job(write)].into_iter().chain(tenant).collect::<Vec<_>>()).await?;
        if appended.elapsed() > PROMPT {
            // Whoever read the record may have given the job up by now.
            self.ingest.log.append(records).await?;
        }
        measure(&job);
        Ok(JobReceipt { id, job })
    }

    /// The endpoint of a URL that came with something of its own, where everyone finds it.
    async fn kept(&self, tenant: &str, url: &str, own: &Own<'_>) -> Result<EndpointId, IngestError> {
        let Own { secret, headers, timeout } = *own;
        let id = EndpointId::of_callback(tenant, url, secret.map(Secret::reveal), headers, timeout);
        // Without one, the tenant's own as it will be then.
        let secret = secret.cloned().unwrap_or_else(Secret::none);
        let endpoint = Endpoint { id, headers: headers.clone(), timeout, ..Endpoint::of_url(tenant, url, secret, None) };
        self.ingest.directory.keep_callback(endpoint).await?;
        Ok(id)
    }

    /// Withdraws a job that has not ended, and tells of it. A worker that runs it stops soon.
    pub async fn cancel(&self, tenant: &str, id: JobId) -> Result<Job, CancelError> {
        for _ in 0..TRIES {
            let job = self.store().job(tenant, id).await.map_err(IngestError::from)?.ok_or(CancelError::Missing)?;
            let canceled = match job.cancel(clock::now()) {
                Ok(canceled) => canceled,
                // A former request may have died before it told of it.
                Err(Lost::Canceled) if !job.told => job,
                Err(lost) => return Err(CancelError::Over(lost)),
            };
            if !self.swapped(tenant, id, &canceled).await? {
                continue;
            }
            self.tell_once(tenant, id, &canceled).await?;
            return Ok(canceled);
        }
        Err(busy().into())
    }

    /// Tells of the job's present state where it was not the reader of its record who changed it, and notes that.
    pub(super) async fn tell_once(&self, tenant: &str, id: JobId, job: &Job) -> Result<(), IngestError> {
        self.tell(tenant, id, job).await?;
        // Should this fail, whoever reads the job's record tells it again, under the same ids.
        if let Err(error) = self.store().swap_job(tenant, id, &job.told()).await {
            tracing::warn!(%error, job = %id, "it can't be noted that a job's change was told");
        }
        Ok(())
    }

    /// Whether the job stands as `job` now: put there, or found there.
    pub(super) async fn swapped(&self, tenant: &str, id: JobId, job: &Job) -> Result<bool, IngestError> {
        Ok(self.store().swap_job(tenant, id, job).await? || self.store().job(tenant, id).await?.as_ref() == Some(job))
    }
}

/// Others got ahead of a change too often.
pub(super) fn busy() -> IngestError {
    IngestError::from(postrider_backend::store::StoreError::Unavailable("the job changes all the time; try again".to_owned()))
}

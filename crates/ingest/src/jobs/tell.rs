//! What is told of a job: to endpoints that want events of jobs, and to the URLs that came with it.

use bytes::Bytes;
use postrider_backend::blobs::BlobError;
use postrider_backend::log::Append;
use postrider_backend::store::JobStatus;
use postrider_core::id::{DeliveryId, JobId, Uid};
use postrider_core::job::{About, Audience, Callback, Error, Job, JobKind, LineError, Output, State, Stored, event_number};
use postrider_core::record::{EventEnvelope, Target};
use postrider_core::time::Time;
use postrider_metrics::names;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::hook;
use super::link::Link;
use super::own::{self, Own};
use super::submit::Jobs;
use crate::ingest::{IngestError, Receipt, envelope};
use crate::submission::{OURSELVES, Submission};

/// A result of more bytes is told as a link.
pub const INLINE_RESULT: u64 = 256 << 10;

/// Whether a job has come further since that was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It has.
    Further,
    /// It stands where it stood.
    Not,
}

/// Something that happened to a job.
struct Notice<'a> {
    /// Its type.
    kind: &'a str,
    about: About,
    /// When it happened.
    at: Time,
    data: &'a RawValue,
}

impl Jobs {
    /// Makes durable what is to be told of the job's present state. Who tells the same state again tells it under the same ids.
    pub async fn tell(&self, tenant: &str, id: JobId, job: &Job) -> Result<(), IngestError> {
        let records = self.news(tenant, id, job).await?;
        self.ingest.log.append(records).await?;
        measure(job);
        Ok(())
    }

    /// As [`Jobs::tell`] for a job that was withdrawn and told of before, once it is known what it had made: what its kind has to
    /// say of that.
    pub async fn tell_settled(&self, tenant: &str, id: JobId, job: &Job) -> Result<(), IngestError> {
        if let Some(Own { name, state, data }) = own::of_state(id, job, None) {
            let notice = Notice { kind: name, about: About::Own(state), at: since(id, job), data: &data };
            let records = self.event(tenant, id, job, notice).await?;
            self.ingest.log.append(records).await?;
        }
        Ok(())
    }

    /// What events of a job's kind name it by: an object.
    pub fn subject(id: JobId, job: &Job) -> Value {
        own::about(id, job)
    }

    /// Tells that a job is on the way at `now`: that it has come further, where `moved` says so, and the `detail` that its
    /// kind has to say, which is an object.
    pub async fn tell_progress(
        &self,
        tenant: &str,
        id: JobId,
        job: &Job,
        now: Time,
        moved: Moved,
        detail: Option<&RawValue>,
    ) -> Result<(), IngestError> {
        let mut records = Vec::new();
        if moved == Moved::Further {
            let data = self.flat(tenant, id, job).await?.to_json();
            let notice = Notice { kind: "job.progress", about: About::State(job.version), at: now, data: &data };
            records.extend(self.event(tenant, id, job, notice).await?);
        }
        if let Some((kind, data)) = own::of_progress(job).zip(detail) {
            let notice = Notice { kind, about: About::Progress(job.version), at: now, data };
            records.extend(self.event(tenant, id, job, notice).await?);
        }
        if !records.is_empty() {
            self.ingest.log.append(records).await?;
        }
        Ok(())
    }

    /// Tells of a part of what a job makes, made `at` an instant; parts are numbered from 0. Who tells the same part again
    /// tells it under the same ids.
    pub async fn tell_part(
        &self,
        tenant: &str,
        id: JobId,
        job: &Job,
        (kind, number, at): (&str, u64, Time),
        data: &RawValue,
    ) -> Result<(), IngestError> {
        let records = self.event(tenant, id, job, Notice { kind, about: About::Part(number), at, data }).await?;
        self.ingest.log.append(records).await?;
        Ok(())
    }

    /// The records that tell of the job's state.
    pub(super) async fn news(&self, tenant: &str, id: JobId, job: &Job) -> Result<Vec<Append>, IngestError> {
        let (kind, at) = (format!("job.{}", JobStatus::of(job).name()), since(id, job));
        let flat = self.flat(tenant, id, job).await?;
        let data = flat.to_json();
        let mut records = self.event(tenant, id, job, Notice { kind: &kind, about: About::State(job.turn()), at, data: &data }).await?;
        if let Some(Own { name, state, data }) = own::of_state(id, job, flat.result()) {
            records.extend(self.event(tenant, id, job, Notice { kind: name, about: About::Own(state), at, data: &data }).await?);
        }
        if job.is_over() && !job.callback.urls.is_empty() {
            let body = flat.chosen(&job.callback).to_json();
            let number = event_number(id, at, About::State(job.turn()), Audience::Callback);
            let targets: Vec<Target<'_>> =
                job.callback.targets(tenant).map(|(endpoint, url)| Target { endpoint, url: Some(url) }).collect();
            records.extend(self.call(tenant, job, number, &kind, &targets, body.get().into()));
        }
        Ok(records)
    }

    /// An event about the job, to every endpoint that wants such, and to its hooks that do.
    async fn event(&self, tenant: &str, id: JobId, job: &Job, notice: Notice<'_>) -> Result<Vec<Append>, IngestError> {
        let Notice { kind, about, at, data } = notice;
        let key = id.to_string();
        let submission = Submission { source: Some(OURSELVES.into()), key: Some(key.as_str().into()), ..Submission::new(kind, data) };
        let number = event_number(id, at, about, Audience::Endpoints);
        let body = Receipt::new(number, &submission).body(&submission);
        let envelope = envelope(tenant, Some(job.trace.get()), number, &submission);
        let mut records = self.ingest.records(&envelope, body).await?;
        for (hook, index) in job.callback.hooks.iter().zip(0..).filter(|(hook, _)| hook.wants(kind)) {
            let number = event_number(id, at, about, Audience::Hook(index));
            let usual = || submission.body(&number.to_string(), &submission.created_at(number.time()));
            let body = hook::body(hook.format, id, job, kind, at, data).map_or_else(usual, String::into_bytes);
            let target = Target { endpoint: hook.endpoint, url: Some(&hook.url) };
            records.extend(self.call(tenant, job, number, kind, &[target], body));
        }
        Ok(records)
    }

    /// The records that call URLs that came with a job.
    fn call(&self, tenant: &str, job: &Job, number: Uid, kind: &str, targets: &[Target<'_>], body: Vec<u8>) -> Vec<Append> {
        let event = EventEnvelope {
            tenant,
            event: number,
            given_id: None,
            kind,
            key: None,
            correlation_id: None,
            trace: Some(job.trace.get()),
            metadata: job.metadata.as_deref(),
            urls: Vec::new(),
        };
        self.ingest.deliveries(&event, targets, &Bytes::from(body))
    }

    /// The members that callbacks have, with the result itself where it is small enough.
    async fn flat(&self, tenant: &str, id: JobId, job: &Job) -> Result<Flat, IngestError> {
        let State::Completed { output, .. } = &job.state else { return Ok(Flat::of(id, job, None, None)) };
        let result = match &output.result {
            None => None,
            Some(Stored::Inline(json)) => Some(Bytes::from(json.clone())),
            Some(Stored::Blob { bytes, .. }) if *bytes > INLINE_RESULT => None,
            Some(Stored::Blob { name, .. }) => match self.blobs.get(name).await {
                Ok(json) => Some(json),
                // It will not come back: what is left is told, rather than nothing for ever.
                Err(error @ (BlobError::Missing { .. } | BlobError::Invalid { .. })) => {
                    tracing::error!(%error, job = %id, "a job's result is gone, and its end is told without");
                    None
                }
                Err(error @ BlobError::Unavailable(_)) => return Err(error.into()),
            },
        };
        let result = result.and_then(|json| serde_json::from_slice(&json).ok());
        let link = if has_file(output) { Some(self.link(tenant, id).await?) } else { None };
        Ok(Flat::of(id, job, result, link))
    }

    /// A link to what the job made, which needs no API key.
    pub async fn link(&self, tenant: &str, id: JobId) -> Result<String, IngestError> {
        let secret = self.ingest.directory.signing_secret(tenant).await?;
        Ok(format!("{}/v1/download/{id}?{}", self.public_url, Link::new(&secret.current, tenant, id, crate::clock::now())))
    }

    /// The delivery of a job's end to the first of the URLs that came with it.
    pub fn callback(tenant: &str, id: JobId, job: &Job) -> Option<DeliveryId> {
        let (endpoint, _) = job.callback.targets(tenant).next().filter(|_| job.is_over())?;
        let event = event_number(id, since(id, job), About::State(job.turn()), Audience::Callback);
        Some(DeliveryId { event, endpoint })
    }
}

/// Counts a job that has come to its state.
pub(super) fn measure(job: &Job) {
    let status = JobStatus::of(job).name();
    names::JOB_STATUS.counter(&[&job.kind, status]).increment(1);
    match &job.state {
        State::Completed { started, at, .. } | State::Failed { started, at, .. } => {
            names::JOB_DURATION.histogram(&[&job.kind, status]).record(at.since(*started).0 as f64 / 1000.0);
        }
        State::Pending { .. } | State::Processing { .. } | State::Canceled { .. } => {}
    }
    names::EVENTS.counter(&["job"]).increment(1);
}

/// Whether what came of a job lies among the blobs and is not told itself.
fn has_file(output: &Output) -> bool {
    output.artifact.is_some() || matches!(output.result, Some(Stored::Blob { bytes, .. }) if bytes > INLINE_RESULT)
}

/// Since when a job has its state.
pub(super) fn since(id: JobId, job: &Job) -> Time {
    match &job.state {
        State::Pending { .. } => id.0.time(),
        State::Processing { started, .. } => *started,
        State::Completed { at, .. } | State::Failed { at, .. } | State::Canceled { at, .. } => *at,
    }
}

/// A job as callbacks tell of it: flat, in this order.
#[derive(Clone, Debug)]
struct Flat(Vec<(&'static str, Box<RawValue>)>);

impl Serialize for Flat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Flat {
    /// A job with its `result`, or with a `link` to what it made.
    fn of(id: JobId, job: &Job, result: Option<Box<RawValue>>, link: Option<String>) -> Flat {
        let mut flat = Flat(Vec::new());
        flat.put("job_id", &id.to_string());
        flat.put("status", JobStatus::of(job).name());
        flat.put("kind", &job.kind);
        let is_evaluation = job.kind == JobKind::Evaluate.name();
        match &job.state {
            State::Pending { .. } => flat.put("created_at", &id.0.time().to_string()),
            State::Processing { started, .. } => {
                flat.put("started_at", &started.to_string());
                flat.put("progress", &job.counts.share());
            }
            State::Completed { output, .. } => {
                if let Some(result) = result {
                    flat.0.push((if is_evaluation { "results" } else { "result" }, result));
                }
                if let Some(link) = link {
                    flat.put(link_name(output, is_evaluation), &link);
                }
            }
            State::Failed { error, .. } => flat.put("error", &ErrorView::of(error)),
            State::Canceled { .. } => {}
        }
        if job.is_over() {
            let at = since(id, job).to_string();
            flat.put("completed_at", &at);
            if is_evaluation {
                flat.put("timestamp", &at);
            }
        }
        if let Some(metadata) = job.metadata.clone().and_then(|metadata| RawValue::from_string(metadata).ok()) {
            flat.0.push(("metadata", metadata));
        }
        flat
    }

    /// What came of the job, where it stands here itself.
    fn result(&self) -> Option<&RawValue> {
        self.0.iter().find(|(name, _)| matches!(*name, "result" | "results")).map(|(_, value)| &**value)
    }

    fn put(&mut self, name: &'static str, value: &(impl Serialize + ?Sized)) {
        self.0.push((name, to_raw_value(value).expect("texts and numbers always have a JSON form")));
    }

    /// Those members that the receiver asked for.
    fn chosen(mut self, callback: &Callback) -> Flat {
        self.0.retain(|(name, _)| {
            let is_included = callback.include.as_ref().is_none_or(|include| include.iter().any(|wanted| wanted == name));
            is_included && !callback.exclude.iter().any(|unwanted| unwanted == name)
        });
        self
    }

    fn to_json(&self) -> Box<RawValue> {
        to_raw_value(self).expect("texts and JSON always have a JSON form")
    }
}

/// Why a job failed, as callbacks tell it.
#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    lines: &'a [LineError],
}

impl<'a> ErrorView<'a> {
    fn of(error: &'a Error) -> ErrorView<'a> {
        ErrorView { code: &error.code, message: &error.message, lines: &error.lines }
    }
}

/// What a link to what a job made is called.
fn link_name(output: &Output, is_evaluation: bool) -> &'static str {
    match (&output.artifact, is_evaluation) {
        (Some(artifact), _) if artifact.media_type.starts_with("audio/") => "audio_url",
        (Some(_), _) => "file_url",
        (None, true) => "results_url",
        (None, false) => "result_url",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::Uid;
    use postrider_core::job::Counts;
    use postrider_core::trace::TraceParent;

    #[test]
    fn a_callback_is_flat_and_its_members_can_be_chosen() {
        let job = Job {
            version: 3,
            kind: "evaluate".to_owned(),
            input: None,
            callback: Callback::default(),
            metadata: Some(r#"{"batch":7}"#.to_owned()),
            priority: 5,
            trace: TraceParent::of_job(Uid(1)).into(),
            counts: Counts::default(),
            state: State::Completed { started: Time(0), at: Time(1000), output: Output::default() },
            told: false,
        };
        let result = RawValue::from_string(r#"{"corpus":{"bleu":0.1000}}"#.to_owned()).unwrap();
        let flat = Flat::of(JobId(Uid(1)), &job, Some(result), None);
        assert_eq!(
            flat.to_json().get(),
            concat!(
                r#"{"job_id":"job_00000000000000000000000001","status":"completed","kind":"evaluate","results":{"corpus":{"bleu":0.1000}},"#,
                r#""completed_at":"1970-01-01T00:00:01.000Z","timestamp":"1970-01-01T00:00:01.000Z","metadata":{"batch":7}}"#
            )
        );
        let names = |callback: Callback| flat.clone().chosen(&callback).0.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let include = Some(vec!["status".to_owned(), "job_id".to_owned()]);
        assert_eq!(names(Callback { include, exclude: vec!["status".to_owned()], ..Callback::default() }), ["job_id"]);
        let exclude = ["results", "kind", "metadata", "timestamp"].map(str::to_owned).to_vec();
        assert_eq!(names(Callback { exclude, ..Callback::default() }), ["job_id", "status", "completed_at"]);
    }
}

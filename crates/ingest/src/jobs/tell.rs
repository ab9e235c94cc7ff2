//! What is told of a job: to endpoints that want events of jobs, and to the URLs that came with it.

use bytes::Bytes;
use postrider_backend::blobs::BlobError;
use postrider_backend::log::{Append, Topic};
use postrider_backend::store::JobStatus;
use postrider_core::id::{DeliveryId, JobId};
use postrider_core::job::{Callback, Job, JobKind, Output, State, Stored, Telling, event_number};
use postrider_core::record::{EventEnvelope, Target};
use postrider_core::time::Time;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::link::Link;
use super::submit::Jobs;
use crate::fanout;
use crate::ingest::{IngestError, Receipt, envelope};
use crate::submission::Submission;

/// A result of more bytes is told as a link.
pub const INLINE_RESULT: u64 = 256 << 10;

impl Jobs {
    /// Makes durable what is to be told of the job's present state. Who tells the same state again tells it under the same ids.
    pub async fn tell(&self, tenant: &str, id: JobId, job: &Job) -> Result<(), IngestError> {
        let records = self.news(tenant, id, job).await?;
        self.ingest.log.append(records).await?;
        Ok(())
    }

    /// As [`Jobs::tell`] for a job that has come further at `now`.
    pub async fn tell_progress(&self, tenant: &str, id: JobId, job: &Job, now: Time) -> Result<(), IngestError> {
        let flat = self.flat(tenant, id, job).await?;
        let news = self.event(tenant, id, job, "job.progress", now, &flat).await?;
        self.ingest.log.append(news).await?;
        Ok(())
    }

    /// The records that tell of the job's state.
    pub(super) async fn news(&self, tenant: &str, id: JobId, job: &Job) -> Result<Vec<Append>, IngestError> {
        let (kind, at) = (format!("job.{}", JobStatus::of(job).name()), since(id, job));
        let flat = self.flat(tenant, id, job).await?;
        let mut records = self.event(tenant, id, job, &kind, at, &flat).await?;
        if job.is_over() && !job.callback.urls.is_empty() {
            let body = flat.chosen(&job.callback).to_json();
            let event = EventEnvelope {
                tenant,
                event: event_number(id, job.version, at, Telling::Callback),
                given_id: None,
                kind: &kind,
                key: None,
                correlation_id: None,
                traceparent: job.traceparent.as_deref(),
                metadata: job.metadata.as_deref(),
                urls: Vec::new(),
            };
            let target = |(endpoint, url)| Target { endpoint, url: Some(url) };
            let targets: Vec<Target<'_>> = job.callback.targets(tenant).map(target).collect();
            records.extend(self.ingest.deliveries(&event, &targets, &Bytes::from(body.get().to_owned())));
        }
        Ok(records)
    }

    /// An event of type `kind` about the job, to every endpoint that wants such.
    async fn event(&self, tenant: &str, id: JobId, job: &Job, kind: &str, at: Time, flat: &Flat) -> Result<Vec<Append>, IngestError> {
        let data = flat.to_json();
        let key = id.to_string();
        let submission = Submission {
            kind: kind.into(),
            data: &data,
            id: None,
            source: Some("postrider".into()),
            api_version: None,
            correlation_id: None,
            created_at: None,
            key: Some(key.as_str().into()),
            webhook_url: None,
            webhook_urls: None,
            metadata: None,
        };
        let number = event_number(id, job.version, at, Telling::State);
        let body = Receipt::new(number, &submission).body(&submission);
        let envelope = envelope(tenant, job.traceparent.as_deref(), number, &submission);
        let targets = self.ingest.targets(&envelope).await?;
        if targets.is_empty() || targets.len() > fanout::DIRECT {
            return Ok(vec![fanout::event(&envelope, body, self.ingest.log.partitions(Topic::Events))]);
        }
        Ok(self.ingest.deliveries(&envelope, &targets, &body))
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
        // A withdrawal that was told is one change later than what was told.
        let version = job.version - u64::from(job.told);
        let event = event_number(id, version, since(id, job), Telling::Callback);
        Some(DeliveryId { event, endpoint })
    }
}

/// Whether what came of a job lies among the blobs and is not told itself.
fn has_file(output: &Output) -> bool {
    output.artifact.is_some() || matches!(output.result, Some(Stored::Blob { bytes, .. }) if bytes > INLINE_RESULT)
}

/// Since when a job has its state.
fn since(id: JobId, job: &Job) -> Time {
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
            State::Processing { started, permille, .. } => {
                flat.put("started_at", &started.to_string());
                flat.put("progress", &(f64::from(*permille) / 1000.0));
            }
            State::Completed { output, .. } => {
                if let Some(result) = result {
                    flat.0.push((if is_evaluation { "results" } else { "result" }, result));
                }
                if let Some(link) = link {
                    flat.put(link_name(output, is_evaluation), &link);
                }
            }
            State::Failed { error, .. } => flat.put("error", error),
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

    #[test]
    fn a_callback_is_flat_and_its_members_can_be_chosen() {
        let job = Job {
            version: 3,
            kind: "evaluate".to_owned(),
            callback: Callback::default(),
            metadata: Some(r#"{"batch":7}"#.to_owned()),
            priority: 5,
            traceparent: None,
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

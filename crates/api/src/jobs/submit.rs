//! Submitting jobs, and withdrawing them.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use postrider_backend::store::JobStatus;
use postrider_core::job::JobKind;
use postrider_ingest::jobs::{CancelError, JobReceipt, JobSubmission, Kinds, Refused};
use serde::Serialize;
use utoipa::ToSchema;

use super::show::no_job;
use crate::api::{Api, TENANT};
use crate::body::{self, expect_json, json};
use crate::events::receive::source;
use crate::find::Id;
use crate::problem::{Kind, Problem};

/// A request of more bytes is read where that holds nobody up: the thread also delivers.
const LARGE: usize = 128 << 10;

/// What the sender of a job is told.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobAccepted {
    /// The job's id (`job_…`).
    job_id: String,
    /// `pending`; something else for the repeat of a request whose job has come further.
    status: &'static str,
    /// For people.
    message: &'static str,
    /// Whether URLs are called when it ends.
    webhook_configured: bool,
}

/// A job that was withdrawn.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobCanceled {
    /// The job's id.
    job_id: String,
    /// `canceled`.
    status: &'static str,
}

/// Submit a job
///
/// Answers once the job is durable. `input` is the kind's own: that of `evaluate` is the body of `POST /api/v1/async/evaluate`
/// without what concerns the webhook. With an `Idempotency-Key` the same request may be repeated for 24 hours and gives one
/// job. When the job ends, its URLs are called with the job itself, and endpoints that want `job.*` get an event.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "Jobs",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body = crate::inputs::JobInput,
    responses(
        (status = 202, description = "The job is durable", body = JobAccepted),
        (status = 429, description = "Too many jobs were submitted; wait for `Retry-After`"),
    ),
)]
pub(crate) async fn submit(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    accepted(api, request, JobSubmission::from_json).await
}

/// Evaluate texts
///
/// Scores each candidate against its references, and all of them together. The callback is
/// `{"job_id","status":"completed","results":{"corpus":{…},"pairs":[{…}]},"timestamp"}`.
#[utoipa::path(
    post, path = "/api/v1/async/evaluate", tag = "Jobs",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body = crate::inputs::EvaluateInput,
    responses(
        (status = 202, description = "The job is durable", body = JobAccepted),
        (status = 429, description = "Too many jobs were submitted; wait for `Retry-After`"),
    ),
)]
pub(crate) async fn evaluate(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    accepted(api, request, |kinds, bytes| JobSubmission::flat(kinds, JobKind::Evaluate, bytes)).await
}

/// Speak a text
///
/// The callback is `{"job_id","status":"completed","audio_url","completed_at"}`; the link needs no API key, and expires.
/// Answers 503 with what to install where espeak-ng is missing.
#[utoipa::path(
    post, path = "/v1/tts/async", tag = "Jobs",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body = crate::inputs::TtsInput,
    responses(
        (status = 202, description = "The job is durable", body = JobAccepted),
        (status = 429, description = "Too many jobs were submitted; wait for `Retry-After`"),
    ),
)]
pub(crate) async fn tts(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    accepted(api, request, |kinds, bytes| JobSubmission::flat(kinds, JobKind::Tts, bytes)).await
}

/// How a request is read.
type Read = fn(&Kinds, &[u8]) -> Result<JobSubmission, Refused>;

async fn accepted(api: Api, request: Request, read: Read) -> Result<Response, Problem> {
    let JobReceipt { id, job } = take(&api, request, read, async |_| Ok(())).await?;
    let accepted = JobAccepted {
        job_id: id.to_string(),
        status: JobStatus::of(&job).name(),
        message: "Job queued",
        webhook_configured: !job.callback.urls.is_empty(),
    };
    Ok(json(StatusCode::ACCEPTED, &accepted))
}

/// Takes a job that is read so, and passes `check`.
pub(crate) async fn take(
    api: &Api,
    request: Request,
    read: Read,
    check: impl AsyncFnOnce(&JobSubmission) -> Result<(), Problem>,
) -> Result<JobReceipt, Problem> {
    let (head, body) = request.into_parts();
    expect_json(&head.headers)?;
    let source = source(&head.headers)?;
    if api.job_rate.check_key(&TENANT).is_err() {
        let words = format!("more than {} jobs a second were submitted; wait a moment", api.limits.jobs_per_second);
        return Err(Problem::new(Kind::TooMany, words));
    }
    let payload = body::read(api, &head.headers, body, api.limits.job_bytes).await?;
    let submission = match payload.bytes.len() > LARGE {
        false => read(&api.jobs.kinds, &payload.bytes)?,
        true => {
            let (jobs, bytes) = (api.jobs.clone(), payload.bytes.clone());
            let reading = tokio::task::spawn_blocking(move || read(&jobs.kinds, &bytes)).await;
            reading.map_err(|error| {
                tracing::error!(%error, "reading a job died");
                Problem::new(Kind::Internal, "the request can't be read; the operator's log says more")
            })??
        }
    };
    check(&submission).await?;
    Ok(api.jobs.submit(source, submission, &payload.bytes).await?)
}

/// Cancel a job
///
/// One that runs stops within a second or two. Its URLs are called, too.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", tag = "Jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job will not be done", body = JobCanceled),
        (status = 409, description = "The job has ended already"),
    ),
)]
pub(crate) async fn cancel(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let job = id.0.parse().map_err(|_| no_job(&id.0))?;
    match api.jobs.cancel(TENANT, job).await {
        Ok(_) => Ok(json(StatusCode::OK, &JobCanceled { job_id: id.0, status: JobStatus::Canceled.name() })),
        Err(CancelError::Missing) => Err(no_job(&id.0)),
        Err(CancelError::Over(why)) => Err(Problem::new(Kind::Conflict, format!("{why} already"))),
        Err(CancelError::Ingest(error)) => Err(error.into()),
    }
}

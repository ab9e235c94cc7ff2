//! Jobs as they are listed and looked up.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use postrider_backend::store::JobFilter;
use postrider_core::attempt::Answer;
use postrider_core::id::JobId;
use postrider_core::job::{Job, Output, State as At, Stored};
use postrider_ingest::jobs::{INLINE_RESULT, Jobs, MAX_KIND};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::json;
use crate::fields::Fields;
use crate::find::{self, Id};
use crate::inputs::Paging;
use crate::problem::Problem;
use crate::views::StateView;

/// Where a job stands.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatusView {
    /// It waits for a worker.
    Pending,
    /// A worker runs it.
    Processing,
    /// It succeeded.
    Completed,
    /// It failed for good; `error` says why.
    Failed,
    /// It was withdrawn.
    Canceled,
}

/// Why a job failed.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobErrorView<'a> {
    /// For programs.
    code: &'a str,
    /// For people.
    message: &'a str,
}

/// The call of a job's first URL after its end.
#[derive(Serialize, ToSchema)]
pub(crate) struct CallbackView {
    /// The delivery (`dlv_…`); see `/v1/deliveries/{id}`.
    delivery_id: String,
    /// Where it stands.
    status: StateView,
    /// Attempts so far.
    attempts: u32,
    /// What the newest attempt was answered.
    status_code: Option<u16>,
}

/// A job.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView<'a> {
    /// Its id (`job_…`).
    job_id: String,
    /// What sort of work it is.
    kind: &'a str,
    /// Where it stands.
    status: StatusView,
    /// How much of it is done, from 0 to 1.
    progress: f64,
    /// When it was accepted.
    created_at: String,
    /// When a worker began it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    /// From 0 to 9; higher ones go first.
    priority: u8,
    /// The sender's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a RawValue>,
    /// What came of it, up to 256 KiB; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    result: Option<Box<RawValue>>,
    /// Where a larger result is downloaded. The link needs no API key, and expires; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_url: Option<String>,
    /// Where the audio that it made is downloaded, by a link of that sort; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<String>,
    /// Where another file that it made is downloaded, by a link of that sort; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_url: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<JobErrorView<'a>>,
    /// The call of its URL; null before its end, for jobs without, and in lists.
    webhook_delivery: Option<CallbackView>,
}

/// A page of jobs, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobList<'a> {
    jobs: Vec<JobView<'a>>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

impl<'a> JobView<'a> {
    fn brief(id: JobId, job: &'a Job) -> JobView<'a> {
        let (status, progress, started, completed) = match &job.state {
            At::Pending { .. } => (StatusView::Pending, 0.0, None, None),
            At::Processing { started, .. } => (StatusView::Processing, job.counts.share(), Some(*started), None),
            At::Completed { started, at, .. } => (StatusView::Completed, 1.0, Some(*started), Some(*at)),
            At::Failed { started, at, .. } => (StatusView::Failed, 0.0, Some(*started), Some(*at)),
            At::Canceled { started, at, .. } => (StatusView::Canceled, 0.0, *started, Some(*at)),
        };
        let error = match &job.state {
            At::Failed { error, .. } => Some(JobErrorView { code: &error.code, message: &error.message }),
            At::Pending { .. } | At::Processing { .. } | At::Completed { .. } | At::Canceled { .. } => None,
        };
        JobView {
            job_id: id.to_string(),
            kind: &job.kind,
            status,
            progress,
            created_at: id.0.time().to_string(),
            started_at: started.map(|at| at.to_string()),
            completed_at: completed.map(|at| at.to_string()),
            priority: job.priority,
            metadata: job.metadata.as_deref().and_then(|metadata| serde_json::from_str(metadata).ok()),
            result: None,
            result_url: None,
            audio_url: None,
            file_url: None,
            error,
            webhook_delivery: None,
        }
    }

    /// Adds what came of it.
    async fn with(mut self, api: &Api, id: JobId, output: &Output) -> Result<JobView<'a>, Problem> {
        let parsed = |json: &[u8]| serde_json::from_slice::<Box<RawValue>>(json).ok();
        match &output.result {
            None => {}
            Some(Stored::Inline(json)) => self.result = parsed(json.as_bytes()),
            Some(Stored::Blob { bytes, .. }) if *bytes > INLINE_RESULT => self.result_url = Some(api.jobs.link(TENANT, id).await?),
            Some(Stored::Blob { name, .. }) => self.result = parsed(&api.blobs.get(name).await?),
        }
        if let Some(artifact) = &output.artifact {
            let link = Some(api.jobs.link(TENANT, id).await?);
            match artifact.media_type.starts_with("audio/") {
                true => self.audio_url = link,
                false => self.file_url = link,
            }
        }
        Ok(self)
    }
}

pub(crate) fn no_job(id: &str) -> Problem {
    Problem::no("job", id)
}

/// List jobs
///
/// Newest first, without their results. A page can have fewer jobs than asked for although there is a next one.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "Jobs",
    params(
        Paging,
        ("status" = Option<StatusView>, Query, description = "In this state only"),
        ("kind" = Option<String>, Query, description = "Of this kind only"),
    ),
    responses((status = 200, description = "A page of jobs", body = JobList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (limit, before) = (query.limit(), query.id::<JobId, _>("after"));
    let filter = JobFilter { kind: query.text("kind", MAX_KIND), status: query.job_status("status") };
    query.finish()?;
    let page = api.store.jobs(TENANT, filter, before, limit).await?;
    let jobs = page.items.iter().map(|(id, job)| JobView::brief(*id, job)).collect();
    Ok(json(StatusCode::OK, &JobList { jobs, next: page.next.map(|next| next.to_string()) }))
}

/// Show a job
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "Jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, description = "The job", body = JobView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let (id, job) = find::job(&api, TENANT, &id.0).await?;
    let mut view = JobView::brief(id, &job);
    if let At::Completed { output, .. } = &job.state {
        view = view.with(&api, id, output).await?;
    }
    view.webhook_delivery = callback(&api, id, &job).await?;
    Ok(json(StatusCode::OK, &view))
}

async fn callback(api: &Api, id: JobId, job: &Job) -> Result<Option<CallbackView>, Problem> {
    let Some(delivery) = Jobs::callback(TENANT, id, job) else { return Ok(None) };
    let found = api.store.delivery(TENANT, delivery).await?;
    let last = found.as_ref().and_then(|found| found.history.attempts.last());
    let status_code = last.and_then(|attempt| match attempt.row.report.answer {
        Answer::Status { code, .. } => Some(code),
        Answer::Failed { .. } => None,
    });
    Ok(Some(CallbackView {
        delivery_id: delivery.to_string(),
        // What has no rows yet is on its way.
        status: found.as_ref().map_or(StateView::Pending, |found| found.state.into()),
        attempts: last.map_or(0, |attempt| attempt.n),
        status_code,
    }))
}

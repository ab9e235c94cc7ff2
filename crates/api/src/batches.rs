//! Batches, in the shapes of OpenAI's API. A batch is a job of the kind `batch` under another name.

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use postrider_backend::store::JobFilter;
use postrider_core::id::{BatchId, JobId};
use postrider_core::job::{Error, Job, JobKind, State as At};
use postrider_core::time::Time;
use postrider_ingest::files::Files;
use postrider_ingest::jobs::{Batch, BatchInput, BatchStatus, CancelError, JobReceipt, JobSubmission};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::json;
use crate::fields::Fields;
use crate::find::{self, Id};
use crate::jobs::submit::take;
use crate::problem::{Kind, Problem};

/// Batches of a page, as at OpenAI.
const MAX_LIMIT: u64 = 100;
const DEFAULT_LIMIT: u64 = 20;
/// Pages of jobs that are looked at for a page of batches.
const MAX_PAGES: usize = 10;

/// A batch.
#[derive(Serialize, ToSchema)]
#[schema(as = Batch)]
pub(crate) struct BatchView {
    /// Its id (`batch_…`).
    id: String,
    /// `batch`
    object: &'static str,
    /// Where its requests go.
    endpoint: String,
    /// What is wrong with its input file, or why it failed otherwise.
    errors: Option<ErrorList>,
    /// Its requests.
    input_file_id: String,
    /// `24h`
    completion_window: String,
    /// `validating`, `in_progress`, `finalizing`, `completed`, `failed`, `cancelling` or `cancelled`.
    status: &'static str,
    /// The answers, where there are any; of a batch that was cancelled, those that it had by then.
    output_file_id: Option<String>,
    /// The requests that failed, where there are any.
    error_file_id: Option<String>,
    /// When it was accepted, in Unix seconds as the following.
    created_at: u64,
    /// When it was begun.
    in_progress_at: Option<u64>,
    /// When what is not answered by then fails.
    expires_at: u64,
    /// When its files were begun to be written.
    finalizing_at: Option<u64>,
    completed_at: Option<u64>,
    failed_at: Option<u64>,
    expired_at: Option<u64>,
    cancelling_at: Option<u64>,
    cancelled_at: Option<u64>,
    /// What became of its requests so far.
    request_counts: Counts,
    /// The sender's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<RawValue>>,
}

/// What became of a batch's requests.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchCounts)]
pub(crate) struct Counts {
    /// How many there are; 0 until the file was read.
    total: u32,
    /// Answered.
    completed: u32,
    /// Failed for good.
    failed: u32,
}

/// Why a batch failed.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchErrors)]
pub(crate) struct ErrorList {
    /// `list`
    object: &'static str,
    data: Vec<ErrorView>,
}

/// What is wrong with a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchError)]
pub(crate) struct ErrorView {
    /// For programs.
    code: String,
    /// The line of the input file, from 1.
    line: Option<u32>,
    /// For people.
    message: String,
    /// The member that is wrong.
    param: Option<String>,
}

/// A page of batches, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchList {
    /// `list`
    object: &'static str,
    data: Vec<BatchView>,
    /// The id of the first, if there is one.
    first_id: Option<String>,
    /// The `after` of the next page.
    last_id: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// A batch's input as its row shows it.
#[derive(Default, Deserialize)]
struct Shown {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
}

impl BatchView {
    fn of(id: JobId, job: &Job) -> BatchView {
        let batch = Batch::of(id, job);
        let shown: Shown = job.input.as_deref().and_then(|input| serde_json::from_str(input).ok()).unwrap_or_default();
        let seconds = |at: Time| at.0 / 1000;
        let ended = |statuses: &[BatchStatus]| batch.ended.filter(|_| statuses.contains(&batch.status)).map(seconds);
        BatchView {
            id: batch.id.to_string(),
            object: "batch",
            endpoint: shown.endpoint,
            errors: errors(job),
            input_file_id: shown.input_file_id,
            completion_window: shown.completion_window,
            status: batch.status.name(),
            created_at: seconds(id.0.time()),
            in_progress_at: batch.started.filter(|_| batch.status != BatchStatus::Validating).map(seconds),
            expires_at: seconds(BatchInput::expires(id)),
            finalizing_at: batch.result.finalizing_at,
            completed_at: ended(&[BatchStatus::Completed]),
            failed_at: ended(&[BatchStatus::Failed]),
            expired_at: None,
            cancelling_at: ended(&[BatchStatus::Cancelling, BatchStatus::Cancelled]),
            cancelled_at: ended(&[BatchStatus::Cancelled]),
            request_counts: Counts { total: batch.counts.total, completed: batch.counts.completed, failed: batch.counts.failed },
            output_file_id: batch.result.output_file_id,
            error_file_id: batch.result.error_file_id,
            metadata: job.metadata.clone().and_then(|metadata| RawValue::from_string(metadata).ok()),
        }
    }
}

fn errors(job: &Job) -> Option<ErrorList> {
    let At::Failed { error: Error { code, message, lines }, .. } = &job.state else { return None };
    let line = |wrong: &postrider_core::job::LineError| ErrorView {
        code: wrong.code.clone(),
        line: wrong.line,
        message: wrong.message.clone(),
        param: wrong.param.clone(),
    };
    let data = match lines.is_empty() {
        true => vec![ErrorView { code: code.clone(), line: None, message: message.clone(), param: None }],
        false => lines.iter().map(line).collect(),
    };
    Some(ErrorList { object: "list", data })
}

/// Create a batch
///
/// Each line of the input file is a request to the upstream. Its answers become the lines of another file. Answers once the batch
/// is durable; what concerns webhooks and priority may be given as for a job, too.
#[utoipa::path(
    post, path = "/v1/batches", tag = "Batches",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed on to receivers"),
        ("tracestate" = Option<String>, Header, description = "Handed on with it; at most 512 bytes"),
    ),
    request_body = crate::inputs::BatchInput,
    responses(
        (status = 200, description = "The batch is durable", body = BatchView),
        (status = 429, description = "Too many jobs were submitted; wait for `Retry-After`"),
    ),
)]
pub(crate) async fn create(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let files = Files::new(api.blobs.clone());
    let check = async |submission: &JobSubmission| {
        let input = BatchInput::from_json(submission.input.as_bytes())?;
        match files.find(TENANT, input.input_file).await? {
            Some(_) => Ok(()),
            None => Err(Problem::field("input_file_id", format!("names no file: there is no {}", input.input_file))),
        }
    };
    let JobReceipt { id, job } = take(&api, request, |kinds, bytes| JobSubmission::flat(kinds, JobKind::Batch, bytes), check).await?;
    Ok(json(StatusCode::OK, &BatchView::of(id, &job)))
}

/// Show a batch
#[utoipa::path(
    get, path = "/v1/batches/{id}", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id")),
    responses((status = 200, description = "The batch", body = BatchView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let (id, job) = find(&api, &id.0).await?;
    Ok(json(StatusCode::OK, &BatchView::of(id, &job)))
}

/// List batches
///
/// Newest first, page by page as OpenAI's clients do it.
#[utoipa::path(
    get, path = "/v1/batches", tag = "Batches",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 100"),
        ("after" = Option<String>, Query, description = "The `last_id` of the page before"),
    ),
    responses((status = 200, description = "A page of batches", body = BatchList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let limit = query.number("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT) as usize;
    let mut after = query.id::<BatchId, _>("after").map(|BatchId(job)| job);
    query.finish()?;
    let mut data: Vec<BatchView> = Vec::new();
    let mut has_more = false;
    // A page of jobs can be empty although there is a next one; OpenAI's clients take an empty page for the end.
    for _ in 0..MAX_PAGES {
        let filter = JobFilter { kind: Some(JobKind::Batch.name().to_owned()), status: None };
        let page = api.store.jobs(TENANT, filter, after, limit - data.len()).await?;
        data.extend(page.items.iter().map(|(id, job)| BatchView::of(*id, job)));
        (has_more, after) = (page.next.is_some(), page.next);
        if !has_more || data.len() == limit {
            break;
        }
    }
    let id = |view: Option<&BatchView>| view.map(|view| view.id.clone());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    Ok(json(StatusCode::OK, &BatchList { object: "list", data, first_id, last_id, has_more }))
}

/// Cancel a batch
///
/// What was answered by then becomes its output file, a second or two later.
#[utoipa::path(
    post, path = "/v1/batches/{id}/cancel", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id")),
    responses(
        (status = 200, description = "No further request is made", body = BatchView),
        (status = 409, description = "The batch has ended already"),
    ),
)]
pub(crate) async fn cancel(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let (id, job) = find(&api, &id.0).await?;
    if matches!(job.state, At::Canceled { .. }) {
        return Ok(json(StatusCode::OK, &BatchView::of(id, &job)));
    }
    match api.jobs.cancel(TENANT, id).await {
        Ok(job) => Ok(json(StatusCode::OK, &BatchView::of(id, &job))),
        Err(CancelError::Missing) => Err(no_batch(BatchId(id))),
        Err(CancelError::Over(why)) => Err(Problem::new(Kind::Conflict, format!("{why} already"))),
        Err(CancelError::Ingest(error)) => Err(error.into()),
    }
}

/// The batch that `id` names.
async fn find(api: &Api, id: &str) -> Result<(JobId, Job), Problem> {
    let BatchId(job) = id.parse().map_err(|_| no_batch(id))?;
    let (number, job) = find::job(api, TENANT, &job.to_string()).await?;
    if job.kind == JobKind::Batch.name() { Ok((number, job)) } else { Err(no_batch(id)) }
}

fn no_batch(id: impl std::fmt::Display) -> Problem {
    Problem::no("batch", id)
}

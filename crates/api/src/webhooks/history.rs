//! What happened at an endpoint.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use postrider_backend::store::{Attempt, AttemptCursor, MAX_PAGE};
use postrider_core::id::EndpointId;
use postrider_core::time::{Millis, Time};
use postrider_ingest::clock;
use serde::Serialize;
use utoipa::ToSchema;

use super::manage::existing;
use crate::api::{Api, TENANT};
use crate::body::json;
use crate::fields::Fields;
use crate::find::Id;
use crate::inputs::Paging;
use crate::problem::Problem;
use crate::views::AttemptView;

/// How far back statistics look.
const SPAN: Millis = Millis::from_secs(86_400);
/// How many attempts they look at.
const MAX_ATTEMPTS: usize = 10_000;

/// A page of attempts, newest event first.
#[derive(Serialize, ToSchema)]
pub(super) struct AttemptList {
    attempts: Vec<DeliveryAttempt>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

/// An attempt and the delivery it belongs to.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryAttempt {
    delivery_id: String,
    event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    attempt: AttemptView,
}

/// How an endpoint did in the last 24 hours, of which the newest 10,000 attempts count.
#[derive(Serialize, ToSchema)]
pub(super) struct Stats {
    attempts: usize,
    succeeded: usize,
    failed: usize,
    /// From 0 to 1; null without attempts.
    success_rate: Option<f64>,
    latency_ms: Latency,
    last_success_at: Option<String>,
    last_failure_at: Option<String>,
}

/// Percentiles of how long exchanges took, in milliseconds; null without attempts.
#[derive(Serialize, ToSchema)]
pub(super) struct Latency {
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

/// List an endpoint's attempts
///
/// Newest event first.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/attempts", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id"), Paging),
    responses((status = 200, description = "A page of attempts", body = AttemptList)),
)]
pub(crate) async fn attempts(State(api): State<Api>, id: Id, uri: Uri) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?.id;
    let mut query = Fields::from_query(&uri)?;
    let (limit, before) = (query.limit(), cursor(&mut query));
    query.finish()?;
    let page = api.store.endpoint_attempts(TENANT, endpoint, before, limit).await?;
    let attempts = page.items.iter().map(|attempt| DeliveryAttempt {
        delivery_id: attempt.id.to_string(),
        event_id: attempt.id.event.to_string(),
        kind: attempt.row.kind.clone(),
        attempt: attempt.into(),
    });
    let next = page.next.map(|AttemptCursor { event, n }| format!("{event}.{n}"));
    Ok(json(StatusCode::OK, &AttemptList { attempts: attempts.collect(), next }))
}

/// The place where a page begins: an event and the number of an attempt.
fn cursor(query: &mut Fields) -> Option<AttemptCursor> {
    let text = query.text("after", 64)?;
    let cursor = text.split_once('.').and_then(|(event, n)| Some(AttemptCursor { event: event.parse().ok()?, n: n.parse().ok()? }));
    if cursor.is_none() {
        query.refuse("after", "must be the `next` of another page");
    }
    cursor
}

/// Show an endpoint's statistics
///
/// Of the last 24 hours, counting the newest 10,000 attempts.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/stats", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The statistics", body = Stats)),
)]
pub(crate) async fn stats(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?.id;
    let recent = recent(&api, endpoint, clock::now() - SPAN).await?;
    Ok(json(StatusCode::OK, &Stats::of(&recent)))
}

/// The newest attempts, as far as they began after `since`.
async fn recent(api: &Api, endpoint: EndpointId, since: Time) -> Result<Vec<Attempt>, Problem> {
    let (mut recent, mut before) = (Vec::new(), None);
    for _ in 0..MAX_ATTEMPTS / MAX_PAGE {
        let page = api.store.endpoint_attempts(TENANT, endpoint, before, MAX_PAGE).await?;
        recent.extend(page.items.into_iter().filter(|attempt| attempt.row.report.started >= since));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    Ok(recent)
}

impl Stats {
    fn of(attempts: &[Attempt]) -> Stats {
        let last = |success: bool| {
            let reports = attempts.iter().map(|attempt| &attempt.row.report);
            reports.filter(|report| report.answer.is_success() == success).map(|report| report.started).max().map(|at| at.to_string())
        };
        let mut took: Vec<u64> = attempts.iter().map(|attempt| attempt.row.report.took.0).collect();
        took.sort_unstable();
        // The smallest value that at least so many percent do not exceed.
        let percentile = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let succeeded = attempts.iter().filter(|attempt| attempt.row.report.answer.is_success()).count();
        Stats {
            attempts: attempts.len(),
            succeeded,
            failed: attempts.len() - succeeded,
            success_rate: (!attempts.is_empty()).then(|| succeeded as f64 / attempts.len() as f64),
            latency_ms: Latency { p50: percentile(50), p95: percentile(95), p99: percentile(99) },
            last_success_at: last(true),
            last_failure_at: last(false),
        }
    }
}

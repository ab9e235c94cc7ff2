//! Finding what a request names, even if it is only just on its way to the store.

use std::fmt::Display;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use postrider_backend::store::{DeliveryDetail, Event, StoreError};
use postrider_core::id::{DeliveryId, EndpointId, JobId, Uid};
use postrider_core::job::Job;
use postrider_core::time::Millis;
use postrider_ingest::clock;
use tokio::time::{Instant, sleep};

use crate::api::{Api, TENANT};
use crate::problem::{Kind, Problem};

/// Events younger than this may still be on their way.
const YOUNG: Millis = Millis::from_secs(2);
/// How long a young one is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long an event is waited for whose id does not tell its age.
const NAMED_PATIENCE: Duration = Duration::from_millis(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Longest id that a sender may give.
const MAX_GIVEN: usize = 255;

/// The one parameter of a path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let unreadable = |error: PathRejection| Problem::new(Kind::Malformed, error.body_text());
        Path::<String>::from_request_parts(parts, state).await.map(|Path(id)| Id(id)).map_err(unreadable)
    }
}

impl Id {
    /// The endpoint that it names, were there one.
    pub(crate) fn endpoint(&self) -> Result<EndpointId, Problem> {
        self.0.parse().map_err(|_| no_endpoint(&self.0))
    }
}

pub(crate) fn no_endpoint(id: impl Display) -> Problem {
    Problem::no("webhook endpoint", id)
}

/// The event that `id` names: ours, or the one its sender gave.
pub(crate) async fn event(api: &Api, id: &str) -> Result<Event, Problem> {
    let ours = id.parse::<Uid>().ok();
    if let Some(number) = ours
        && let Some(event) = settle(patience(number), || api.store.event(TENANT, number)).await?
    {
        return Ok(event);
    }
    if id.len() > MAX_GIVEN {
        return Err(Problem::no("event", id));
    }
    let patience = if ours.is_some() { Duration::ZERO } else { NAMED_PATIENCE };
    let named = settle(patience, || api.store.named_event(TENANT, id)).await?;
    let found = match named {
        Some(number) => api.store.event(TENANT, number).await?,
        None => None,
    };
    found.ok_or_else(|| Problem::no("event", id))
}

/// The delivery that `id` names.
pub(crate) async fn delivery(api: &Api, id: &str) -> Result<DeliveryDetail, Problem> {
    let none = || Problem::no("delivery", id);
    let number: DeliveryId = id.parse().map_err(|_| none())?;
    settle(patience(number.event), || api.store.delivery(TENANT, number)).await?.ok_or_else(none)
}

/// The job that `id` names.
pub(crate) async fn job(api: &Api, tenant: &str, id: &str) -> Result<(JobId, Job), Problem> {
    let none = || Problem::no("job", id);
    let number: JobId = id.parse().map_err(|_| none())?;
    let found = settle(patience(number.0), || api.store.job(tenant, number)).await?;
    match found {
        Some(job) => Ok((number, job)),
        None if clock::now().since(number.0.time()) > api.limits.job_retention => {
            Err(Problem::new(Kind::Gone, "a job of that age is no longer kept"))
        }
        None => Err(none()),
    }
}

fn patience(event: Uid) -> Duration {
    if clock::now().since(event.time()) < YOUNG { PATIENCE } else { Duration::ZERO }
}

/// Looks until it is found or `patience` ends.
async fn settle<T, F>(patience: Duration, look: impl Fn() -> F) -> Result<Option<T>, StoreError>
where
    F: Future<Output = Result<Option<T>, StoreError>>,
{
    let deadline = Instant::now() + patience;
    loop {
        let found = look().await?;
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
        sleep(LOOK).await;
    }
}

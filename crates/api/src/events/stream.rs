//! `GET /v1/events/stream`: attempts as they are made, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use postrider_backend::store::Finished;
use postrider_core::id::EndpointId;
use postrider_core::pattern::MAX_TYPE;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::fields::Fields;
use crate::problem::{Kind, Problem};
use crate::server::Closing;
use crate::views::{StateView, told};

/// Between two signs of life on a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One attempt, the data of an event named `delivery`.
#[derive(Serialize, ToSchema)]
#[schema(as = StreamedAttempt)]
pub(crate) struct StreamedView<'a> {
    delivery_id: String,
    event_id: String,
    /// The event's type.
    #[serde(rename = "type")]
    kind: &'a str,
    webhook_id: String,
    /// The attempt's number, from 1.
    attempt: u32,
    /// Where the delivery stands after it.
    status: StateView,
    status_code: Option<u16>,
    error: Option<&'a str>,
    duration_ms: u64,
    started_at: String,
    next_attempt_at: Option<String>,
}

/// Follow deliveries
///
/// Server-sent events, one named `delivery` for each attempt. Who reads too slowly misses some, and is told how many
/// by an event named `lagged`. Attempts of other processes are shown as soon as these have heard that somebody follows.
#[utoipa::path(
    get, path = "/v1/events/stream", tag = "Events",
    params(
        ("webhook" = Option<String>, Query, description = "Attempts at this endpoint only"),
        ("type" = Option<String>, Query, description = "Of events of this type only"),
    ),
    responses((status = 200, description = "A stream without an end", body = StreamedView, content_type = "text/event-stream")),
)]
pub(crate) async fn stream(State(api): State<Api>, closing: Option<Extension<Closing>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (webhook, kind) = (query.id("webhook"), query.text("type", MAX_TYPE));
    query.finish()?;
    let permit = api.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Problem::new(Kind::Busy, format!("{} streams are open already", api.limits.streams)))?;
    let closing = closing.map(|Extension(closing)| closing);
    let follower = Follower { feed: api.live.subscribe().await?, webhook, kind, closing, _permit: permit };
    Ok(Sse::new(follower.events()).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")).into_response())
}

/// One client's stream.
struct Follower {
    feed: Receiver<Arc<Finished>>,
    webhook: Option<EndpointId>,
    kind: Option<String>,
    closing: Option<Closing>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        stream::unfold(self, async |mut follower| {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next event; `None` when the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let received = match &mut self.closing {
                None => self.feed.recv().await,
                Some(closing) => tokio::select! {
                    () = closing.begun() => return None,
                    received = self.feed.recv() => received,
                },
            };
            match received {
                Ok(finished) if self.wants(&finished) => return Some(event("delivery", &view(&finished))),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some(event("lagged", &serde_json::json!({ "missed": missed }))),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn wants(&self, finished: &Finished) -> bool {
        let attempt = &finished.attempt;
        *finished.tenant == *TENANT
            && self.webhook.is_none_or(|webhook| webhook == attempt.id.endpoint)
            && self.kind.as_ref().is_none_or(|kind| *kind == attempt.row.kind)
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).json_data(data).expect("texts and numbers always have a JSON form")
}

fn view(finished: &Finished) -> StreamedView<'_> {
    let attempt = &finished.attempt;
    let report = &attempt.row.report;
    let (status_code, error) = told(&report.answer);
    StreamedView {
        delivery_id: attempt.id.to_string(),
        event_id: attempt.id.event.to_string(),
        kind: &attempt.row.kind,
        webhook_id: attempt.id.endpoint.to_string(),
        attempt: attempt.n,
        status: attempt.row.state.into(),
        status_code,
        error,
        duration_ms: report.took.0,
        started_at: report.started.to_string(),
        next_attempt_at: attempt.row.next.map(|next| next.to_string()),
    }
}

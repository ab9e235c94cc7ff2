//! `POST /v1/events/{id}/replay`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use postrider_core::id::{DeliveryId, EndpointId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::{json, read_fields};
use crate::find::{self, Id};
use crate::problem::Problem;
use crate::redelivery::{self, Replays};

/// How much is delivered again.
#[derive(Serialize, ToSchema)]
pub(crate) struct Replayed {
    /// Deliveries that are made again.
    replayed: usize,
}

/// Replay an event
///
/// Has all its deliveries made again, under their ids. One that is still waiting is tried at once instead.
#[utoipa::path(
    post, path = "/v1/events/{id}/replay", tag = "Events",
    params(("id" = String, Path, description = "The event's id")),
    request_body = Option<crate::inputs::EventReplayInput>,
    responses((status = 202, description = "The deliveries are queued", body = Replayed)),
)]
pub(crate) async fn replay(State(api): State<Api>, id: Id, request: Request) -> Result<Response, Problem> {
    let mut fields = read_fields(&api, request).await?;
    let only: Option<EndpointId> = fields.id("webhook");
    fields.finish()?;
    let event = find::event(&api, &id.0).await?;
    let mut replays = Replays::default();
    let mut sent = false;
    for target in event.row.targets.iter().filter(|target| only.is_none_or(|only| only == target.endpoint)) {
        sent = true;
        // The deliveries of an endpoint that is no more would only be canceled.
        if target.url.is_some() || api.directory.endpoint(TENANT, target.endpoint).await?.is_some() {
            let delivery = redelivery::summary(&api, &event, DeliveryId { event: event.id, endpoint: target.endpoint }).await?;
            replays.add(&api, &event, &delivery).await?;
        }
    }
    match only {
        Some(only) if !sent => Err(Problem::field("webhook", format!("the event was not sent to {only}"))),
        Some(_) | None => Ok(json(StatusCode::ACCEPTED, &Replayed { replayed: replays.finish(&api).await? })),
    }
}

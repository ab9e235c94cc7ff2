//! `POST /v1/webhooks/{id}/replay`: many deliveries again, page by page.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use postrider_backend::store::DeliveryFilter;
use postrider_core::attempt::DeliveryState;
use postrider_core::id::DeliveryId;
use serde::Serialize;
use utoipa::ToSchema;

use super::manage::existing;
use crate::api::{Api, TENANT};
use crate::body::{json, read_fields};
use crate::fields::Fields;
use crate::find::Id;
use crate::problem::Problem;
use crate::redelivery::Replays;

/// Deliveries of one page, at most and where nothing is said.
const MAX_PAGE: u64 = 1000;
const DEFAULT_PAGE: u64 = 250;

/// How much of a replay is done.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayedPage {
    /// Deliveries of this page that are made again.
    replayed: usize,
    /// The `after` of the next page; null when all is done.
    next: Option<String>,
}

/// Replay an endpoint's deliveries
///
/// Those of events accepted since an instant, newest first, under their ids; by default those that failed. Waiting ones
/// are left alone. Call it again with `after` until `next` is null.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/replay", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = crate::inputs::ReplayInput,
    responses((status = 202, description = "The deliveries are queued", body = ReplayedPage)),
)]
pub(crate) async fn replay(State(api): State<Api>, id: Id, request: Request) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?.id;
    let mut fields = read_fields(&api, request).await?;
    let since = fields.time("since");
    let since = fields.require("since", since);
    let filter = DeliveryFilter { endpoint: Some(endpoint), kind: None, state: which(&mut fields), since, until: fields.time("until") };
    let after: Option<DeliveryId> = fields.id("after");
    let limit = fields.number("limit", 1..=MAX_PAGE).unwrap_or(DEFAULT_PAGE) as usize;
    fields.finish()?;
    let page = api.store.deliveries(TENANT, filter, after, limit).await?;
    let mut replays = Replays::default();
    for delivery in page.items.iter().filter(|delivery| delivery.state != DeliveryState::Pending) {
        // What retention has removed can't be sent again.
        if let Some(event) = api.store.event(TENANT, delivery.id.event).await?.filter(|event| event.body.is_some()) {
            replays.add(&api, &event, delivery).await?;
        }
    }
    let next = page.next.map(|next| next.to_string());
    Ok(json(StatusCode::ACCEPTED, &ReplayedPage { replayed: replays.finish(&api).await?, next }))
}

/// The state that is asked for; `None` for all.
fn which(fields: &mut Fields) -> Option<DeliveryState> {
    match fields.text("status", 16).as_deref() {
        None | Some("failed") => Some(DeliveryState::Failed),
        Some("all") => None,
        Some(_) => {
            fields.refuse("status", "must be failed or all");
            None
        }
    }
}

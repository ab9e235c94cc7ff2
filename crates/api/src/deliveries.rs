//! Deliveries and dead letters.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use postrider_backend::store::{DeliveryDetail, DeliveryFilter};
use postrider_core::attempt::DeliveryState;
use postrider_core::id::DeliveryId;
use postrider_core::pattern::MAX_TYPE;
use postrider_core::record::Command;
use postrider_ingest::Redelivery;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::json;
use crate::fields::Fields;
use crate::find::{self, Id};
use crate::inputs::Paging;
use crate::problem::{Kind, Problem};
use crate::redelivery::{self, Replays};
use crate::views::{DeadLetterView, DeliveryHistoryView, DeliveryView};

/// A page of deliveries, newest event first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    deliveries: Vec<DeliveryView>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

/// A page of dead letters, newest event first.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    dead_letters: Vec<DeadLetterView>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

/// What becomes of a delivery.
#[derive(Serialize, ToSchema)]
pub(crate) struct Commanded {
    /// The delivery's id.
    id: String,
    /// `pending` after a retry, `canceling` after a cancel.
    status: &'static str,
}

/// List deliveries
///
/// Newest event first. A page can have fewer deliveries than asked for although there is a next one.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "Deliveries",
    params(
        Paging,
        ("status" = Option<crate::views::StateView>, Query, description = "In this state only"),
        ("webhook" = Option<String>, Query, description = "To this endpoint only"),
        ("type" = Option<String>, Query, description = "Of events of this type only"),
        ("since" = Option<String>, Query, description = "Of events accepted at or after this instant (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Of events accepted before this instant (RFC 3339)"),
    ),
    responses((status = 200, description = "A page of deliveries", body = DeliveryList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (limit, before) = (query.limit(), query.id::<DeliveryId, _>("after"));
    let filter = DeliveryFilter {
        endpoint: query.id("webhook"),
        kind: query.text("type", MAX_TYPE),
        state: query.state("status"),
        since: query.time("since"),
        until: query.time("until"),
    };
    query.finish()?;
    let page = api.store.deliveries(TENANT, filter, before, limit).await?;
    let deliveries = page.items.iter().map(|delivery| DeliveryView::new(delivery, None)).collect();
    Ok(json(StatusCode::OK, &DeliveryList { deliveries, next: page.next.map(|next| next.to_string()) }))
}

/// Show a delivery
///
/// With all its attempts.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, description = "The delivery", body = DeliveryHistoryView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let delivery = find::delivery(&api, &id.0).await?;
    let url = match &delivery.url {
        Some(url) => Some(url.clone()),
        None => api.directory.endpoint(TENANT, delivery.id.endpoint).await?.map(|endpoint| endpoint.url.clone()),
    };
    Ok(json(StatusCode::OK, &DeliveryHistoryView::new(delivery, url)))
}

/// Try a delivery again
///
/// At once if it is waiting; from the beginning if it was finished.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/retry", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "It is queued", body = Commanded), (status = 410, description = "Its event is no longer kept")),
)]
pub(crate) async fn retry(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let delivery = find::delivery(&api, &id.0).await?;
    let event = api.store.event(TENANT, delivery.id.event).await?;
    let event = event.ok_or_else(|| Problem::new(Kind::Gone, format!("event {} is no longer kept", delivery.id.event)))?;
    let mut replays = Replays::default();
    replays.add(&api, &event, &redelivery::summary(&api, &event, delivery.id).await?).await?;
    replays.finish(&api).await?;
    Ok(json(StatusCode::ACCEPTED, &Commanded { id: delivery.id.to_string(), status: "pending" }))
}

/// Cancel a delivery
///
/// Only one that is still waiting can be canceled. An attempt that is under way is not cut short.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", tag = "Deliveries",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 202, description = "It will be canceled", body = Commanded), (status = 409, description = "It is finished")),
)]
pub(crate) async fn cancel(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let DeliveryDetail { id, kind, url, state, history } = find::delivery(&api, &id.0).await?;
    match state {
        DeliveryState::Pending => {}
        DeliveryState::Succeeded | DeliveryState::Failed | DeliveryState::Canceled => {
            return Err(Problem::new(Kind::Conflict, format!("delivery {id} is finished")));
        }
    }
    let attempts = history.attempts.last().map_or(0, |last| last.n);
    let (url, body) = (url.as_deref(), Bytes::new());
    let cancel = Redelivery { command: Command::Cancel, id, kind: &kind, key: None, correlation_id: None, url, attempts, body };
    api.ingest.command(TENANT, &[cancel]).await?;
    Ok(json(StatusCode::ACCEPTED, &Commanded { id: id.to_string(), status: "canceling" }))
}

/// List dead letters
///
/// Deliveries that were given up, newest event first. One that is replayed with success is no longer among them.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "Deliveries",
    params(Paging),
    responses((status = 200, description = "A page of dead letters", body = DeadLetterList)),
)]
pub(crate) async fn dead_letters(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (limit, before) = (query.limit(), query.id("after"));
    query.finish()?;
    let page = api.store.dead_letters(TENANT, before, limit).await?;
    let dead_letters = page.items.iter().map(DeadLetterView::from).collect();
    Ok(json(StatusCode::OK, &DeadLetterList { dead_letters, next: page.next.map(|next| next.to_string()) }))
}

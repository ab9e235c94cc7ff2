//! Events as they are listed and looked up.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_backend::store::{DeliveryFilter, Event, EventFilter, MAX_PAGE};
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use postrider_core::pattern::MAX_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::json;
use crate::fields::Fields;
use crate::find::{self, Id};
use crate::inputs::Paging;
use crate::problem::Problem;
use crate::views::{DeliveryView, EventView};

/// Events that are read at one time for a list.
const READS: usize = 8;

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct EventList<'a> {
    events: Vec<EventView<'a>>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

/// List events
///
/// Newest first, without their data. A page can have fewer events than asked for although there is a next one.
#[utoipa::path(
    get, path = "/v1/events", tag = "Events",
    params(
        Paging,
        ("type" = Option<String>, Query, description = "Of this type only"),
        ("since" = Option<String>, Query, description = "Accepted at or after this instant (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Accepted before this instant (RFC 3339)"),
    ),
    responses((status = 200, description = "A page of events", body = EventList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (limit, before) = (query.limit(), query.id::<Uid, _>("after"));
    let filter = EventFilter { kind: query.text("type", MAX_TYPE), since: query.time("since"), until: query.time("until") };
    query.finish()?;
    let page = api.store.events(TENANT, filter, before, limit).await?;
    // What the sender said of an event beside its data stands in its body.
    let events: Vec<Event> = stream::iter(page.items).map(|event| with_body(&api, event)).buffered(READS).try_collect().await?;
    let list = EventList { events: events.iter().map(EventView::brief).collect(), next: page.next.map(|next| next.to_string()) };
    Ok(json(StatusCode::OK, &list))
}

async fn with_body(api: &Api, event: Event) -> Result<Event, Problem> {
    Ok(api.store.event(TENANT, event.id).await?.unwrap_or(event))
}

/// Show an event
///
/// With its data and its deliveries. Takes our id (`evt_…`) or the one that the sender gave.
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "Events",
    params(("id" = String, Path, description = "The event's id")),
    responses((status = 200, description = "The event", body = EventView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let event = find::event(&api, &id.0).await?;
    let deliveries = deliveries(&api, &event).await?;
    Ok(json(StatusCode::OK, &EventView::whole(&event).with(deliveries)))
}

/// The deliveries of one event: those that a list of deliveries begins with when it begins at the event.
async fn deliveries(api: &Api, event: &Event) -> Result<Vec<DeliveryView>, Problem> {
    let filter = DeliveryFilter { since: Some(event.id.time()), ..DeliveryFilter::default() };
    let from = DeliveryId { event: event.id, endpoint: EndpointId(Uid(u128::MAX)) };
    let page = api.store.deliveries(TENANT, filter, Some(from), MAX_PAGE).await?;
    let own = page.items.iter().take_while(|delivery| delivery.id.event == event.id);
    let url = |endpoint| event.row.targets.iter().find(|target| target.endpoint == endpoint).and_then(|target| target.url.clone());
    Ok(own.map(|delivery| DeliveryView::new(delivery, url(delivery.id.endpoint))).collect())
}

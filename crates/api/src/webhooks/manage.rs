//! Registering, listing, changing and deleting endpoints.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use postrider_core::endpoint::{Endpoint, Ordering, Status};
use postrider_core::id::EndpointId;
use postrider_core::pattern::Pattern;
use postrider_core::secret::Secret;
use postrider_ingest::clock;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::settings::{BY_OWNER, Settings, retry_value};
use crate::api::{Api, TENANT};
use crate::body::{json, read_fields, read_object};
use crate::fields::Fields;
use crate::find::{Id, no_endpoint};
use crate::inputs::Paging;
use crate::problem::{Kind, Problem};

/// A webhook endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView<'a> {
    /// Its id (`ep_…`).
    id: String,
    /// Where deliveries are POSTed to.
    url: &'a str,
    /// The events it wants: types, `prefix.*`, or `*`.
    #[schema(value_type = Vec<String>)]
    events: &'a [Pattern],
    description: Option<&'a str>,
    environment: Option<&'a str>,
    /// Headers sent with each delivery beside ours.
    headers: &'a BTreeMap<String, String>,
    /// Time-out of attempts after the first, in seconds; null for the default of 15.
    timeout: Option<u32>,
    /// Most attempts a second.
    rate_limit: Option<u32>,
    /// Most attempts at one time.
    max_in_flight: Option<u16>,
    /// `none` or `key`: whether events of one key wait for each other.
    #[schema(value_type = String)]
    ordering: Ordering,
    /// `{"schedule": [seconds, …]}` or `{"max_attempts": number}`; null for the default schedule.
    #[schema(value_type = Option<Object>)]
    retry: Value,
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a Map<String, Value>>,
    /// `enabled` or `disabled`.
    status: &'static str,
    /// Who or what disabled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<&'a str>,
    /// What signs its deliveries; in the answer to its registration only.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    created_at: String,
    updated_at: String,
}

impl<'a> From<&'a Endpoint> for WebhookView<'a> {
    fn from(endpoint: &'a Endpoint) -> WebhookView<'a> {
        let (status, disabled_reason) = match &endpoint.status {
            Status::Enabled => ("enabled", None),
            Status::Disabled { reason } => ("disabled", Some(reason.as_str())),
        };
        WebhookView {
            id: endpoint.id.to_string(),
            url: &endpoint.url,
            events: &endpoint.events,
            description: endpoint.description.as_deref(),
            environment: endpoint.environment.as_deref(),
            headers: &endpoint.headers,
            timeout: endpoint.timeout,
            rate_limit: endpoint.rate_limit,
            max_in_flight: endpoint.max_in_flight,
            ordering: endpoint.ordering,
            retry: retry_value(&endpoint.retry),
            metadata: endpoint.metadata.as_ref(),
            status,
            disabled_reason,
            secret: None,
            created_at: endpoint.created_at.to_string(),
            updated_at: endpoint.updated_at.to_string(),
        }
    }
}

/// A page of endpoints, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookList<'a> {
    webhooks: Vec<WebhookView<'a>>,
    /// The `after` of the next page; null at the end.
    next: Option<String>,
}

/// Register an endpoint
///
/// The answer is the only one, besides `GET /v1/webhooks/{id}/secret`, that shows the secret.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "Webhook endpoints",
    request_body = crate::inputs::WebhookInput,
    responses((status = 201, description = "It is registered", body = WebhookView)),
)]
pub(crate) async fn create(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (settings, secret) = Settings::read_new(read_fields(&api, request).await?)?;
    let secret = match secret {
        Some(given) => given,
        None => random_secret()?,
    };
    let now = clock::now();
    let mut endpoint = Endpoint::of_url(TENANT, "", secret, None);
    endpoint.id = EndpointId(api.ids.next(now));
    endpoint.created_at = now;
    settings.apply(&mut endpoint, now);
    api.directory.put_endpoint(endpoint.clone()).await?;
    let view = WebhookView { secret: Some(endpoint.secret.reveal()), ..WebhookView::from(&endpoint) };
    Ok(json(StatusCode::CREATED, &view))
}

/// A secret that nobody else has.
pub(super) fn random_secret() -> Result<Secret, Problem> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no secret can be made");
        Problem::new(Kind::Internal, "the system has no randomness to make a secret from")
    })?;
    Ok(Secret::from_random(bytes))
}

/// List endpoints
///
/// Oldest first.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "Webhook endpoints",
    params(Paging),
    responses((status = 200, description = "A page of endpoints", body = WebhookList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (limit, after) = (query.limit(), query.id("after"));
    query.finish()?;
    // One more than wanted tells whether there is a next page.
    let mut endpoints = api.directory.list_endpoints(TENANT, after, limit + 1).await?;
    let more = endpoints.len() > limit;
    endpoints.truncate(limit);
    let next = endpoints.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(json(StatusCode::OK, &WebhookList { webhooks: endpoints.iter().map(WebhookView::from).collect(), next }))
}

/// Show an endpoint
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The endpoint", body = WebhookView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?;
    Ok(shown(&endpoint))
}

/// Change an endpoint
///
/// JSON merge patch (RFC 7396): what is left out stays, null clears. `headers` and `metadata` are merged, `events` and
/// `retry` replaced. Applies to deliveries that are already queued, too.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = crate::inputs::WebhookPatch,
    responses((status = 200, description = "The changed endpoint", body = WebhookView)),
)]
pub(crate) async fn change(State(api): State<Api>, id: Id, request: Request) -> Result<Response, Problem> {
    let endpoint = id.endpoint()?;
    let patch = read_object(&api, request).await?;
    let (tell, told) = mpsc::channel();
    let changed = update(&api, endpoint, move |endpoint| {
        let settings = Settings::read_patched(endpoint, patch.clone());
        let refused = settings.map(|settings| settings.apply(endpoint, clock::now())).err();
        // Nobody listens any more if the client has gone.
        let _ = tell.send(refused);
    });
    let changed = changed.await?;
    // It was applied once more for each time that somebody else was quicker; the last counts.
    match told.try_iter().last().flatten() {
        Some(problem) => Err(problem),
        None => Ok(shown(&changed)),
    }
}

/// Delete an endpoint
///
/// Its waiting deliveries are canceled.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 204, description = "It is deleted")),
)]
pub(crate) async fn delete(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let endpoint = id.endpoint()?;
    if api.directory.delete_endpoint(TENANT, endpoint).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(no_endpoint(endpoint))
    }
}

/// Enable an endpoint
///
/// What has waited is sent.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/enable", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The enabled endpoint", body = WebhookView)),
)]
pub(crate) async fn enable(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    set_status(&api, &id, Status::Enabled).await
}

/// Disable an endpoint
///
/// It gets no new events; its waiting deliveries wait until it is enabled again.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/disable", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The disabled endpoint", body = WebhookView)),
)]
pub(crate) async fn disable(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    set_status(&api, &id, Status::Disabled { reason: BY_OWNER.to_owned() }).await
}

async fn set_status(api: &Api, id: &Id, status: Status) -> Result<Response, Problem> {
    let change = move |endpoint: &mut Endpoint| {
        endpoint.status = status.clone();
        endpoint.updated_at = clock::now();
    };
    let changed = update(api, id.endpoint()?, change).await?;
    Ok(shown(&changed))
}

/// Changes an endpoint that must exist.
pub(super) async fn update(api: &Api, id: EndpointId, change: impl Fn(&mut Endpoint) + Send + 'static) -> Result<Arc<Endpoint>, Problem> {
    api.directory.update_endpoint(TENANT, id, change).await?.ok_or_else(|| no_endpoint(id))
}

/// The endpoint that a path names.
pub(super) async fn existing(api: &Api, id: &Id) -> Result<Arc<Endpoint>, Problem> {
    let id = id.endpoint()?;
    api.directory.endpoint(TENANT, id).await?.ok_or_else(|| no_endpoint(id))
}

fn shown(endpoint: &Endpoint) -> Response {
    json(StatusCode::OK, &WebhookView::from(endpoint))
}

//! The secrets that sign deliveries.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use postrider_core::endpoint::PreviousSecret;
use postrider_core::time::Millis;
use postrider_ingest::clock;
use serde::Serialize;
use utoipa::ToSchema;

use super::manage::{existing, random_secret, update};
use super::settings;
use crate::api::{Api, TENANT};
use crate::body::{json, read_fields};
use crate::fields::Fields;
use crate::find::Id;
use crate::problem::Problem;

/// How long a former secret is honoured, in seconds, where nothing is said; and at most.
const DEFAULT_GRACE: u64 = 86_400;
const MAX_GRACE: u64 = 30 * 86_400;

/// A secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub(super) struct SecretView<'a> {
    secret: &'a str,
}

/// A new secret.
#[derive(Serialize, ToSchema)]
pub(super) struct Rotated<'a> {
    /// The new secret.
    secret: &'a str,
    /// Until when deliveries are signed with the former one, too; null where they no longer are.
    previous_expires_at: Option<String>,
}

impl<'a> Rotated<'a> {
    fn new(secret: &'a str, previous: Option<&PreviousSecret>) -> Rotated<'a> {
        Rotated { secret, previous_expires_at: previous.map(|previous| previous.expires_at.to_string()) }
    }
}

/// Show an endpoint's secret
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/secret", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 200, description = "The secret", body = SecretView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let endpoint = existing(&api, &id).await?;
    Ok(json(StatusCode::OK, &SecretView { secret: endpoint.secret.reveal() }))
}

/// Rotate an endpoint's secret
///
/// While the former secret is honoured, `webhook-signature` carries a signature of each.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/rotate-secret", tag = "Webhook endpoints",
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = Option<crate::inputs::RotateInput>,
    responses((status = 200, description = "The new secret", body = Rotated)),
)]
pub(crate) async fn rotate(State(api): State<Api>, id: Id, request: Request) -> Result<Response, Problem> {
    let endpoint = id.endpoint()?;
    let mut fields = read_fields(&api, request).await?;
    let (given, grace) = (settings::secret(&mut fields), grace(&mut fields));
    fields.finish()?;
    let new = match given {
        Some(given) => given,
        None => random_secret()?,
    };
    let changed = update(&api, endpoint, move |endpoint| {
        let now = clock::now();
        let secret = std::mem::replace(&mut endpoint.secret, new.clone());
        endpoint.previous = (grace > Millis(0)).then(|| PreviousSecret { secret, expires_at: now + grace });
        endpoint.updated_at = now;
    });
    let changed = changed.await?;
    Ok(json(StatusCode::OK, &Rotated::new(changed.secret.reveal(), changed.previous.as_ref())))
}

fn grace(fields: &mut Fields) -> Millis {
    Millis::from_secs(fields.number("grace_seconds", 0..=MAX_GRACE).unwrap_or(DEFAULT_GRACE))
}

/// Show the signing secret
///
/// It signs deliveries to URLs that came with an event.
#[utoipa::path(
    get, path = "/v1/signing-secret", tag = "Webhook endpoints",
    responses((status = 200, description = "The secret", body = SecretView)),
)]
pub(crate) async fn signing(State(api): State<Api>) -> Result<Response, Problem> {
    let secret = api.directory.signing_secret(TENANT).await?;
    Ok(json(StatusCode::OK, &SecretView { secret: secret.current.reveal() }))
}

/// Rotate the signing secret
#[utoipa::path(
    post, path = "/v1/signing-secret/rotate", tag = "Webhook endpoints",
    request_body = Option<crate::inputs::GraceInput>,
    responses((status = 200, description = "The new secret", body = Rotated)),
)]
pub(crate) async fn rotate_signing(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let mut fields = read_fields(&api, request).await?;
    let grace = grace(&mut fields);
    fields.finish()?;
    let secret = api.directory.rotate_signing_secret(TENANT, grace, clock::now()).await?;
    Ok(json(StatusCode::OK, &Rotated::new(secret.current.reveal(), secret.previous.as_ref())))
}

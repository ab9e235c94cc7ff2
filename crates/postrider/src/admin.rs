//! What operators and their load balancers ask: is it alive, is it ready, and if not, what is in the way.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use postrider_backend::log::Log;
use postrider_backend::store::Store;
use postrider_core::job::JobKind;
use postrider_ingest::jobs::Kinds;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backend::Names;
use crate::config::Role;

/// How long a request may take to end once the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) names: Names,
    pub(crate) roles: Vec<Role>,
    /// For a process that takes or does jobs.
    pub(crate) kinds: Option<Kinds>,
    /// Cancelled when the server begins to stop.
    pub(crate) stop: CancellationToken,
}

/// Binds the operators' address.
pub(crate) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let words = || format!("server.admin_listen: {address} can't be listened on; is another server there? \"\" turns it off");
    let listener = TcpListener::bind(address).with_context(words)?;
    listener.set_nonblocking(true).with_context(words)?;
    Ok(listener)
}

/// Answers on `listener` until everything else has ended.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, ended: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(admin);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(postrider_api::serve(listener, router, ended.cancelled_owned(), DRAIN).await?)
}

/// 200 when everything is there that this process needs, else 503.
async fn readyz(State(admin): State<Admin>) -> Response {
    let dependencies = [(admin.names.log, admin.log.health()), (admin.names.store, admin.store.health())];
    let stopping = admin.stop.is_cancelled();
    let ready = !stopping && dependencies.iter().all(|(_, health)| health.is_ok());
    let list: Vec<Value> = dependencies.into_iter().map(|(name, health)| state(name, health)).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // What one kind of job lacks is no reason to send the others elsewhere.
    let kinds = admin.kinds.iter().flat_map(|kinds| JobKind::ALL.map(|kind| (kind.name(), kinds.unavailable(kind))));
    let kinds: Vec<Value> = kinds.map(|(name, lacking)| state(name, lacking.map_or(Ok(()), |why| Err(why.to_owned())))).collect();
    let body = json!({ "ready": ready, "stopping": stopping, "roles": admin.roles, "dependencies": list, "jobs": kinds });
    (status, Json(body)).into_response()
}

fn state(name: &str, health: Result<(), String>) -> Value {
    match health {
        Ok(()) => json!({ "name": name, "state": "ok" }),
        Err(reason) => json!({ "name": name, "state": "unavailable", "reason": reason }),
    }
}

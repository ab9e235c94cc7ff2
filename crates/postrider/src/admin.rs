//! What operators and their load balancers ask: is it alive, is it ready, and if not, what is in the way.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use postrider_backend::log::{Group, Log, Topic};
use postrider_backend::store::Store;
use postrider_core::job::JobKind;
use postrider_ingest::jobs::Kinds;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::backend::Names;
use crate::config::Role;
use crate::scrape::Scrape;

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
    pub(crate) scrape: Scrape,
    /// What this process reads.
    pub(crate) reads: Arc<[(Group, Topic)]>,
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
    let routes = Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).route("/metrics", get(metrics));
    let router = routes.with_state(admin);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(postrider_api::serve(listener, router, ended.cancelled_owned(), DRAIN).await?)
}

impl Admin {
    /// What this process can't work without, and what is wrong with it, if anything.
    fn dependencies(&self) -> [(&'static str, Result<(), String>); 2] {
        [(self.names.log, self.log.health()), (self.names.store, self.store.health())]
    }
}

/// Prometheus' text format.
async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let up = admin.dependencies().map(|(name, health)| (name, health.is_ok()));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.scrape.page(&admin.log, &admin.reads, up))
}

/// 200 when everything is there that this process needs, else 503.
async fn readyz(State(admin): State<Admin>) -> Response {
    let dependencies = admin.dependencies();
    let stopping = admin.stop.is_cancelled();
    let ready = !stopping && dependencies.iter().all(|(_, health)| health.is_ok());
    let list: Vec<Value> = dependencies.into_iter().map(|(name, health)| state(name, health)).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // What one kind of job lacks is no reason to send the others elsewhere.
    let kinds = admin.kinds.iter().flat_map(|kinds| {
        let outside = kinds.outside.iter().map(|kind| (kind.name.as_str(), None));
        JobKind::ALL.map(|kind| (kind.name(), kinds.unavailable(kind))).into_iter().chain(outside)
    });
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

//! Every route.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{delete, get, patch, post};
use bytes::Bytes;

use crate::api::Api;
use crate::body::{json, raw_json};
use crate::gate::gate;
use crate::openapi;
use crate::problem::{Kind, Problem};
use crate::{batches, deliveries, events, files, jobs, webhooks};

/// Makes a router, and a list of what is in it to compare the description with.
macro_rules! routes {
    ($($method:ident $path:literal => $handler:expr;)*) => {
        fn routes() -> Router<Api> {
            Router::new()$(.route($path, $method($handler)))*
        }

        /// Method and path of every route.
        #[cfg(test)]
        pub(crate) const ROUTES: &[(&str, &str)] = &[$((stringify!($method), $path)),*];
    };
}

routes! {
    post "/v1/events" => events::receive::submit;
    get "/v1/events" => events::show::list;
    post "/v1/events/batch" => events::batch::submit_batch;
    get "/v1/events/stream" => events::stream::stream;
    get "/v1/events/{id}" => events::show::show;
    post "/v1/events/{id}/replay" => events::replay::replay;

    post "/v1/webhooks" => webhooks::manage::create;
    get "/v1/webhooks" => webhooks::manage::list;
    get "/v1/webhooks/{id}" => webhooks::manage::show;
    patch "/v1/webhooks/{id}" => webhooks::manage::change;
    delete "/v1/webhooks/{id}" => webhooks::manage::delete;
    post "/v1/webhooks/{id}/enable" => webhooks::manage::enable;
    post "/v1/webhooks/{id}/disable" => webhooks::manage::disable;
    get "/v1/webhooks/{id}/secret" => webhooks::secrets::show;
    post "/v1/webhooks/{id}/rotate-secret" => webhooks::secrets::rotate;
    post "/v1/webhooks/{id}/test" => webhooks::sample::test;
    post "/v1/webhooks/{id}/replay" => webhooks::replay::replay;
    get "/v1/webhooks/{id}/attempts" => webhooks::history::attempts;
    get "/v1/webhooks/{id}/stats" => webhooks::history::stats;
    get "/v1/signing-secret" => webhooks::secrets::signing;
    post "/v1/signing-secret/rotate" => webhooks::secrets::rotate_signing;

    get "/v1/deliveries" => deliveries::list;
    get "/v1/deliveries/{id}" => deliveries::show;
    post "/v1/deliveries/{id}/retry" => deliveries::retry;
    post "/v1/deliveries/{id}/cancel" => deliveries::cancel;
    get "/v1/dead-letters" => deliveries::dead_letters;

    post "/v1/jobs" => jobs::submit::submit;
    get "/v1/jobs" => jobs::show::list;
    get "/v1/jobs/{id}" => jobs::show::show;
    delete "/v1/jobs/{id}" => jobs::submit::cancel;
    get "/v1/download/{id}" => jobs::download::download;
    post "/api/v1/async/evaluate" => jobs::submit::evaluate;
    post "/v1/tts/async" => jobs::submit::tts;

    post "/v1/files" => files::upload;
    get "/v1/files" => files::list;
    get "/v1/files/{id}" => files::show;
    get "/v1/files/{id}/content" => files::content;
    delete "/v1/files/{id}" => files::delete;
    post "/v1/batches" => batches::create;
    get "/v1/batches" => batches::list;
    get "/v1/batches/{id}" => batches::show;
    post "/v1/batches/{id}/cancel" => batches::cancel;

    get "/openapi.json" => description;
    get "/" => welcome;
}

/// The API as a router; hand it to [`serve`](crate::serve).
pub fn router(api: Api) -> Router {
    routes()
        .fallback(async || Problem::new(Kind::NotFound, "nothing is served at this path; see /openapi.json"))
        .method_not_allowed_fallback(async || Problem::new(Kind::Method, "see the header `allow` for the methods of this path"))
        .layer(from_fn_with_state(api.clone(), gate))
        .with_state(api)
}

/// Describe the API
#[utoipa::path(
    get, path = "/openapi.json", tag = "About",
    responses((status = 200, description = "This document", body = Object)),
)]
pub(crate) async fn description() -> Response {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
        let text = serde_json::to_vec(&openapi::openapi()).expect("a description always has a JSON form");
        Bytes::from(text)
    });
    raw_json(StatusCode::OK, TEXT.clone())
}

/// Greet
#[utoipa::path(
    get, path = "/", tag = "About",
    responses((status = 200, description = "What is served here", body = Object)),
)]
pub(crate) async fn welcome(State(_): State<Api>) -> Response {
    json(StatusCode::OK, &serde_json::json!({ "name": "Postrider", "version": env!("CARGO_PKG_VERSION"), "openapi": "/openapi.json" }))
}

//! The description of the API (OpenAPI 3.1): made from the handlers and from what is written here of their inputs.

use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

use crate::problem::{Dialect, ProblemView};
use crate::{batches, deliveries, events, files, jobs, router, webhooks};

/// The description of every route, served at `/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Postrider", description = "Takes events and delivers them to webhook endpoints. Errors are problem documents (RFC 9457)."),
    paths(
        events::receive::submit, events::show::list, events::batch::submit_batch, events::stream::stream, events::show::show,
        events::replay::replay,
        webhooks::manage::create, webhooks::manage::list, webhooks::manage::show, webhooks::manage::change,
        webhooks::manage::delete, webhooks::manage::enable, webhooks::manage::disable, webhooks::secrets::show,
        webhooks::secrets::rotate, webhooks::sample::test, webhooks::replay::replay, webhooks::history::attempts,
        webhooks::history::stats, webhooks::secrets::signing, webhooks::secrets::rotate_signing,
        deliveries::list, deliveries::show, deliveries::retry, deliveries::cancel, deliveries::dead_letters,
        jobs::submit::submit, jobs::show::list, jobs::show::show, jobs::submit::cancel, jobs::download::download,
        jobs::submit::evaluate, jobs::submit::tts,
        files::upload, files::list, files::show, files::content, files::delete,
        batches::create, batches::list, batches::show, batches::cancel,
        router::description, router::welcome,
    ),
    components(schemas(ProblemView)),
    security(("key" = [])),
    modifiers(&Common),
)]
struct Described;

/// What all operations have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("key", scheme);
        for (name, schema) in &mut components.schemas {
            // Unknown fields of requests are refused.
            if let RefOr::T(Schema::Object(object)) = schema
                && (name.ends_with("Input") || name.ends_with("Patch"))
            {
                object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
        for (path, item) in &mut api.paths.paths {
            let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
            for operation in [get, put, post, delete, options, head, patch, trace].into_iter().flatten() {
                complete(path, operation);
            }
        }
    }
}

/// Adds the errors that follow from what an operation takes, and the header that every response has.
fn complete(path: &str, operation: &mut Operation) {
    if !path.starts_with("/v1/") && !path.starts_with("/api/") {
        operation.security = Some(Vec::new());
    } else {
        let mut errors = vec![("401", "The API key is missing or wrong"), ("404", "There is no such thing"), ("503", "Try again later")];
        errors.push(("400", "The request can't be read"));
        match Dialect::of(path) {
            Dialect::Ours => errors.push(("422", "Fields are wrong; `errors` names them")),
            Dialect::OpenAi => {} // 400, as at OpenAI
        }
        if operation.request_body.is_some() {
            errors.extend([("408", "The body took too long"), ("413", "The body is too large"), ("415", "The content-type is not taken")]);
        }
        for (status, description) in errors {
            operation.responses.responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(Response::new(description)));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.headers.insert("x-request-id".to_owned(), Header::default().into());
        if status.starts_with(['4', '5']) && response.content.is_empty() {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert("application/problem+json".to_owned(), problem.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::ROUTES;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let description = serde_json::to_value(openapi()).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        let described: BTreeSet<(String, String)> = description["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
            .collect();
        let routes: BTreeSet<(String, String)> = ROUTES.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = serde_json::to_string(&openapi()).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(description.pointer(reference).is_some(), "{reference}");
        }
    }
}

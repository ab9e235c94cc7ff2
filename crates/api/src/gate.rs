//! What every request passes: its id, its key, its tenant; and what every problem becomes.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::{Api, TENANT};
use crate::problem::{Dialect, Kind, Problem};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TENANT_HEADER: HeaderName = HeaderName::from_static("x-tenant");
/// Longest request id that is taken over, in bytes.
const MAX_REQUEST_ID: usize = 128;
/// Paths that need no key.
const PUBLIC: [&str; 2] = ["/", "/openapi.json"];

/// Lets a request through if it carries the key, and completes its response.
pub(crate) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = match request.headers().get(REQUEST_ID) {
        Some(given) if is_sane(given) => given.clone(),
        Some(_) | None => api.request_id(),
    };
    let dialect = Dialect::of(request.uri().path());
    let mut response = match admit(&api, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.respond(dialect, &id, std::mem::take(response.headers_mut()));
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn is_sane(id: &HeaderValue) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn admit(api: &Api, request: &Request) -> Result<(), Problem> {
    if PUBLIC.contains(&request.uri().path()) || is_signed(request.uri()) {
        return Ok(());
    }
    let given = request.headers().get(AUTHORIZATION).and_then(bearer);
    if !given.is_some_and(|given| same(given, api.key.reveal().as_bytes())) {
        let detail = if given.is_some() { "the API key is wrong" } else { "send the header `authorization: Bearer KEY`" };
        return Err(Problem::new(Kind::Unauthorized, detail));
    }
    match request.headers().get(TENANT_HEADER) {
        Some(tenant) if tenant != TENANT => Err(Problem::new(Kind::NoTenant, "`x-tenant` names a tenant that does not exist")),
        Some(_) | None => Ok(()),
    }
}

/// A link to a file carries its own leave, which its handler checks.
fn is_signed(uri: &Uri) -> bool {
    uri.path().starts_with("/v1/download/") && uri.query().is_some_and(|query| query.contains("signature="))
}

fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, key) = header.as_bytes().split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && !key.is_empty()).then_some(key)
}

/// Whether two keys are the same, in a time that tells at most their lengths.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let differences = given.iter().zip(expected).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    given.len() == expected.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_itself_is_the_same() {
        assert!(same(b"key", b"key"));
        for other in [&b"kez"[..], b"ke", b"keys", b""] {
            assert!(!same(other, b"key") && !same(b"key", other));
        }
    }

    #[test]
    fn an_empty_key_is_no_key() {
        for text in ["Bearer ", "bearer", "Basic abc", "", "Bearerabc"] {
            assert_eq!(bearer(&HeaderValue::from_static(text)), None, "{text}");
        }
        assert_eq!(bearer(&HeaderValue::from_static("bEARER abc")), Some(&b"abc"[..]));
    }

    #[test]
    fn a_strange_request_id_is_not_taken_over() {
        assert!(is_sane(&HeaderValue::from_static("abc-1")));
        for text in ["", "a b", &"x".repeat(129)] {
            assert!(!is_sane(&HeaderValue::from_str(text).unwrap()), "{text}");
        }
    }
}

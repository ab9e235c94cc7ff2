//! Errors as their callers get them: problem documents (RFC 9457).

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use postrider_backend::blobs::BlobError;
use postrider_backend::log::LogError;
use postrider_backend::store::StoreError;
use postrider_ingest::jobs::Refused;
use postrider_ingest::{IngestError, Invalid};
use serde::Serialize;
use utoipa::ToSchema;

/// Most fields that one problem names.
const MAX_ERRORS: usize = 100;
/// Between two words in the log about requests that can't be served.
const QUIET: Duration = Duration::from_secs(1);

/// How a problem is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// As a problem document.
    Ours,
    /// As one that is an error of OpenAI's API as well, for the paths that its clients use: with the member `error`, and with
    /// the status 400 for fields that are wrong.
    OpenAi,
}

impl Dialect {
    pub(crate) fn of(path: &str) -> Dialect {
        let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if ["/v1/files", "/v1/batches"].into_iter().any(is_below) { Dialect::OpenAi } else { Dialect::Ours }
    }
}

/// The sorts of problems; each has its own `type`, title and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body or query can't be read at all.
    Malformed,
    /// No key, or a wrong one.
    Unauthorized,
    /// `X-Tenant` names a tenant that does not exist.
    NoTenant,
    /// What the path names does not exist.
    NotFound,
    /// The path takes other methods.
    Method,
    /// The body did not arrive in time.
    Slow,
    /// The object's state does not allow it.
    Conflict,
    /// What was asked for is no longer kept.
    Gone,
    /// The body is too large.
    TooLarge,
    /// The body is of a sort that the path does not take.
    MediaType,
    /// It can be read, but fields of it are wrong.
    Invalid,
    /// The id or idempotency key belongs to another request.
    KeyReused,
    /// More requests than the tenant may send.
    TooMany,
    /// There is no such part.
    Range,
    /// Our fault; trying again won't help.
    Internal,
    /// Too much at once; later it will work.
    Busy,
    /// The log or the store is not available; trying again may help.
    Unavailable,
}

impl Kind {
    fn status(self, dialect: Dialect) -> StatusCode {
        match self {
            Kind::Invalid if dialect == Dialect::OpenAi => StatusCode::BAD_REQUEST,
            Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::NoTenant | Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Method => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Slow => StatusCode::REQUEST_TIMEOUT,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Gone => StatusCode::GONE,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Invalid | Kind::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Kind::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Busy | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn slug_and_title(self) -> (&'static str, &'static str) {
        match self {
            Kind::Malformed => ("malformed", "The request can't be read"),
            Kind::Unauthorized => ("unauthorized", "An API key is needed"),
            Kind::NoTenant => ("no-such-tenant", "There is no such tenant"),
            Kind::NotFound => ("not-found", "There is no such thing"),
            Kind::Method => ("method-not-allowed", "The path does not take this method"),
            Kind::Slow => ("request-timeout", "The request took too long to arrive"),
            Kind::Conflict => ("conflict", "The present state does not allow it"),
            Kind::Gone => ("gone", "It is no longer kept"),
            Kind::TooLarge => ("too-large", "The request is too large"),
            Kind::MediaType => ("unsupported-media-type", "The body's content-type is not taken here"),
            Kind::Invalid => ("invalid", "Fields of the request are wrong"),
            Kind::KeyReused => ("idempotency-key-reused", "The key belongs to another request"),
            Kind::TooMany => ("too-many-requests", "Too many requests"),
            Kind::Range => ("range-not-satisfiable", "There is no such part"),
            Kind::Internal => ("internal", "Something is wrong on our side"),
            Kind::Busy => ("busy", "Too much is under way"),
            Kind::Unavailable => ("unavailable", "The service is not available now"),
        }
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field's name, dotted where it is nested; empty for the whole.
    pub(crate) field: String,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// Why a request was refused. As a response it is unfinished: the gate adds the request's id and writes it.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemView<'a> {
    /// Names the sort of problem: `urn:postrider:problem:` and a word for programs to go by.
    #[serde(rename = "type")]
    kind: String,
    /// The sort of problem, for people.
    title: &'static str,
    /// The response's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// This problem, for people.
    detail: &'a str,
    /// The request's id, as in `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// The same for OpenAI's clients; on the paths that they use.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OpenAiError<'a>>,
}

/// A problem as OpenAI's clients read it.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiError<'a> {
    /// As `detail`.
    message: &'a str,
    /// `invalid_request_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The first field that is wrong.
    param: Option<&'a str>,
    /// The word of the problem's own `type`.
    code: &'static str,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// Fields that are wrong; beyond a hundred they are only counted.
    pub(crate) fn fields(mut errors: Vec<FieldError>) -> Problem {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        let mut detail = match errors.as_slice() {
            [one] if one.field.is_empty() => one.message.clone(),
            [one] => format!("`{}` {}", one.field, one.message),
            many => format!("{} fields are wrong", many.len() + more),
        };
        if more > 0 {
            detail.push_str(", of which the first 100 are named");
        }
        Problem { kind: Kind::Invalid, detail, errors }
    }

    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem::fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    pub(crate) fn no(what: &str, id: impl fmt::Display) -> Problem {
        let id: String = id.to_string().chars().take(100).collect();
        Problem::new(Kind::NotFound, format!("there is no {what} {id}"))
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }

    /// Whether the log or the store is at fault, so that the same request may succeed later.
    pub(crate) fn is_outage(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// The document without what belongs to a response, for one line of a batch.
    pub(crate) fn view(&self) -> ProblemView<'_> {
        let (slug, title) = self.kind.slug_and_title();
        let kind = format!("urn:postrider:problem:{slug}");
        ProblemView { kind, title, status: None, detail: &self.detail, request_id: None, errors: &self.errors, error: None }
    }

    /// What is wrong, for people.
    pub(crate) fn words(&self) -> &str {
        &self.detail
    }

    fn openai(&self, status: StatusCode) -> OpenAiError<'_> {
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let param = self.errors.first().map(|error| error.field.as_str()).filter(|field| !field.is_empty());
        OpenAiError { message: &self.detail, kind, param, code: self.kind.slug_and_title().0 }
    }

    /// The whole response; keeps the `headers` that were set already.
    pub(crate) fn respond(&self, dialect: Dialect, request_id: &HeaderValue, mut headers: HeaderMap) -> Response {
        let status = self.kind.status(dialect);
        let request_id = request_id.to_str().ok();
        let error = (dialect == Dialect::OpenAi).then(|| self.openai(status));
        let document = ProblemView { status: Some(status.as_u16()), request_id, error, ..self.view() };
        let body = serde_json::to_vec(&document).expect("texts and numbers always have a JSON form");
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::Busy | Kind::Unavailable | Kind::TooMany => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Kind::Malformed
            | Kind::NoTenant
            | Kind::NotFound
            | Kind::Method
            | Kind::Slow
            | Kind::Conflict
            | Kind::Gone
            | Kind::TooLarge
            | Kind::MediaType
            | Kind::Invalid
            | Kind::KeyReused
            | Kind::Range
            | Kind::Internal => {}
        }
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.kind.status(Dialect::Ours);
        response.extensions_mut().insert(self);
        response
    }
}

/// Says why requests can't be served, once a second: in an outage thousands can't.
fn unserved(error: &dyn fmt::Display) {
    static UNSAID: Mutex<(Option<Instant>, u64)> = Mutex::new((None, 0));
    let mut unsaid = UNSAID.lock().unwrap_or_else(PoisonError::into_inner);
    let (said, others) = &mut *unsaid;
    if said.is_some_and(|at| at.elapsed() < QUIET) {
        *others += 1;
        return;
    }
    tracing::warn!(%error, others = std::mem::take(others), "a request can't be served");
    *said = Some(Instant::now());
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Problem {
        match invalid {
            Invalid::Syntax(_) => Problem::new(Kind::Malformed, invalid.to_string()),
            Invalid::Fields(problems) => {
                Problem::fields(problems.into_iter().map(|p| FieldError { field: p.field, message: p.message }).collect())
            }
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Invalid(invalid) => invalid.into(),
            Refused::Unavailable(why) => Problem::new(Kind::Unavailable, why),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::Unavailable(_) | StoreError::Timeout { .. } => {
                unserved(&error);
                Problem::new(Kind::Unavailable, "the store is not available; try again")
            }
            StoreError::Damaged(_) => {
                tracing::error!(%error, "a request can't be served");
                Problem::new(Kind::Internal, "stored data can't be read; the operator's log says more")
            }
            StoreError::TooLong { .. } => Problem::field("", error.to_string()),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Problem {
        match error {
            LogError::Unavailable { .. } => {
                unserved(&error);
                Problem::new(Kind::Unavailable, "the log takes no records now; try again")
            }
            LogError::TooLarge { .. } => Problem::new(Kind::TooLarge, error.to_string()),
            LogError::NoPartition { .. } | LogError::Damaged { .. } | LogError::Unreadable { .. } => {
                tracing::error!(%error, "a request can't be served");
                Problem::new(Kind::Internal, "the log can't be used; the operator's log says more")
            }
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        match error {
            BlobError::Unavailable(_) => {
                unserved(&error);
                Problem::new(Kind::Unavailable, "the blobs are not available; try again")
            }
            BlobError::Missing { .. } => Problem::new(Kind::Gone, "it is no longer kept"),
            BlobError::Invalid { .. } => {
                tracing::error!(%error, "a request can't be served");
                Problem::new(Kind::Internal, "a blob can't be read; the operator's log says more")
            }
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Problem {
        match error {
            IngestError::Log(error) => error.into(),
            IngestError::Store(error) => error.into(),
            IngestError::Blobs(error) => error.into(),
            IngestError::KeyReused(_) => Problem::new(Kind::KeyReused, error.to_string()),
        }
    }
}

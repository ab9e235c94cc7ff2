//! What a job made, as a file.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use postrider_backend::blobs::{BlobError, Blobs};
use postrider_core::id::JobId;
use postrider_core::job::{Job, State as At, Stored};
use postrider_ingest::clock;
use postrider_ingest::jobs::{Link, LinkError};

use super::show::no_job;
use crate::api::{Api, TENANT};
use crate::fields::Fields;
use crate::find::{self, Id};
use crate::problem::{Kind, Problem};

/// Bytes read from the blobs at a time.
const PIECE: u64 = 1 << 20;
/// Longest tenant and signature of a link, in bytes.
const MAX_TEXT: usize = 255;

/// What is downloaded.
pub(crate) enum Source {
    Memory(Bytes),
    Blob { name: String, bytes: u64 },
}

impl Source {
    fn bytes(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::Blob { bytes, .. } => *bytes,
        }
    }

    /// A part of it; it lies within the whole.
    fn read(self, blobs: Blobs, part: Range<u64>) -> Body {
        match self {
            Source::Memory(bytes) => Body::from(bytes.slice(part.start as usize..part.end as usize)),
            Source::Blob { name, .. } => Body::from_stream(stream::try_unfold(part, move |part| {
                let (blobs, name) = (blobs.clone(), name.clone());
                async move {
                    if part.is_empty() {
                        return Ok::<_, BlobError>(None);
                    }
                    let piece = part.start..part.end.min(part.start + PIECE);
                    let bytes = blobs.get_range(&name, piece.clone()).await?;
                    Ok(Some((bytes, piece.end..part.end)))
                }
            })),
        }
    }
}

/// Download what a job made
///
/// Its file, or else its result. Takes `Range` and `If-None-Match`. Needs an API key, or a link as it stands in callbacks.
#[utoipa::path(
    get, path = "/v1/download/{id}", tag = "Jobs",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("tenant" = Option<String>, Query, description = "Of a link"),
        ("expires" = Option<u64>, Query, description = "Of a link"),
        ("signature" = Option<String>, Query, description = "Of a link"),
    ),
    responses(
        (status = 200, description = "The whole", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part that was asked for"),
        (status = 304, description = "It is what `If-None-Match` names"),
        (status = 409, description = "The job has not ended, or made nothing"),
        (status = 410, description = "It is no longer kept, or the link has expired"),
        (status = 416, description = "There is no such part"),
    ),
)]
pub(crate) async fn download(State(api): State<Api>, uri: Uri, headers: HeaderMap, id: Id) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let (tenant, signature) = (query.text("tenant", MAX_TEXT), query.text("signature", MAX_TEXT));
    let expires = query.number("expires", 0..=u64::MAX);
    query.finish()?;
    let number: JobId = id.0.parse().map_err(|_| no_job(&id.0))?;
    let tenant = match (tenant, expires, signature) {
        (None, None, None) => TENANT.to_owned(),
        (Some(tenant), Some(expires), Some(signature)) => {
            admit(&api, number, &Link { tenant: &tenant, expires, signature }).await?;
            tenant
        }
        _part => return Err(forbidden(LinkError::Forged)),
    };
    let (number, job) = find::job(&api, &tenant, &id.0).await?;
    let (source, media_type) = source(&job)?;
    let etag = HeaderValue::try_from(format!("\"{number}-{}\"", job.version)).expect("an id and a number stand in a header");
    serve(&api, &headers, source, &media_type, etag).await
}

/// Whether a link was signed with a secret of its tenant.
async fn admit(api: &Api, job: JobId, link: &Link<'_>) -> Result<(), Problem> {
    // Nobody else's word makes a tenant: one that does not exist gets no secret.
    if link.tenant != TENANT {
        return Err(forbidden(LinkError::Forged));
    }
    let secret = api.directory.signing_secret(link.tenant).await?;
    let now = clock::now();
    let previous = secret.previous.iter().filter(|previous| previous.expires_at > now).map(|previous| &previous.secret);
    link.check([&secret.current].into_iter().chain(previous), job, now).map_err(forbidden)
}

fn forbidden(error: LinkError) -> Problem {
    let kind = match error {
        LinkError::Expired => Kind::Gone,
        LinkError::Forged => Kind::Unauthorized,
    };
    Problem::new(kind, error.to_string())
}

/// Where lies what the job made, and its media type.
fn source(job: &Job) -> Result<(Source, String), Problem> {
    let output = match &job.state {
        At::Completed { output, .. } => output,
        At::Pending { .. } | At::Processing { .. } => {
            return Err(Problem::new(Kind::Conflict, "the job has not ended; try again when it has"));
        }
        At::Failed { error, .. } => return Err(Problem::new(Kind::Conflict, format!("the job failed: {}", error.message))),
        At::Canceled { .. } => return Err(Problem::new(Kind::Conflict, "the job was canceled")),
    };
    let json = "application/json".to_owned();
    match (&output.artifact, &output.result) {
        (Some(file), _) => Ok((Source::Blob { name: file.name.clone(), bytes: file.bytes }, file.media_type.clone())),
        (None, Some(Stored::Blob { name, bytes })) => Ok((Source::Blob { name: name.clone(), bytes: *bytes }, json)),
        (None, Some(Stored::Inline(text))) => Ok((Source::Memory(Bytes::from(text.clone())), json)),
        (None, None) => Err(Problem::new(Kind::Conflict, "the job made nothing that could be downloaded")),
    }
}

/// A file, or the part of it that is asked for.
pub(crate) async fn serve(
    api: &Api,
    headers: &HeaderMap,
    source: Source,
    media_type: &str,
    etag: HeaderValue,
) -> Result<Response, Problem> {
    let whole = source.bytes();
    if let Source::Blob { name, .. } = &source
        && let Err(error) = api.blobs.size(name).await
    {
        return Err(match error {
            BlobError::Missing { .. } => Problem::new(Kind::Gone, "what is asked for is no longer kept"),
            other => other.into(),
        });
    }
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|given| names(given, &etag));
    let is_same = headers.get(IF_RANGE).is_none_or(|given| given == etag);
    let range = headers.get(RANGE).filter(|_| is_same).and_then(|range| range.to_str().ok());
    let (status, part) = match range.map(|range| part_of(range, whole)) {
        _ if known => (StatusCode::NOT_MODIFIED, 0..0),
        None | Some(Asked::All) => (StatusCode::OK, 0..whole),
        Some(Asked::Part(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Some(Asked::Nothing) => {
            let mut response = Problem::new(Kind::Range, format!("it has {whole} bytes")).into_response();
            let bounds = HeaderValue::try_from(format!("bytes */{whole}")).expect("a number stands in a header");
            response.headers_mut().insert(CONTENT_RANGE, bounds);
            return Ok(response);
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(ETAG, etag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CACHE_CONTROL, "private, no-cache")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if status != StatusCode::NOT_MODIFIED {
        response = response.header(CONTENT_TYPE, media_type).header(CONTENT_LENGTH, part.end - part.start);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {}-{}/{whole}", part.start, part.end - 1));
    }
    let body = source.read(api.blobs.clone(), part);
    response.body(body).map_err(|error| {
        tracing::error!(%error, "a file can't be served");
        Problem::new(Kind::Internal, "its media type stands in no header")
    })
}

/// Whether `If-None-Match` names `etag` (RFC 9110 section 13.1.2).
fn names(given: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(given), Ok(etag)) = (given.to_str(), etag.to_str()) else { return false };
    given.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    Part(Range<u64>),
    Nothing,
}

/// Reads `Range` (RFC 9110 section 14.2). Several parts are answered by the whole, as is what is no range of bytes.
fn part_of(range: &str, whole: u64) -> Asked {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|spec| spec.trim().split_once('-')) else { return Asked::All };
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    let (Some(from), Some(to)) = (number(first), number(last)) else { return Asked::All };
    let part = match (first.is_empty(), last.is_empty()) {
        (true, true) => return Asked::All,
        (true, false) => whole.saturating_sub(to)..whole,
        (false, true) => from..whole,
        (false, false) if to < from => return Asked::All,
        (false, false) => from..whole.min(to.saturating_add(1)),
    };
    if part.is_empty() { Asked::Nothing } else { Asked::Part(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_what_was_asked_for_and_there() {
        for (range, part) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=5-99999999999999999999999", Asked::Part(5..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=3-1", Asked::All),
            ("bytes=0-1,4-5", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=a-b", Asked::All),
            ("lines=1-2", Asked::All),
        ] {
            assert_eq!(part_of(range, 10), part, "{range}");
        }
    }
}

//! Files, in the shapes of OpenAI's API: uploaded in parts that never lie in memory whole, listed, fetched, deleted.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use futures_util::{TryStreamExt, stream};
use hyper::body::Body as _;
use multer::{Constraints, Field, Multipart, SizeLimit};
use postrider_backend::blobs::Order;
use postrider_core::id::{FileId, FilePurpose};
use postrider_ingest::clock;
use postrider_ingest::files::{File, FileFilter, Files};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};
use utoipa::ToSchema;

use crate::api::{Api, TENANT};
use crate::body::{self, json};
use crate::fields::Fields;
use crate::find::Id;
use crate::jobs::download::{Source, serve};
use crate::problem::{Kind, Problem};

/// Most files of one page; more that are asked for come with the next.
const MAX_PAGE: u64 = 250;
/// Most that may be asked for, as at OpenAI.
const MAX_LIMIT: u64 = 10_000;
/// Longest name of a file, in bytes.
const MAX_NAME: usize = 512;
/// Longest text beside a file, in bytes.
const MAX_TEXT: u64 = 64;
/// Bytes of a request that are not the file's: the other fields, and what separates them.
const AROUND: u64 = 64 << 10;
/// Longest silence of a sender.
const SILENCE: Duration = Duration::from_secs(30);
/// Time-out of a whole upload.
const UPLOAD_LIMIT: Duration = Duration::from_secs(900);

/// A file.
#[derive(Serialize, ToSchema)]
#[schema(as = File)]
pub(crate) struct FileView {
    /// Its id (`file-…`).
    id: String,
    /// `file`
    object: &'static str,
    /// Its size.
    bytes: u64,
    /// When it was made, in Unix seconds.
    created_at: u64,
    /// Until when it is kept, in Unix seconds.
    expires_at: u64,
    /// What its sender called it.
    filename: String,
    /// What it is for.
    purpose: &'static str,
    /// `processed`
    status: &'static str,
}

/// A page of files.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileList {
    /// `list`
    object: &'static str,
    data: Vec<FileView>,
    /// The id of the first, if there is one.
    first_id: Option<String>,
    /// The `after` of the next page.
    last_id: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// A file that was deleted.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileDeleted {
    /// Its id.
    id: String,
    /// `file`
    object: &'static str,
    /// `true`
    deleted: bool,
}

impl FileView {
    fn of(api: &Api, id: FileId, file: File) -> FileView {
        FileView {
            id: id.to_string(),
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at / 1000,
            expires_at: (id.number.time() + api.limits.job_retention).0 / 1000,
            filename: file.filename,
            purpose: id.purpose.name(),
            status: "processed",
        }
    }
}

/// Upload a file
///
/// `multipart/form-data` with the fields `purpose` and `file`, as OpenAI's clients send it. The file is durable when this answers.
#[utoipa::path(
    post, path = "/v1/files", tag = "Files",
    request_body(content = crate::inputs::FileInput, content_type = "multipart/form-data"),
    responses((status = 200, description = "The file is durable", body = FileView)),
)]
pub(crate) async fn upload(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (head, mut body) = request.into_parts();
    let most = api.limits.file_bytes + AROUND;
    if body.size_hint().lower() > most {
        body::discard(&mut body).await;
        return Err(Problem::new(Kind::TooLarge, format!("a file may have at most {} bytes", api.limits.file_bytes)));
    }
    let Ok(_room) = api.uploads.try_acquire() else {
        return Err(Problem::new(Kind::Busy, format!("{} files are being uploaded already; try again", api.limits.uploads)));
    };
    let mut form = form(&api, &head.headers, body)?;
    let files = Files::new(api.blobs.clone());
    let number = api.ids.next(clock::now());
    let mut fields = Fields::new(serde_json::Map::new());
    let deadline = Instant::now() + UPLOAD_LIMIT;
    let (mut purpose, mut stored) = (None, None);
    let outcome = async {
        while let Some(field) = in_time(deadline, form.next_field()).await? {
            match (field.name(), &stored) {
                (Some("purpose"), _) => {
                    let given = in_time(deadline, field.text()).await?;
                    purpose = uploadable(&given);
                    if purpose.is_none() {
                        fields.refuse("purpose", format!("must be one of {}", purposes().map(FilePurpose::name).join(", ")));
                    }
                }
                (Some("file"), None) => {
                    let Some(filename) = field.file_name().and_then(filename) else {
                        fields.refuse("file", format!("must be a file with a name of 1 to {MAX_NAME} bytes without control characters"));
                        continue; // what comes of it is passed over
                    };
                    let content = Files::content(TENANT, number, getrandom::u64().map_err(|_| no_randomness())?);
                    let bytes = store(&files, &content, field, deadline).await?;
                    stored = Some((filename, content, bytes));
                }
                (Some("file"), Some(_)) => fields.refuse("file", "is given twice"),
                (name, _) => {
                    let name: String = name.unwrap_or_default().chars().take(100).collect();
                    fields.refuse(name, "is not a field of this request");
                }
            }
        }
        fields.require("purpose", purpose);
        fields.require("file", stored.as_ref());
        fields.finish()
    }
    .await;
    let (file, id) = match (outcome, purpose, stored) {
        (Ok(()), Some(purpose), Some((filename, content, bytes))) => {
            let file = File { filename, bytes, lines: 0, created_at: number.time().0, content };
            (file, FileId { number, purpose })
        }
        (outcome, _, stored) => {
            if let Some((_, content, _)) = stored
                && let Err(error) = api.blobs.delete(&content).await
            {
                tracing::warn!(%error, "what was uploaded with a request that is wrong can't be deleted; it goes with its day");
            }
            return Err(outcome.err().unwrap_or_else(|| Problem::field("file", "is missing")));
        }
    };
    let file = files.publish(TENANT, id, file).await?;
    Ok(json(StatusCode::OK, &FileView::of(&api, id, file)))
}

/// The fields of a body, as they come.
fn form(api: &Api, headers: &HeaderMap, body: Body) -> Result<Multipart<'static>, Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(given)
        .map_err(|_| Problem::new(Kind::MediaType, "the content-type must be multipart/form-data with a boundary"))?;
    let sizes = SizeLimit::new().whole_stream(api.limits.file_bytes + AROUND).per_field(MAX_TEXT).for_field("file", api.limits.file_bytes);
    // A sender that falls silent is not waited for.
    let pieces = stream::try_unfold(body.into_data_stream(), async |mut pieces| {
        let piece = timeout(SILENCE, pieces.try_next()).await.map_err(|_| "nothing came for a while".to_owned())?;
        Ok(piece.map_err(|error| error.to_string())?.map(|piece| (piece, pieces)))
    });
    let pieces = pieces.map_err(|why: String| std::io::Error::other(why));
    Ok(Multipart::with_constraints(pieces, boundary, Constraints::new().size_limit(sizes)))
}

/// Keeps the file that a field is; says its size.
async fn store(files: &Files, content: &str, field: Field<'_>, deadline: Instant) -> Result<u64, Problem> {
    // Whether it is the sender who is at fault, or the blobs are.
    let mut fault = None;
    let parts = stream::try_unfold(field, async |mut field| {
        let part = in_time(deadline, field.chunk()).await?;
        Ok::<_, Problem>(part.map(|part| (part, field)))
    });
    let parts = parts.map_err(|problem| {
        let words = problem.words().to_owned();
        fault = Some(problem);
        words
    });
    let written = files.write(content, parts).await;
    match (written, fault) {
        (_, Some(problem)) => Err(problem),
        (written, None) => Ok(written?),
    }
}

async fn in_time<T>(deadline: Instant, reading: impl Future<Output = multer::Result<T>>) -> Result<T, Problem> {
    match timeout_at(deadline, reading).await {
        Ok(read) => read.map_err(unreadable),
        Err(_) => Err(Problem::new(Kind::Slow, format!("the file did not arrive within {UPLOAD_LIMIT:?}"))),
    }
}

fn unreadable(error: multer::Error) -> Problem {
    match error {
        multer::Error::FieldSizeExceeded { limit, field_name } => {
            let name: String = field_name.unwrap_or_default().chars().take(100).collect();
            Problem::new(Kind::TooLarge, format!("the field `{name}` may have at most {limit} bytes"))
        }
        multer::Error::StreamSizeExceeded { limit } => Problem::new(Kind::TooLarge, format!("the body may have at most {limit} bytes")),
        error => Problem::new(Kind::Malformed, format!("the body is no multipart/form-data, or ended early: {error}")),
    }
}

fn no_randomness() -> Problem {
    Problem::new(Kind::Internal, "the system has no randomness")
}

/// What people may upload files for.
fn purposes() -> [FilePurpose; 6] {
    [FilePurpose::Batch, FilePurpose::Assistants, FilePurpose::Evals, FilePurpose::FineTune, FilePurpose::UserData, FilePurpose::Vision]
}

fn uploadable(name: &str) -> Option<FilePurpose> {
    purposes().into_iter().find(|purpose| purpose.name() == name)
}

/// A name as it is shown: it never becomes a path.
fn filename(given: &str) -> Option<String> {
    ((1..=MAX_NAME).contains(&given.len()) && !given.chars().any(char::is_control)).then(|| given.to_owned())
}

/// List files
///
/// Newest first, page by page as OpenAI's clients do it.
#[utoipa::path(
    get, path = "/v1/files", tag = "Files",
    params(
        ("purpose" = Option<String>, Query, description = "For this purpose only"),
        ("limit" = Option<u32>, Query, description = "1 to 10000; a page has at most 250 nevertheless"),
        ("after" = Option<String>, Query, description = "The `last_id` of the page before"),
        ("order" = Option<String>, Query, description = "By age: `desc` or `asc`"),
    ),
    responses((status = 200, description = "A page of files", body = FileList)),
)]
pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Fields::from_query(&uri)?;
    let limit = query.number("limit", 1..=MAX_LIMIT).unwrap_or(MAX_PAGE).min(MAX_PAGE) as usize;
    let purpose = query.text("purpose", MAX_TEXT as usize);
    let after = query.id::<FileId, _>("after");
    let order = match query.text("order", 8).as_deref() {
        None | Some("desc") => Order::Descending,
        Some("asc") => Order::Ascending,
        Some(_) => {
            query.refuse("order", "must be asc or desc");
            Order::Descending
        }
    };
    query.finish()?;
    let page = Files::new(api.blobs.clone()).list(TENANT, &FileFilter { purpose, after, order, limit }).await?;
    let data: Vec<FileView> = page.files.into_iter().map(|(id, file)| FileView::of(&api, id, file)).collect();
    let id = |view: Option<&FileView>| view.map(|view| view.id.clone());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    Ok(json(StatusCode::OK, &FileList { object: "list", data, first_id, last_id, has_more: page.has_more }))
}

/// Show a file
#[utoipa::path(
    get, path = "/v1/files/{id}", tag = "Files",
    params(("id" = String, Path, description = "The file's id")),
    responses((status = 200, description = "The file", body = FileView)),
)]
pub(crate) async fn show(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let (id, file) = find(&api, &id.0).await?;
    Ok(json(StatusCode::OK, &FileView::of(&api, id, file)))
}

/// Fetch what is in a file
///
/// Takes `Range` and `If-None-Match`.
#[utoipa::path(
    get, path = "/v1/files/{id}/content", tag = "Files",
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The whole", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 206, description = "The part that was asked for"),
        (status = 304, description = "It is what `If-None-Match` names"),
        (status = 416, description = "There is no such part"),
    ),
)]
pub(crate) async fn content(State(api): State<Api>, headers: HeaderMap, id: Id) -> Result<Response, Problem> {
    let (id, file) = find(&api, &id.0).await?;
    let etag = HeaderValue::try_from(format!("\"{id}\"")).expect("an id stands in a header");
    let source = Source::Blob { name: file.content, bytes: file.bytes };
    let mut response = serve(&api, &headers, source, "application/octet-stream", etag).await?;
    response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// Delete a file
#[utoipa::path(
    delete, path = "/v1/files/{id}", tag = "Files",
    params(("id" = String, Path, description = "The file's id")),
    responses((status = 200, description = "It is gone", body = FileDeleted)),
)]
pub(crate) async fn delete(State(api): State<Api>, id: Id) -> Result<Response, Problem> {
    let number: FileId = id.0.parse().map_err(|_| no_file(&id.0))?;
    if !Files::new(api.blobs.clone()).delete(TENANT, number).await? {
        return Err(no_file(&id.0));
    }
    Ok(json(StatusCode::OK, &FileDeleted { id: id.0, object: "file", deleted: true }))
}

/// The file that `id` names.
async fn find(api: &Api, id: &str) -> Result<(FileId, File), Problem> {
    let number: FileId = id.parse().map_err(|_| no_file(id))?;
    let file = Files::new(api.blobs.clone()).find(TENANT, number).await?;
    file.map(|file| (number, file)).ok_or_else(|| no_file(id))
}

fn no_file(id: &str) -> Problem {
    Problem::no("file", id)
}

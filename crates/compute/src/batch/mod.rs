//! The kind `batch`: each line of a file is a request to an upstream; what it is answered becomes a line of another file.
//!
//! What was answered is kept in [parts](parts) as it comes, so that a worker that takes over asks only what is not answered yet.
//! A line that fails fails alone. When no line is left the parts become two files, of answers and of failures, whose ids follow
//! from the batch's: whoever makes them, makes the same ones.

mod ask;
mod check;
mod lines;
mod parts;

use std::cell::Cell;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use postrider_backend::blobs::BlobError;
use postrider_core::id::{BatchId, FileId, FilePurpose, JobId};
use postrider_core::job::{Claim, Counts, Error, Output};
use postrider_ingest::clock;
use postrider_ingest::files::{File, Files};
use postrider_ingest::jobs::{BatchInput, BatchResult};

use self::lines::Lines;
use self::parts::Parts;
use crate::generate::upstream;
use crate::progress::Progress;
use crate::worker::Shop;

/// Before blobs that are not available are tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Asks every line of the input file that is not answered yet.
pub(crate) async fn run(
    shop: &Shop,
    (tenant, id): (&str, JobId),
    claim: Claim,
    input: &[u8],
    progress: &Progress,
) -> Result<Output, Error> {
    let input = BatchInput::from_json(input).map_err(|error| Error::new("invalid_input", error))?;
    let upstream = upstream(shop)?;
    let files = Files::new(shop.blobs.clone());
    let found = patiently("a batch's file can't be looked up", async || files.find(tenant, input.input_file).await).await?;
    let file = found.ok_or_else(|| Error::new("file_not_found", format_args!("there is no file {}", input.input_file)))?;
    let total = check::check(Lines::new(&shop.blobs, &file), input.endpoint).await?;
    let mut parts = Parts::of(&shop.blobs, id, claim).await?;
    let reached = |parts: &Parts| Counts { total, ..parts.counts() };
    progress.set(reached(&parts));
    let ask = ask::Ask { shop, upstream, tenant, id, path: input.endpoint.path(), deadline: BatchInput::expires(id) };
    let mut answers = std::pin::pin!(ask.all(Lines::new(&shop.blobs, &file), parts.seen()));
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) => {
                    parts.add(&answer?);
                    progress.set(reached(&parts));
                }
                None => break,
            },
            () = parts.due() => parts.flush().await?,
        }
        if parts.is_full() {
            parts.flush().await?;
        }
    }
    parts.flush().await?;
    let finalizing_at = clock::now().0 / 1000;
    let (counts, result) = files_of(&files, tenant, id, &parts).await?;
    progress.set(Counts { total, ..counts });
    Ok(BatchResult { finalizing_at: Some(finalizing_at), ..result }.output())
}

/// Makes files of what a batch that was withdrawn had been answered by then; and says how much that is.
pub(crate) async fn settle(shop: &Shop, tenant: &str, id: JobId, counts: Counts) -> Result<(Counts, Output), Error> {
    let parts = Parts::of(&shop.blobs, id, Claim { worker: shop.worker, number: 0 }).await?;
    let (found, result) = files_of(&Files::new(shop.blobs.clone()), tenant, id, &parts).await?;
    Ok((Counts { total: counts.total, ..found }, result.output()))
}

/// Deletes what was kept on the way.
pub(crate) async fn clean_up(shop: &Shop, id: JobId) {
    if let Err(error) = shop.blobs.delete_folder(&parts::folder(id)).await {
        tracing::warn!(%error, job = %id, "parts of a batch can't be deleted; they go with its day");
    }
}

/// The files that the parts become, and how many lines there are in them.
async fn files_of(files: &Files, tenant: &str, id: JobId, parts: &Parts) -> Result<(Counts, BatchResult), Error> {
    let Counts { completed, failed, .. } = parts.counts();
    let output = file_of(files, tenant, id, parts, FilePurpose::BatchOutput, completed).await?;
    let errors = file_of(files, tenant, id, parts, FilePurpose::BatchErrors, failed).await?;
    let lines = |file: &Option<(FileId, File)>| file.as_ref().map_or(0, |(_, file)| file.lines);
    let counts = Counts { total: 0, completed: lines(&output), failed: lines(&errors) };
    let name = |file: Option<(FileId, File)>| file.map(|(id, _)| id.to_string());
    Ok((counts, BatchResult { output_file_id: name(output), error_file_id: name(errors), finalizing_at: None }))
}

/// The file of those lines; none if there are none.
async fn file_of(
    files: &Files,
    tenant: &str,
    id: JobId,
    parts: &Parts,
    purpose: FilePurpose,
    lines: u32,
) -> Result<Option<(FileId, File)>, Error> {
    if lines == 0 {
        return Ok(None);
    }
    let sort = if purpose == FilePurpose::BatchOutput { "output" } else { "error" };
    let unique = getrandom::u64().map_err(|error| Error::new("internal", error))?;
    let content = Files::content(tenant, id.0, unique);
    let write = async || {
        let broken = Cell::new(false);
        let lines = parts.lines(purpose).inspect_err(|error| broken.set(!matches!(error, BlobError::Unavailable(_))));
        files.write(&content, lines).await.map_err(|error| match broken.get() {
            // A part that is gone will not come back.
            true => BlobError::Invalid { name: parts::folder(id), why: error.to_string() },
            false => error,
        })
    };
    let bytes = patiently("a batch's file can't be written", write).await?;
    let filename = format!("{}_{sort}.jsonl", BatchId(id));
    let file = File { filename, bytes, lines, created_at: clock::now().0, content };
    let id = FileId { number: id.0, purpose };
    let file = patiently("a batch's file can't be made", async || files.publish(tenant, id, file.clone()).await).await?;
    Ok(Some((id, file)))
}

/// Tries until the blobs are available.
async fn patiently<T>(what: &str, attempt: impl AsyncFn() -> Result<T, BlobError>) -> Result<T, Error> {
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error @ BlobError::Unavailable(_)) => tracing::warn!(%error, "{what}; trying again"),
            Err(error @ BlobError::Missing { .. }) => return Err(Error::new("file_not_found", error)),
            Err(error @ BlobError::Invalid { .. }) => return Err(Error::new("internal", error)),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

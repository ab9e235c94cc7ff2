//! What a job made, kept where it can be found again.

use std::time::Duration;

use bytes::Bytes;
use postrider_backend::blobs::Blobs;
use postrider_core::job::{Error, Output, Stored};

/// A result of more bytes lies among the blobs, so that lists of jobs need not read it.
const INLINE: usize = 16 << 10;
/// Before blobs that are not available are tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Keeps a result, which is JSON, in `folder` if it is large.
pub(crate) async fn keep(blobs: &Blobs, folder: &str, json: Vec<u8>) -> Result<Output, Error> {
    let bytes = json.len() as u64;
    let stored = if json.len() <= INLINE {
        let json = String::from_utf8(json).map_err(|error| Error::new("internal", error))?;
        Stored::Inline(json)
    } else {
        let (name, json) = (format!("{folder}/result.json"), Bytes::from(json));
        while let Err(error) = blobs.put(&name, json.clone()).await {
            tracing::warn!(%error, name, "a job's result can't be written; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        Stored::Blob { name, bytes }
    };
    Ok(Output { result: Some(stored), artifact: None })
}

/// Deletes what a job made that has become nobody's. What can't be deleted goes with its day.
pub(crate) async fn discard(blobs: &Blobs, output: &Output) {
    let result = match &output.result {
        Some(Stored::Blob { name, .. }) => Some(name),
        Some(Stored::Inline(_)) | None => None,
    };
    for name in result.into_iter().chain(output.artifact.iter().map(|artifact| &artifact.name)) {
        if let Err(error) = blobs.delete(name).await {
            tracing::warn!(%error, "what a withdrawn job made can't be deleted; it goes with its day");
        }
    }
}

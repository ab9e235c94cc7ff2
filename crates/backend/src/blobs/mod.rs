//! Large artifacts by name: written once and whole, read in parts.

mod http;
mod s3;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};
use tokio::time::timeout;

pub use s3::S3Options;

/// Longest that one operation, or one part of a stream, may take: a network file system that hangs is not there.
const LIMIT: Duration = Duration::from_secs(60);
/// Parts of a stream that are written at one time.
const PARTS: usize = 2;

/// Longest text of an error, in characters: some repeat whole answers.
const MAX_WORDS: usize = 500;

/// Where artifacts lie. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// The folder that it is.
    local: Option<Arc<Path>>,
}

/// Which end of a folder a list begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// With the smallest name.
    Ascending,
    /// With the greatest.
    Descending,
}

/// A blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none of this name.
    #[error("there is no blob `{name}`")]
    Missing {
        /// What was asked for.
        name: String,
    },
    /// The name or the range can't be used.
    #[error("blob `{name}` can't be addressed: {why}")]
    Invalid {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder or service refused, or the stream that was to be written failed. Worth a retry.
    #[error("blobs are unavailable: {0}")]
    Unavailable(String),
}

impl Blobs {
    /// Keeps blobs in `folder`; made if it does not exist. What is written is durable.
    pub fn open(folder: &Path) -> Result<Blobs, BlobError> {
        let failed = |why: String| BlobError::Unavailable(format!("{}: {why}", folder.display()));
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| failed(error.to_string()))?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Blobs { store: Arc::new(store), local: Some(folder.into()) })
    }

    /// Writes a blob, or replaces one. Readers see the old one or the new one, whole.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let path = path(name)?;
        within(name, self.store.put(&path, PutPayload::from_bytes(bytes))).await.map(drop)
    }

    /// Writes a blob unless there is one of this name; says whether it was written. Of many writers one is first.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, BlobError> {
        let path = path(name)?;
        let put = async {
            match self.store.put_opts(&path, PutPayload::from_bytes(bytes), PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                // Any other conflict says that somebody writes just now, who may yet fail.
                Err(error @ object_store::Error::AlreadyExists { .. }) => match s3::said(&error.to_string()) {
                    None | Some(("PreconditionFailed", _)) => Ok(false),
                    Some(_) => Err(error),
                },
                Err(error) => Err(error),
            }
        };
        within(name, put).await
    }

    /// Like [`Blobs::put`] for what does not fit into memory. If `parts` fails, nothing is changed.
    pub async fn put_stream<E: std::fmt::Display>(&self, name: &str, parts: impl Stream<Item = Result<Bytes, E>>) -> Result<(), BlobError> {
        let upload = within(name, self.store.put_multipart(&path(name)?)).await?;
        let mut upload = WriteMultipart::new(upload);
        let mut parts = std::pin::pin!(parts);
        while let Some(part) = parts.next().await {
            let taken = match part {
                Ok(part) => within(name, upload.wait_for_capacity(PARTS)).await.map(|()| upload.put(part)),
                Err(error) => Err(BlobError::Unavailable(format!("what was to become `{name}` broke off: {error}"))),
            };
            if let Err(error) = taken {
                within(name, upload.abort()).await?;
                return Err(error);
            }
        }
        within(name, upload.finish()).await.map(drop)
    }

    /// A blob's size in bytes.
    pub async fn size(&self, name: &str) -> Result<u64, BlobError> {
        match within(name, self.store.head(&path(name)?)).await {
            Ok(meta) => Ok(meta.size),
            // A server of S3 does not say why there is none, until it is asked for it.
            Err(BlobError::Missing { .. }) => match self.get_range(name, 0..1).await {
                Ok(_) => Err(BlobError::Unavailable(format!("`{name}` was not there, and then it was"))),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Reads a whole blob.
    pub async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        let path = path(name)?;
        within(name, async { self.store.get(&path).await?.bytes().await }).await
    }

    /// Reads part of a blob; what lies behind its end is left out.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        if range.is_empty() {
            return Err(BlobError::Invalid { name: name.to_owned(), why: "the range is empty".to_owned() });
        }
        within(name, self.store.get_range(&path(name)?, range)).await
    }

    /// The folders right below `folder`, by their whole names.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, BlobError> {
        let listed = within(folder, self.store.list_with_delimiter(Some(&path(folder)?))).await?;
        Ok(listed.common_prefixes.into_iter().map(String::from).collect())
    }

    /// The first `most` names in that order of the blobs below `folder`, by the last part of their name, that are `wanted`. Looks
    /// at all, but holds no more than `most`.
    pub async fn names(&self, folder: &str, order: Order, most: usize, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, BlobError> {
        let mut listed = self.store.list(Some(&path(folder)?));
        let mut first = BTreeSet::new();
        while let Some(meta) = within(folder, listed.try_next()).await? {
            let Some(name) = meta.location.filename().filter(|name| wanted(name)) else { continue };
            first.insert(name.to_owned());
            if first.len() > most {
                match order {
                    Order::Ascending => first.pop_last(),
                    Order::Descending => first.pop_first(),
                };
            }
        }
        Ok(match order {
            Order::Ascending => first.into_iter().collect(),
            Order::Descending => first.into_iter().rev().collect(),
        })
    }

    /// Deletes all blobs below `folder`, and says how many there were.
    pub async fn delete_folder(&self, folder: &str) -> Result<usize, BlobError> {
        let listed = self.store.list(Some(&path(folder)?)).map_ok(|meta| meta.location).boxed();
        let mut deleted = self.store.delete_stream(listed);
        let mut count = 0;
        while within(folder, deleted.try_next()).await?.is_some() {
            count += 1;
        }
        if let Some(root) = &self.local {
            // What a process was writing when it was killed lies there under a name that is no blob's.
            let rest = root.join(path(folder)?.as_ref());
            match timeout(LIMIT, tokio::fs::remove_dir_all(&rest)).await {
                Err(_) => return Err(late(folder)),
                Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BlobError::Unavailable(format!("{}: {error}", rest.display())));
                }
                Ok(Ok(()) | Err(_)) => {}
            }
        }
        Ok(count)
    }

    /// Deletes a blob, if it exists.
    pub async fn delete(&self, name: &str) -> Result<(), BlobError> {
        match within(name, self.store.delete(&path(name)?)).await {
            Ok(()) | Err(BlobError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Refuses names that lead out of the folder, such as those with `..` in them.
fn path(name: &str) -> Result<object_store::path::Path, BlobError> {
    object_store::path::Path::parse(name).map_err(|error| BlobError::Invalid { name: name.to_owned(), why: error.to_string() })
}

/// Waits for `operation`, no longer than it may take.
async fn within<T>(name: &str, operation: impl Future<Output = object_store::Result<T>>) -> Result<T, BlobError> {
    match timeout(LIMIT, operation).await {
        Ok(done) => done.map_err(|error| failed(name, error)),
        Err(_) => Err(late(name)),
    }
}

fn late(name: &str) -> BlobError {
    BlobError::Unavailable(format!("`{name}`: no answer within {} s", LIMIT.as_secs()))
}

fn failed(name: &str, error: object_store::Error) -> BlobError {
    let words = error.to_string();
    let is_missing = match (error, s3::said(&words)) {
        // A bucket, or whoever asks, may be missing as well, which says nothing about the blob; nor does what some proxy says.
        (object_store::Error::NotFound { .. }, Some((code, _))) => code == "NoSuchKey",
        (object_store::Error::NotFound { .. }, None) => !words.contains("Error performing GET"),
        _ => false,
    };
    if is_missing {
        return BlobError::Missing { name: name.to_owned() };
    }
    let words = s3::said(&words).map(|(code, message)| format!("{code}: {message}")).unwrap_or(words);
    BlobError::Unavailable(format!("`{name}`: {}", words.chars().take(MAX_WORDS).collect::<String>()))
}

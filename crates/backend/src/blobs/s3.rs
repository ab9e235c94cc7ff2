//! Blobs in a bucket of S3, or of a server that speaks its protocol.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, RetryConfig};
use postrider_core::secret::Secret;
use rustls::ClientConfig;
use tokio::time::timeout;

use super::http::Connector;
use super::{BlobError, Blobs};

/// How often a request is sent again that may succeed later; and how long after the first one.
const RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(20);
/// Longest that opening may take.
const OPENING: Duration = Duration::from_secs(8);
/// A blob that says whether the bucket can be written to as it must.
const CHECK: &str = "postrider-check";
/// There is no such blob.
const NOTHING: &str = "postrider-check-of-what-is-missing";

/// Where a bucket is, and who may use it.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket. It must exist.
    pub bucket: String,
    /// What the names of all blobs begin with; may be empty.
    pub prefix: String,
    /// The server, as `https://host:port`; without one, Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region; without one, `us-east-1`, or without a key what the environment says (`AWS_REGION`).
    pub region: Option<String>,
    /// Key id and key. Without them, what the environment says (`AWS_ACCESS_KEY_ID` and its like, a web identity, a
    /// container's role), or else the machine's role.
    pub key: Option<(String, Secret)>,
    /// What is trusted.
    pub tls: Arc<ClientConfig>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options").field("bucket", &self.bucket).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Blobs {
    /// Keeps blobs in a bucket, once it is known that it can be read and written there, and that a blob is made once however many
    /// make it. Errors: what is in the way, in words for an operator; within 10 s.
    pub async fn s3(options: S3Options) -> Result<Blobs, BlobError> {
        let store = open(&options).map_err(|error| BlobError::Unavailable(error.to_string()))?;
        let blobs = Blobs { store: Arc::new(store), local: None };
        let checked = timeout(OPENING, blobs.check()).await;
        let why = match checked {
            Ok(Ok(())) => return Ok(blobs),
            Ok(Err(BlobError::Unavailable(why))) => why,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", OPENING.as_secs()),
        };
        let S3Options { bucket, region, endpoint, .. } = options;
        let at = endpoint.or_else(|| Some(format!("Amazon's S3 in {}", region?))).unwrap_or_else(|| "Amazon's S3".to_owned());
        Err(BlobError::Unavailable(format!("the bucket `{bucket}` at {at} can't be used: {why}")))
    }

    async fn check(&self) -> Result<(), BlobError> {
        let unusable = |words: &str| Err(BlobError::Unavailable(words.to_owned()));
        self.put(CHECK, Bytes::from_static(b"postrider writes here\n")).await?;
        self.get(CHECK).await?;
        // Who may not list is not told that there is none.
        match self.get(NOTHING).await {
            Err(BlobError::Missing { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return unusable("it has a blob that nobody can have made"),
        }
        self.folders("").await?;
        match self.put_new(CHECK, Bytes::new()).await? {
            false => Ok(()),
            true => unusable("the server ignores If-None-Match, without which workers overwrite each other"),
        }
    }
}

fn open(options: &S3Options) -> object_store::Result<PrefixStore<AmazonS3>> {
    let S3Options { bucket, prefix, endpoint, region, key, tls } = options;
    let mut builder = match key {
        Some((id, secret)) => AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret.reveal()),
        None => AmazonS3Builder::from_env(),
    };
    builder = builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_FOR })
        .with_http_connector(Connector::new((**tls).clone()).map_err(unusable)?);
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        // Not `with_endpoint`, which a variable of the environment would outweigh.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    Ok(PrefixStore::new(builder.build()?, object_store::path::Path::parse(prefix)?))
}

fn unusable(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: error.into() }
}

/// The code and the message of what a server says is wrong, out of an error that repeats its whole answer.
pub(super) fn said(words: &str) -> Option<(&str, &str)> {
    let element = |name: &str| {
        let (_, rest) = words.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    };
    Some((element("Code")?, element("Message")?))
}

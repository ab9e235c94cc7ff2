//! What all requests share.

use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderValue;
use governor::DefaultKeyedRateLimiter;
use governor::{Quota, RateLimiter};
use postrider_backend::blobs::Blobs;
use postrider_backend::directory::Directory;
use postrider_backend::live::Live;
use postrider_backend::store::Store;
use postrider_core::secret::Secret;
use postrider_core::time::Millis;
use postrider_egress::Options;
use postrider_ingest::jobs::Jobs;
use postrider_ingest::{Ids, Ingest};
use tokio::sync::Semaphore;

/// The tenant that the bootstrap key acts in.
pub(crate) const TENANT: &str = "default";

/// What an [`Api`] is made of.
pub struct ApiParts {
    /// Takes events and commands.
    pub ingest: Arc<Ingest>,
    /// Takes jobs.
    pub jobs: Arc<Jobs>,
    /// What jobs made.
    pub blobs: Blobs,
    /// What queries read.
    pub store: Store,
    /// The endpoints. Must be the one that the rest of the process uses, or a clone of it.
    pub directory: Directory,
    /// What `GET /v1/events/stream` follows.
    pub live: Live,
    /// How `POST /v1/webhooks/{id}/test` reaches receivers.
    pub egress: Options,
    /// The key that every request must carry. An empty one is never accepted.
    pub key: Secret,
    /// What requests may use.
    pub limits: ApiLimits,
}

/// What requests may use at most.
#[derive(Clone, Debug)]
pub struct ApiLimits {
    /// Bytes of a request's body, except for batches.
    pub body_bytes: usize,
    /// Bytes of a batch.
    pub batch_bytes: usize,
    /// Bytes of a job.
    pub job_bytes: usize,
    /// Bytes of a file.
    pub file_bytes: u64,
    /// Jobs that a tenant may submit to this process in a second.
    pub jobs_per_second: u32,
    /// How long jobs are kept.
    pub job_retention: Millis,
    /// Bytes of all bodies in memory that did not arrive in one piece; further ones wait.
    pub bodies_bytes: usize,
    /// Event streams at one time; further ones are refused.
    pub streams: usize,
    /// Sample deliveries at one time; further ones are refused.
    pub samples: usize,
    /// Uploads of files at one time, each of which takes about 15 MiB; further ones are refused.
    pub uploads: usize,
}

impl Default for ApiLimits {
    fn default() -> ApiLimits {
        ApiLimits {
            body_bytes: 1 << 20,
            batch_bytes: 16 << 20,
            job_bytes: 64 << 20,
            file_bytes: 100 << 20,
            jobs_per_second: 1000,
            job_retention: Millis::from_secs(7 * 86_400),
            bodies_bytes: 256 << 20,
            streams: 256,
            samples: 8,
            uploads: 8,
        }
    }
}

/// The API's state; cloning shares it.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

/// The parts, for the handlers.
pub struct Shared {
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) blobs: Blobs,
    pub(crate) job_rate: DefaultKeyedRateLimiter<&'static str>,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) live: Live,
    pub(crate) egress: Options,
    pub(crate) key: Secret,
    pub(crate) limits: ApiLimits,
    pub(crate) ids: Ids,
    /// Room for bodies, in KiB.
    pub(crate) bodies: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) samples: Semaphore,
    pub(crate) uploads: Semaphore,
    request_seed: u64,
    requests: AtomicU64,
}

impl Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Api {
    /// Puts the parts together. Errors: the system has no randomness to seed ids with.
    pub fn new(parts: ApiParts) -> Result<Api, getrandom::Error> {
        let ApiParts { ingest, jobs, blobs, store, directory, live, egress, key, limits } = parts;
        let bodies = Semaphore::new((limits.bodies_bytes / 1024).min(Semaphore::MAX_PERMITS));
        let streams = Arc::new(Semaphore::new(limits.streams));
        let samples = Semaphore::new(limits.samples);
        let uploads = Semaphore::new(limits.uploads);
        let (ids, request_seed) = (Ids::new()?, getrandom::u64()?);
        let requests = AtomicU64::new(0);
        let rate = NonZeroU32::new(limits.jobs_per_second).unwrap_or(NonZeroU32::MIN);
        let job_rate = RateLimiter::keyed(Quota::per_second(rate));
        let shared = Shared {
            ingest,
            jobs,
            blobs,
            job_rate,
            store,
            directory,
            live,
            egress,
            key,
            limits,
            ids,
            bodies,
            streams,
            samples,
            uploads,
            request_seed,
            requests,
        };
        Ok(Api { shared: Arc::new(shared) })
    }

    /// A request id that no other request of this process has.
    pub(crate) fn request_id(&self) -> HeaderValue {
        const PREFIX: &[u8; 4] = b"req_";
        const HEX: &[u8; 16] = b"0123456789abcdef";
        // Odd, so that multiplying by it gives different numbers for different counts.
        const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        let number = self.request_seed.wrapping_add(count.wrapping_mul(STRIDE));
        let mut text = [0; 20];
        text[..4].copy_from_slice(PREFIX);
        for (i, digit) in text[4..].iter_mut().enumerate() {
            *digit = HEX[(number >> (60 - 4 * i) & 15) as usize];
        }
        HeaderValue::from_bytes(&text).expect("hexadecimal digits stand in a header")
    }
}

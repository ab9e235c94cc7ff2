//! Configuration as the hot path reads it: from memory, never older than the last change.
//!
//! What changes a tenant's configuration and what loads it take turns, tenant by tenant. So a key is loaded once
//! however many ask for it, and a load can't put back what a change has just replaced.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use postrider_core::endpoint::{Endpoint, PreviousSecret, Status};
use postrider_core::id::EndpointId;
use postrider_core::pattern::Routes;
use postrider_core::secret::Secret;
use postrider_core::time::{Millis, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use crate::store::{MAX_PAGE, ObjectKind, Store, StoreError};

/// Endpoints in memory, those that don't exist but were asked for included.
const ENDPOINTS: u64 = 20_000;
/// Tenants whose routes and secrets are in memory.
const TENANTS: u64 = 2_000;
/// A safety net only: what changes is replaced at once.
const TTL: Duration = Duration::from_secs(60);
/// Tenants that share a lock take turns with each other, too.
const LOCKS: usize = 64;
/// Changes kept for a slow listener.
const CHANGES: usize = 1024;
/// The one signing secret of a tenant.
const SECRET_ID: &str = "signing";

/// Read-through configuration. Cloning shares it.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    endpoints: Cache<Key, Option<Arc<Endpoint>>>,
    routes: Cache<Arc<str>, Arc<Routes<EndpointId>>>,
    secrets: Cache<Arc<str>, Arc<SigningSecret>>,
    hasher: RandomState,
    locks: Vec<Arc<Mutex<()>>>,
    changes: broadcast::Sender<Change>,
}

/// What has changed. Read it again through the directory.
///
/// A listener that fell behind ([`broadcast::error::RecvError::Lagged`]) must take everything for changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An endpoint was registered, changed or deleted.
    Endpoint(Arc<str>, EndpointId),
    /// What all of a tenant's endpoints share, such as its signing secret.
    Tenant(Arc<str>),
}

/// What signs deliveries to URLs that came without a secret of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SigningSecret {
    /// The secret.
    pub current: Secret,
    /// The one before, still signed with until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSecret>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    tenant: Arc<str>,
    id: EndpointId,
}

/// A [`Key`] to look up with; hashes the same.
#[derive(Hash)]
struct Lookup<'a> {
    tenant: &'a str,
    id: EndpointId,
}

impl moka::Equivalent<Key> for Lookup<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.id == key.id && *self.tenant == *key.tenant
    }
}

impl Directory {
    /// A directory over `store`. All changes of its objects must go through one directory and its clones.
    pub fn new(store: Store) -> Directory {
        let (changes, _) = broadcast::channel(CHANGES);
        let inner = Inner {
            store,
            endpoints: Cache::builder().max_capacity(ENDPOINTS).time_to_live(TTL).build(),
            routes: Cache::builder().max_capacity(TENANTS).time_to_live(TTL).build(),
            secrets: Cache::builder().max_capacity(TENANTS).time_to_live(TTL).build(),
            hasher: RandomState::new(),
            locks: (0..LOCKS).map(|_| Arc::default()).collect(),
            changes,
        };
        Directory { inner: Arc::new(inner) }
    }

    /// What is in memory of an endpoint: nothing, that there is none, or the endpoint. Never waits.
    pub fn cached(&self, tenant: &str, id: EndpointId) -> Option<Option<Arc<Endpoint>>> {
        self.inner.endpoints.get(&Lookup { tenant, id })
    }

    /// A registered endpoint of `tenant`.
    pub async fn endpoint(&self, tenant: &str, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        if let Some(known) = self.cached(tenant, id) {
            return Ok(known);
        }
        let _turn = self.turn(tenant).await;
        if let Some(known) = self.cached(tenant, id) {
            return Ok(known); // Loaded while we waited.
        }
        let endpoint = self.load(tenant, id).await?.map(Arc::new);
        self.inner.endpoints.insert(Key { tenant: tenant.into(), id }, endpoint.clone());
        Ok(endpoint)
    }

    /// The enabled endpoints of `tenant` by the events they want.
    pub async fn routes(&self, tenant: &str) -> Result<Arc<Routes<EndpointId>>, StoreError> {
        if let Some(routes) = self.inner.routes.get(tenant) {
            return Ok(routes);
        }
        let _turn = self.turn(tenant).await;
        if let Some(routes) = self.inner.routes.get(tenant) {
            return Ok(routes);
        }
        let mut enabled = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_endpoints(tenant, after, MAX_PAGE).await?;
            after = page.last().map(|endpoint| endpoint.id);
            let finished = page.len() < MAX_PAGE;
            enabled.extend(page.into_iter().filter(|endpoint| matches!(endpoint.status, Status::Enabled)).map(|e| (e.id, e.events)));
            if finished {
                break;
            }
        }
        let routes = Arc::new(Routes::new(enabled.iter().map(|(id, events)| (*id, events.as_slice()))));
        self.inner.routes.insert(tenant.into(), routes.clone());
        Ok(routes)
    }

    /// Up to `limit` (at most [`MAX_PAGE`]) endpoints of `tenant` in order of their ids, behind `after`. Reads the store.
    pub async fn list_endpoints(&self, tenant: &str, after: Option<EndpointId>, limit: usize) -> Result<Vec<Endpoint>, StoreError> {
        let after = after.map(|id| id.to_string());
        let objects = self.inner.store.list_objects(ObjectKind::Endpoint, tenant, after.as_deref(), limit).await?;
        objects.iter().map(|(_, json)| decode(json)).collect()
    }

    /// Registers an endpoint, or replaces one. Everyone sees it when this returns.
    pub async fn put_endpoint(&self, endpoint: Endpoint) -> Result<(), StoreError> {
        let directory = self.clone();
        unhurried(async move {
            let turn = directory.turn(&endpoint.tenant).await;
            directory.store_endpoint(endpoint, turn).await.map(drop)
        })
        .await
    }

    /// Reads, changes and writes an endpoint with nobody in between. `None` if there is none.
    pub async fn update_endpoint<F>(&self, tenant: &str, id: EndpointId, change: F) -> Result<Option<Arc<Endpoint>>, StoreError>
    where
        F: FnOnce(&mut Endpoint) + Send + 'static,
    {
        let (directory, tenant) = (self.clone(), tenant.to_owned());
        unhurried(async move {
            let turn = directory.turn(&tenant).await;
            let Some(mut endpoint) = directory.load(&tenant, id).await? else { return Ok(None) };
            change(&mut endpoint);
            directory.store_endpoint(endpoint, turn).await.map(Some)
        })
        .await
    }

    /// Deletes an endpoint, if it exists, and says whether it did.
    pub async fn delete_endpoint(&self, tenant: &str, id: EndpointId) -> Result<bool, StoreError> {
        let (directory, tenant) = (self.clone(), Arc::<str>::from(tenant));
        unhurried(async move {
            let _turn = directory.turn(&tenant).await;
            if directory.load(&tenant, id).await?.is_none() {
                return Ok(false);
            }
            let inner = &directory.inner;
            let deleted = inner.store.delete_object(ObjectKind::Endpoint, &tenant, &id.to_string()).await;
            directory.forget(&tenant, id);
            deleted.map(|()| true)
        })
        .await
    }

    /// The secret that signs deliveries to URLs of `tenant`; made when it is first asked for.
    pub async fn signing_secret(&self, tenant: &str) -> Result<Arc<SigningSecret>, StoreError> {
        if let Some(secret) = self.inner.secrets.get(tenant) {
            return Ok(secret);
        }
        let (directory, tenant) = (self.clone(), Arc::<str>::from(tenant));
        unhurried(async move {
            let _turn = directory.turn(&tenant).await;
            directory.secret_in_turn(&tenant).await
        })
        .await
    }

    /// Makes a new signing secret. The old one is honoured for `grace` from `now` on.
    pub async fn rotate_signing_secret(&self, tenant: &str, grace: Millis, now: Time) -> Result<Arc<SigningSecret>, StoreError> {
        let (directory, tenant) = (self.clone(), Arc::<str>::from(tenant));
        unhurried(async move {
            let _turn = directory.turn(&tenant).await;
            let old = directory.secret_in_turn(&tenant).await?.current.clone();
            let previous = Some(PreviousSecret { secret: old, expires_at: now + grace });
            let rotated = directory.store_secret(&tenant, SigningSecret { current: random_secret()?, previous }).await;
            // Without listeners there is nobody to tell.
            let _ = directory.inner.changes.send(Change::Tenant(tenant));
            rotated
        })
        .await
    }

    /// Changes from now on, of all tenants.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Waits until nobody else loads or changes the configuration of `tenant`. Bounded by the store's time-outs.
    async fn turn(&self, tenant: &str) -> OwnedMutexGuard<()> {
        let lock = self.inner.hasher.hash_one(tenant) as usize % LOCKS;
        self.inner.locks[lock].clone().lock_owned().await
    }

    async fn load(&self, tenant: &str, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let json = self.inner.store.get_object(ObjectKind::Endpoint, tenant, &id.to_string()).await?;
        json.map(|json| decode(&json)).transpose()
    }

    async fn store_endpoint(&self, endpoint: Endpoint, _turn: OwnedMutexGuard<()>) -> Result<Arc<Endpoint>, StoreError> {
        let (tenant, id) = (Arc::<str>::from(endpoint.tenant.as_str()), endpoint.id);
        let stored = self.inner.store.put_object(ObjectKind::Endpoint, &tenant, &id.to_string(), encode(&endpoint)).await;
        // Also after an error: whether it was written is unknown then.
        self.forget(&tenant, id);
        stored.map(|()| Arc::new(endpoint))
    }

    fn forget(&self, tenant: &Arc<str>, id: EndpointId) {
        self.inner.endpoints.invalidate(&Lookup { tenant, id });
        self.inner.routes.invalidate(&**tenant);
        // Without listeners there is nobody to tell.
        let _ = self.inner.changes.send(Change::Endpoint(tenant.clone(), id));
    }

    async fn secret_in_turn(&self, tenant: &Arc<str>) -> Result<Arc<SigningSecret>, StoreError> {
        if let Some(secret) = self.inner.secrets.get(tenant) {
            return Ok(secret);
        }
        match self.inner.store.get_object(ObjectKind::SigningSecret, tenant, SECRET_ID).await? {
            None => self.store_secret(tenant, SigningSecret { current: random_secret()?, previous: None }).await,
            Some(json) => {
                let secret = Arc::new(decode(&json)?);
                self.inner.secrets.insert(tenant.clone(), Arc::clone(&secret));
                Ok(secret)
            }
        }
    }

    async fn store_secret(&self, tenant: &Arc<str>, secret: SigningSecret) -> Result<Arc<SigningSecret>, StoreError> {
        let stored = self.inner.store.put_object(ObjectKind::SigningSecret, tenant, SECRET_ID, encode(&secret)).await;
        self.inner.secrets.invalidate(tenant);
        stored?;
        let secret = Arc::new(secret);
        self.inner.secrets.insert(tenant.clone(), secret.clone());
        Ok(secret)
    }
}

/// Carries a change through even if its caller is dropped half-way, so that store and memory stay one.
async fn unhurried<T: Send + 'static>(change: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Result<T, StoreError> {
    tokio::spawn(change).await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

fn random_secret() -> Result<Secret, StoreError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Unavailable(format!("the system has no randomness: {error}")))?;
    Ok(Secret::from_random(bytes))
}

fn encode(object: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(object).expect("configuration has text keys only, so it always has a JSON form"))
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Damaged(format!("{}: {error}", std::any::type_name::<T>())))
}

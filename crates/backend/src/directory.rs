//! Configuration as the hot path reads it: from memory, never older than the last change.
//!
//! What loads something and what forgets it because it has changed take turns. So a key is loaded once however many ask
//! for it, and a load can't put back what a change has just replaced. Changes by other processes come through the log
//! ([`Directory::follow`]) and take their turn, too. Should one be missed, what is in memory is read
//! again after a minute, and what is found to differ is told like any change; and while the store does not answer, what
//! is in memory goes on being used.

use std::hash::{BuildHasher, Hash, RandomState};
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
use tokio::sync::{Mutex, broadcast};
use tokio::time::Instant;

use crate::log::{Log, LogError, kafka};
use crate::meters;
use crate::store::{MAX_PAGE, ObjectKind, Store, StoreError};

/// Endpoints in memory, those that don't exist but were asked for included.
const ENDPOINTS: u64 = 65_536;
/// Tenants whose routes and secrets are in memory.
const TENANTS: u64 = 2_000;
/// What is older is read again, while it goes on being used. A safety net only: what changes is replaced at once.
const FRESH: Duration = Duration::from_secs(60);
/// What has not been read again for so long is not used any more.
const KEPT: Duration = Duration::from_secs(3600);
/// Most that a change is tried again when others change the same object.
const TRIES: usize = 16;
/// What shares a lock by chance takes turns, too.
const LOCKS: usize = 256;
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
    log: Log,
    fresh: Duration,
    endpoints: Cache<Key, Kept<Option<Arc<Endpoint>>>>,
    /// Those that came with jobs. They never change, so whoever has one has it for good.
    callbacks: Cache<Key, Arc<Endpoint>>,
    routes: Cache<Arc<str>, Kept<Arc<Routes<EndpointId>>>>,
    secrets: Cache<Arc<str>, Kept<Arc<SigningSecret>>>,
    /// Who loads or forgets an endpoint. Taken before that of its tenant.
    of_endpoints: Locks,
    /// Who loads or forgets a tenant's routes or secret.
    of_tenants: Locks,
    /// Who changes an object; several at a time would only get in each other's way.
    changing: Locks,
    changes: broadcast::Sender<Change>,
}

struct Locks {
    hasher: RandomState,
    locks: Vec<Arc<Mutex<()>>>,
}

impl Locks {
    fn new() -> Locks {
        Locks { hasher: RandomState::new(), locks: (0..LOCKS).map(|_| Arc::default()).collect() }
    }

    fn of(&self, what: impl Hash) -> Arc<Mutex<()>> {
        self.locks[self.hasher.hash_one(what) as usize % LOCKS].clone()
    }
}

/// What is in memory, and since when.
#[derive(Clone)]
struct Kept<T> {
    value: T,
    since: Instant,
}

impl<T> Kept<T> {
    fn new(value: T) -> Kept<T> {
        Kept { value, since: Instant::now() }
    }
}

/// What has changed. Read it again through the directory. Its JSON is what processes tell each other.
///
/// A listener that fell behind ([`broadcast::error::RecvError::Lagged`]) must take everything for changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// An endpoint was registered, changed or deleted.
    Endpoint(Arc<str>, EndpointId),
    /// What all of a tenant's endpoints share, such as its signing secret.
    Tenant(Arc<str>),
    /// Nothing; but somebody follows attempts, see [`Live`](crate::live::Live).
    Watched,
}

impl Change {
    /// The id of the object that has changed.
    fn key(&self) -> String {
        match self {
            Change::Endpoint(_, id) => id.to_string(),
            Change::Tenant(tenant) => format!("tenant/{tenant}"),
            Change::Watched => "watched".to_owned(),
        }
    }
}

/// What signs deliveries to URLs that came without a secret of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A directory over `store`. All changes of its objects must go through directories, one in each process, that
    /// tell each other through `log`.
    pub fn new(store: Store, log: Log) -> Directory {
        Directory::with(store, log, FRESH)
    }

    fn with(store: Store, log: Log, fresh: Duration) -> Directory {
        let (changes, _) = broadcast::channel(CHANGES);
        let inner = Inner {
            store,
            log,
            fresh,
            endpoints: Cache::builder().max_capacity(ENDPOINTS).time_to_live(KEPT).build(),
            callbacks: Cache::builder().max_capacity(ENDPOINTS).time_to_live(KEPT).build(),
            routes: Cache::builder().max_capacity(TENANTS).time_to_live(KEPT).build(),
            secrets: Cache::builder().max_capacity(TENANTS).time_to_live(KEPT).build(),
            of_endpoints: Locks::new(),
            of_tenants: Locks::new(),
            changing: Locks::new(),
            changes,
        };
        Directory { inner: Arc::new(inner) }
    }

    /// Takes in what other processes change, until that can't be followed any more; says why.
    pub async fn follow(&self, mut tail: kafka::Tail) -> LogError {
        loop {
            let (key, value) = match tail.next().await {
                Ok(change) => change,
                Err(error) => return error,
            };
            match serde_json::from_slice::<Change>(&value) {
                Ok(change) => self.take_in(change).await,
                // Another version's, or not ours at all. What it was about is read again in a minute.
                Err(error) => tracing::warn!(%error, key, "a change of the configuration can't be read"),
            }
        }
    }

    /// What is in memory of an endpoint: nothing, that there is none, or the endpoint. Never waits.
    pub fn cached(&self, tenant: &str, id: EndpointId) -> Option<Option<Arc<Endpoint>>> {
        self.inner.endpoints.get(&Lookup { tenant, id }).map(|kept| kept.value)
    }

    /// A registered endpoint of `tenant`.
    pub async fn endpoint(&self, tenant: &str, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        let known = meters::ENDPOINTS.looked(self.inner.endpoints.get(&Lookup { tenant, id }));
        let turn = || self.inner.of_endpoints.of((tenant, id));
        self.read(tenant, known, turn, move |directory, tenant| async move { directory.endpoint_in_turn(&tenant, id).await }).await
    }

    /// Keeps an endpoint that came with a job, so that [`Directory::callback`] finds it everywhere.
    pub async fn keep_callback(&self, endpoint: Endpoint) -> Result<(), StoreError> {
        let (tenant, id) = (endpoint.tenant.clone(), endpoint.id);
        if self.callback(&tenant, id).await?.is_none() {
            // Another process may have been first, with the same.
            self.inner.store.swap_object(ObjectKind::Callback, &tenant, &id.to_string(), None, Some(encode(&endpoint))).await?;
            self.inner.callbacks.insert(Key { tenant: tenant.into(), id }, Arc::new(endpoint));
        }
        Ok(())
    }

    /// An endpoint of `tenant` that came with a job.
    pub async fn callback(&self, tenant: &str, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        if let Some(known) = self.inner.callbacks.get(&Lookup { tenant, id }) {
            return Ok(Some(known));
        }
        let json = self.inner.store.get_object(ObjectKind::Callback, tenant, &id.to_string()).await?;
        let Some(endpoint) = json.map(|json| decode(&json)).transpose()?.map(Arc::new) else { return Ok(None) };
        self.inner.callbacks.insert(Key { tenant: tenant.into(), id }, Arc::clone(&endpoint));
        Ok(Some(endpoint))
    }

    /// The enabled endpoints of `tenant` by the events they want.
    pub async fn routes(&self, tenant: &str) -> Result<Arc<Routes<EndpointId>>, StoreError> {
        let known = meters::ROUTES.looked(self.inner.routes.get(tenant));
        let turn = || self.inner.of_tenants.of(tenant);
        self.read(tenant, known, turn, |directory, tenant| async move { directory.routes_in_turn(&tenant).await }).await
    }

    /// Up to `limit` (at most [`MAX_PAGE`]) endpoints of `tenant` in order of their ids, behind `after`. Reads the store.
    pub async fn list_endpoints(&self, tenant: &str, after: Option<EndpointId>, limit: usize) -> Result<Vec<Endpoint>, StoreError> {
        let after = after.map(|id| id.to_string());
        let objects = self.inner.store.list_objects(ObjectKind::Endpoint, tenant, after.as_deref(), limit).await?;
        objects.iter().map(|(_, json)| decode(json)).collect()
    }

    /// Registers an endpoint, or replaces one. Everyone sees it when this returns: this process at once, others as soon
    /// as they have read it from the log.
    pub async fn put_endpoint(&self, endpoint: Endpoint) -> Result<(), StoreError> {
        let (tenant, id) = (endpoint.tenant.clone(), endpoint.id);
        self.change_endpoint(&tenant, id, move |_| Some(endpoint.clone())).await.map(drop)
    }

    /// Reads, changes and writes an endpoint with nobody in between. `None` if there is none. When others change it at
    /// the same time, `change` is applied to what they left.
    pub async fn update_endpoint<F>(&self, tenant: &str, id: EndpointId, change: F) -> Result<Option<Arc<Endpoint>>, StoreError>
    where
        F: Fn(&mut Endpoint) + Send + 'static,
    {
        let change = move |old: Option<&Endpoint>| {
            let mut endpoint = old?.clone();
            change(&mut endpoint);
            Some(endpoint)
        };
        self.change_endpoint(tenant, id, change).await.map(|changed| changed.new.map(Arc::new))
    }

    /// Deletes an endpoint, if it exists, and says whether it did.
    pub async fn delete_endpoint(&self, tenant: &str, id: EndpointId) -> Result<bool, StoreError> {
        self.change_endpoint(tenant, id, |_| None).await.map(|changed| changed.old.is_some())
    }

    /// The secret that signs deliveries to URLs of `tenant`; made when it is first asked for.
    pub async fn signing_secret(&self, tenant: &str) -> Result<Arc<SigningSecret>, StoreError> {
        let known = meters::SECRETS.looked(self.inner.secrets.get(tenant));
        let turn = || self.inner.of_tenants.of(tenant);
        self.read(tenant, known, turn, |directory, tenant| async move { directory.secret_in_turn(&tenant).await }).await
    }

    /// Makes a new signing secret. The old one is honoured for `grace` from `now` on.
    pub async fn rotate_signing_secret(&self, tenant: &str, grace: Millis, now: Time) -> Result<Arc<SigningSecret>, StoreError> {
        let (directory, tenant) = (self.clone(), Arc::<str>::from(tenant));
        unhurried(async move {
            let _turn = directory.inner.changing.of((&tenant, SECRET_ID)).lock_owned().await;
            for _ in 0..TRIES {
                let stored = directory.inner.store.get_object(ObjectKind::SigningSecret, &tenant, SECRET_ID).await?;
                let old = stored.as_deref().map(decode::<SigningSecret>).transpose()?;
                let previous = old.map(|old| PreviousSecret { secret: old.current, expires_at: now + grace });
                let rotated = SigningSecret { current: random_secret()?, previous };
                let swapped = directory.swap_secret(&tenant, stored, &rotated).await;
                directory.tell(Change::Tenant(tenant.clone())).await?;
                if swapped? {
                    return Ok(Arc::new(rotated));
                }
            }
            Err(crowded())
        })
        .await
    }

    /// Changes from now on, of all tenants.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// What is in memory, or else what `load` finds. What is no longer fresh is used once more and loaded beside it.
    async fn read<T, F, L>(
        &self,
        tenant: &str,
        known: Option<Kept<T>>,
        turn: impl FnOnce() -> Arc<Mutex<()>>,
        load: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(Directory, Arc<str>) -> L + Send + 'static,
        L: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let Some(known) = known else {
            let (directory, tenant, turn) = (self.clone(), Arc::<str>::from(tenant), turn());
            return unhurried(async move {
                let _turn = turn.lock().await;
                load(directory, tenant).await
            })
            .await;
        };
        if !self.is_fresh(&known)
            && let Ok(turn) = turn().try_lock_owned()
        {
            let loading = load(self.clone(), tenant.into());
            tokio::spawn(async move {
                let _turn = turn;
                if let Err(error) = loading.await {
                    tracing::warn!(%error, "configuration can't be read again; what is known goes on being used");
                }
            });
        }
        Ok(known.value)
    }

    fn is_fresh<T>(&self, kept: &Kept<T>) -> bool {
        kept.since.elapsed() < self.inner.fresh
    }

    async fn endpoint_in_turn(&self, tenant: &Arc<str>, id: EndpointId) -> Result<Option<Arc<Endpoint>>, StoreError> {
        let known = self.inner.endpoints.get(&Lookup { tenant, id });
        if let Some(known) = known.as_ref().filter(|known| self.is_fresh(known)) {
            return Ok(known.value.clone()); // Loaded while we waited.
        }
        let json = self.inner.store.get_object(ObjectKind::Endpoint, tenant, &id.to_string()).await?;
        let endpoint = json.map(|json| decode(&json)).transpose()?.map(Arc::new);
        self.inner.endpoints.insert(Key { tenant: tenant.clone(), id }, Kept::new(Option::clone(&endpoint)));
        if known.is_some_and(|known| known.value != endpoint) {
            self.forget_routes(tenant).await; // a change was missed
            self.pass_on(Change::Endpoint(tenant.clone(), id));
        }
        Ok(endpoint)
    }

    async fn routes_in_turn(&self, tenant: &Arc<str>) -> Result<Arc<Routes<EndpointId>>, StoreError> {
        if let Some(known) = self.inner.routes.get(tenant).filter(|known| self.is_fresh(known)) {
            return Ok(known.value);
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
        self.inner.routes.insert(tenant.clone(), Kept::new(routes.clone()));
        Ok(routes)
    }

    async fn secret_in_turn(&self, tenant: &Arc<str>) -> Result<Arc<SigningSecret>, StoreError> {
        let known = self.inner.secrets.get(tenant);
        if let Some(known) = known.as_ref().filter(|known| self.is_fresh(known)) {
            return Ok(known.value.clone());
        }
        for _ in 0..TRIES {
            let stored = self.inner.store.get_object(ObjectKind::SigningSecret, tenant, SECRET_ID).await?;
            let secret = match stored {
                Some(json) => decode(&json)?,
                None => {
                    let first = SigningSecret { current: random_secret()?, previous: None };
                    if !self.swap_secret(tenant, None, &first).await? {
                        continue; // another process was first; its secret counts
                    }
                    first
                }
            };
            let secret = Arc::new(secret);
            self.inner.secrets.insert(tenant.clone(), Kept::new(Arc::clone(&secret)));
            if known.is_some_and(|known| known.value != secret) {
                self.pass_on(Change::Tenant(tenant.clone()));
            }
            return Ok(secret);
        }
        Err(crowded())
    }

    async fn swap_secret(&self, tenant: &str, old: Option<Bytes>, new: &SigningSecret) -> Result<bool, StoreError> {
        self.inner.store.swap_object(ObjectKind::SigningSecret, tenant, SECRET_ID, old, Some(encode(new))).await
    }

    /// Replaces an endpoint by what `change` makes of it, and tells everyone. Also after an error: whether it was
    /// written is unknown then.
    async fn change_endpoint<F>(&self, tenant: &str, id: EndpointId, change: F) -> Result<Changed, StoreError>
    where
        F: Fn(Option<&Endpoint>) -> Option<Endpoint> + Send + 'static,
    {
        let (directory, tenant) = (self.clone(), Arc::<str>::from(tenant));
        unhurried(async move {
            let turn = directory.inner.changing.of((&tenant, id)).lock_owned().await;
            let changed = directory.swap_endpoint(&tenant, id, change).await;
            drop(turn);
            let told = directory.tell(Change::Endpoint(tenant, id)).await;
            let changed = changed?;
            told.map(|()| changed)
        })
        .await
    }

    async fn swap_endpoint(
        &self,
        tenant: &str,
        id: EndpointId,
        change: impl Fn(Option<&Endpoint>) -> Option<Endpoint>,
    ) -> Result<Changed, StoreError> {
        let name = id.to_string();
        for _ in 0..TRIES {
            let stored = self.inner.store.get_object(ObjectKind::Endpoint, tenant, &name).await?;
            let old = stored.as_deref().map(decode).transpose()?;
            let new = change(old.as_ref());
            if old.is_none() && new.is_none() {
                return Ok(Changed { old, new });
            }
            if self.inner.store.swap_object(ObjectKind::Endpoint, tenant, &name, stored, new.as_ref().map(encode)).await? {
                return Ok(Changed { old, new });
            }
        }
        Err(crowded())
    }

    /// Tells every process that somebody follows attempts.
    pub(crate) async fn tell_watched(&self) -> Result<(), LogError> {
        let change = Change::Watched;
        self.inner.log.announce(&change.key(), encode(&change)).await
    }

    /// Forgets what has changed, and has other processes do so.
    async fn tell(&self, change: Change) -> Result<(), StoreError> {
        let (key, value) = (change.key(), encode(&change));
        self.take_in(change).await;
        let told = self.inner.log.announce(&key, value).await;
        told.map_err(|error| StoreError::Unavailable(format!("the change is stored, but other processes can't be told: {error}")))
    }

    /// Forgets what has changed once nobody loads it. Bounded by the store's time-outs.
    async fn take_in(&self, change: Change) {
        match &change {
            Change::Endpoint(tenant, id) => {
                let turn = self.inner.of_endpoints.of((&**tenant, *id));
                let _turn = turn.lock().await;
                self.inner.endpoints.invalidate(&Lookup { tenant, id: *id });
                self.forget_routes(tenant).await;
            }
            Change::Tenant(tenant) => {
                let turn = self.inner.of_tenants.of(&**tenant);
                let _turn = turn.lock().await;
                self.inner.secrets.invalidate(tenant);
            }
            Change::Watched => {}
        }
        self.pass_on(change);
    }

    async fn forget_routes(&self, tenant: &str) {
        let turn = self.inner.of_tenants.of(tenant);
        let _turn = turn.lock().await;
        self.inner.routes.invalidate(tenant);
    }

    fn pass_on(&self, change: Change) {
        // Without listeners there is nobody to tell.
        let _ = self.inner.changes.send(change);
    }
}

/// An endpoint before and after a change.
struct Changed {
    old: Option<Endpoint>,
    new: Option<Endpoint>,
}

fn crowded() -> StoreError {
    StoreError::Unavailable(format!("others changed the same object {TRIES} times meanwhile; try again"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log, store};

    #[tokio::test]
    async fn a_change_that_was_missed_is_told_when_it_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let log = log::local::Log::open(&folder.path().join("log"), log::local::Options::default()).unwrap();
        let options = store::local::Options {
            folder: folder.path().join("store"),
            retention: Millis::from_secs(60),
            job_retention: Millis::from_secs(60),
            min_free_bytes: 1,
        };
        let store = Store::Local(store::local::Store::open(&options, log.clone()).unwrap());
        let (here, elsewhere) = (
            Directory::with(store.clone(), Log::Local(log.clone()), Duration::ZERO),
            Directory::new(store, Log::Local(log)), // tells nobody of another process
        );
        let endpoint = Endpoint::of_url("t", "http://a/", Secret::new("s"), None);
        let id = endpoint.id;
        elsewhere.put_endpoint(endpoint).await.unwrap();
        here.endpoint("t", id).await.unwrap();
        here.signing_secret("t").await.unwrap();

        let mut changes = here.changes();
        elsewhere.update_endpoint("t", id, |endpoint| endpoint.url = "http://b/".to_owned()).await.unwrap();
        assert_eq!(here.endpoint("t", id).await.unwrap().unwrap().url, "http://a/", "it is looked for beside");
        assert_eq!(changes.recv().await.unwrap(), Change::Endpoint("t".into(), id));
        let rotated = elsewhere.rotate_signing_secret("t", Millis(500), Time(1000)).await.unwrap();
        assert_ne!(here.signing_secret("t").await.unwrap(), rotated);
        assert_eq!(changes.recv().await.unwrap(), Change::Tenant("t".into()));
    }
}

//! What a worker needs to send to an endpoint, made once and kept until the endpoint changes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use metrics::Counter;
use postrider_backend::directory::Directory;
use postrider_backend::store::StoreError;
use postrider_core::endpoint::{Endpoint, Policy};
use postrider_core::id::EndpointId;
use postrider_core::sign::Signer;
use postrider_core::time::{Millis, Time};
use postrider_egress::{Headers, Target, check_url};
use postrider_metrics::names;

/// Endpoints kept ready; beyond it all are forgotten and made again as they are met.
const MOST: usize = 65_536;

/// An endpoint is looked up again after this time. A safety net only: changes are told at once.
const FRESH: Millis = Millis::from_secs(60);

/// An endpoint ready to be sent to.
pub(crate) struct Prepared {
    pub(crate) target: Target,
    pub(crate) signer: Signer,
    pub(crate) headers: Headers,
    /// When it is made anew: the older of two secrets is no longer used, or a change may have been missed.
    expires: Time,
}

/// The prepared endpoints of one worker.
pub(crate) struct Targets {
    ready: RefCell<HashMap<EndpointId, Rc<Prepared>>>,
    hits: Counter,
    misses: Counter,
}

impl Targets {
    pub(crate) fn new() -> Targets {
        let (hits, misses) = (names::CACHE_HITS.counter(&["targets"]), names::CACHE_MISSES.counter(&["targets"]));
        Targets { ready: RefCell::default(), hits, misses }
    }

    /// The endpoint, if it is ready and up to date.
    pub(crate) fn get(&self, endpoint: EndpointId, now: Time) -> Option<Rc<Prepared>> {
        let found = self.ready.borrow().get(&endpoint).filter(|prepared| prepared.expires > now).cloned();
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.increment(1);
        found
    }

    /// Makes an endpoint ready; `None` when it cannot be sent to, as its URL is no longer one.
    pub(crate) fn prepare(&self, endpoint: &Endpoint, now: Time) -> Option<Rc<Prepared>> {
        let target = check_url(&endpoint.url).ok()?;
        let previous = endpoint.previous.as_ref().filter(|previous| previous.expires_at > now);
        let prepared = Rc::new(Prepared {
            target,
            signer: Signer::new(&endpoint.secret, previous.map(|previous| &previous.secret)),
            headers: Headers::of_owner(endpoint.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            expires: previous.map_or(now + FRESH, |previous| previous.expires_at.min(now + FRESH)),
        });
        let mut ready = self.ready.borrow_mut();
        if ready.len() >= MOST {
            ready.clear();
        }
        ready.insert(endpoint.id, prepared.clone());
        Some(prepared)
    }

    pub(crate) fn forget(&self, endpoint: EndpointId) {
        self.ready.borrow_mut().remove(&endpoint);
    }

    pub(crate) fn forget_all(&self) {
        self.ready.borrow_mut().clear();
    }
}

/// Looks up an endpoint, or makes it of the `url` that came with its event; `None` when it has been deleted.
///
/// What was read while the endpoint changed is read again, so that an older answer never follows a newer one.
pub(crate) async fn resolve(
    directory: &Directory,
    tenant: &str,
    endpoint: EndpointId,
    url: Option<&str>,
) -> Result<Option<Arc<Endpoint>>, StoreError> {
    let Some(url) = url else {
        directory.endpoint(tenant, endpoint).await?;
        return match directory.cached(tenant, endpoint) {
            Some(fresh) => Ok(fresh),
            None => directory.endpoint(tenant, endpoint).await,
        };
    };
    // One that came with a secret or headers of its own is kept, so that both stay out of records.
    let kept = match endpoint == EndpointId::of_url(tenant, url) {
        true => None,
        false => match directory.callback(tenant, endpoint).await? {
            Some(kept) => Some(kept),
            None => return Ok(None),
        },
    };
    if let Some(own) = kept.as_ref().filter(|kept| kept.secret.is_given()) {
        return Ok(Some(own.clone()));
    }
    let secret = directory.signing_secret(tenant).await?;
    let of_url = Endpoint::of_url(tenant, url, secret.current.clone(), secret.previous.clone());
    let (headers, timeout) = kept.map(|kept| (kept.headers.clone(), kept.timeout)).unwrap_or_default();
    Ok(Some(Arc::new(Endpoint { id: endpoint, headers, timeout, ..of_url })))
}

/// How a shard is to treat an endpoint's deliveries.
pub(crate) fn policy_of(endpoint: Option<&Endpoint>) -> Policy {
    endpoint.map_or_else(Policy::deleted, Endpoint::policy)
}

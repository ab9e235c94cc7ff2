use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use postrider_backend::directory::{Change, Directory};
use postrider_backend::log::Log;
use postrider_backend::store::ObjectKind;
use postrider_core::endpoint::{Endpoint, Status};
use postrider_core::id::EndpointId;
use postrider_core::secret::Secret;
use postrider_core::time::{Millis, Time};

use crate::world::{World, endpoint};

fn registered(tenant: &str, n: u128, events: &[&str]) -> Endpoint {
    let events = events.iter().map(|text| text.parse().unwrap()).collect();
    Endpoint { id: endpoint(n), events, ..Endpoint::of_url(tenant, "http://a/", Secret::new("s"), None) }
}

async fn routed(directory: &Directory, tenant: &str) -> Vec<EndpointId> {
    directory.routes(tenant).await.unwrap().matching("a.b")
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    let id = endpoint(1);
    assert!(directory.cached("t", id).is_none(), "nothing was read yet");
    assert!(directory.endpoint("t", id).await.unwrap().is_none());
    assert!(directory.cached("t", id).expect("it was looked up").is_none());
    assert_eq!(routed(&directory, "t").await, []);

    directory.put_endpoint(registered("t", 1, &["a.*"])).await.unwrap();
    assert_eq!(directory.endpoint("t", id).await.unwrap().unwrap().url, "http://a/");
    assert!(directory.cached("t", id).is_some());
    assert_eq!(routed(&directory, "t").await, [id]);
    assert!(directory.endpoint("other", id).await.unwrap().is_none(), "it belongs to somebody else");
    assert_eq!(routed(&directory, "other").await, []);

    let disable = |endpoint: &mut Endpoint| endpoint.status = Status::Disabled { reason: "410".to_owned() };
    assert!(directory.update_endpoint("t", id, disable).await.unwrap().is_some());
    assert!(matches!(directory.endpoint("t", id).await.unwrap().unwrap().status, Status::Disabled { .. }));
    assert_eq!(routed(&directory, "t").await, []);
    assert!(directory.update_endpoint("t", endpoint(2), disable).await.unwrap().is_none());

    assert!(directory.delete_endpoint("t", id).await.unwrap());
    assert!(directory.endpoint("t", id).await.unwrap().is_none());
    assert!(!directory.delete_endpoint("t", id).await.unwrap());
}

#[tokio::test]
async fn all_endpoints_of_a_tenant_are_listed_and_routed() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    // More than the store hands out at one time; written beneath the directory to be quick.
    let puts = (0..1500).map(|n| {
        let (store, one) = (world.store.clone(), registered("t", n, &[]));
        let json = Bytes::from(serde_json::to_vec(&one).unwrap());
        tokio::spawn(async move { store.put_object(ObjectKind::Endpoint, "t", &one.id.to_string(), json).await.unwrap() })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    assert_eq!(routed(&directory, "t").await, (0..1500).map(endpoint).collect::<Vec<_>>());
    let first = directory.list_endpoints("t", None, 2).await.unwrap();
    let second = directory.list_endpoints("t", Some(first[1].id), 2).await.unwrap();
    assert_eq!([first, second].concat().iter().map(|e| e.id.0.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn no_change_is_lost_among_concurrent_changes() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    directory.put_endpoint(registered("t", 1, &[])).await.unwrap();
    let changes = (0..50).map(|_| {
        let directory = directory.clone();
        let raise = |endpoint: &mut Endpoint| endpoint.rate_limit = Some(endpoint.rate_limit.unwrap_or(0) + 1);
        tokio::spawn(async move { directory.update_endpoint("t", endpoint(1), raise).await.unwrap() })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    assert_eq!(directory.endpoint("t", endpoint(1)).await.unwrap().unwrap().rate_limit, Some(50));
}

#[tokio::test]
async fn readers_never_see_less_than_what_was_acknowledged() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    directory.put_endpoint(registered("t", 1, &[])).await.unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let finished = Arc::new(AtomicBool::new(false));
    // As in the server: every worker is a thread with a runtime of its own.
    let readers = (0..4).map(|_| {
        let (directory, acknowledged, finished) = (directory.clone(), acknowledged.clone(), finished.clone());
        let read = async move {
            while !finished.load(Ordering::SeqCst) {
                let least = acknowledged.load(Ordering::SeqCst);
                let seen = directory.endpoint("t", endpoint(1)).await.unwrap().unwrap().updated_at.0;
                assert!(seen >= least, "saw {seen} after {least} was acknowledged");
                assert_eq!(routed(&directory, "t").await, [endpoint(1)]);
            }
        };
        std::thread::spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(read))
    });
    let readers: Vec<_> = readers.collect();
    for n in 1..=300 {
        directory.update_endpoint("t", endpoint(1), move |endpoint| endpoint.updated_at = Time(n)).await.unwrap();
        acknowledged.store(n, Ordering::SeqCst);
    }
    finished.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[tokio::test]
async fn a_change_whose_caller_went_away_is_seen_all_the_same() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    let mut changes = directory.changes();
    directory.put_endpoint(registered("t", 1, &[])).await.unwrap();
    changes.recv().await.unwrap();
    directory.endpoint("t", endpoint(1)).await.unwrap();
    {
        let mut call = std::pin::pin!(directory.update_endpoint("t", endpoint(1), |endpoint| endpoint.url = "http://b/".to_owned()));
        let begun = futures_util::future::poll_immediate(&mut call).await;
        assert!(begun.is_none(), "it must still be under way");
    }
    assert_eq!(changes.recv().await.unwrap(), Change::Endpoint("t".into(), endpoint(1)));
    assert_eq!(directory.endpoint("t", endpoint(1)).await.unwrap().unwrap().url, "http://b/");
}

#[tokio::test]
async fn a_tenant_has_one_signing_secret_until_it_is_rotated() {
    let world = World::local();
    let directory = Directory::new(world.store.clone(), Log::Local(world.log.clone()));
    let asked = (0..20).map(|_| {
        let directory = directory.clone();
        tokio::spawn(async move { directory.signing_secret("t").await.unwrap().current.clone() })
    });
    let mut secrets = Vec::new();
    for secret in asked.collect::<Vec<_>>() {
        secrets.push(secret.await.unwrap());
    }
    let first = secrets[0].clone();
    assert!(secrets.iter().all(|secret| *secret == first) && first.reveal().starts_with("whsec_"));
    assert_ne!(directory.signing_secret("u").await.unwrap().current, first);

    let mut changes = directory.changes();
    directory.rotate_signing_secret("t", Millis(500), Time(1000)).await.unwrap();
    assert_eq!(changes.recv().await.unwrap(), Change::Tenant("t".into()));
    for directory in [directory, Directory::new(world.store.clone(), Log::Local(world.log.clone()))] {
        let rotated = directory.signing_secret("t").await.unwrap();
        let previous = rotated.previous.clone().expect("the old one is still honoured");
        assert_eq!((previous.secret, previous.expires_at), (first.clone(), Time(1500)));
        assert_ne!(rotated.current, first);
    }
}

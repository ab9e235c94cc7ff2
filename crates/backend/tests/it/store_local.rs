//! What is particular to the store in a folder.

use bytes::Bytes;
use postrider_backend::log::{Append, Log, Topic};
use postrider_backend::store::{Body, EventFilter, Store, Write, local};
use postrider_core::attempt::DeliveryState;
use postrider_core::delivery::Place;
use postrider_core::partition::Partition;
use postrider_core::time::{Millis, Time};

use crate::world::{DAY, HERE, NOON, World, attempt, endpoint, event, id, put, size, uid};

async fn waiting(store: &Store) -> Vec<u64> {
    let rows = store.load(HERE, endpoint(1), Place::default(), Place::default(), None, 100).await.unwrap();
    rows.iter().map(|row| row.place.order).collect()
}

#[tokio::test]
async fn a_batch_is_there_as_a_whole() {
    let world = World::local();
    let store = world.store.clone();
    let writer = tokio::spawn(async move {
        for n in 1..=50 {
            let id = id(uid(NOON, n), 1);
            store
                .write(vec![event("t", id.event, 0, "a.b", &[1]), put(id, n), Write::Delivery(attempt("t", id, 1, DeliveryState::Pending))])
                .await
                .unwrap();
        }
    });
    while !writer.is_finished() {
        // Read from the last written part to the first: what is there later was there before.
        let events = world.store.events("t", EventFilter::default(), None, 100).await.unwrap().items.len();
        let waiting = waiting(&world.store).await.len();
        assert!(waiting >= events, "{events} events, but {waiting} rows in the backlog");
        let attempts = world.store.endpoint_attempts("t", endpoint(1), None, 100).await.unwrap().items.len();
        assert!(attempts >= waiting, "{waiting} rows in the backlog, but {attempts} attempts");
    }
    writer.await.unwrap();
    assert_eq!(waiting(&world.store).await.len(), 50);
}

#[tokio::test]
async fn a_body_in_the_log_is_found() {
    let world = World::local();
    let append = Append {
        topic: Topic::Events,
        partition: Partition(0),
        meta: Bytes::new(),
        payload: Bytes::from_static(b"the body"),
        failure: None,
    };
    let offset = Log::Local(world.log.clone()).append(vec![append]).await.unwrap()[0];
    let Write::Event(mut write) = event("t", uid(NOON, 1), 0, "a.b", &[1]) else { unreachable!() };
    write.row.body = Body::At(offset);
    world.write(vec![Write::Event(write)]).await;
    let found = world.store.event("t", uid(NOON, 1)).await.unwrap().unwrap();
    assert_eq!(found.body.as_deref(), Some(&b"the body"[..]));
}

#[tokio::test]
async fn old_rows_go_and_free_their_space() {
    let world = World::local();
    let folder = world.dir.path().join("store");
    let write = async |at, rows: u64| {
        for part in 0..rows / 500 {
            let rows = (part * 500..part * 500 + 500).map(|n| {
                let mut write = attempt("t", id(uid(at, n), u128::from(n)), 1, DeliveryState::Succeeded);
                // Hard to compress, so that space is really taken.
                let noise = (0..60).flat_map(|k| (n * 60 + k).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).collect::<Vec<u8>>();
                write.attempt.as_mut().unwrap().1.report.body = noise.into();
                Write::Delivery(write)
            });
            world.write(rows.collect()).await;
        }
    };
    write(NOON, 50_000).await;
    write(NOON + DAY, 500).await;
    let before = size(&folder.join("keyspaces"));
    assert!(before > 15_000_000, "{before} bytes");
    assert_eq!(world.store.expire(Time(NOON + 30 * DAY)).await.unwrap(), 0);
    assert_eq!(world.store.expire(Time(NOON + 31 * DAY)).await.unwrap(), 1);
    assert!(world.store.attempts("t", id(uid(NOON, 7), 7)).await.unwrap().attempts.is_empty());
    assert_eq!(world.store.attempts("t", id(uid(NOON + DAY, 7), 7)).await.unwrap().attempts.len(), 1);
    // Files go when nothing refers to them any more: the journal does until it turns over.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while size(&folder.join("keyspaces")) > before / 4 {
        assert!(std::time::Instant::now() < deadline, "still {} of {before} bytes", size(&folder.join("keyspaces")));
        write(NOON + 2 * DAY, 500).await;
        world.store.expire(Time(NOON + 33 * DAY)).await.unwrap();
    }
}

#[tokio::test]
async fn a_closed_local_store_opens_again_and_an_open_one_does_not() {
    let World { store, log, dir, .. } = World::local();
    let (retention, job_retention) = (Millis(DAY), Millis(DAY));
    let options = local::Options { folder: dir.path().join("store"), retention, job_retention, min_free_bytes: 1 << 20 };
    let refused = local::Store::open(&options, log.clone()).err().expect("it is in use").to_string();
    assert!(refused.contains("in use"), "{refused}");
    store.write(vec![put(id(uid(NOON, 1), 1), 5)]).await.unwrap();
    drop(store);
    let reopened = Store::Local(local::Store::open(&options, log).expect("it was closed"));
    assert_eq!(waiting(&reopened).await, [5]);
}

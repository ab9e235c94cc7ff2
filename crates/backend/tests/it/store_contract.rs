//! What every store promises to those who write to it, run for each variant.

use bytes::Bytes;
use futures_util::future::try_join_all;
use postrider_backend::store::{Claim, Dead, DeliveryWrite, EventFilter, MAX_TENANT, ObjectKind, Store, StoreError, Write};
use postrider_core::attempt::DeliveryState;
use postrider_core::delivery::Place;
use postrider_core::id::Uid;
use postrider_core::partition::Partition;
use postrider_core::time::Time;

use crate::world::{DAY, HERE, NOON, World, attempt, backlogged, delivery, endpoint, event, id, put, remove, store_contract, uid};

store_contract! {
    what_waits_has_its_rows,
    lanes_are_listed_by_their_first_rows,
    a_backlog_is_read_in_order_within_its_bounds,
    a_row_moves_within_its_backlog,
    of_one_key_the_last_write_of_a_batch_counts,
    a_search_finds_a_row_of_its_own_lane_only,
    an_idempotency_key_is_taken_once,
    an_idempotency_key_is_free_again_after_a_day,
    objects_are_kept_by_kind_and_tenant,
    many_objects_are_listed_in_order_page_by_page,
    an_object_is_swapped_for_what_it_was_only,
    of_swaps_at_a_time_one_succeeds,
    listeners_hear_of_attempts,
    what_has_no_place_in_a_key_is_refused,
    what_was_acknowledged_survives_a_crash,
}

async fn orders(store: &Store, to: u128) -> Vec<u64> {
    let rows = store.load(HERE, endpoint(to), Place::default(), Place::default(), None, 100).await.unwrap();
    rows.iter().map(|row| row.place.order).collect()
}

async fn what_waits_has_its_rows(world: World) {
    let store = world.store.clone();
    let writer = tokio::spawn(async move {
        for n in 1..=50 {
            let id = id(uid(NOON, n), 1);
            store
                .write(vec![put(id, n), event("t", id.event, 0, "a.b", &[1]), Write::Delivery(attempt("t", id, 1, DeliveryState::Pending))])
                .await
                .unwrap();
        }
    });
    while !writer.is_finished() {
        let waiting = orders(&world.store, 1).await.len();
        let attempts = world.store.endpoint_attempts("t", endpoint(1), None, 100).await.unwrap().items.len();
        let events = world.store.events("t", EventFilter::default(), None, 100).await.unwrap().items.len();
        assert!(attempts >= waiting && events >= waiting, "{waiting} rows in the backlog, {attempts} attempts, {events} events");
    }
    writer.await.unwrap();
    assert_eq!(orders(&world.store, 1).await.len(), 50);
}

async fn lanes_are_listed_by_their_first_rows(world: World) {
    let lanes: Vec<u128> = (1..=600).collect();
    let rows = |n: u128| [put(id(uid(NOON, 1), n), 7 + n as u64), put(id(uid(NOON, 2), n), 1000 + n as u64)];
    world.write(lanes.iter().flat_map(|n| rows(*n)).collect()).await;
    let elsewhere =
        DeliveryWrite { partition: Partition(4), put: Some(backlogged(id(uid(NOON, 1), 9), 1)), ..delivery("t", id(uid(NOON, 1), 9)) };
    world.write(vec![Write::Delivery(elsewhere), remove(id(uid(NOON, 1), 5), 12)]).await;
    let found = world.store.lanes(HERE).await.unwrap();
    assert_eq!(found.iter().map(|lane| lane.endpoint.0.0).collect::<Vec<_>>(), lanes);
    for lane in &found {
        let n = lane.endpoint.0.0 as u64;
        let (order, event) = if n == 5 { (1005, uid(NOON, 2)) } else { (7 + n, uid(NOON, 1)) };
        assert_eq!((lane.first, lane.due, &lane.meta[..]), (Place { order, event }, Time(order), &b"meta"[..]));
    }
    assert_eq!(world.store.lanes(Partition(4)).await.unwrap().len(), 1);
    assert_eq!(world.store.lanes(Partition(2)).await.unwrap(), []);
}

async fn a_backlog_is_read_in_order_within_its_bounds(world: World) {
    let (a, b, c) = (id(uid(NOON, 1), 1), id(uid(NOON, 2), 1), id(uid(NOON, 3), 1));
    world.write(vec![put(c, 256), put(b, 5), put(a, 5), put(id(uid(NOON, 1), 2), 1)]).await;
    let load = async |from: Place, until, limit| {
        let rows = world.store.load(HERE, endpoint(1), from, Place::default(), until, limit).await.unwrap();
        rows.iter().map(|row| row.delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(load(Place::default(), None, 10).await, [a, b, c]);
    assert_eq!(load(Place::default(), None, 2).await, [a, b]);
    assert_eq!(load(Place { order: 5, event: b.event }, None, 10).await, [b, c]);
    assert_eq!(load(Place::default(), Some(255), 10).await, [a, b]);
    assert_eq!(load(Place::default(), Some(256), 10).await, [a, b, c]);
    assert_eq!(load(Place { order: 300, event: Uid(0) }, Some(200), 10).await, []);
    let row = world.store.load(HERE, endpoint(1), Place::default(), Place::default(), None, 1).await.unwrap();
    assert_eq!(row, [backlogged(a, 5)]);
}

async fn a_row_moves_within_its_backlog(world: World) {
    let a = id(uid(NOON, 1), 1);
    world.write(vec![put(a, 10)]).await;
    for order in 11..60 {
        let moved =
            DeliveryWrite { remove: Some(Place { order: order - 1, event: a.event }), put: Some(backlogged(a, order)), ..delivery("t", a) };
        let (_, seen) = tokio::join!(world.write(vec![Write::Delivery(moved)]), orders(&world.store, 1));
        assert_eq!(seen.len(), 1, "it must be in one place at any time, not in {seen:?}");
    }
    assert_eq!(orders(&world.store, 1).await, [59]);
}

async fn of_one_key_the_last_write_of_a_batch_counts(world: World) {
    let (a, b) = (id(uid(NOON, 1), 1), id(uid(NOON, 2), 1));
    world.write(vec![put(a, 1), remove(a, 1), put(b, 2), remove(b, 2), put(b, 2)]).await;
    assert_eq!(orders(&world.store, 1).await, [2]);
    assert_eq!(orders(&world.reopened().await.store, 1).await, [2]);
}

async fn a_search_finds_a_row_of_its_own_lane_only(world: World) {
    let (a, b) = (id(uid(NOON, 1), 1), id(uid(NOON, 2), 2));
    world.write(vec![put(a, 10), put(b, 5)]).await;
    assert_eq!(world.store.find(HERE, endpoint(1), a.event).await.unwrap(), Some(backlogged(a, 10)));
    assert_eq!(world.store.find(HERE, endpoint(1), b.event).await.unwrap(), None);
    assert_eq!(world.store.find(Partition(4), endpoint(1), a.event).await.unwrap(), None);
}

async fn an_idempotency_key_is_taken_once(world: World) {
    let claims = (1..=100_u64).map(|n| {
        let store = world.store.clone();
        tokio::spawn(async move { (n, store.claim("t", "key", [7; 32], uid(NOON, n), Time(NOON)).await.unwrap()) })
    });
    let (mut winner, mut others) = (None, Vec::new());
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            (n, Claim::New) => assert_eq!(winner.replace(uid(NOON, n)), None, "taken twice"),
            (_, Claim::Same { event }) => others.push(event),
            (_, Claim::Other) => panic!("the request is the same"),
        }
    }
    let winner = winner.expect("somebody takes it");
    assert!(others.iter().all(|event| *event == winner));
    assert_eq!(world.store.claim("t", "key", [8; 32], Uid(0), Time(NOON)).await.unwrap(), Claim::Other);
    let reopened = world.reopened().await;
    assert_eq!(reopened.store.claim("t", "key", [7; 32], Uid(0), Time(NOON)).await.unwrap(), Claim::Same { event: winner });
}

async fn an_idempotency_key_is_free_again_after_a_day(world: World) {
    let claim = async |n, at| world.store.claim("t", "key", [7; 32], uid(NOON, n), Time(at)).await.unwrap();
    assert_eq!(claim(1, NOON).await, Claim::New);
    assert_eq!(claim(2, NOON + DAY - 1).await, Claim::Same { event: uid(NOON, 1) });
    assert_eq!(claim(3, NOON + DAY).await, Claim::New);
    assert_eq!(claim(4, NOON + DAY + 1).await, Claim::Same { event: uid(NOON, 3) });
    world.store.expire(Time(NOON + 2 * DAY)).await.unwrap();
    assert_eq!(claim(5, NOON + 2 * DAY - 1).await, Claim::Same { event: uid(NOON, 3) });
}

async fn objects_are_kept_by_kind_and_tenant(world: World) {
    let store = &world.store;
    for id in ["a", "ab", "b", "c"] {
        store.put_object(ObjectKind::Endpoint, "t", id, Bytes::from(id)).await.unwrap();
    }
    store.put_object(ObjectKind::Endpoint, "t", "b", Bytes::from("new")).await.unwrap();
    store.put_object(ObjectKind::ApiKey, "t", "z", Bytes::from("key")).await.unwrap();
    store.delete_object(ObjectKind::Endpoint, "t", "c").await.unwrap();
    store.delete_object(ObjectKind::Endpoint, "t", "never there").await.unwrap();
    assert_eq!(store.get_object(ObjectKind::Endpoint, "t", "b").await.unwrap(), Some(Bytes::from("new")));
    assert_eq!(store.get_object(ObjectKind::Endpoint, "t", "c").await.unwrap(), None);
    let list = async |after: Option<&str>, limit| {
        let objects = store.list_objects(ObjectKind::Endpoint, "t", after, limit).await.unwrap();
        objects.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, ["a", "ab", "b"]);
    assert_eq!(list(None, 2).await, ["a", "ab"]);
    assert_eq!(list(Some("a"), 2).await, ["ab", "b"]);
    assert_eq!(list(Some("b"), 2).await, Vec::<String>::new());
}

/// As many as lie in several partitions, more than one answer of each holds.
async fn many_objects_are_listed_in_order_page_by_page(world: World) {
    let store = &world.store;
    let ids: Vec<String> = (0..200).map(|n| format!("{:04}", n * 7919 % 10_000)).collect();
    try_join_all(ids.iter().map(|id| store.put_object(ObjectKind::Endpoint, "t", id, Bytes::from(id.clone())))).await.unwrap();
    let mut due = ids.clone();
    due.sort();
    for limit in [1, 7, 100, 1000] {
        let mut listed: Vec<String> = Vec::new();
        loop {
            let page = store.list_objects(ObjectKind::Endpoint, "t", listed.last().map(String::as_str), limit).await.unwrap();
            assert!(page.len() <= limit && page.iter().all(|(id, value)| id.as_bytes() == value));
            let is_last = page.len() < limit;
            listed.extend(page.into_iter().map(|(id, _)| id));
            if is_last {
                break;
            }
        }
        assert_eq!(listed, due, "in pages of {limit}");
    }
}

async fn an_object_is_swapped_for_what_it_was_only(world: World) {
    let [a, b] = ["a", "b"].map(|text| Some(Bytes::from(text)));
    let swap = async |old: &Option<Bytes>, new: &Option<Bytes>| {
        world.store.swap_object(ObjectKind::Endpoint, "t", "x", old.clone(), new.clone()).await.unwrap()
    };
    assert!(!swap(&a, &b).await && !swap(&a, &None).await && swap(&None, &None).await);
    assert!(swap(&None, &a).await);
    assert!(!swap(&None, &b).await && !swap(&b, &b).await && !swap(&b, &None).await && !swap(&None, &None).await);
    assert!(swap(&a, &b).await && swap(&b, &b).await);
    assert_eq!(world.store.get_object(ObjectKind::Endpoint, "t", "x").await.unwrap(), b);
    assert_eq!(world.store.get_object(ObjectKind::ApiKey, "t", "x").await.unwrap(), None);
    world.store.put_object(ObjectKind::Endpoint, "t", "x", Bytes::from("a")).await.unwrap();
    assert!(!swap(&b, &None).await && swap(&a, &None).await);
    assert_eq!(world.reopened().await.store.get_object(ObjectKind::Endpoint, "t", "x").await.unwrap(), None);
    assert!(swap(&None, &b).await, "what was deleted can be made again");
}

async fn of_swaps_at_a_time_one_succeeds(world: World) {
    let number = |n: u64| Bytes::from(n.to_string());
    world.store.put_object(ObjectKind::Tenant, "", "t", number(0)).await.unwrap();
    let adders = (0..8).map(|_| {
        let store = world.store.clone();
        tokio::spawn(async move {
            let mut added = 0;
            while added < 5 {
                let old = store.get_object(ObjectKind::Tenant, "", "t").await.unwrap().unwrap();
                let sum: u64 = String::from_utf8_lossy(&old).parse().unwrap();
                added += u32::from(store.swap_object(ObjectKind::Tenant, "", "t", Some(old), Some(number(sum + 1))).await.unwrap());
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    assert_eq!(world.store.get_object(ObjectKind::Tenant, "", "t").await.unwrap(), Some(number(40)));
}

async fn listeners_hear_of_attempts(world: World) {
    let d = id(uid(NOON, 1), 1);
    world.write(vec![Write::Delivery(attempt("t", d, 1, DeliveryState::Pending))]).await;
    let mut feed = world.store.subscribe();
    world.write(vec![Write::Delivery(attempt("t", d, 2, DeliveryState::Succeeded)), put(d, 1)]).await;
    let heard = feed.recv().await.unwrap();
    assert_eq!((&*heard.tenant, heard.attempt.id, heard.attempt.n), ("t", d, 2));
    assert!(feed.try_recv().is_err(), "nothing else was attempted");
}

async fn what_has_no_place_in_a_key_is_refused(world: World) {
    let tenant = "x".repeat(MAX_TENANT + 1);
    let refused = StoreError::TooLong { what: "a tenant's name", limit: MAX_TENANT };
    assert_eq!(world.store.write(vec![event(&tenant, uid(NOON, 1), 0, "a", &[])]).await, Err(refused.clone()));
    assert_eq!(world.store.event(&tenant, uid(NOON, 1)).await, Err(refused));
    let key = "k".repeat(70_000);
    assert!(matches!(world.store.claim("t", &key, [0; 32], Uid(0), Time(NOON)).await, Err(StoreError::TooLong { .. })));
    assert_eq!(world.store.health(), Ok(()));
}

async fn what_was_acknowledged_survives_a_crash(world: World) {
    let d = id(uid(NOON, 1), 1);
    let dead = Dead::Add { at: Time(NOON), reason: "gone".to_owned() };
    let failed = DeliveryWrite { dead, ..attempt("t", d, 1, DeliveryState::Failed) };
    world.write(vec![event("t", d.event, 0, "a.b", &[1]), Write::Delivery(failed), put(id(uid(NOON, 2), 1), 77)]).await;
    world.store.put_object(ObjectKind::Tenant, "", "t", Bytes::from("tenant")).await.unwrap();
    let reopened = world.reopened().await;
    let reopened = &reopened.store;
    assert_eq!(reopened.delivery("t", d).await.unwrap(), world.store.delivery("t", d).await.unwrap());
    assert_eq!(reopened.dead_letters("t", None, 10).await.unwrap().items.len(), 1);
    assert_eq!(orders(reopened, 1).await, [77]);
    assert_eq!(reopened.get_object(ObjectKind::Tenant, "", "t").await.unwrap(), Some(Bytes::from("tenant")));
}

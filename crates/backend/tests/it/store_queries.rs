//! What every store promises to those who ask it, run for each variant.

use std::collections::BTreeSet;

use bytes::Bytes;
use postrider_backend::store::{AttemptCursor, Claim, Dead, DeliveryFilter, DeliveryWrite, EventFilter, ObjectKind, Write};
use postrider_core::attempt::{DeliveryState, End};
use postrider_core::id::{DeliveryId, Uid};
use postrider_core::time::Time;

use crate::world::{DAY, NOON, World, all, attempt, delivery, endpoint, event, id, store_contract, uid};

store_contract! {
    no_query_sees_another_tenant,
    an_event_has_the_targets_of_all_chunks,
    an_event_is_found_by_the_id_its_sender_gave,
    the_state_of_a_delivery_follows_its_rows,
    lists_have_no_gaps_and_no_repeats,
    deliveries_are_filtered,
    attempts_of_an_endpoint_are_listed,
    dead_letters_appear_and_vanish,
}

async fn state(world: &World, id: DeliveryId) -> Option<DeliveryState> {
    world.store.delivery("t", id).await.unwrap().map(|delivery| delivery.state)
}

async fn no_query_sees_another_tenant(world: World) {
    let tenants = ["", "a", "ab", "a\u{1}", "b"];
    let store = &world.store;
    for (n, tenant) in tenants.iter().enumerate() {
        let d = id(uid(NOON, n as u64), 1);
        let dead = Dead::Add { at: Time(NOON), reason: (*tenant).to_owned() };
        let failed = DeliveryWrite { dead, ..attempt(tenant, d, 1, DeliveryState::Failed) };
        world.write(vec![event(tenant, d.event, 0, tenant, &[1]), Write::Delivery(failed)]).await;
        store.put_object(ObjectKind::Endpoint, tenant, "x", Bytes::copy_from_slice(tenant.as_bytes())).await.unwrap();
        assert_eq!(store.claim(tenant, "key", [0; 32], d.event, Time(NOON)).await.unwrap(), Claim::New);
    }
    for (n, tenant) in tenants.iter().enumerate() {
        let own = id(uid(NOON, n as u64), 1);
        for (k, other) in tenants.iter().enumerate() {
            let d = id(uid(NOON, k as u64), 1);
            assert_eq!(store.event(tenant, d.event).await.unwrap().is_some(), n == k, "{tenant:?} reads {other:?}");
            assert_eq!(store.delivery(tenant, d).await.unwrap().is_some(), n == k);
            assert_eq!(store.attempts(tenant, d).await.unwrap().attempts.is_empty(), n != k);
        }
        let events = store.events(tenant, EventFilter::default(), None, 100).await.unwrap().items;
        assert_eq!(events.iter().map(|e| e.id).collect::<Vec<_>>(), [own.event]);
        for state in [None, Some(DeliveryState::Failed)] {
            for to in [None, Some(endpoint(1))] {
                let filter = DeliveryFilter { state, endpoint: to, ..Default::default() };
                let found = store.deliveries(tenant, filter, None, 100).await.unwrap().items;
                assert_eq!(found.iter().map(|d| d.id).collect::<Vec<_>>(), [own]);
            }
        }
        let dead = store.dead_letters(tenant, None, 100).await.unwrap().items;
        assert_eq!(dead.iter().map(|d| d.dead.reason.as_str()).collect::<Vec<_>>(), [*tenant]);
        let attempts = store.endpoint_attempts(tenant, endpoint(1), None, 100).await.unwrap().items;
        assert_eq!(attempts.iter().map(|a| a.id).collect::<Vec<_>>(), [own]);
        let objects = store.list_objects(ObjectKind::Endpoint, tenant, None, 100).await.unwrap();
        assert_eq!(objects, [("x".to_owned(), Bytes::copy_from_slice(tenant.as_bytes()))]);
        assert_eq!(store.claim(tenant, "key", [0; 32], Uid(0), Time(NOON)).await.unwrap(), Claim::Same { event: own.event });
    }
}

async fn an_event_has_the_targets_of_all_chunks(world: World) {
    let e = uid(NOON, 1);
    world.write(vec![event("t", e, 1, "x", &[3]), event("t", e, 0, "a.b", &[1, 2]), event("t", uid(NOON, 2), 0, "x", &[9])]).await;
    let found = world.store.event("t", e).await.unwrap().unwrap();
    assert_eq!(found.row.kind, "a.b");
    assert_eq!(found.row.targets.iter().map(|t| t.endpoint.0.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(found.body.as_deref(), Some(&b"{}"[..]));
    assert_eq!(world.store.event("t", uid(NOON, 7)).await.unwrap(), None);
    let listed = world.store.events("t", EventFilter::default(), None, 10).await.unwrap().items;
    assert_eq!(listed.iter().map(|e| e.row.targets.len()).collect::<Vec<_>>(), [1, 3]);
}

async fn an_event_is_found_by_the_id_its_sender_gave(world: World) {
    for (day, chunk) in [(0, 0), (1, 0), (2, 1)] {
        let number = uid(NOON + day * 86_400_000, 1);
        let Write::Event(mut write) = event("t", number, chunk, "a.b", &[1]) else { unreachable!() };
        write.row.given_id = Some("order-7".to_owned());
        world.write(vec![Write::Event(write)]).await;
    }
    assert_eq!(world.store.named_event("t", "order-7").await.unwrap(), Some(uid(NOON + 86_400_000, 1)), "the newest whole one");
    assert_eq!(world.store.named_event("t", "order").await.unwrap(), None);
    assert_eq!(world.store.named_event("other", "order-7").await.unwrap(), None);
}

async fn the_state_of_a_delivery_follows_its_rows(world: World) {
    use DeliveryState::{Canceled, Failed, Pending, Succeeded};
    let d = id(uid(NOON, 1), 1);
    assert_eq!(state(&world, d).await, None);
    world.write(vec![event("t", d.event, 0, "a.b", &[1])]).await;
    assert_eq!(state(&world, d).await, Some(Pending));
    assert_eq!(state(&world, id(d.event, 2)).await, None, "the event does not go there");
    for (n, expected) in [(1, Pending), (2, Failed), (3, Succeeded)] {
        world.write(vec![Write::Delivery(attempt("t", d, n, expected))]).await;
        assert_eq!(state(&world, d).await, Some(expected));
    }
    let detail = world.store.delivery("t", d).await.unwrap().unwrap();
    assert_eq!(detail.history.attempts.iter().map(|a| a.n).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((detail.kind.as_str(), detail.url.as_deref()), ("a.b", Some("http://1/")));
    let end = |at| DeliveryWrite { end: Some((End::Canceled, Time(at))), ..delivery("t", d) };
    world.write(vec![Write::Delivery(end(NOON + 10_000))]).await;
    assert_eq!(state(&world, d).await, Some(Canceled));
    world.write(vec![Write::Delivery(attempt("t", d, 20, Succeeded))]).await;
    assert_eq!(state(&world, d).await, Some(Succeeded), "a replay goes on after an end");
    assert_eq!(world.store.attempts("t", d).await.unwrap().attempts.len(), 4);
}

async fn lists_have_no_gaps_and_no_repeats(world: World) {
    // Three days, four targets each, in two chunks; every delivery failed.
    let mut written = BTreeSet::new();
    for n in 0..30 {
        let e = uid(NOON + n * DAY / 10, n);
        let mut batch = vec![event("t", e, 0, "a.b", &[1, 3]), event("t", e, 1, "a.b", &[2, 4])];
        for to in 1..=4 {
            written.insert(id(e, to));
            let dead = Dead::Add { at: Time(NOON), reason: "gone".to_owned() };
            batch.push(Write::Delivery(DeliveryWrite { dead, ..attempt("t", id(e, to), 1, DeliveryState::Failed) }));
            batch.push(Write::Delivery(attempt("t", id(e, to), 2, DeliveryState::Failed)));
        }
        world.write(batch).await;
    }
    let newest_first: Vec<DeliveryId> = written.iter().rev().copied().collect();
    let store = &world.store;
    for limit in [1, 7, 40, 120, 500] {
        for state in [None, Some(DeliveryState::Failed)] {
            for to in [None, Some(endpoint(2))] {
                let filter = DeliveryFilter { state, endpoint: to, ..Default::default() };
                let found = all(limit, async |before| {
                    let page = store.deliveries("t", filter.clone(), before, limit).await.unwrap();
                    (page.items.iter().map(|d| d.id).collect(), page.next)
                });
                let expected: Vec<_> = newest_first.iter().filter(|id| to.is_none_or(|to| to == id.endpoint)).copied().collect();
                assert_eq!(found.await, expected, "limit {limit}, state {state:?}, endpoint {to:?}");
            }
        }
        let dead = all(limit, async |before| {
            let page = store.dead_letters("t", before, limit).await.unwrap();
            (page.items.iter().map(|d| d.delivery.id).collect(), page.next)
        });
        assert_eq!(dead.await, newest_first);
        let events = all(limit, async |before| {
            let page = store.events("t", EventFilter::default(), before, limit).await.unwrap();
            (page.items.iter().map(|e| e.id).collect(), page.next)
        });
        let expected: BTreeSet<Uid> = written.iter().map(|id| id.event).collect();
        assert_eq!(events.await, expected.into_iter().rev().collect::<Vec<_>>());
    }
}

async fn deliveries_are_filtered(world: World) {
    use DeliveryState::{Canceled, Failed, Pending, Succeeded};
    let at = |n: u64| uid(NOON + n * 1000, n);
    for (n, state) in [(1, Pending), (2, Succeeded), (3, Failed), (4, Pending)] {
        world.write(vec![event("t", at(n), 0, "a.b", &[1]), Write::Delivery(attempt("t", id(at(n), 1), 1, state))]).await;
    }
    let canceled = DeliveryWrite { end: Some((End::Canceled, Time(NOON + 50_000))), ..delivery("t", id(at(5), 1)) };
    world.write(vec![event("t", at(5), 0, "c", &[1]), Write::Delivery(canceled), event("t", at(6), 0, "c", &[1, 2])]).await;
    let dead = Dead::Add { at: Time(NOON), reason: "gone".to_owned() };
    world.write(vec![Write::Delivery(DeliveryWrite { dead, ..delivery("t", id(at(3), 1)) })]).await;
    let found = async |filter: DeliveryFilter| {
        let page = world.store.deliveries("t", filter, None, 100).await.unwrap();
        page.items.iter().map(|d| (d.id.event.time().0 - NOON) / 1000).collect::<Vec<_>>()
    };
    let all = DeliveryFilter::default();
    let to = Some(endpoint(1));
    assert_eq!(found(all.clone()).await, [6, 6, 5, 4, 3, 2, 1]);
    assert_eq!(found(DeliveryFilter { endpoint: to, ..all.clone() }).await, [5, 4, 3, 2, 1]);
    assert_eq!(found(DeliveryFilter { endpoint: to, state: Some(Pending), ..all.clone() }).await, [6, 4, 1]);
    assert_eq!(found(DeliveryFilter { state: Some(Succeeded), ..all.clone() }).await, [2]);
    assert_eq!(found(DeliveryFilter { state: Some(Failed), ..all.clone() }).await, [3]);
    for endpoint in [None, to] {
        assert_eq!(found(DeliveryFilter { endpoint, state: Some(Canceled), ..all.clone() }).await, [5]);
    }
    assert_eq!(found(DeliveryFilter { endpoint: to, kind: Some("c".to_owned()), ..all.clone() }).await, [5]);
    assert_eq!(found(DeliveryFilter { kind: Some("c".to_owned()), ..all.clone() }).await, [6, 6, 5]);
    let (since, until) = (Some(Time(NOON + 2000)), Some(Time(NOON + 4000)));
    for endpoint in [None, to] {
        assert_eq!(found(DeliveryFilter { endpoint, since, until, ..all.clone() }).await, [3, 2]);
    }
    let kinds = world.store.events("t", EventFilter { kind: Some("c".to_owned()), since, until: None }, None, 10).await.unwrap();
    assert_eq!(kinds.items.len(), 2);
}

async fn attempts_of_an_endpoint_are_listed(world: World) {
    for n in 1..=3 {
        for to in [1, 2] {
            let d = id(uid(NOON + n * DAY, n), to);
            let ended = DeliveryWrite { end: Some((End::Expired, Time(NOON))), ..attempt("t", d, 2, DeliveryState::Failed) };
            world.write(vec![Write::Delivery(attempt("t", d, 1, DeliveryState::Pending)), Write::Delivery(ended)]).await;
        }
    }
    for limit in [1, 2, 4, 100] {
        let found = all(limit, async |before: Option<AttemptCursor>| {
            let page = world.store.endpoint_attempts("t", endpoint(1), before, limit).await.unwrap();
            (page.items.iter().map(|a| ((a.id.event.time().0 - NOON) / DAY, a.n)).collect(), page.next)
        });
        assert_eq!(found.await, [(3, 2), (3, 1), (2, 2), (2, 1), (1, 2), (1, 1)]);
    }
}

async fn dead_letters_appear_and_vanish(world: World) {
    let d = id(uid(NOON, 1), 1);
    let listed = async || {
        let dead = world.store.dead_letters("t", None, 10).await.unwrap().items;
        let failed = world
            .store
            .deliveries("t", DeliveryFilter { state: Some(DeliveryState::Failed), ..Default::default() }, None, 10)
            .await
            .unwrap();
        (dead.into_iter().map(|d| d.dead.reason).collect::<Vec<_>>(), failed.items.len())
    };
    assert_eq!(listed().await, (vec![], 0));
    let dead = Dead::Add { at: Time(NOON), reason: "410".to_owned() };
    world
        .write(vec![
            event("t", d.event, 0, "a.b", &[1]),
            Write::Delivery(DeliveryWrite { dead, ..attempt("t", d, 1, DeliveryState::Failed) }),
        ])
        .await;
    assert_eq!(listed().await, (vec!["410".to_owned()], 1));
    world.write(vec![Write::Delivery(DeliveryWrite { dead: Dead::Remove, ..attempt("t", d, 2, DeliveryState::Succeeded) })]).await;
    assert_eq!(listed().await, (vec![], 0));
}

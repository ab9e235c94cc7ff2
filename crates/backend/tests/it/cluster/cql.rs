//! What is particular to the store in a cluster, tried on a real one: `cargo xtask test` starts it.

use std::path::Path;
use std::time::{Duration, Instant};

use ::scylla::client::session::Session;
use ::scylla::client::session_builder::SessionBuilder;
use bytes::Bytes;
use postrider_backend::log::{Append, Log, Topic};
use postrider_backend::store::scylla::{self, ConnectError, MigrateError, Migrated, OpenError, migrate};
use postrider_backend::store::{Body, DeliveryWrite, EventFilter, Store, StoreError, Write};
use postrider_core::attempt::DeliveryState;
use postrider_core::delivery::Place;
use postrider_core::id::DeliveryId;
use postrider_core::partition::Partition;
use postrider_core::time::Millis;

use crate::gate::Gate;
use crate::log_contract::until;
use crate::world::{DAY, HERE, NOON, World, all, attempt, backlogged, delivery, endpoint, event, id, put, remove, uid};

/// The server's address.
fn server() -> String {
    let variable = "POSTRIDER_TEST_SERVERS";
    let Ok(file) = std::env::var(variable) else { panic!("{variable} is not set; run `cargo xtask test`, which starts the servers") };
    let text = std::fs::read_to_string(Path::new(&file)).unwrap_or_else(|error| panic!("{file}: {error}; run `cargo xtask test`"));
    let servers: serde_json::Value = serde_json::from_str(&text).unwrap();
    servers["cql"].as_str().expect("the file of the servers names the CQL server").to_owned()
}

/// A keyspace that nobody else uses, not made yet.
fn options() -> scylla::Options {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    scylla::Options {
        nodes: vec![server()],
        keyspace: format!("test_{:016x}", u64::from_be_bytes(random)),
        replication_factor: 1,
        login: None,
        ca: None,
        datacenter: None,
        retention: Millis(30 * DAY),
        job_retention: Millis(7 * DAY),
    }
}

async fn session(options: &scylla::Options) -> Session {
    SessionBuilder::new().known_nodes(&options.nodes).build().await.unwrap()
}

async fn execute(options: &scylla::Options, statement: &str) {
    session(options).await.query_unpaged(statement.replace("{k}", &options.keyspace), ()).await.unwrap();
}

async fn drop_keyspace(options: &scylla::Options) {
    execute(options, "DROP KEYSPACE IF EXISTS {k}").await;
}

/// Runs a test in a keyspace of its own.
pub(crate) async fn with_world(test: impl AsyncFnOnce(World)) {
    let options = options();
    migrate(&options).await.unwrap();
    test(World::cluster(&options).await).await;
    drop_keyspace(&options).await;
}

async fn with_keyspace(test: impl AsyncFnOnce(&scylla::Options)) {
    let options = options();
    migrate(&options).await.unwrap();
    test(&options).await;
    drop_keyspace(&options).await;
}

async fn open(options: &scylla::Options) -> Store {
    Store::Scylla(scylla::Store::open(options).await.unwrap())
}

async fn refused(options: &scylla::Options) -> OpenError {
    scylla::Store::open(options).await.err().expect("it must not open")
}

async fn orders(store: &Store, from: u64) -> Vec<u64> {
    let (from, none) = (Place { order: from, ..Place::default() }, Place::default());
    let rows = store.load(HERE, endpoint(1), from, none, None, 100).await.unwrap();
    rows.iter().map(|row| row.place.order).collect()
}

#[tokio::test]
async fn a_migration_can_be_repeated_and_run_twice_at_a_time() {
    let options = options();
    let missing = refused(&options).await;
    assert_eq!(missing, OpenError::NoKeyspace { keyspace: options.keyspace.clone() });
    let (one, other) = tokio::join!(migrate(&options), migrate(&options));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one.created && one.to == 2 && other.to == 2, "{one:?} {other:?}");
    assert_eq!((one.from + other.from, &one.retention, &other.retention), (2, &None, &None), "one of them makes the tables");
    let again = Migrated { created: false, from: 2, to: 2, retention: None, repair: vec![] };
    assert_eq!(migrate(&options).await, Ok(again));
    assert_eq!(open(&options).await.health(), Ok(()));
    drop_keyspace(&options).await;
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused() {
    let options = options();
    migrate(&options).await.unwrap();
    let keyspace = options.keyspace.clone();
    execute(&options, "UPDATE {k}.settings SET value = '99' WHERE name = 'schema_version' IF EXISTS").await;
    assert_eq!(refused(&options).await, OpenError::Newer { keyspace: keyspace.clone(), found: 99, supported: 2 });
    assert_eq!(migrate(&options).await, Err(MigrateError::Newer { keyspace: keyspace.clone(), found: 99, supported: 2 }));
    execute(&options, "DELETE FROM {k}.settings WHERE name = 'schema_version' IF EXISTS").await;
    assert_eq!(refused(&options).await, OpenError::Older { keyspace: keyspace.clone(), found: 0, needed: 2 });
    execute(&options, "DROP TABLE {k}.settings").await;
    assert_eq!(refused(&options).await, OpenError::Older { keyspace, found: 0, needed: 2 });
    drop_keyspace(&options).await;
}

#[tokio::test]
async fn a_cluster_that_can_not_be_used_is_refused_in_time_and_by_name() {
    let mut silent = options();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for node in ["127.0.0.1:1".to_owned(), listener.local_addr().unwrap().to_string()] {
        silent.nodes = vec![node.clone()];
        let begun = Instant::now();
        let words = refused(&silent).await.to_string();
        assert!(words.contains(&node), "{words}");
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    }
    let elsewhere = scylla::Options { datacenter: Some("atlantis".to_owned()), ..options() };
    let OpenError::Connect(ConnectError::Datacenter { asked, known }) = refused(&elsewhere).await else { panic!("it does not exist") };
    assert!(asked.as_deref() == Some("atlantis") && !known.is_empty());
}

#[tokio::test]
async fn copies_are_never_taken_away_and_never_promised_in_vain() {
    let options = options();
    let greedy = scylla::Options { replication_factor: 3, ..options.clone() };
    assert!(matches!(migrate(&greedy).await, Err(MigrateError::TooFewNodes { replication_factor: 3, nodes: 1, .. })));
    let datacenter = session(&options).await.get_cluster_state().get_nodes_info()[0].datacenter.clone().unwrap();
    let replication = format!("{{'class': 'NetworkTopologyStrategy', '{datacenter}': 2}}");
    execute(&options, &format!("CREATE KEYSPACE {{k}} WITH replication = {replication}")).await;
    assert!(matches!(migrate(&options).await, Err(MigrateError::FewerCopies { found: 2, asked: 1, .. })));
    assert!(matches!(refused(&options).await, OpenError::TooFewNodes { replication_factor: 2, nodes: 1, .. }));
    drop_keyspace(&options).await;
}

#[tokio::test]
async fn a_changed_retention_counts_from_the_next_migration_on() {
    with_keyspace(async |options| {
        let shorter = scylla::Options { retention: Millis(2 * DAY), ..options.clone() };
        assert_eq!(migrate(&shorter).await.unwrap().retention, Some(options.retention));
        assert_eq!(migrate(&shorter).await.unwrap().retention, None);
        let lives = "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'attempts'";
        let found = session(options).await.query_unpaged(lives, (&options.keyspace,)).await.unwrap().into_rows_result().unwrap();
        assert_eq!(found.single_row::<(i32,)>().unwrap(), (2 * 86_400,));
    })
    .await;
}

#[tokio::test]
async fn the_next_owner_finds_what_waits_wherever_it_was_put() {
    with_keyspace(async |options| {
        let (former, next) = (open(options).await, open(options).await);
        former.write(vec![put(id(uid(NOON, 1), 1), 500)]).await.unwrap();
        assert_eq!(next.lanes(HERE).await.unwrap()[0].first.order, 500);
        // The former owner does not know yet that it is none any more.
        former.write(vec![put(id(uid(NOON, 2), 1), 600), put(id(uid(NOON, 3), 2), 7)]).await.unwrap();
        next.write(vec![remove(id(uid(NOON, 1), 1), 500), put(id(uid(NOON, 4), 1), 900)]).await.unwrap();
        former.write(vec![put(id(uid(NOON, 5), 1), 400)]).await.unwrap();
        let third = open(options).await;
        let firsts: Vec<_> = third.lanes(HERE).await.unwrap().iter().map(|lane| (lane.endpoint, lane.first.order)).collect();
        assert_eq!(firsts, [(endpoint(1), 400), (endpoint(2), 7)]);
        assert_eq!(orders(&third, 0).await, [400, 600, 900]);
        assert_eq!(third.lanes(Partition(9)).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_reader_begins_behind_what_was_removed() {
    with_keyspace(async |options| {
        let store = open(options).await;
        let rows = || 0..1_500_u64;
        store.write(rows().map(|n| put(id(uid(NOON, n), 1), n)).collect::<Vec<_>>()).await.unwrap();
        store.write(vec![put(id(uid(NOON, 5_000), 1), 5_000)]).await.unwrap();
        let last = Place { order: 5_000, event: uid(NOON, 5_000) };
        store.write(rows().map(|n| remove(id(uid(NOON, n), 1), n)).collect::<Vec<_>>()).await.unwrap();
        assert_eq!(mark(options).await, 0, "nobody has said that it may rise");
        store.load(HERE, endpoint(1), last, last, None, 1).await.unwrap();
        store.write(vec![put(id(uid(NOON, 6_000), 1), 6_000)]).await.unwrap();
        assert_eq!(mark(options).await, 5_000);
        let next = open(options).await;
        assert_eq!(next.lanes(HERE).await.unwrap()[0].first, last);
        assert_eq!(orders(&next, 0).await, [5_000, 6_000]);
        next.write(vec![put(id(uid(NOON, 1), 1), 10)]).await.unwrap();
        assert_eq!(orders(&next, 0).await, [10, 5_000, 6_000], "a row before the mark lowers it");
        assert_eq!(open(options).await.lanes(HERE).await.unwrap()[0].first.order, 10);
    })
    .await;
}

async fn mark(options: &scylla::Options) -> i64 {
    let marks = format!("SELECT place_order FROM {}.lanes WHERE partition = 3", options.keyspace);
    let found = session(options).await.query_unpaged(marks, ()).await.unwrap().into_rows_result().unwrap();
    found.single_row::<(i64,)>().unwrap().0
}

#[tokio::test]
async fn a_row_of_a_clock_that_is_ahead_can_be_removed() {
    with_keyspace(async |options| {
        let store = open(options).await;
        let row = id(uid(NOON, 1), 1);
        store.write(vec![put(row, 5)]).await.unwrap();
        let ahead = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let value = "INSERT INTO {k}.backlog (partition, endpoint, place_order, event, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
            .replace("{k}", &options.keyspace);
        let session = session(options).await;
        let select = format!("SELECT value FROM {}.backlog WHERE partition = 3 AND endpoint = ?", options.keyspace);
        let lane = row.endpoint.0.0.to_be_bytes();
        let found = session.query_unpaged(select, (lane,)).await.unwrap().into_rows_result().unwrap();
        let (bytes,) = found.single_row::<(Vec<u8>,)>().unwrap();
        let values = (3, lane, 5_i64, row.event.0.to_be_bytes(), bytes, ahead + 3_600_000_000);
        session.query_unpaged(value, values).await.unwrap();
        assert_eq!(orders(&store, 0).await, [5]);
        store.write(vec![remove(row, 5)]).await.unwrap();
        assert_eq!(orders(&store, 0).await, Vec::<u64>::new());
    })
    .await;
}

#[tokio::test]
async fn health_tells_of_a_cluster_that_is_gone_and_comes_back() {
    with_keyspace(async |options| {
        let gate = Gate::open(&server()).await;
        let through = scylla::Options { nodes: vec![gate.address()], ..options.clone() };
        let store = open(&through).await;
        store.write(vec![put(id(uid(NOON, 1), 1), 1)]).await.unwrap();
        gate.shut();
        until(|| store.health().is_err()).await;
        let begun = Instant::now();
        let failed = store.write(vec![put(id(uid(NOON, 2), 1), 2)]).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_) | StoreError::Timeout { .. })), "{failed:?}");
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
        gate.unshut();
        until(|| store.health().is_ok()).await;
        store.write(vec![put(id(uid(NOON, 2), 1), 2)]).await.unwrap();
        assert_eq!(orders(&store, 0).await, [1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_body_is_kept_with_its_event_and_not_read_by_lists() {
    with_world(async |world: World| {
        let body = Bytes::from(vec![7; 1 << 20]);
        let Write::Event(mut write) = event("t", uid(NOON, 1), 0, "a.b", &[1]) else { unreachable!() };
        write.row.body = Body::Inline(body.clone());
        world.write(vec![Write::Event(write.clone()), event("t", uid(NOON, 1), 1, "a.b", &[2])]).await;
        let found = world.store.event("t", uid(NOON, 1)).await.unwrap().unwrap();
        assert_eq!((found.body, found.row.targets.len()), (Some(body), 2));
        let listed = world.store.events("t", EventFilter::default(), None, 10).await.unwrap().items;
        assert_eq!((listed[0].row.body.clone(), &listed[0].body), (Body::Inline(Bytes::new()), &None));
        let append = Append { topic: Topic::Events, partition: Partition(0), meta: Bytes::new(), payload: Bytes::new(), failure: None };
        write.row.body = Body::At(Log::Local(world.log.clone()).append(vec![append]).await.unwrap()[0]);
        let refused = world.store.write(vec![Write::Event(write)]).await;
        assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_page_looks_into_a_bounded_number_of_hours() {
    with_world(async |world: World| {
        const HOURS: u64 = 1_010;
        let ids: Vec<DeliveryId> = (0..HOURS).map(|n| id(uid(NOON + n * DAY / 24, n), 1)).collect();
        for ids in ids.chunks(300) {
            let rows =
                |id: &DeliveryId| [event("t", id.event, 0, "a.b", &[1]), Write::Delivery(attempt("t", *id, 1, DeliveryState::Succeeded))];
            world.write(ids.iter().flat_map(rows).collect()).await;
        }
        let filter = EventFilter { kind: Some("none".to_owned()), ..Default::default() };
        let page = world.store.events("t", filter.clone(), None, 10).await.unwrap();
        assert!(page.items.is_empty());
        let rest = world.store.events("t", filter, page.next.expect("there are older hours").into(), 10).await.unwrap();
        assert_eq!((rest.items.len(), rest.next), (0, None));
        let found = all(100, async |before| {
            let page = world.store.events("t", EventFilter::default(), before, 100).await.unwrap();
            (page.items.iter().map(|event| event.id).collect(), page.next)
        });
        assert_eq!(found.await, ids.iter().rev().map(|id| id.event).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn a_large_batch_is_written_as_a_whole() {
    with_world(async |world: World| {
        let rows = (0..1_000_u64).map(|n| {
            let d = id(uid(NOON, n), u128::from(n % 7));
            Write::Delivery(DeliveryWrite { put: Some(backlogged(d, n)), ..attempt("t", d, 1, DeliveryState::Pending) })
        });
        world.write(rows.collect()).await;
        let moved = (0..1_000_u64).map(|n| {
            let d = id(uid(NOON, n), u128::from(n % 7));
            let old = Some(Place { order: n, event: d.event });
            Write::Delivery(DeliveryWrite { remove: old, put: Some(backlogged(d, n + 5_000)), ..delivery("t", d) })
        });
        world.write(moved.collect()).await;
        let mut found = 0;
        for to in 0..7 {
            let none = Place::default();
            let rows = world.store.load(HERE, endpoint(to), none, none, None, 1_000).await.unwrap();
            assert!(rows.iter().all(|row| row.place.order >= 5_000));
            found += rows.len();
            let attempts = world.store.endpoint_attempts("t", endpoint(to), None, 1_000).await.unwrap().items;
            assert_eq!(attempts.len(), rows.len());
        }
        assert_eq!(found, 1_000);
    })
    .await;
}

//! What is particular to the log in Kafka: names, headers, what others write, security.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_backend::log::kafka::{self, Grow, MigrateError, Migrated, Migration, OpenError, Options};
use postrider_backend::log::{Append, Consumed, Failure, Group, Log, Topic};
use postrider_core::id::{EndpointId, Uid};
use postrider_core::offsets::Offset;
use postrider_core::partition::{self, Partition};
use postrider_core::record::{Command, Envelope};
use postrider_core::time::Time;
use postrider_core::trace::Trace;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset as Place, TopicPartitionList};

use super::Servers;
use super::kafka::{MIGRATION, World, record};
use crate::log_contract::{OURS, finished, nothing_comes, payloads, read, reader, soon, until};

#[tokio::test]
async fn migrate_makes_what_is_missing_and_lowers_nothing() {
    let world = World::bare();
    let missing = kafka::Log::open(world.options.clone()).unwrap_err();
    assert!(matches!(&missing, OpenError::MissingTopic { topic } if *topic == world.topic("events")), "{missing}");
    assert!(missing.to_string().contains("postrider migrate"));

    let all = || OURS.map(|name| world.topic(name)).to_vec();
    let migrated = kafka::migrate(&world.options, MIGRATION).await.unwrap();
    assert_eq!(migrated, Migrated { created: all(), ..Migrated::default() });
    let again = kafka::migrate(&world.options, MIGRATION).await.unwrap();
    assert_eq!(again, Migrated { unchanged: all(), ..Migrated::default() });
    let log = world.open();
    assert_eq!((log.partitions(Topic::Deliveries), log.partitions(Topic::Config)), (4, 1));

    let refused = |migration| {
        let options = world.options.clone();
        async move { kafka::migrate(&options, migration).await.unwrap_err() }
    };
    let fewer = refused(Migration { partitions: 3, ..MIGRATION }).await;
    assert!(matches!(fewer, MigrateError::FewerPartitions { found: 4, asked: 3, .. }), "{fewer}");
    let copies = refused(Migration { replication_factor: 3, ..MIGRATION }).await;
    assert!(matches!(copies, MigrateError::HigherReplication { found: 1, asked: 3, .. }), "{copies}");
    let growing = refused(Migration { partitions: 6, ..MIGRATION }).await;
    assert!(growing.to_string().contains("docs/operations.md"), "{growing}");
    let grown = kafka::migrate(&world.options, Migration { partitions: 6, grow: Grow::Allow, ..MIGRATION }).await.unwrap();
    assert_eq!(grown.grown, OURS[..10].iter().map(|name| (world.topic(name), 6)).collect::<Vec<_>>());
}

/// Everything that a client which is not postrider finds in a partition.
fn seen_by_a_stranger(world: &World, topic: &str, partition: i32, count: usize) -> Vec<(Option<String>, BTreeMap<String, String>, Bytes)> {
    let consumer: BaseConsumer = world.stranger().set("group.id", "stranger").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&world.topic(topic), partition, Place::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut found = Vec::new();
    while found.len() < count {
        assert!(Instant::now() < deadline, "it takes too long");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap().detach();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().map(|headers| headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect());
        found.push((message.key().map(text), headers.unwrap_or_default(), Bytes::copy_from_slice(message.payload().unwrap())));
    }
    found
}

#[tokio::test]
async fn outside_readers_find_the_payload_untouched_and_what_it_is_about_in_key_and_headers() {
    let world = World::new().await;
    let log = world.open();
    let endpoint = EndpointId::of_url("acme", "http://a/");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let envelope = Envelope {
        command: Command::Deliver,
        tenant: "acme",
        event: Uid::new(Time(5), 0, 0),
        endpoint,
        kind: "a.b",
        key: None,
        url: None,
        correlation_id: None,
        trace: Trace::read(traceparent, Some("rojo=1")),
        attempts: 0,
        row: None,
    };
    let place = partition::of_endpoint(endpoint, 4);
    let meta = Bytes::from(envelope.encode());
    let append = Append { meta: meta.clone(), partition: place, ..record(Topic::Deliveries, 0, r#"{"id": 1}"#) };
    log.append(vec![append.clone()]).await.unwrap();
    let found = seen_by_a_stranger(&world, "deliveries", i32::from(place.0), 1);
    let (key, headers, payload) = &found[0];
    assert_eq!((key.as_deref(), &payload[..]), (Some(endpoint.to_string().as_str()), &br#"{"id": 1}"#[..]));
    assert_eq!((headers["tenant"].as_str(), headers["traceparent"].as_str()), ("acme", traceparent));
    assert_eq!(headers["tracestate"], "rojo=1");
    assert_eq!(headers["content-type"], "application/json");

    let failure = Failure { topic: "orders".into(), partition: Partition(7), offset: Offset(99), reason: "no JSON".into() };
    log.append(vec![Append { topic: Topic::DeadLetters, failure: Some(Box::new(failure)), ..append }]).await.unwrap();
    let (_, headers, _) = seen_by_a_stranger(&world, "dead-letters", i32::from(place.0), 1).remove(0);
    let told = ["failure-topic", "failure-partition", "failure-offset", "failure-reason"].map(|name| headers[name].as_str());
    assert_eq!(told, ["orders", "7", "99", "no JSON"]);
}

#[tokio::test]
async fn records_of_others_come_with_key_and_headers_and_tombstones_do_not_come() {
    let mut world = World::new().await;
    world.options.sources = vec![world.topic("events")];
    let (log, topic) = (world.open(), world.topic("events"));
    let producer: BaseProducer = world.stranger().create().unwrap();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "ce_type", value: Some("order.paid") })
        .insert(Header { key: "empty", value: None::<&str> });
    producer.send(BaseRecord::to(&topic).partition(1).key("k").payload("{}").headers(headers)).unwrap();
    producer.send(BaseRecord::<str, str>::to(&topic).partition(1).key("k")).unwrap();
    producer.send(BaseRecord::<str, str>::to(&topic).partition(1).payload("bare")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    log.append(vec![record(Topic::Events, 1, "ours")]).await.unwrap();
    for from in [Topic::Events, Topic::Source(0)] {
        let records = read(&mut reader(&log, Group::Router, from), 3).await;
        assert_eq!(payloads(&records), ["{}", "bare", "ours"]);
        let foreign = records[0].foreign.as_deref().unwrap();
        assert_eq!(foreign.key.as_deref(), Some(&b"k"[..]));
        let expected = [("ce_type".to_owned(), Bytes::from("order.paid")), ("empty".to_owned(), Bytes::new())];
        assert_eq!(foreign.headers, expected);
        assert_eq!(records[1].foreign.as_deref().unwrap().key, None);
        assert_eq!(records[2].topic, from);
        if from == Topic::Events {
            assert_eq!((records[2].foreign.is_none(), &records[2].meta[..]), (true, &b"meta"[..]));
        } else {
            // In a source an envelope is a header like any other: it can't speak for a tenant.
            assert!(records[2].meta.is_empty() && records[2].foreign.is_some(), "{:?}", records[2]);
        }
    }
}

#[tokio::test]
async fn an_aborted_transaction_is_not_read_and_its_markers_are_no_lag() {
    let world = World::new().await;
    let (log, topic) = (world.open(), world.topic("events"));
    let producer: BaseProducer = world.stranger().set("transactional.id", &topic).create().unwrap();
    producer.init_transactions(Duration::from_secs(10)).unwrap();
    for (payload, commit) in [("aborted", false), ("committed", true)] {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to(&topic).partition(0).payload(payload)).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
        if commit {
            producer.commit_transaction(Duration::from_secs(10)).unwrap();
        } else {
            producer.abort_transaction(Duration::from_secs(10)).unwrap();
        }
    }
    let mut consumer = reader(&log, Group::Router, Topic::Events);
    let records = read(&mut consumer, 1).await;
    assert_eq!(payloads(&records), ["committed"]);
    nothing_comes(&mut consumer).await;
    until(|| log.lag(Group::Router, Topic::Events) > 0).await;
    consumer.commit(Partition(0), &finished(records[0].offset)).unwrap();
    until(|| log.lag(Group::Router, Topic::Events) == 0).await;
}

#[tokio::test]
async fn every_process_hears_what_one_announces() {
    let world = World::new().await;
    let log = world.open();
    log.announce("before", Bytes::from("1")).await.unwrap();
    let mut tails = Vec::new();
    for log in [&log, &world.open()] {
        tails.push(log.changes().await.unwrap().unwrap());
    }
    log.announce("ep_1", Bytes::from("changed")).await.unwrap();
    log.announce("ep_2", Bytes::new()).await.unwrap();
    for mut tail in tails {
        assert_eq!(soon(tail.next()).await.unwrap(), ("ep_1".to_owned(), Bytes::from("changed")));
        assert_eq!(soon(tail.next()).await.unwrap(), ("ep_2".to_owned(), Bytes::new()));
    }
}

/// The same topics through the listener that wants TLS and credentials.
fn secured(world: &World, mechanism: &str, password: &str) -> Options {
    let servers = Servers::get();
    let properties = [
        ("security.protocol", "SASL_SSL"),
        ("ssl.ca.location", &servers.kafka_ca),
        ("sasl.mechanism", mechanism),
        ("sasl.username", &servers.kafka_user),
        ("sasl.password", password),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Options { brokers: servers.kafka_sasl_ssl, properties, ..world.options.clone() }
}

async fn works(options: Options) {
    let log = Log::Kafka(kafka::Log::open(options).unwrap());
    let mut consumer = reader(&log, Group::Deliver, Topic::Deliveries);
    log.append(vec![record(Topic::Deliveries, 0, "safe")]).await.unwrap();
    assert_eq!(payloads(&read(&mut consumer, 1).await), ["safe"]);
    soon(consumer.close()).await.unwrap();
}

#[tokio::test]
async fn tls_with_scram_or_plain_credentials_works() {
    let password = Servers::get().kafka_password;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] {
        works(secured(&World::new().await, mechanism, &password)).await;
    }
}

#[tokio::test]
async fn tls_with_oauthbearer_works() {
    let world = World::new().await;
    let mut options = secured(&world, "OAUTHBEARER", "");
    options.properties.remove("sasl.username");
    options.properties.remove("sasl.password");
    let token = format!("principal={}", Servers::get().kafka_user);
    for (name, value) in [("enable.sasl.oauthbearer.unsecure.jwt", "true"), ("sasl.oauthbearer.config", &token)] {
        options.properties.insert(name.to_owned(), value.to_owned());
    }
    works(options).await;
}

#[tokio::test]
async fn wrong_credentials_and_wrong_certificates_are_told_apart() {
    let world = World::new().await;
    let began = Instant::now();
    let refused = kafka::Log::open(secured(&world, "SCRAM-SHA-512", "not the password")).unwrap_err();
    assert!(matches!(refused, OpenError::Refused { .. }), "{refused}");
    assert!(!refused.to_string().contains("not the password"));
    let mut options = secured(&world, "PLAIN", &Servers::get().kafka_password);
    options.properties.remove("ssl.ca.location");
    let untrusted = kafka::Log::open(options).unwrap_err();
    assert!(matches!(untrusted, OpenError::Tls { .. }), "{untrusted}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_consumer_that_stops_in_the_middle_of_an_append_leaves_whole_batches() {
    let world = World::new().await;
    let log = world.open();
    let all = (0..1000).map(|i| record(Topic::Deliveries, i % 4, format!("{i}"))).collect();
    let offsets = log.append(all).await.unwrap();
    assert_eq!(offsets.iter().filter(|offset| offset.0 == 249).count(), 4, "each partition has its own offsets");
    let mut consumer = reader(&log, Group::Deliver, Topic::Deliveries);
    let mut count = 0;
    while count < 1000 {
        if let Consumed::Records(records) = soon(consumer.next()).await.unwrap() {
            assert!(records.len() <= 128 && records.iter().all(|record| record.partition == records[0].partition));
            count += records.len();
        }
    }
}

//! How the log in Kafka behaves when brokers are away or slow. librdkafka's mock cluster plays them; it is for faults only.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_backend::log::kafka::{self, OpenError, Options, PropertyError};
use postrider_backend::log::{Append, Group, Log, LogError, Topic};
use postrider_core::partition::Partition;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::log_contract::{OURS, payloads, read, reader, soon, until};

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// One broker with the topics.
fn cluster() -> (Cluster, Options) {
    let cluster = MockCluster::new(1).unwrap();
    for name in OURS {
        cluster.create_topic(&format!("postrider.{name}"), 4, 1).unwrap();
    }
    let options = Options { brokers: cluster.bootstrap_servers(), ..Options::default() };
    (cluster, options)
}

fn open(options: Options) -> Log {
    Log::Kafka(kafka::Log::open(options).unwrap())
}

fn record(payload: impl Into<Bytes>) -> Append {
    Append { topic: Topic::Deliveries, partition: Partition(0), meta: Bytes::from_static(b"meta"), payload: payload.into(), failure: None }
}

#[test]
fn opening_says_within_ten_seconds_that_no_broker_answers_and_which() {
    let began = Instant::now();
    // An address where nobody listens.
    let brokers = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = kafka::Log::open(Options { brokers: brokers.clone(), ..Options::default() }).unwrap_err();
    assert!(matches!(&error, OpenError::Unreachable { .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains(&brokers) && words.contains("refused"), "{words}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let properties = BTreeMap::from([("acks".to_owned(), "1".to_owned())]);
    let error = kafka::Log::open(Options { properties, ..Options::default() }).unwrap_err();
    assert!(matches!(&error, OpenError::Property(PropertyError::Owned { name, .. }) if name == "acks"), "{error}");
}

#[tokio::test]
async fn an_append_while_brokers_are_away_is_refused_within_five_seconds_and_later_at_once() {
    let (cluster, options) = cluster();
    let log = open(options.clone());
    log.append(vec![record("before")]).await.unwrap();
    cluster.broker_down(1).unwrap();
    let began = Instant::now();
    let refused = log.append(vec![record("lost")]).await.unwrap_err();
    assert!(matches!(&refused, LogError::Unavailable { .. }), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    until(|| log.health().is_err()).await;
    let began = Instant::now();
    assert!(matches!(log.append(vec![record("lost")]).await, Err(LogError::Unavailable { .. })));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());

    cluster.broker_up(1).unwrap();
    until(|| log.health().is_ok()).await;
    log.append(vec![record("after")]).await.unwrap();
    let found = payloads(&read(&mut reader(&log, Group::Deliver, Topic::Deliveries), 2).await);
    assert_eq!(found, ["before", "after"]);
}

#[tokio::test]
async fn what_the_queue_does_not_hold_waits_in_front_of_it_and_no_longer_than_an_append_may() {
    let (cluster, mut options) = cluster();
    options.properties.insert("queue.buffering.max.kbytes".to_owned(), "64".to_owned());
    let log = open(options);
    cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let began = Instant::now();
    let append = |_| {
        let log = log.clone();
        tokio::spawn(async move { log.append(vec![record(vec![0; 30_000])]).await })
    };
    let callers: Vec<_> = (0..100).map(append).collect();
    let (mut done, mut refused) = (0, 0);
    for caller in callers {
        match soon(caller).await.unwrap() {
            Ok(_) => done += 1,
            Err(LogError::Unavailable { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // Two at a time fit, and each round takes 300 ms.
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

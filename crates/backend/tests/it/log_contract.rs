//! What every log promises, sentence by sentence, for each backend.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use postrider_backend::log::local::{self as local_log, MAX_RECORD, Options};
use postrider_backend::log::{Append, Consumed, Consumer, Group, Log, LogError, Record, Topic};
use postrider_core::job::JobKind;
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use tempfile::TempDir;

/// Runs the contract on worlds that `$world` makes.
macro_rules! log_contract {
    ($world:expr) => {
        crate::log_contract::log_contract! { $world;
            records_of_one_partition_are_read_in_the_order_they_were_appended,
            a_record_carries_what_was_appended,
            a_waiting_consumer_gets_what_is_appended_later,
            a_cancelled_wait_loses_nothing,
            a_group_resumes_after_its_last_commit_and_skips_what_was_finished_above_it,
            two_groups_are_independent,
            two_consumers_share_the_partitions_of_a_topic,
            topics_are_independent,
            a_paused_partition_gives_no_records_until_it_is_resumed,
            a_reader_far_behind_reads_everything,
            a_record_that_is_too_large_is_refused_before_anything_is_written,
            a_partition_that_does_not_exist_is_refused,
            more_than_the_queue_holds_waits_its_turn,
            appends_made_at_once_are_all_read_once,
            jobs_that_wait_for_a_reader_are_counted,
        }
    };
    ($world:expr; $($name:ident),* $(,)?) => {
        $(#[tokio::test] async fn $name() { crate::log_contract::$name($world).await; })*
    };
}

pub(crate) use log_contract;

mod local {
    crate::log_contract::log_contract!(super::Any::Local(super::World::local()));
}

/// The topics that Kafka has in every cluster, in the order in which they are made.
pub(crate) const OURS: [&str; 12] = [
    "events",
    "deliveries",
    "dead-letters",
    "jobs.evaluate",
    "jobs.tts",
    "jobs.http",
    "jobs.generate",
    "jobs.experiment",
    "jobs.batch",
    "job-results",
    "config",
    "live",
];
const DELIVERIES: Topic = Topic::Deliveries;
const P0: Partition = Partition(0);

/// A log of its own, with small limits, that can crash.
pub(crate) struct World {
    folder: TempDir,
    options: Options,
}

impl World {
    pub(crate) fn local() -> World {
        let options = Options {
            partitions: 4,
            segment_bytes: 64 << 10,
            tail_bytes: 32 << 10,
            queue_bytes: 32 << 10,
            min_free_bytes: 0,
            ..Options::default()
        };
        World { folder: tempfile::tempdir().unwrap(), options }
    }

    pub(crate) fn with(self, change: impl FnOnce(&mut Options)) -> World {
        let mut options = self.options;
        change(&mut options);
        World { folder: self.folder, options }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn open(&self) -> Log {
        Log::Local(local_log::Log::open(self.dir(), self.options.clone()).unwrap())
    }

    /// What a crash at this moment would leave: the log may still be open.
    pub(crate) fn crashed(&self) -> World {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.dir()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        World { folder, options: self.options.clone() }
    }
}

/// Where a log is tested.
pub(crate) enum Any {
    Local(World),
    Kafka(crate::cluster::kafka::World),
}

impl Any {
    pub(crate) fn open(&self) -> Log {
        match self {
            Any::Local(world) => world.open(),
            Any::Kafka(world) => world.open(),
        }
    }

    /// What a crash at this moment would leave.
    fn crashed(self) -> Any {
        match self {
            Any::Local(world) => Any::Local(world.crashed()),
            // What the brokers have, they keep.
            Any::Kafka(world) => Any::Kafka(world),
        }
    }

    /// The bytes that a record may have.
    fn max_record(&self) -> usize {
        match self {
            Any::Local(_) => MAX_RECORD,
            Any::Kafka(_) => postrider_backend::log::kafka::MAX_RECORD,
        }
    }
}

/// The log as the local one that it is.
pub(crate) fn as_local(log: &Log) -> &local_log::Log {
    match log {
        Log::Local(log) => log,
        Log::Kafka(_) => panic!("the test is for local logs"),
    }
}

pub(crate) fn delivery(partition: Partition, payload: impl Into<Bytes>) -> Append {
    Append { topic: DELIVERIES, partition, meta: Bytes::from_static(b"meta"), payload: payload.into(), failure: None }
}

/// Does not wait for ever: a test that hangs names itself.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it takes too long")
}

/// Waits until something holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Reads until `count` records have come; leaves out what partitions are assigned.
pub(crate) async fn read(consumer: &mut Consumer, count: usize) -> Vec<Record> {
    let mut read = Vec::new();
    while read.len() < count {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Records(records) => read.extend(records),
            Consumed::Assigned(..) => {}
            Consumed::Revoking(partition) | Consumed::Lost(partition) => panic!("{partition:?} was revoked"),
        }
    }
    assert_eq!(read.len(), count);
    read
}

pub(crate) fn payloads(records: &[Record]) -> Vec<Bytes> {
    records.iter().map(|record| record.payload.clone()).collect()
}

/// Reads everything.
pub(crate) fn reader(log: &Log, group: Group, topic: Topic) -> Consumer {
    log.consumers(group, topic, 1, 1 << 20).unwrap().remove(0)
}

fn deliver(log: &Log) -> Consumer {
    reader(log, Group::Deliver, DELIVERIES)
}

/// Reads some partitions only.
pub(crate) fn some(log: &Log, group: Group, topic: Topic, partitions: &[Partition]) -> Result<Consumer, LogError> {
    as_local(log).consumer(group, topic, partitions.to_vec(), 1 << 20).map(Consumer::Local)
}

/// Everything up to and including `last` is finished.
pub(crate) fn finished(last: Offset) -> Progress {
    Progress { from: last.next(), to: last.next(), unfinished: Vec::new() }
}

pub(crate) async fn nothing_comes(consumer: &mut Consumer) {
    let waited = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

/// Waits until `partition` is the consumer's; says how far its group has come.
pub(crate) async fn assigned(consumer: &mut Consumer, wanted: Partition) -> Progress {
    loop {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Assigned(partition, progress) if partition == wanted => return progress,
            Consumed::Assigned(..) => {}
            other @ (Consumed::Records(_) | Consumed::Revoking(_) | Consumed::Lost(_)) => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn records_of_one_partition_are_read_in_the_order_they_were_appended(world: Any) {
    let log = world.open();
    let mut offsets = Vec::new();
    for i in 0..300 {
        offsets.extend(log.append(vec![delivery(P0, format!("{i}"))]).await.unwrap());
    }
    assert!(offsets.is_sorted());
    let records = read(&mut deliver(&log), 300).await;
    assert!(records.iter().enumerate().all(|(i, record)| record.payload == i.to_string() && record.offset == offsets[i]));
}

pub(crate) async fn a_record_carries_what_was_appended(world: Any) {
    let log = world.open();
    assert_eq!(log.append(Vec::new()).await.unwrap(), []);
    let empty = Append { meta: Bytes::new(), payload: Bytes::new(), ..delivery(Partition(3), "") };
    let offsets = log.append(vec![empty, delivery(Partition(3), vec![7; 100_000])]).await.unwrap();
    let records = read(&mut deliver(&log), 2).await;
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!((first.topic, first.partition, first.offset), (DELIVERIES, Partition(3), offsets[0]));
    assert_eq!((first.meta.len(), first.payload.len(), &first.foreign), (0, 0, &None));
    assert_eq!((second.offset, &second.meta[..], &second.payload[..]), (offsets[1], &b"meta"[..], &[7; 100_000][..]));
    assert!(second.at >= first.at && first.at.0 > 0);
}

pub(crate) async fn a_waiting_consumer_gets_what_is_appended_later(world: Any) {
    let log = world.open();
    let mut consumer = deliver(&log);
    assert_eq!(assigned(&mut consumer, P0).await, Progress::default());
    let append = async {
        tokio::task::yield_now().await;
        log.append(vec![delivery(P0, "late")]).await.unwrap();
    };
    let (records, ()) = tokio::join!(read(&mut consumer, 1), append);
    assert_eq!(payloads(&records), ["late"]);
}

pub(crate) async fn a_cancelled_wait_loses_nothing(world: Any) {
    let log = world.open();
    for i in 0..100 {
        log.append(vec![delivery(P0, vec![i; 1000])]).await.unwrap();
    }
    let mut consumer = deliver(&log);
    let mut records = Vec::new();
    soon(async {
        while records.len() < 100 {
            tokio::select! {
                biased;
                consumed = consumer.next() => match consumed.unwrap() {
                    Consumed::Records(more) => records.extend(more),
                    Consumed::Assigned(..) => {}
                    Consumed::Revoking(partition) | Consumed::Lost(partition) => panic!("{partition:?} was revoked"),
                },
                () = tokio::task::yield_now() => {}
            }
        }
    })
    .await;
    assert!(records.iter().zip(0..).all(|(record, i)| record.payload[0] == i));
}

pub(crate) async fn a_group_resumes_after_its_last_commit_and_skips_what_was_finished_above_it(world: Any) {
    let log = world.open();
    for i in 0..10 {
        log.append(vec![delivery(P0, format!("{i}"))]).await.unwrap();
    }
    let mut consumer = deliver(&log);
    let offsets: Vec<_> = read(&mut consumer, 10).await.iter().map(|record| record.offset).collect();
    let unfinished = [3, 4, 6, 8, 9].map(|i| offsets[i]).to_vec();
    let progress = Progress { from: offsets[3], to: offsets[9].next(), unfinished };
    consumer.commit(P0, &progress).unwrap();
    // Behind the commit, so that it is in the log when this is acknowledged.
    log.append(vec![delivery(P0, "new")]).await.unwrap();
    consumer.close().await.unwrap();
    drop(log);

    let world = world.crashed();
    let log = world.open();
    let mut consumer = deliver(&log);
    assert_eq!(assigned(&mut consumer, P0).await, progress);
    assert_eq!(payloads(&read(&mut consumer, 6).await), ["3", "4", "6", "8", "9", "new"]);
    nothing_comes(&mut consumer).await;
}

pub(crate) async fn two_groups_are_independent(world: Any) {
    let log = world.open();
    let offsets = log.append(vec![delivery(P0, "a"), delivery(P0, "b")]).await.unwrap();
    let mut consumer = deliver(&log);
    assigned(&mut consumer, P0).await;
    consumer.commit(P0, &finished(offsets[0])).unwrap();
    consumer.close().await.unwrap();
    drop(log);
    let log = world.open();
    assert_eq!(payloads(&read(&mut deliver(&log), 1).await), ["b"]);
    assert_eq!(payloads(&read(&mut reader(&log, Group::Router, DELIVERIES), 2).await), ["a", "b"]);
}

pub(crate) async fn two_consumers_share_the_partitions_of_a_topic(world: Any) {
    let log = world.open();
    let records = (0..4).map(|partition| delivery(Partition(partition), format!("{partition}"))).collect();
    log.append(records).await.unwrap();
    let [mut first, mut second] = <[Consumer; 2]>::try_from(log.consumers(Group::Deliver, DELIVERIES, 2, 1 << 20).unwrap()).unwrap();
    let of_first = read(&mut first, 2).await;
    let mut all = [of_first.clone(), read(&mut second, 2).await].concat();
    all.sort_by_key(|record| record.partition);
    assert_eq!(payloads(&all), ["0", "1", "2", "3"]);
    let partition = of_first[0].partition;
    assert!(matches!(second.commit(partition, &Progress::default()), Err(LogError::NoPartition { .. })), "it is the other's");
}

pub(crate) async fn topics_are_independent(world: Any) {
    let log = world.open();
    let mut events = reader(&log, Group::Router, Topic::Events);
    assigned(&mut events, P0).await;
    log.append((0..200).map(|_| delivery(P0, vec![0; 1000])).collect()).await.unwrap();
    let event = Append { topic: Topic::Events, ..delivery(P0, "event") };
    log.append(vec![event]).await.unwrap();
    assert_eq!(payloads(&read(&mut events, 1).await), ["event"]);
    nothing_comes(&mut events).await;
}

pub(crate) async fn a_paused_partition_gives_no_records_until_it_is_resumed(world: Any) {
    let log = world.open();
    let mut consumer = deliver(&log);
    assigned(&mut consumer, P0).await;
    consumer.pause(P0);
    log.append(vec![delivery(P0, "held back")]).await.unwrap();
    soon(async {
        while let Ok(consumed) = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await {
            assert!(matches!(consumed, Ok(Consumed::Assigned(..))), "{consumed:?}");
        }
    })
    .await;
    consumer.resume(P0);
    assert_eq!(payloads(&read(&mut consumer, 1).await), ["held back"]);
}

pub(crate) async fn a_reader_far_behind_reads_everything(world: Any) {
    let log = world.open();
    for i in 0..400_u32 {
        let large = if i % 50 == 0 { 90_000 } else { 900 };
        log.append(vec![delivery(P0, [&i.to_le_bytes()[..], &vec![1; large]].concat())]).await.unwrap();
    }
    let mut consumer = deliver(&log);
    let records = read(&mut consumer, 400).await;
    assert!(records.iter().zip(0_u32..).all(|(record, i)| record.payload[..4] == i.to_le_bytes()));
    log.append(vec![delivery(P0, "caught up")]).await.unwrap();
    assert_eq!(payloads(&read(&mut consumer, 1).await), ["caught up"]);
}

pub(crate) async fn a_record_that_is_too_large_is_refused_before_anything_is_written(world: Any) {
    let log = world.open();
    let most = world.max_record();
    let refused = log.append(vec![delivery(P0, "small"), delivery(P0, vec![0; most])]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { limit, .. }) if limit == most), "{refused:?}");
    log.append(vec![delivery(P0, vec![0; most - 4])]).await.unwrap();
    let largest = read(&mut deliver(&log), 1).await;
    assert_eq!(largest[0].payload.len(), most - 4);
}

pub(crate) async fn a_partition_that_does_not_exist_is_refused(world: Any) {
    let log = world.open();
    let beyond = Partition(log.partitions(DELIVERIES));
    assert!(matches!(log.append(vec![delivery(beyond, "")]).await, Err(LogError::NoPartition { count: 4, .. })));
}

pub(crate) async fn more_than_the_queue_holds_waits_its_turn(world: Any) {
    let log = world.open();
    let append = |_| {
        let log = log.clone();
        tokio::spawn(async move { log.append(vec![delivery(P0, vec![0; 10_000])]).await })
    };
    let callers: Vec<_> = (0..50).map(append).collect();
    for caller in callers {
        soon(caller).await.unwrap().unwrap();
    }
    read(&mut deliver(&log), 50).await;
}

pub(crate) async fn appends_made_at_once_are_all_read_once(world: Any) {
    let log = world.open();
    let threads: Vec<_> = (0..4_u16)
        .map(|thread| {
            let log = log.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            std::thread::spawn(move || {
                for i in 0..200 {
                    runtime.block_on(log.append(vec![delivery(Partition(thread), format!("{thread}/{i}"))])).unwrap();
                }
            })
        })
        .collect();
    let mut records = read(&mut deliver(&log), 800).await;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    records.sort_by_key(|record| record.partition);
    let expected = (0..4).flat_map(|thread| (0..200).map(move |i| format!("{thread}/{i}")));
    assert!(records.iter().map(|record| record.payload.clone()).eq(expected));
}

pub(crate) async fn jobs_that_wait_for_a_reader_are_counted(world: Any) {
    const JOBS: Topic = Topic::Jobs(JobKind::Evaluate);
    let log = world.open();
    let job = |n: u16| Append { topic: JOBS, ..delivery(Partition(n % 2), format!("{n}")) };
    log.append((0..300).map(job).collect()).await.unwrap();
    let mut consumer = reader(&log, Group::Compute, JOBS);
    let records = soon(async {
        loop {
            match consumer.next().await.unwrap() {
                Consumed::Records(records) => return records,
                Consumed::Assigned(..) => {}
                other @ (Consumed::Revoking(_) | Consumed::Lost(_)) => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(records.len() < 300);
    until(|| log.unread(JOBS) == 300 - records.len() as u64).await;
    consumer.commit(records[0].partition, &finished(records[0].offset)).unwrap();
    // Behind the commit, so that it is in the log when this is acknowledged.
    log.append(vec![job(300)]).await.unwrap();
    until(|| log.unread(JOBS) == 301 - records.len() as u64).await;
    consumer.close().await.unwrap();
    drop(log);

    // Whoever begins anew has all to read that is not finished.
    let world = world.crashed();
    let log = world.open();
    let mut consumer = reader(&log, Group::Compute, JOBS);
    assigned(&mut consumer, P0).await;
    until(|| log.unread(JOBS) == 300).await;
    let mut left = 300;
    while left > 0 {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Records(records) => left -= records.len(),
            Consumed::Assigned(..) => {}
            other @ (Consumed::Revoking(_) | Consumed::Lost(_)) => panic!("{other:?}"),
        }
    }
    until(|| log.unread(JOBS) == 0).await;
}

//! What every log promises, sentence by sentence, for each backend.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use postrider_backend::log::local::{self as local_log, MAX_RECORD, Options};
use postrider_backend::log::{Append, Consumed, Consumer, Group, Log, LogError, Record, Topic};
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use postrider_core::time::Millis;
use tempfile::TempDir;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test] async fn $name() { super::$name(super::World::local()).await; })*
        }
    };
}

contract! {
    an_acknowledged_record_survives_a_crash,
    records_of_one_partition_are_read_in_the_order_they_were_appended,
    a_record_carries_what_was_appended_and_is_read_at_its_offset,
    a_waiting_consumer_gets_what_is_appended_later,
    a_cancelled_wait_loses_nothing,
    a_group_resumes_after_its_last_commit_and_skips_what_was_finished_above_it,
    two_groups_are_independent,
    two_consumers_share_the_partitions_of_a_topic,
    topics_are_independent,
    retention_removes_what_is_old_and_never_what_is_unread,
    a_reader_far_behind_reads_everything,
    a_record_that_is_too_large_is_refused_before_anything_is_written,
    a_partition_that_does_not_exist_is_refused,
    more_than_the_queue_holds_waits_its_turn,
    appends_made_at_once_are_all_read_once,
}

const DELIVERIES: Topic = Topic::Deliveries;
const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

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

pub(crate) fn delivery(partition: Partition, payload: impl Into<Bytes>) -> Append {
    Append { topic: DELIVERIES, partition, meta: Bytes::from_static(b"meta"), payload: payload.into(), failure: None }
}

/// Does not wait for ever: a test that hangs names itself.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it takes too long")
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

fn deliver(log: &Log, partitions: &[Partition]) -> Consumer {
    some(log, Group::Deliver, DELIVERIES, partitions).unwrap()
}

/// Reads some partitions only.
pub(crate) fn some(log: &Log, group: Group, topic: Topic, partitions: &[Partition]) -> Result<Consumer, LogError> {
    let Log::Local(log) = log;
    log.consumer(group, topic, partitions.to_vec()).map(Consumer::Local)
}

/// Everything up to and including `last` is finished.
fn finished(last: Offset) -> Progress {
    Progress { from: last.next(), to: last.next(), unfinished: Vec::new() }
}

async fn nothing_comes(consumer: &mut Consumer) {
    let waited = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

async fn assigned(consumer: &mut Consumer) -> (Partition, Progress) {
    match soon(consumer.next()).await.unwrap() {
        Consumed::Assigned(partition, progress) => (partition, progress),
        other @ (Consumed::Records(_) | Consumed::Revoking(_) | Consumed::Lost(_)) => panic!("{other:?}"),
    }
}

async fn an_acknowledged_record_survives_a_crash(world: World) {
    let log = world.open();
    let mut appended = Vec::new();
    for i in 0..5 {
        appended.extend(log.append(vec![delivery(P0, format!("{i}")), delivery(P1, "other")]).await.unwrap());
        let crashed = world.crashed();
        let after = crashed.open();
        for (i, offset) in appended.iter().enumerate() {
            let payload = after.read(*offset).await.unwrap().unwrap().payload;
            assert_eq!(payload, if i % 2 == 0 { (i / 2).to_string() } else { "other".into() });
        }
    }
}

async fn records_of_one_partition_are_read_in_the_order_they_were_appended(world: World) {
    let log = world.open();
    let mut offsets = Vec::new();
    for i in 0..300 {
        offsets.extend(log.append(vec![delivery(P0, format!("{i}"))]).await.unwrap());
    }
    assert!(offsets.is_sorted());
    let records = read(&mut deliver(&log, &[P0]), 300).await;
    assert!(records.iter().enumerate().all(|(i, record)| record.payload == i.to_string() && record.offset == offsets[i]));
}

async fn a_record_carries_what_was_appended_and_is_read_at_its_offset(world: World) {
    let log = world.open();
    assert_eq!(log.append(Vec::new()).await.unwrap(), []);
    let before = log.appended();
    let record = Append { topic: Topic::DeadLetters, partition: Partition(3), meta: Bytes::new(), payload: Bytes::new(), failure: None };
    let offsets = log.append(vec![record, delivery(P0, vec![7; 100_000])]).await.unwrap();
    let first = log.read(offsets[0]).await.unwrap().unwrap();
    assert_eq!((first.topic, first.partition, first.offset, first.payload.len()), (Topic::DeadLetters, Partition(3), offsets[0], 0));
    let second = log.read(offsets[1]).await.unwrap().unwrap();
    assert_eq!((&second.meta[..], &second.payload[..]), (&b"meta"[..], &[7; 100_000][..]));
    assert!(second.at >= first.at && first.at.0 > 0);
    assert!(before < offsets[0] && offsets[1] < log.appended());
    assert_eq!(log.read(log.appended()).await.unwrap(), None);
}

async fn a_waiting_consumer_gets_what_is_appended_later(world: World) {
    let log = world.open();
    let mut consumer = deliver(&log, &[P0]);
    assert_eq!(assigned(&mut consumer).await, (P0, Progress::default()));
    let append = async {
        tokio::task::yield_now().await;
        log.append(vec![delivery(P0, "late")]).await.unwrap();
    };
    let (records, ()) = tokio::join!(read(&mut consumer, 1), append);
    assert_eq!(payloads(&records), ["late"]);
}

async fn a_cancelled_wait_loses_nothing(world: World) {
    let log = world.open();
    for i in 0..100 {
        log.append(vec![delivery(P0, vec![i; 1000])]).await.unwrap();
    }
    let mut consumer = deliver(&log, &[P0]);
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

async fn a_group_resumes_after_its_last_commit_and_skips_what_was_finished_above_it(world: World) {
    let log = world.open();
    for i in 0..10 {
        log.append(vec![delivery(P0, format!("{i}"))]).await.unwrap();
    }
    let mut consumer = deliver(&log, &[P0]);
    let offsets: Vec<_> = read(&mut consumer, 10).await.iter().map(|record| record.offset).collect();
    let unfinished = [3, 4, 6, 8, 9].map(|i| offsets[i]).to_vec();
    let progress = Progress { from: offsets[3], to: offsets[9].next(), unfinished };
    consumer.commit(P0, &progress).unwrap();
    // Behind the commit, so that it is in the log when this is acknowledged.
    log.append(vec![delivery(P0, "new")]).await.unwrap();

    let crashed = world.crashed();
    let log = crashed.open();
    let mut consumer = deliver(&log, &[P0]);
    assert_eq!(assigned(&mut consumer).await, (P0, progress));
    assert_eq!(payloads(&read(&mut consumer, 6).await), ["3", "4", "6", "8", "9", "new"]);
    nothing_comes(&mut consumer).await;
}

async fn two_groups_are_independent(world: World) {
    let log = world.open();
    let offsets = log.append(vec![delivery(P0, "a"), delivery(P0, "b")]).await.unwrap();
    deliver(&log, &[P0]).commit(P0, &finished(offsets[0])).unwrap();
    drop(log);
    let log = world.open();
    assert_eq!(payloads(&read(&mut deliver(&log, &[P0]), 1).await), ["b"]);
    let mut other = some(&log, Group::Router, DELIVERIES, &[P0]).unwrap();
    assert_eq!(payloads(&read(&mut other, 2).await), ["a", "b"]);
}

async fn two_consumers_share_the_partitions_of_a_topic(world: World) {
    let log = world.open();
    let (mut first, mut second) = (deliver(&log, &[P0, Partition(2)]), deliver(&log, &[P1]));
    let [zero, one, two] = ["zero", "one", "two"];
    log.append(vec![delivery(P0, zero), delivery(P1, one), delivery(Partition(2), two)]).await.unwrap();
    assert_eq!(payloads(&read(&mut first, 2).await), [zero, two]);
    assert_eq!(payloads(&read(&mut second, 1).await), [one]);
    assert!(matches!(first.commit(P1, &Progress::default()), Err(LogError::NoPartition { .. })), "it is the other's");
}

async fn topics_are_independent(world: World) {
    let log = world.open();
    let mut events = some(&log, Group::Router, Topic::Events, &[P0]).unwrap();
    assigned(&mut events).await;
    for _ in 0..200 {
        log.append(vec![delivery(P0, vec![0; 1000])]).await.unwrap();
    }
    nothing_comes(&mut events).await;
    log.append(vec![Append { topic: Topic::Events, ..delivery(P0, "event") }]).await.unwrap();
    assert_eq!(payloads(&read(&mut events, 1).await), ["event"]);
    assert!(log.lag(Group::Deliver, DELIVERIES) > 200_000);
}

async fn retention_removes_what_is_old_and_never_what_is_unread(world: World) {
    let world = world.with(|options| options.retention = Millis(0));
    let log = world.open();
    let mut offsets = Vec::new();
    for i in 0..200_u32 {
        let partition = if i == 0 { P1 } else { P0 };
        offsets.extend(log.append(vec![delivery(partition, vec![0; 1000])]).await.unwrap());
    }
    // One record of another partition is not finished, and it is the oldest.
    deliver(&log, &[P0]).commit(P0, &finished(offsets[150])).unwrap();
    drop(log);
    let log = world.open();
    assert_eq!(log.oldest(), Offset(0));
    assert!(log.read(offsets[0]).await.unwrap().is_some());

    deliver(&log, &[P1]).commit(P1, &finished(offsets[0])).unwrap();
    soon(async {
        while log.oldest() == Offset(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(log.read(offsets[0]).await.unwrap(), None);
    assert!(log.oldest() <= offsets[151]);
    let unread = read(&mut deliver(&log, &[P0, P1]), 49).await;
    assert_eq!(unread.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets[151..]);
}

async fn a_reader_far_behind_reads_everything(world: World) {
    let log = world.open();
    for i in 0..400_u32 {
        let large = if i % 50 == 0 { 90_000 } else { 900 };
        log.append(vec![delivery(P0, [&i.to_le_bytes()[..], &vec![1; large]].concat())]).await.unwrap();
    }
    let mut consumer = deliver(&log, &[P0]);
    let records = read(&mut consumer, 400).await;
    assert!(records.iter().zip(0_u32..).all(|(record, i)| record.payload[..4] == i.to_le_bytes()));
    log.append(vec![delivery(P0, "caught up")]).await.unwrap();
    assert_eq!(payloads(&read(&mut consumer, 1).await), ["caught up"]);
}

async fn a_record_that_is_too_large_is_refused_before_anything_is_written(world: World) {
    let log = world.open();
    let before = log.appended();
    let refused = log.append(vec![delivery(P0, "small"), delivery(P0, vec![0; MAX_RECORD])]).await;
    assert!(matches!(refused, Err(LogError::TooLarge { limit: MAX_RECORD, .. })), "{refused:?}");
    assert_eq!(log.appended(), before);
    let largest = log.append(vec![delivery(P0, vec![0; MAX_RECORD - 4])]).await.unwrap();
    assert_eq!(log.read(largest[0]).await.unwrap().unwrap().payload.len(), MAX_RECORD - 4);
}

async fn a_partition_that_does_not_exist_is_refused(world: World) {
    let log = world.open();
    let beyond = Partition(log.partitions(DELIVERIES));
    assert!(matches!(log.append(vec![delivery(beyond, "")]).await, Err(LogError::NoPartition { count: 4, .. })));
    assert!(matches!(some(&log, Group::Deliver, DELIVERIES, &[beyond]), Err(LogError::NoPartition { .. })));
}

async fn more_than_the_queue_holds_waits_its_turn(world: World) {
    let log = world.open();
    let append = |_| {
        let log = log.clone();
        tokio::spawn(async move { log.append(vec![delivery(P0, vec![0; 10_000])]).await })
    };
    let callers: Vec<_> = (0..50).map(append).collect();
    for caller in callers {
        soon(caller).await.unwrap().unwrap();
    }
    read(&mut deliver(&log, &[P0]), 50).await;
}

async fn appends_made_at_once_are_all_read_once(world: World) {
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
    let all: Vec<_> = (0..4).map(Partition).collect();
    let mut records = read(&mut deliver(&log, &all), 800).await;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    records.sort_by_key(|record| record.partition);
    let expected = (0..4).flat_map(|thread| (0..200).map(move |i| format!("{thread}/{i}")));
    assert!(records.iter().map(|record| record.payload.clone()).eq(expected));
}

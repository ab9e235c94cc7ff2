//! What is particular to the local log: its files, and the disk they are on.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use postrider_backend::folder::OpenError;
use postrider_backend::log::local::{self, Options};
use postrider_backend::log::{Append, Consumed, Group, Log, LogError, Topic};
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use postrider_core::time::Millis;

use crate::log_contract::{World, as_local, delivery, finished, payloads, read, some, soon, until};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

/// The files of a log, by name.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn newest(dir: &Path) -> PathBuf {
    files(dir).into_keys().next_back().unwrap()
}

fn flip(file: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// That opening is refused because byte `at` of `file` is damaged, and that nothing was changed.
fn assert_damaged(world: &World, file: &Path, at: u64) {
    let before = files(world.dir());
    let refused = local::Log::open(world.dir(), Options::default());
    match refused {
        Err(OpenError::Damaged { file: found, at: found_at }) => assert_eq!((found.as_path(), found_at), (file, at)),
        other => panic!("{other:?}"),
    }
    assert_eq!(files(world.dir()), before);
}

async fn append(log: &Log, payloads: &[&'static str]) -> Vec<Offset> {
    log.append(payloads.iter().map(|payload| delivery(P0, *payload)).collect()).await.unwrap()
}

async fn everything(log: &Log, count: usize) -> Vec<Bytes> {
    let mut consumer = some(log, Group::Router, Topic::Deliveries, &[P0]).unwrap();
    payloads(&read(&mut consumer, count).await)
}

/// The payloads up to and including `last`.
async fn read_to(log: &Log, last: &str) -> Vec<Bytes> {
    let mut consumer = some(log, Group::Router, Topic::Deliveries, &[P0]).unwrap();
    let mut found = Vec::new();
    while found.last().is_none_or(|found| found != last) {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Records(records) => found.extend(payloads(&records)),
            Consumed::Assigned(..) => {}
            Consumed::Revoking(partition) | Consumed::Lost(partition) => panic!("{partition:?} was revoked"),
        }
    }
    found
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut_and_what_was_before_survives() {
    let world = World::local();
    let log = world.open();
    append(&log, &["first", "second"]).await;
    let before = as_local(&log).appended();
    append(&log, &["last"]).await;
    for end in before.0..as_local(&log).appended().0 {
        let torn = world.crashed();
        OpenOptions::new().write(true).open(newest(torn.dir())).unwrap().set_len(end).unwrap();
        let log = torn.open();
        assert_eq!(everything(&log, 2).await, ["first", "second"]);
        append(&log, &["next"]).await;
        drop(log);
        assert_eq!(everything(&torn.open(), 3).await, ["first", "second", "next"]);
    }
}

#[tokio::test]
async fn a_batch_that_was_never_synced_may_be_torn_anywhere() {
    let world = World::local();
    let log = world.open();
    append(&log, &["first"]).await;
    let synced = as_local(&log).appended();
    append(&log, &["a", "b", "c"]).await;
    // A power cut keeps later pages of a batch and loses earlier ones, as it likes.
    for at in synced.0..as_local(&log).appended().0 {
        let torn = world.crashed();
        flip(&newest(torn.dir()), at);
        let log = torn.open();
        append(&log, &["next"]).await;
        let kept = (1..=4).rev().map(|kept| [&["first", "a", "b", "c"][..kept], &["next"]].concat());
        let found = read_to(&log, "next").await;
        assert!(kept.into_iter().any(|kept| found == kept), "{found:?}");
    }
}

#[tokio::test]
async fn damage_before_the_tail_is_refused_and_nothing_is_changed() {
    let world = World::local();
    let log = world.open();
    let offsets = append(&log, &["first", "second"]).await;
    append(&log, &["last"]).await;
    for at in offsets[1].0..offsets[1].0 + 23 {
        let damaged = world.crashed();
        flip(&newest(damaged.dir()), at);
        assert_damaged(&damaged, &newest(damaged.dir()), offsets[1].0);
    }
    // After a clean end that holds for the last record, too.
    let last = append(&log, &["very last"]).await[0];
    drop(log);
    flip(&newest(world.dir()), last.0 + 30);
    assert_damaged(&world, &newest(world.dir()), last.0);
}

#[tokio::test]
async fn damage_in_an_older_segment_is_refused_when_it_is_noticed() {
    let world = World::local();
    let log = world.open();
    let mut offsets = Vec::new();
    for _ in 0..10 {
        offsets.extend(log.append(vec![delivery(P0, vec![0; 30_000])]).await.unwrap());
    }
    drop(log);
    let oldest = files(world.dir()).into_keys().next().unwrap();

    let damaged = world.crashed();
    flip(&damaged.dir().join(oldest.file_name().unwrap()), offsets[1].0 + 100);
    let log = damaged.open();
    assert!(matches!(as_local(&log).read(offsets[1]).await, Err(LogError::Damaged { at, .. }) if at == offsets[1].0));
    assert!(as_local(&log).read(offsets[2]).await.unwrap().is_some());

    let shortened = world.crashed();
    let oldest = shortened.dir().join(oldest.file_name().unwrap());
    let length = fs::metadata(&oldest).unwrap().len();
    OpenOptions::new().write(true).open(&oldest).unwrap().set_len(length - 1).unwrap();
    assert_damaged(&shortened, &oldest, length - 1);
}

#[tokio::test]
async fn a_segment_that_was_never_finished_being_made_is_made_again() {
    let world = World::local();
    let log = world.open();
    let mut consumer = some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
    let offsets = append(&log, &["a", "b"]).await;
    consumer.commit(P0, &Progress { from: offsets[1], to: offsets[1], unfinished: Vec::new() }).unwrap();
    append(&log, &["c"]).await;
    let end = as_local(&log).appended().0;
    for content in [&b""[..], b"half a checkpoint"] {
        let crashed = world.crashed();
        fs::write(crashed.dir().join(format!("{end:020}.log")), content).unwrap();
        let log = crashed.open();
        append(&log, &["d"]).await;
        let mut consumer = some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
        assert_eq!(payloads(&read(&mut consumer, 3).await), ["b", "c", "d"]);
    }
    let first = World::local();
    fs::write(first.dir().join(format!("{:020}.log", 0)), "half").unwrap();
    append(&first.open(), &["a"]).await;
}

#[tokio::test]
async fn expired_segments_leave_the_folder() {
    let world = World::local().with(|options| {
        options.retention = Millis(0);
        options.groups = Vec::new();
    });
    let log = world.open();
    for _ in 0..20 {
        log.append(vec![delivery(P0, vec![0; 30_000])]).await.unwrap();
    }
    until(|| fs::read_dir(world.dir()).unwrap().count() <= 1).await;
    // A group that holds nothing back goes on where the log begins.
    let first = as_local(&log).oldest();
    append(&log, &["new"]).await;
    let found = read_to(&log, "new").await.len();
    assert!(found < 5 && first > Offset(0), "{found}");
    drop(log);
    append(&world.open(), &["newer"]).await;
}

#[tokio::test]
async fn commits_outlive_the_segments_they_were_written_in() {
    let world = World::local();
    let log = world.open();
    let mut consumer = some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
    let offsets = append(&log, &["a", "b"]).await;
    consumer.commit(P0, &Progress { from: offsets[1], to: offsets[1], unfinished: Vec::new() }).unwrap();
    for _ in 0..5 {
        log.append(vec![delivery(Partition(1), vec![0; 60_000])]).await.unwrap();
    }
    assert!(files(world.dir()).len() > 2);
    let crashed = world.crashed();
    let log = crashed.open();
    let mut consumer = some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
    assert_eq!(payloads(&read(&mut consumer, 1).await), ["b"]);
}

#[tokio::test]
async fn a_nearly_full_disk_takes_no_records_but_commits() {
    let world = World::local();
    let log = world.open();
    let offsets = append(&log, &["a", "b"]).await;
    drop(log);
    let world = world.with(|options| options.min_free_bytes = u64::MAX);
    let log = world.open();
    let words = log.append(vec![delivery(P0, "c")]).await.unwrap_err().to_string();
    assert!(words.contains("nearly full"), "{words}");
    assert!(log.health().unwrap_err().contains("nearly full"));
    let mut consumer = some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
    consumer.commit(P0, &Progress { from: offsets[1], to: offsets[1], unfinished: Vec::new() }).unwrap();
    drop((log, consumer));
    let mut consumer = some(&world.open(), Group::Deliver, Topic::Deliveries, &[P0]).unwrap();
    assert_eq!(read(&mut consumer, 1).await[0].offset, offsets[1]);
}

/// Runs itself again in a mount namespace of its own, where anyone may mount a small disk and nobody has to clean up.
#[tokio::test]
async fn a_full_disk_refuses_appends_loses_nothing_acknowledged_and_works_again() {
    const INSIDE: &str = "POSTRIDER_TEST_IN_NAMESPACE";
    if env::var_os(INSIDE).is_some() {
        return on_a_small_disk().await;
    }
    let test = "log_local::a_full_disk_refuses_appends_loses_nothing_acknowledged_and_works_again";
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount"]).arg(env::current_exe().unwrap()).args(["--exact", test]).env(INSIDE, "1");
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

async fn on_a_small_disk() {
    let world = World::local().with(|options| options.segment_bytes = 512 << 10);
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(world.dir()).status().unwrap();
    assert!(mount.success());
    let ballast = world.dir().join("ballast");
    fs::File::create(&ballast).unwrap().write_all(&vec![0; 1 << 20]).unwrap();

    let log = world.open();
    let mut acknowledged: Vec<u32> = Vec::new();
    let mut refused = 0;
    let record = |i: u32| vec![delivery(P0, [&i.to_le_bytes()[..], &vec![0; 20_000]].concat())];
    for i in 0..400 {
        match log.append(record(i)).await {
            Ok(_) => acknowledged.push(i),
            Err(LogError::Unavailable { reason }) => {
                assert!(reason.contains("No space left"), "{reason}");
                assert!(log.health().is_err());
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
        // Twice full: once until the ballast goes, and once at the end.
        if refused == 20 && ballast.exists() {
            fs::remove_file(&ballast).unwrap();
            log.append(record(i + 1000)).await.unwrap();
            acknowledged.push(i + 1000);
            log.health().unwrap();
        }
    }
    assert!(!ballast.exists() && refused > 20 && acknowledged.len() > 100, "{refused} refused, {} taken", acknowledged.len());
    let log = {
        drop(log);
        world.open()
    };
    let read = everything(&log, acknowledged.len()).await;
    assert!(read.iter().zip(&acknowledged).all(|(payload, i)| payload[..4] == i.to_le_bytes()));
}

#[tokio::test]
async fn an_acknowledged_record_survives_a_crash() {
    let world = World::local();
    let log = world.open();
    let mut appended = Vec::new();
    for i in 0..5 {
        appended.extend(log.append(vec![delivery(P0, format!("{i}")), delivery(P1, "other")]).await.unwrap());
        let crashed = world.crashed();
        let after = crashed.open();
        for (i, offset) in appended.iter().enumerate() {
            let payload = as_local(&after).read(*offset).await.unwrap().unwrap().payload;
            assert_eq!(payload, if i % 2 == 0 { (i / 2).to_string() } else { "other".into() });
        }
    }
}

#[tokio::test]
async fn a_record_is_read_at_its_offset() {
    let world = World::local();
    let log = world.open();
    assert_eq!(log.append(Vec::new()).await.unwrap(), []);
    let before = as_local(&log).appended();
    let record = Append { topic: Topic::DeadLetters, partition: Partition(3), meta: Bytes::new(), payload: Bytes::new(), failure: None };
    let offsets = log.append(vec![record, delivery(P0, vec![7; 100_000])]).await.unwrap();
    let first = as_local(&log).read(offsets[0]).await.unwrap().unwrap();
    assert_eq!((first.topic, first.partition, first.offset, first.payload.len()), (Topic::DeadLetters, Partition(3), offsets[0], 0));
    let second = as_local(&log).read(offsets[1]).await.unwrap().unwrap();
    assert_eq!((&second.meta[..], &second.payload[..]), (&b"meta"[..], &[7; 100_000][..]));
    assert!(second.at >= first.at && first.at.0 > 0);
    assert!(before < offsets[0] && offsets[1] < as_local(&log).appended());
    assert_eq!(as_local(&log).read(as_local(&log).appended()).await.unwrap(), None);
}

#[tokio::test]
async fn retention_removes_what_is_old_and_never_what_is_unread() {
    let world = World::local().with(|options| options.retention = Millis(0));
    let log = world.open();
    let mut offsets = Vec::new();
    for i in 0..200_u32 {
        let partition = if i == 0 { P1 } else { P0 };
        offsets.extend(log.append(vec![delivery(partition, vec![0; 1000])]).await.unwrap());
    }
    // One record of another partition is not finished, and it is the oldest.
    some(&log, Group::Deliver, Topic::Deliveries, &[P0]).unwrap().commit(P0, &finished(offsets[150])).unwrap();
    drop(log);
    let log = world.open();
    assert_eq!(as_local(&log).oldest(), Offset(0));
    assert!(as_local(&log).read(offsets[0]).await.unwrap().is_some());

    some(&log, Group::Deliver, Topic::Deliveries, &[P1]).unwrap().commit(P1, &finished(offsets[0])).unwrap();
    until(|| as_local(&log).oldest() != Offset(0)).await;
    assert_eq!(as_local(&log).read(offsets[0]).await.unwrap(), None);
    assert!(as_local(&log).oldest() <= offsets[151]);
    let unread = read(&mut some(&log, Group::Deliver, Topic::Deliveries, &[P0, P1]).unwrap(), 49).await;
    assert_eq!(unread.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets[151..]);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_not_read_and_the_lag_is_what_lies_unread() {
    let log = World::local().open();
    assert!(matches!(some(&log, Group::Deliver, Topic::Deliveries, &[Partition(4)]), Err(LogError::NoPartition { .. })));
    let config = Append { topic: Topic::Config, ..delivery(P0, "") };
    assert!(matches!(log.append(vec![config]).await, Err(LogError::NoPartition { count: 0, .. })));
    log.append((0..200).map(|_| delivery(P0, vec![0; 1000])).collect()).await.unwrap();
    assert!(log.lag(Group::Deliver, Topic::Deliveries) > 200_000);
}

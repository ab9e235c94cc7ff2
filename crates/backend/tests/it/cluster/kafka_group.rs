//! Partitions that move between processes: handed over, taken from the dead, kept from the undead.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use postrider_backend::log::{Consumed, Consumer, Group, Log, Record, Topic};
use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset as Place, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};

use super::kafka::{World, record};
use crate::log_contract::{assigned, finished, nothing_comes, payloads, read, reader, soon};

const P0: Partition = Partition(0);
const CHILD: &str = "POSTRIDER_TEST_CHILD";

fn deliver(log: &Log) -> Consumer {
    reader(log, Group::Deliver, Topic::Deliveries)
}

async fn fill(log: &Log, from: u16, count: u16) {
    log.append((from..from + count).map(|i| record(Topic::Deliveries, i % 4, format!("{i}"))).collect()).await.unwrap();
}

/// Finishes what comes, and hands over what is asked for, until `enough`.
async fn work(consumer: &mut Consumer, seen: &mut Vec<Record>, mut enough: impl FnMut(&Consumed, &[Record]) -> bool) {
    loop {
        let consumed = soon(consumer.next()).await.unwrap();
        match &consumed {
            Consumed::Assigned(..) => {}
            Consumed::Records(records) => {
                seen.extend(records.iter().cloned());
                let last = records.last().unwrap();
                consumer.commit(last.partition, &finished(last.offset)).unwrap();
            }
            Consumed::Revoking(partition) => consumer.release(*partition),
            Consumed::Lost(partition) => panic!("{partition:?} was lost"),
        }
        if enough(&consumed, seen) {
            return;
        }
    }
}

/// Who closes, leaves its partitions to the others within `within`.
async fn a_second_process_is_handed_half(world: World, within: Duration) {
    let (first_log, second_log) = (world.open(), world.open());
    let mut first = deliver(&first_log);
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    fill(&first_log, 0, 100).await;
    work(&mut first, &mut of_first, |_, seen| seen.len() == 100).await;

    let began = Instant::now();
    let mut second = deliver(&second_log);
    let mut revoked = 0;
    work(&mut first, &mut of_first, |consumed, _| {
        revoked += usize::from(matches!(consumed, Consumed::Revoking(_)));
        revoked == 2
    })
    .await;
    let mut taken = Vec::new();
    work(&mut second, &mut of_second, |consumed, _| {
        if let Consumed::Assigned(partition, progress) = consumed {
            assert_eq!(*progress, Progress { from: Offset(25), to: Offset(25), unfinished: Vec::new() });
            taken.push(*partition);
        }
        taken.len() == 2
    })
    .await;
    println!("handed over after {:?}", began.elapsed());
    fill(&second_log, 100, 100).await;
    let (one, two) = (&mut of_first, &mut of_second);
    tokio::join!(work(&mut first, one, |_, seen| seen.len() == 150), work(&mut second, two, |_, seen| seen.len() == 50));
    assert!(of_second.iter().all(|record| taken.contains(&record.partition)));

    // Whoever closes leaves at once, and all of it goes to the other.
    second.close().await.unwrap();
    let began = Instant::now();
    let mut back = 0;
    work(&mut first, &mut of_first, |consumed, _| {
        back += usize::from(matches!(consumed, Consumed::Assigned(..)));
        back == 2
    })
    .await;
    assert!(began.elapsed() < within, "{:?}", began.elapsed());
    println!("taken back after {:?}", began.elapsed());
    fill(&first_log, 200, 100).await;
    work(&mut first, &mut of_first, |_, seen| seen.len() == 250).await;
    let mut all = payloads(&[of_first, of_second].concat());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 300, "each record once, and no other");
    first.close().await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_handed_half_and_no_record_comes_twice() {
    a_second_process_is_handed_half(World::new().await, Duration::from_secs(4)).await;
}

#[tokio::test]
async fn the_newer_group_protocol_can_be_chosen() {
    // Members hear of changes with their next heartbeat, which is the broker's to set: 5 s by default.
    a_second_process_is_handed_half(World::new().await.with("group.protocol", "consumer"), Duration::from_secs(15)).await;
}

#[tokio::test]
async fn who_does_not_release_in_time_loses_the_partition_with_its_last_commit() {
    let world = World::new().await;
    let (log, other) = (world.open(), world.open());
    let mut slow = deliver(&log);
    fill(&log, 0, 40).await;
    let records = read(&mut slow, 40).await;
    let second = tokio::spawn(async move {
        let mut consumer = deliver(&other);
        let mut starts = Vec::new();
        while starts.len() < 2 {
            if let Consumed::Assigned(partition, progress) = soon(consumer.next()).await.unwrap() {
                starts.push((partition, progress.from));
            }
        }
        consumer.close().await.unwrap();
        starts
    });
    let mut lost = Vec::new();
    while lost.len() < 2 {
        match soon(slow.next()).await.unwrap() {
            // Half of it is finished when it is wanted, and the rest never.
            Consumed::Revoking(partition) => slow.commit(partition, &finished(Offset(4))).unwrap(),
            Consumed::Lost(partition) => {
                lost.push(partition);
                assert!(slow.commit(partition, &finished(Offset(9))).is_err(), "it is another's");
            }
            Consumed::Assigned(..) => {}
            Consumed::Records(more) => panic!("{more:?} of {}", records.len()),
        }
    }
    let mut starts = soon(second).await.unwrap();
    starts.sort();
    lost.sort();
    assert_eq!(starts, lost.into_iter().map(|partition| (partition, Offset(5))).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_takes_the_instance_id_of_another_gets_its_partitions_and_the_other_is_told() {
    let mut world = World::new().await;
    world.options.instance_id = "the-only-one".to_owned();
    let (log, same) = (world.open(), world.open());
    let mut first = deliver(&log);
    for _ in 0..4 {
        assert!(matches!(soon(first.next()).await, Ok(Consumed::Assigned(..))));
    }
    let mut second = deliver(&same);
    let mut lost = 0;
    let reason = loop {
        match soon(first.next()).await {
            Ok(Consumed::Lost(_)) => lost += 1,
            Ok(Consumed::Assigned(..)) => {}
            Ok(other @ (Consumed::Records(_) | Consumed::Revoking(_))) => panic!("{other:?}"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(lost == 4 && reason.contains("does not let this process read on"), "{lost} lost, {reason}");
    fill(&same, 0, 40).await;
    read(&mut second, 40).await;
}

/// A process that reads a world's deliveries, as [`child`] does.
struct Reader {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Reader {
    fn start(world: &World) -> Reader {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "cluster::kafka_group::child", "--nocapture"]).env(CHILD, &world.options.prefix);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Reader { process, said }
    }

    /// Waits for a line that begins with `word`. The child ends by itself when it takes too long.
    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the child has ended before it said {word}");
            if let Some(at) = line.find(word) {
                return line[at..].trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test of its own: what the tests below start as another process. Reads 40 records, commits what
/// `unfinished_of_ten` says, and goes on until it loses a partition.
#[tokio::test]
async fn child() {
    let Ok(prefix) = env::var(CHILD) else { return };
    let world = World::of(&prefix).with("session.timeout.ms", "3000").with("heartbeat.interval.ms", "500");
    let log = world.open();
    let mut consumer = deliver(&log);
    read(&mut consumer, 40).await;
    for partition in 0..4 {
        consumer.commit(Partition(partition), &unfinished_of_ten()).unwrap();
    }
    loop {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Lost(partition) => {
                let refused = consumer.commit(partition, &finished(Offset(9))).is_err();
                println!("LOST refused={refused}");
                std::io::stdout().flush().unwrap();
                // A last attempt to spoil what others do: leaving the group commits what is left.
                consumer.close().await.unwrap();
                println!("CLOSED");
                return;
            }
            Consumed::Assigned(..) | Consumed::Records(_) | Consumed::Revoking(_) => {}
        }
    }
}

/// Waits until the child has read and committed.
fn committed(world: &World) {
    let consumer: BaseConsumer = world.stranger().set("group.id", world.topic("deliver.deliveries")).create().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&world.topic("deliveries"), 0, 3);
        let list = consumer.committed_offsets(list, Duration::from_secs(5)); // fails while the group finds its coordinator
        if list.as_ref().is_ok_and(|list| list.elements().iter().all(|element| element.offset() == Place::Offset(2))) {
            return;
        }
        assert!(Instant::now() < deadline, "the child commits nothing: {list:?}");
    }
}

/// Of the first ten records of a partition, two are not finished.
fn unfinished_of_ten() -> Progress {
    Progress { from: Offset(2), to: Offset(10), unfinished: vec![Offset(2), Offset(7)] }
}

/// Takes over what the child has, and reads what it left.
async fn take_over(world: &World) -> (Log, Consumer) {
    let log = world.open();
    let mut consumer = deliver(&log);
    let mut left = Vec::new();
    let mut starts = 0;
    while left.len() < 8 {
        match soon(consumer.next()).await.unwrap() {
            Consumed::Assigned(_, progress) => {
                assert_eq!(progress, unfinished_of_ten());
                starts += 1;
            }
            Consumed::Records(records) => left.extend(records),
            other @ (Consumed::Revoking(_) | Consumed::Lost(_)) => panic!("{other:?}"),
        }
    }
    left.sort_by_key(|record| (record.partition, record.offset));
    let offsets: Vec<u64> = left.iter().map(|record| record.offset.0).collect();
    assert_eq!((starts, offsets), (4, [2, 7].repeat(4)));
    nothing_comes(&mut consumer).await;
    (log, consumer)
}

#[tokio::test]
async fn another_process_takes_over_from_one_that_was_killed_and_skips_what_was_finished() {
    let world = World::new().await;
    fill(&world.open(), 0, 40).await;
    let child = Reader::start(&world);
    committed(&world);
    child.signal(Signal::KILL);
    let began = Instant::now();
    take_over(&world).await;
    println!("taken over after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_process_that_stood_still_loses_its_partitions_and_commits_nothing_of_them() {
    let world = World::new().await;
    fill(&world.open(), 0, 40).await;
    let mut child = Reader::start(&world);
    committed(&world);
    child.signal(Signal::STOP);
    let (log, mut consumer) = take_over(&world).await;
    for partition in 0..4 {
        consumer.commit(Partition(partition), &finished(Offset(7))).unwrap();
    }
    child.signal(Signal::CONT);
    assert_eq!(child.wait_for("LOST"), "LOST refused=true");
    child.wait_for("CLOSED");
    consumer.close().await.unwrap();
    let mut consumer = deliver(&log);
    assert_eq!(assigned(&mut consumer, P0).await, finished(Offset(7)));
}

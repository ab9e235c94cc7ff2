//! A reader's thread: takes partitions from the group, deals them to consumers, commits for them, hands them over.
//!
//! Two clients: the member joins the group and commits but fetches nothing, the fetcher reads what it is told and joins
//! nothing. librdkafka fetches nothing from the moment a rebalance is announced until it is answered, and the answer to
//! a revocation is late: after the hand-over. So what stays is read on meanwhile only by a client without a group.
//!
//! librdkafka leaves it to us when a rebalance is answered, so no rebalance waits here: the hub goes on turning, and
//! commits go out, while a partition is handed over. Only asking where to begin may take a moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_core::offsets::{Offset, Progress};
use postrider_core::partition::Partition;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as Place;
use rdkafka::{ClientConfig, Message as _, TopicPartitionList};

use super::commits::Commits;
use super::consumer::Reader;
use super::context::{self, Context, Turn};
use super::inbox::Inbox;
use super::lag::{self, Lag};
use super::options::unusable;
use super::slot::{self, Slot};

/// Between two turns; also how long commits gather.
const TURN: Duration = Duration::from_millis(30);
/// A consumer that was asked for a partition has this long to finish with it.
const HANDOVER: Duration = Duration::from_secs(5);
/// The last commits of partitions that were given up have this long.
const LAST_COMMITS: Duration = Duration::from_secs(2);
/// Most that asking for committed offsets may take.
const ASK: Duration = Duration::from_secs(1);
/// The same complaint is told again after this time.
const REPEAT: Duration = Duration::from_secs(30);

/// A partition that this process reads.
pub(super) struct Dealt {
    pub(super) slot: Arc<Slot>,
    /// Which of the inboxes.
    owner: usize,
}

/// Partitions that go to others.
struct Handover {
    partitions: Vec<i32>,
    deadline: Instant,
    /// They take no more commits; the last ones are on their way.
    sealed: bool,
}

pub(super) struct Hub {
    reader: Reader,
    inboxes: Vec<Arc<Inbox>>,
    member: Arc<BaseConsumer<Context>>,
    fetcher: Arc<BaseConsumer<Context>>,
    dealt: BTreeMap<Partition, Dealt>,
    commits: Commits,
    /// Given by the group, and not read yet because it isn't known from where.
    arriving: VecDeque<Vec<i32>>,
    handover: Option<Handover>,
    lag: Arc<Lag>,
    complaint: Complaint,
}

impl Hub {
    /// Joins the group. Errors: in librdkafka's words.
    pub(super) fn new(reader: Reader, inboxes: Vec<Arc<Inbox>>) -> Result<Hub, String> {
        let client = |config: ClientConfig| config.create_with_context(Context::default()).map_err(|e| unusable(&e).to_string());
        let fetcher: BaseConsumer<Context> = client(reader.options.fetcher(&reader.group, usize::from(reader.partitions)))?;
        let member: BaseConsumer<Context> = client(reader.options.member(&reader.group))?;
        member.subscribe(&[&reader.name]).map_err(|error| error.to_string())?;
        let (member, fetcher) = (Arc::new(member), Arc::new(fetcher));
        let commits = Commits::start(&member, &reader.name).map_err(|error| format!("a thread for Kafka can't be started: {error}"))?;
        let complaint = Complaint { group: reader.group.clone(), told: None };
        Ok(Hub {
            reader,
            inboxes,
            member,
            fetcher,
            dealt: BTreeMap::new(),
            commits,
            arriving: VecDeque::new(),
            handover: None,
            lag: Arc::default(),
            complaint,
        })
    }

    pub(super) fn lag(&self) -> Arc<Lag> {
        self.lag.clone()
    }

    /// Turns until all consumers are closed, then leaves the group.
    pub(super) fn run(self) {
        // Whatever ends this thread, nobody waits for it for ever.
        let last_word = LastWord(self.inboxes.clone());
        self.serve();
        drop(last_word);
    }

    fn serve(mut self) {
        let failure = loop {
            match self.turn() {
                Ok(()) if self.all_closed() => break None,
                Ok(()) => {}
                Err(reason) => break Some(reason),
            }
        };
        if let Some(reason) = failure {
            tracing::error!(reason, group = self.reader.group, "reading from Kafka ends");
            self.lose(&self.dealt.keys().map(|partition| i32::from(partition.0)).collect::<Vec<_>>());
            self.inboxes.iter().for_each(|inbox| inbox.fail(&reason));
        }
        self.dealt.values().for_each(|dealt| dealt.slot.empty());
        self.answer_all();
        // The last handle: it leaves the group, and others are given its partitions.
        drop(self.member);
        self.inboxes.iter().for_each(|inbox| inbox.settle());
    }

    /// Answers every rebalance that is open, and those that follow: a group can't be left before.
    fn answer_all(&mut self) {
        self.member.context().close();
        let mut open = self.handover.take().map(|handover| handover.partitions).unwrap_or_default();
        while let Some(turn) = self.member.context().turn() {
            match turn {
                Turn::Assign(partitions) => self.accept(&partitions),
                Turn::Revoke { partitions, .. } => open.extend(partitions),
            }
        }
        if !open.is_empty() {
            self.give_up(&open);
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        match self.member.poll(TURN).map(|polled| polled.map(drop)) {
            // Fetched in the moment before it was paused; the fetcher has it, too.
            Some(Ok(())) | None => {}
            Some(Err(KafkaError::MessageConsumptionFatal(_))) => return Err(fatal(&self.member)),
            Some(Err(error)) => self.complaint.tell(&self.member, &error),
        }
        while let Some(polled) = self.fetcher.poll(Duration::ZERO).map(|polled| polled.map(|message| message.partition())) {
            match polled {
                Ok(partition) => return Err(format!("a record of partition {partition} came past its queue")),
                Err(KafkaError::MessageConsumptionFatal(_)) => return Err(fatal(&self.fetcher)),
                Err(error) => self.complaint.tell(&self.fetcher, &error),
            }
        }
        while let Some(turn) = self.member.context().turn() {
            match turn {
                Turn::Assign(partitions) => {
                    self.accept(&partitions);
                    self.arriving.push_back(partitions);
                }
                Turn::Revoke { partitions, lost } => self.revoke(partitions, lost),
            }
        }
        self.arrive()?;
        self.commits.take_answer(&self.dealt)?;
        self.hand_over();
        self.commits.send(&self.dealt)?;
        self.measure();
        self.settle();
        Ok(())
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.reader.name, *partition);
        }
        list
    }

    /// Answers the group that we have taken what it gave.
    fn accept(&mut self, partitions: &[i32]) {
        let mut list = self.list(partitions);
        // Finding the end takes longer than pausing.
        let accepted = list.set_all_offsets(Place::End).and_then(|()| context::assign(&self.member, &list));
        if let Err(error) = accepted.and_then(|()| self.member.pause(&list)) {
            // The group has moved on meanwhile, and says so next.
            self.complaint.tell(&self.member, &error);
        }
    }

    /// Answers the group that we have given up what it took.
    fn give_up(&mut self, partitions: &[i32]) {
        if let Err(error) = context::unassign(&self.member, &self.list(partitions)) {
            self.complaint.tell(&self.member, &error);
        }
    }

    /// Asks how far the group has come in what it gave us, and begins to read there.
    fn arrive(&mut self) -> Result<(), String> {
        let Some(partitions) = self.arriving.front() else { return Ok(()) };
        let starts = match self.member.committed_offsets(self.list(partitions), ASK).and_then(|committed| starts(&committed)) {
            Ok(starts) => starts,
            Err(error) => {
                // Until that is known nothing can be read. The next turn asks again.
                self.complaint.tell(&self.member, &error);
                return Ok(());
            }
        };
        self.arriving.pop_front();
        self.begin(starts)
    }

    fn begin(&mut self, starts: Vec<(Partition, Option<Progress>)>) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        let mut slots = Vec::new();
        for (partition, start) in starts {
            let number = i32::from(partition.0);
            // Before it is assigned, so that no record comes past it.
            let queue = self.fetcher.split_partition_queue(&self.reader.name, number);
            let queue = queue.ok_or_else(|| format!("partition {number} has no queue"))?;
            let place = start.as_ref().map_or(Place::Invalid, |start| {
                Place::Offset(i64::try_from(start.from.0).expect("it was a signed offset when it was committed"))
            });
            list.add_partition_offset(&self.reader.name, number, place).map_err(|error| error.to_string())?;
            let owner = self.deal(&slots);
            slots.push((
                owner,
                Slot::new(partition, start.unwrap_or_default(), queue, self.inboxes[owner].clone(), self.reader.batch_bytes),
            ));
        }
        self.fetcher.incremental_assign(&list).map_err(|error| error.to_string())?;
        for (owner, slot) in slots {
            self.inboxes[owner].assigned(slot.clone());
            self.dealt.insert(slot.partition, Dealt { slot, owner });
        }
        tracing::info!(group = self.reader.group, partitions = self.dealt.len(), "partitions were assigned");
        Ok(())
    }

    /// The open consumer with the fewest partitions.
    fn deal(&self, fresh: &[(usize, Arc<Slot>)]) -> usize {
        let count = |index: usize| {
            let held = self.dealt.values().filter(|dealt| dealt.owner == index).count();
            held + fresh.iter().filter(|(owner, _)| *owner == index).count()
        };
        let open = |index: &usize| !self.inboxes[*index].is_closed();
        (0..self.inboxes.len()).filter(open).min_by_key(|index| count(*index)).unwrap_or(0)
    }

    fn revoke(&mut self, partitions: Vec<i32>, lost: bool) {
        // What had not begun needs no handing over.
        self.arriving.iter_mut().for_each(|arriving| arriving.retain(|number| !partitions.contains(number)));
        self.arriving.retain(|arriving| !arriving.is_empty());
        if lost {
            tracing::warn!(group = self.reader.group, partitions = partitions.len(), "partitions were lost to others");
            self.lose(&partitions);
            self.give_up(&partitions);
            if let Some(handover) = &mut self.handover {
                handover.partitions.retain(|partition| !partitions.contains(partition));
            }
            self.handover.take_if(|handover| handover.partitions.is_empty());
            return;
        }
        for dealt in partitions.iter().filter_map(|number| self.dealt.get(&numbered(*number))) {
            self.inboxes[dealt.owner].revoking(dealt.slot.clone());
        }
        let earlier = self.handover.take().map(|handover| handover.partitions).unwrap_or_default();
        let partitions = [earlier, partitions].concat();
        self.handover = Some(Handover { partitions, deadline: Instant::now() + HANDOVER, sealed: false });
    }

    /// Moves a handover on: until all is released, then until all is committed.
    fn hand_over(&mut self) {
        let Some(handover) = &mut self.handover else { return };
        if self.member.assignment_lost() {
            let partitions = std::mem::take(&mut handover.partitions);
            self.handover = None;
            return self.revoke(partitions, true);
        }
        let dealt = || handover.partitions.iter().filter_map(|number| self.dealt.get(&numbered(*number)));
        let late = Instant::now() >= handover.deadline;
        if !handover.sealed {
            let done = dealt().all(|dealt| dealt.slot.is_released() || self.inboxes[dealt.owner].is_closed());
            if done || late {
                dealt().for_each(|dealt| dealt.slot.seal());
                handover.sealed = true;
                handover.deadline = Instant::now() + LAST_COMMITS;
            }
            return;
        }
        let committed = dealt().all(|dealt| dealt.slot.is_sent()) && self.commits.none_under_way();
        if !committed && !late {
            return;
        }
        let partitions = std::mem::take(&mut handover.partitions);
        self.handover = None;
        self.lose(&partitions);
        self.give_up(&partitions);
        tracing::info!(group = self.reader.group, partitions = partitions.len(), committed, "partitions were handed over");
    }

    /// Tells consumers what is not theirs any more, and neither reads nor commits anything of it.
    fn lose(&mut self, partitions: &[i32]) {
        let mut read = Vec::new();
        for number in partitions {
            if let Some(dealt) = self.dealt.remove(&numbered(*number)) {
                read.push(*number);
                dealt.slot.lose();
                if !dealt.slot.is_released() {
                    self.inboxes[dealt.owner].lost(dealt.slot);
                }
            }
        }
        if !read.is_empty()
            && let Err(error) = self.fetcher.incremental_unassign(&self.list(&read))
        {
            self.complaint.tell(&self.fetcher, &error);
        }
    }

    fn measure(&self) {
        let Some(standings) = self.fetcher.context().standings() else { return };
        let of =
            |dealt: &Dealt| standings.get(&i32::from(dealt.slot.partition.0)).map_or((0, 0), |standing| lag::of(&dealt.slot, *standing));
        self.lag.set(self.dealt.values().map(of));
    }

    /// Lets those go that closed and whose commits are done.
    fn settle(&self) {
        // The last ones wait until the group has been left.
        if !self.inboxes.iter().all(|inbox| inbox.is_closed()) {
            let done = (0..self.inboxes.len()).filter(|index| self.is_done(*index));
            done.for_each(|index| self.inboxes[index].settle());
        }
    }

    fn all_closed(&self) -> bool {
        (0..self.inboxes.len()).all(|index| self.is_done(index))
    }

    fn is_done(&self, index: usize) -> bool {
        let mut held = self.dealt.values().filter(|dealt| dealt.owner == index);
        self.inboxes[index].is_closed() && self.commits.none_under_way() && held.all(|dealt| dealt.slot.is_sent())
    }
}

/// What is in the way, told once and from time to time while it lasts.
struct Complaint {
    group: String,
    told: Option<(String, Instant)>,
}

impl Complaint {
    fn tell(&mut self, client: &BaseConsumer<Context>, error: &KafkaError) {
        let trouble = &client.context().trouble;
        let reason = trouble.latest().map_or_else(|| error.to_string(), |(_, reason)| format!("{error}: {reason}"));
        trouble.forget();
        if self.told.as_ref().is_none_or(|(told, at)| *told != reason || at.elapsed() > REPEAT) {
            tracing::warn!(group = self.group, reason, "Kafka can't be read at the moment; trying again");
            self.told = Some((reason, Instant::now()));
        }
    }
}

fn fatal(client: &BaseConsumer<Context>) -> String {
    let told = client.client().fatal_error();
    let reason = told.map_or_else(|| "librdkafka does not say why".to_owned(), |(_, reason)| reason);
    format!("Kafka does not let this process read on: {reason}")
}

fn numbered(number: i32) -> Partition {
    Partition(u16::try_from(number).expect("the log was opened with fewer partitions"))
}

/// Where reading begins in each partition; `None` where the group has never committed.
fn starts(committed: &TopicPartitionList) -> Result<Vec<(Partition, Option<Progress>)>, KafkaError> {
    let mut starts = Vec::new();
    for element in committed.elements() {
        element.error()?;
        let partition = numbered(element.partition());
        let start = match element.offset() {
            Place::Offset(offset) => u64::try_from(offset).ok().map(|offset| slot::decode(Offset(offset), element.metadata())),
            Place::Beginning | Place::End | Place::Stored | Place::Invalid | Place::OffsetTail(_) => None,
        };
        starts.push((partition, start));
    }
    Ok(starts)
}

/// Tells consumers when the hub's thread ends, even by a panic.
struct LastWord(Vec<Arc<Inbox>>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.iter().for_each(|inbox| inbox.fail("the thread that reads from Kafka has ended"));
    }
}

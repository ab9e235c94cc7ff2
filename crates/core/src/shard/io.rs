//! What goes into a shard and what comes out of it.

use bytes::Bytes;

use crate::attempt::{DeliveryState, End, Report};
use crate::delivery::{Backlogged, Delivery, Place};
use crate::endpoint::Policy;
use crate::id::{DeliveryId, EndpointId};
use crate::offsets::{Offset, Progress};
use crate::record::Command;
use crate::time::{Millis, Time};

/// How much a shard takes on. Every field bounds something that would otherwise grow with the load.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Memory for deliveries, in bytes; beyond it the partition is paused, under strain beyond a sixteenth of it.
    pub pool: usize,
    /// A lane may hold one in this many of the bytes that are still free (a dynamic threshold), so that
    /// any number of slow endpoints leaves room for the others.
    pub share: usize,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Of these, attempts to endpoints that are not known to answer.
    pub suspects: usize,
    /// Writes not yet acknowledged by the store; beyond it nothing is sent or read.
    pub unwritten: usize,
    /// How long a record may stay unfinished before it moves to the backlog and its offset is released; a second longer
    /// where its endpoint keeps up, and not while the store is behind.
    pub hold_max: Millis,
    /// How long attempts in flight may hold up handing the partition over; then the next owner finds rows of them.
    pub hand_over: Millis,
    /// Most rows of a backlog loaded at one time.
    pub load: usize,
    /// Between two commits.
    pub commit_every: Millis,
    /// Recent deliveries remembered, to drop repeats.
    pub recent: usize,
    /// Lanes kept although they have nothing to do.
    pub lanes: usize,
}

impl Limits {
    /// Bytes of the pool that are filled under strain.
    pub(super) fn strained(&self) -> usize {
        self.pool / 16
    }

    /// Bytes of records that should be read at a time. More would be written to the backlog only because they came at
    /// once: they may all be for one lane.
    pub fn batch(&self) -> usize {
        self.strained().clamp(16 << 10, 1 << 20)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pool: 16 << 20,
            share: 8,
            in_flight: 1024,
            suspects: 512,
            unwritten: 2048,
            hold_max: Millis::from_secs(2),
            hand_over: Millis::from_secs(2),
            load: 128,
            commit_every: Millis(10),
            recent: 4096,
            lanes: 16_384,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A record of the partition was read.
    Arrived {
        /// Where it lies.
        offset: Offset,
        /// What it asks for.
        command: Command,
        /// The delivery it brings or names.
        delivery: Delivery,
    },
    /// The backlog holds rows of this endpoint; told once for each when the partition was taken over.
    Lane {
        /// Which.
        endpoint: EndpointId,
        /// Where its first row lies.
        first: Place,
        /// When that row is due.
        due: Time,
        /// That row's envelope, which names tenant and URL.
        meta: Bytes,
    },
    /// An endpoint was looked up, or changed.
    Endpoint {
        /// Which.
        endpoint: EndpointId,
        /// How to treat its deliveries.
        policy: Policy,
    },
    /// An attempt ended.
    Finished {
        /// Of which delivery.
        id: DeliveryId,
        /// How.
        report: Report,
    },
    /// The oldest `count` writes that were not acknowledged are durable.
    Written {
        /// How many.
        count: usize,
    },
    /// A load ended: the rows in order, fewer than were asked for when there are no more.
    Loaded {
        /// Whose backlog.
        endpoint: EndpointId,
        /// What it held.
        rows: Vec<Backlogged>,
    },
    /// A load failed; the shard asks again later.
    LoadFailed {
        /// Whose backlog.
        endpoint: EndpointId,
    },
    /// A search ended.
    Found {
        /// What was searched.
        id: DeliveryId,
        /// Its row, where it has one.
        row: Option<Backlogged>,
    },
    /// Whether the processor has no time left for who serves the shard. Then little is read ahead:
    /// what is not read waits in the log at no cost, what is read and not sent would have to be written down.
    Strained(bool),
    /// Send nothing more, and hand over: what is in flight may end within [`Limits::hand_over`].
    Drain,
    /// The partition belongs to somebody else now: send, move and commit nothing more.
    Revoked,
    /// Time has passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all actions are writes; a box would cost an allocation for each delivery")]
pub enum Action {
    /// POST a delivery and report with [`Input::Finished`], always and once.
    Send(Attempt),
    /// Write to the store, in the order of these actions, until it is durable; then [`Input::Written`].
    Write(Write),
    /// Read a lane's backlog: at most `limit` rows from `from` on, then [`Input::Loaded`] or [`Input::LoadFailed`].
    Load {
        /// Whose.
        endpoint: EndpointId,
        /// From where, inclusive.
        from: Place,
        /// The lane's low water, never behind `from`: what lies before it in the store is finished with, so that no
        /// reader need walk over it again. It speaks for all writes asked for before this action. A later one may put
        /// a row before it, and a former owner that does not know it was followed may have.
        low: Place,
        /// How many rows.
        limit: usize,
    },
    /// Search a lane's backlog for one delivery, then [`Input::Found`].
    Find(DeliveryId),
    /// Look an endpoint up, then [`Input::Endpoint`].
    Resolve {
        /// Which.
        endpoint: EndpointId,
        /// The envelope of one of its deliveries, which names tenant and URL.
        meta: Bytes,
    },
    /// Commit the partition's progress.
    Commit(Progress),
    /// Stop reading the partition.
    Pause,
    /// Go on reading it.
    Resume,
    /// The receiver wants no more: disable the endpoint.
    Disable {
        /// Which.
        endpoint: EndpointId,
        /// The envelope of one of its deliveries, which names tenant and URL.
        meta: Bytes,
    },
    /// Another may have the partition; follows [`Input::Drain`]. All that was read is finished or stored, and committed.
    /// Attempts that are still in flight have rows which are not due before they have ended: while
    /// [`Shard::is_busy`](super::Shard::is_busy), go on telling how they end, and carry out what follows.
    Drained,
}

/// One attempt to make.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What is sent.
    pub delivery: Delivery,
    /// Its number, from 1.
    pub number: u32,
    /// For the whole exchange.
    pub timeout: Millis,
}

/// One change in the store, all or nothing.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which delivery it is about, with its counts as they are after the change.
    pub delivery: Delivery,
    /// When it was decided.
    pub at: Time,
    /// An attempt to record.
    pub attempt: Option<Recorded>,
    /// An end without an attempt.
    pub end: Option<End>,
    /// The backlog row that goes.
    pub remove: Option<Place>,
    /// The backlog row that comes: its place and due time.
    pub put: Option<(Place, Time)>,
}

impl Write {
    /// Whether the delivery has just been given up.
    pub fn is_dead_letter(&self) -> bool {
        let by_attempt = self.attempt.as_ref().is_some_and(|a| a.state == DeliveryState::Failed);
        by_attempt || self.end.is_some_and(|end| end.state() == DeliveryState::Failed)
    }
}

/// An attempt as it is recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its number, from 1.
    pub number: u32,
    /// What came of it.
    pub report: Report,
    /// When the next one is due, if there is one.
    pub next: Option<Time>,
    /// Where the delivery stands after it.
    pub state: DeliveryState,
}

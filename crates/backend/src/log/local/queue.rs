//! What callers have handed in and the writer has not taken yet.
//!
//! Callers encode outside the lock and copy their frames into one growing batch, so that the writer has a single
//! buffer to write and readers a single one to share.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use postrider_core::offsets::Offset;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::UNPOISONED;
use super::frame::{Encoded, MARK};
use crate::log::LogError;

/// The next batch gets memory for as much as this one had, up to here: a large one should not make small ones large.
const MOST_FORESEEN: usize = 1 << 20;

/// How a batch ended: its position in the stream, or why it is not there.
type Outcome = Result<u64, String>;

/// Bounded by `capacity` bytes: what is queued or being written. One call larger than that counts as that much,
/// so that it gets its turn once nothing else is queued.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: u32,
    room: Semaphore,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State {
    batch: Batch,
    gate: Gate,
    /// The writer sleeps until `arrived`.
    asleep: bool,
    /// There is something for the writer that is not in the batch: a commit, or the wish to end.
    called: bool,
    closing: bool,
}

/// Whether appends are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// All is well.
    Open,
    /// The last write failed. Appends are let in: only the next write can tell whether it works again.
    Trying(String),
    /// No appends for now.
    Shut(String),
    /// No appends ever again.
    Failed(String),
}

/// Frames that become durable together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Room for a mark, then whole frames.
    pub(super) bytes: Vec<u8>,
    pub(super) callers: Callers,
}

/// Who waits for a batch.
#[derive(Debug, Default)]
pub(super) struct Callers {
    waiting: Vec<oneshot::Sender<Outcome>>,
    /// What to give back to `room`.
    taken: usize,
}

impl Batch {
    fn with_capacity(bytes: usize) -> Batch {
        let mut buffer = Vec::with_capacity(bytes.max(MARK));
        buffer.resize(MARK, 0);
        Batch { bytes: buffer, callers: Callers::default() }
    }
}

impl Callers {
    /// Whether nobody waits, because no record is in the batch.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What the writer gets.
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) closing: bool,
}

impl Queue {
    pub(super) fn new(capacity: u32) -> Queue {
        Queue {
            capacity,
            room: Semaphore::new(capacity as usize),
            state: Mutex::new(State { batch: Batch::with_capacity(0), gate: Gate::Open, asleep: false, called: false, closing: false }),
            arrived: Condvar::new(),
        }
    }

    /// Queues `frames`, and waits until they are durable. Gives up at `deadline`.
    pub(super) async fn append(&self, frames: &[Encoded<'_>], deadline: Instant) -> Result<Vec<Offset>, LogError> {
        let size: usize = frames.iter().map(Encoded::len).sum();
        let permits = u32::try_from(size).unwrap_or(u32::MAX).min(self.capacity);
        let room = match self.room.try_acquire_many(permits) {
            Ok(room) => room,
            Err(_) => timeout_at(deadline, self.room.acquire_many(permits))
                .await
                .map_err(|_| unavailable("the queue was full for too long"))?
                .map_err(|_| unavailable("it has been closed"))?,
        };
        let (mut offsets, outcome) = self.push(frames, permits)?;
        // Given back by the writer, which may still be at it when this caller has gone.
        room.forget();
        let base = timeout_at(deadline, outcome)
            .await
            .map_err(|_| unavailable("the disk did not answer in time"))?
            .map_err(|_| unavailable("its writer has ended"))?
            .map_err(unavailable)?;
        for offset in &mut offsets {
            offset.0 += base;
        }
        Ok(offsets)
    }

    /// Where each frame starts within the batch, and how the batch will have ended.
    fn push(&self, frames: &[Encoded<'_>], permits: u32) -> Result<(Vec<Offset>, oneshot::Receiver<Outcome>), LogError> {
        let (done, outcome) = oneshot::channel();
        let mut offsets = Vec::with_capacity(frames.len());
        let mut state = self.state();
        match &state.gate {
            Gate::Open | Gate::Trying(_) => {}
            Gate::Shut(reason) | Gate::Failed(reason) => return Err(unavailable(reason.clone())),
        }
        for frame in frames {
            offsets.push(Offset(state.batch.bytes.len() as u64));
            frame.write_to(&mut state.batch.bytes);
        }
        state.batch.callers.waiting.push(done);
        state.batch.callers.taken += permits as usize;
        self.wake(state);
        Ok((offsets, outcome))
    }

    /// Has the writer look for commits.
    pub(super) fn call(&self) {
        let mut state = self.state();
        state.called = true;
        self.wake(state);
    }

    /// Has the writer write what is queued and end.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closing = true;
        state.called = true;
        self.wake(state);
    }

    /// Wakes the writer if it sleeps: a system call that a busy writer is spared.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let asleep = mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.arrived.notify_one();
        }
    }

    /// For the writer: what is queued, at the latest after `wait` although it be nothing.
    pub(super) fn take(&self, wait: Duration) -> Work {
        let mut state = self.state();
        if state.batch.callers.is_empty() && !state.called {
            state.asleep = true;
            // Woken early by chance means an empty batch, which the writer is used to.
            state = self.arrived.wait_timeout(state, wait).expect(UNPOISONED).0;
            state.asleep = false;
        }
        state.called = false;
        let next = Batch::with_capacity(state.batch.bytes.len().min(MOST_FORESEEN));
        Work { batch: mem::replace(&mut state.batch, next), closing: state.closing }
    }

    /// For the writer: tells the callers of a batch how it ended, and lets others in.
    pub(super) fn settle(&self, callers: Callers, outcome: &Outcome) {
        for caller in callers.waiting {
            // A caller that has gone doesn't want to know.
            let _ = caller.send(outcome.clone());
        }
        self.room.add_permits(callers.taken);
    }

    pub(super) fn gate(&self) -> Gate {
        self.state().gate.clone()
    }

    /// For the writer. What has failed stays so.
    pub(super) fn set_gate(&self, gate: Gate) {
        let mut state = self.state();
        if !matches!(state.gate, Gate::Failed(_)) {
            state.gate = gate;
        }
    }

    /// For the writer: the last write has worked.
    pub(super) fn has_written(&self) {
        let mut state = self.state();
        if matches!(state.gate, Gate::Trying(_)) {
            state.gate = Gate::Open;
        }
    }

    /// For the writer, when it ends: refuses what is queued and whatever comes.
    pub(super) fn end(&self, reason: &str) {
        self.set_gate(Gate::Failed(reason.to_owned()));
        let batch = mem::replace(&mut self.state().batch, Batch::with_capacity(0));
        self.settle(batch.callers, &Err(reason.to_owned()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

fn unavailable(reason: impl Into<String>) -> LogError {
    LogError::Unavailable { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Topic;
    use crate::log::local::frame::Kind;
    use postrider_core::partition::Partition;
    use postrider_core::time::Time;

    fn frame(payload: &[u8]) -> Encoded<'_> {
        Encoded::new(Kind::Record(Topic::Events), Partition(0), Time(0), &[], payload)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(30)
    }

    #[tokio::test]
    async fn an_append_that_cannot_be_durable_is_refused_within_its_deadline() {
        let queue = Queue::new(100);
        let refused = queue.append(&[frame(&[0; 50])], soon()).await;
        assert!(matches!(refused, Err(LogError::Unavailable { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn no_more_is_queued_than_the_bound_and_settling_makes_room() {
        let queue = Queue::new(100);
        let first = queue.append(&[frame(&[0; 50])], soon()).await;
        assert!(first.is_err());
        let second = queue.append(&[frame(&[0; 50])], soon()).await.unwrap_err().to_string();
        assert!(second.contains("queue was full"), "{second}");

        let work = queue.take(Duration::ZERO);
        assert_eq!(work.batch.bytes.len(), MARK + 73);
        queue.settle(work.batch.callers, &Ok(7000));
        let frames = [frame(&[1; 5000]), frame(&[2; 9])];
        let append = queue.append(&frames, Instant::now() + Duration::from_secs(10));
        let write = async {
            tokio::task::yield_now().await;
            let work = queue.take(Duration::ZERO);
            queue.settle(work.batch.callers, &Ok(8000));
        };
        let (offsets, ()) = tokio::join!(append, write);
        assert_eq!(offsets.unwrap(), [Offset(8000 + 39), Offset(8000 + 39 + 5023)], "although larger than the queue");
    }

    #[tokio::test]
    async fn what_has_failed_stays_failed() {
        let queue = Queue::new(100);
        queue.end("the disk is gone");
        queue.set_gate(Gate::Open);
        let refused = queue.append(&[frame(&[])], soon()).await.unwrap_err().to_string();
        assert!(refused.contains("the disk is gone"), "{refused}");
    }
}

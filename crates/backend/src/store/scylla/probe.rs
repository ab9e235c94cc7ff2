//! What runs beside the requests: a look whether the cluster answers, and the removal of marks that nobody needs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use scylla::statement::{Consistency, Statement};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Inner;
use super::batches::{Batches, Row};

/// How often the cluster is asked.
const EVERY: Duration = Duration::from_secs(1);
/// Longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest that an owner which does not know that it lost its partition can go on writing, by far.
const GRACE: Duration = Duration::from_secs(900);
/// Marks removed at one time.
const REMOVED: usize = 1000;

/// What came of the last look.
#[derive(Default)]
pub(super) struct Health(Mutex<Option<String>>);

impl Health {
    pub(super) fn get(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn set(&self, trouble: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &trouble) {
            (None, Some(why)) => tracing::warn!(why, "the store does not answer"),
            (Some(_), None) => tracing::info!("the store answers again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        *known = trouble;
    }
}

/// Most marks that wait to be removed; the next takeover finds the rest again.
const MOST: usize = 100_000;

/// Marks of former owners, to be removed once these have surely ended.
#[derive(Default)]
pub(super) struct Stale(VecDeque<(Instant, Row)>);

impl Stale {
    /// Notes marks that were replaced just now. A restart forgets them; then the next takeover finds them again.
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        let due = Instant::now() + GRACE;
        let room = MOST.saturating_sub(self.0.len());
        self.0.extend(rows.into_iter().take(room).map(|row| (due, row)));
    }

    fn due(&mut self, now: Instant) -> Batches {
        let mut batches = Batches::default();
        for _ in 0..REMOVED {
            let Some((_, row)) = self.0.pop_front_if(|(due, _)| *due <= now) else { break };
            batches.push(row);
        }
        batches
    }
}

/// Begins to look after a store, until it is dropped.
pub(super) fn start(inner: &Arc<Inner>) {
    let task = tokio::spawn(watch(Arc::downgrade(inner)));
    *inner.probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
}

async fn watch(inner: Weak<Inner>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut question = Statement::new("SELECT key FROM system.local");
    question.set_consistency(Consistency::One);
    question.set_is_idempotent(true);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let trouble = match timeout(LIMIT, inner.session.query_unpaged(question.clone(), ())).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("no node answers: {error}")),
            Err(_) => Some(format!("no node answers within {} s", LIMIT.as_secs())),
        };
        let answers = trouble.is_none();
        inner.health.set(trouble);
        if answers {
            let due = inner.stale.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now());
            if due.is_empty() {
                continue;
            }
            if let Err(error) = due.write(&inner.session, &inner.statements).await {
                tracing::warn!(%error, "marks of former owners can't be removed; the next takeover will find them");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            probe.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn marks_of_former_owners_stay_until_these_have_ended() {
        let row = || Row::Unmark { partition: 1, endpoint: [0; 16], writer: [0; 16], stamp: 5 };
        let mut stale = Stale::default();
        stale.add([row(), row()]);
        assert!(stale.due(Instant::now()).is_empty());
        assert!(!stale.due(Instant::now() + GRACE).is_empty());
        assert!(stale.0.is_empty());
    }
}

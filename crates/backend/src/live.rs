//! Attempts as they are made, whichever process makes them.
//!
//! In a cluster those who deliver write them to the topic `live`, where those who follow read them; but only while
//! somebody follows, and says so every few seconds, as a record for each attempt costs the brokers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::id::{DeliveryId, EndpointId, Uid};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::directory::{Change, Directory};
use crate::log::{Log, LogError, kafka};
use crate::store::{Attempt, AttemptRow, Finished, Store};

/// Between two times that a follower says it is there.
const ASK: Duration = Duration::from_secs(5);
/// How long attempts are shown after somebody said so. More than two times may be missed.
const SHOW: Duration = Duration::from_secs(16);
/// Attempts kept for a slow follower.
const FEED: usize = 1024;
/// Most attempts that are shown at a time.
const TOGETHER: usize = 256;

/// The attempts of all processes. Cloning shares it.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    log: Log,
    directory: Directory,
    /// Feeds the followers of this process, while there are any.
    feed: Mutex<Option<broadcast::Sender<Arc<Finished>>>>,
}

/// An attempt as processes show it to each other, in JSON.
#[derive(Serialize, Deserialize)]
struct Shown {
    tenant: Arc<str>,
    event: Uid,
    endpoint: EndpointId,
    n: u32,
    /// Without the response's body, which nobody is shown here.
    row: AttemptRow,
}

impl Live {
    /// Those of this process's store, and of the others that share `log`.
    pub fn new(store: Store, log: Log, directory: Directory) -> Live {
        Live { inner: Arc::new(Inner { store, log, directory, feed: Mutex::default() }) }
    }

    /// Attempts from now on, of all tenants; those of other processes as soon as they have heard of it. Who falls behind
    /// loses some. Ends when they can't be followed any more.
    ///
    /// Needs a Tokio runtime that lives as long as it is used. Errors: [`LogError::Unavailable`].
    pub async fn subscribe(&self) -> Result<broadcast::Receiver<Arc<Finished>>, LogError> {
        let mut feed = self.inner.feed.lock().await;
        if let Some(feed) = &*feed {
            return Ok(feed.subscribe());
        }
        let Some(tail) = self.inner.log.follow().await? else { return Ok(self.inner.store.subscribe()) };
        self.inner.directory.tell_watched().await?;
        let (sender, receiver) = broadcast::channel(FEED);
        *feed = Some(sender.clone());
        tokio::spawn(self.clone().follow(tail, sender));
        Ok(receiver)
    }

    /// Hands on what others show, as long as anybody in this process listens.
    async fn follow(self, mut tail: kafka::Tail, sender: broadcast::Sender<Arc<Finished>>) {
        let mut asks = interval(ASK);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = tail.next() => match told {
                    Ok((_, value)) => hand_on(&value, &sender),
                    Err(error) => {
                        tracing::warn!(%error, "attempts of other processes can't be followed any more");
                        *self.inner.feed.lock().await = None;
                        return;
                    }
                },
                _ = asks.tick() => {
                    let mut feed = self.inner.feed.lock().await;
                    if sender.receiver_count() == 0 {
                        *feed = None;
                        return;
                    }
                    drop(feed);
                    if let Err(error) = self.inner.directory.tell_watched().await {
                        tracing::warn!(%error, "those who deliver can't be told that somebody follows attempts; trying again");
                    }
                }
            }
        }
    }

    /// Shows others what this process's deliverer does, whenever somebody follows. Ends with the process.
    ///
    /// `changes` are those of the process's directory.
    pub async fn show(self, mut changes: broadcast::Receiver<Change>) {
        loop {
            match changes.recv().await {
                // Who missed changes may have missed that one.
                Ok(Change::Watched) | Err(RecvError::Lagged(_)) => {}
                Ok(Change::Endpoint(..) | Change::Tenant(_)) => continue,
                Err(RecvError::Closed) => return,
            }
            self.show_for_a_while(&mut changes).await;
        }
    }

    async fn show_for_a_while(&self, changes: &mut broadcast::Receiver<Change>) {
        let mut own = self.inner.store.subscribe();
        let mut until = Instant::now() + SHOW;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                change = changes.recv() => match change {
                    Ok(Change::Watched) | Err(RecvError::Lagged(_)) => until = Instant::now() + SHOW,
                    Ok(Change::Endpoint(..) | Change::Tenant(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                finished = own.recv() => match finished {
                    Ok(first) => {
                        let more = std::iter::from_fn(|| own.try_recv().ok());
                        let news: Vec<_> = std::iter::once(first).chain(more).take(TOGETHER).map(|one| shown(&one)).collect();
                        if let Err(error) = self.inner.log.show(&news).await {
                            tracing::warn!(%error, missed = news.len(), "attempts can't be shown to those who follow them");
                        }
                    }
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "attempts come faster than they can be shown to those who follow them");
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// An attempt as others read it, and its key.
fn shown(finished: &Finished) -> (String, Bytes) {
    let Finished { tenant, attempt: Attempt { id, n, row } } = finished;
    let mut row = row.clone();
    row.report.body = Bytes::new();
    let shown = Shown { tenant: tenant.clone(), event: id.event, endpoint: id.endpoint, n: *n, row };
    let json = serde_json::to_vec(&shown).expect("an attempt has text keys only, so it always has a JSON form");
    (id.endpoint.to_string(), Bytes::from(json))
}

fn hand_on(json: &[u8], followers: &broadcast::Sender<Arc<Finished>>) {
    match serde_json::from_slice::<Shown>(json) {
        Ok(Shown { tenant, event, endpoint, n, row }) => {
            let attempt = Attempt { id: DeliveryId { event, endpoint }, n, row };
            // Without followers there is nobody to tell.
            let _ = followers.send(Arc::new(Finished { tenant, attempt }));
        }
        // Another version's, or not ours at all.
        Err(error) => tracing::warn!(%error, "an attempt that was shown can't be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::attempt::{Answer, DeliveryState, Failure, Report};
    use postrider_core::time::{Millis, Time};

    #[test]
    fn followers_get_what_was_shown_but_for_the_body() {
        let answers = [
            Answer::Status { code: 503, retry_after: Some(Millis(7)) },
            Answer::Failed { failure: Failure::Timeout, detail: "it took too long".to_owned() },
        ];
        for answer in answers {
            let report = Report { started: Time(1), took: Millis(2), answer, body: Bytes::from_static(b"text") };
            let row = AttemptRow { report, next: Some(Time(3)), state: DeliveryState::Pending, kind: "a.b".to_owned() };
            let id = DeliveryId { event: Uid(u128::MAX), endpoint: EndpointId(Uid(1)) };
            let mut finished = Finished { tenant: "t".into(), attempt: Attempt { id, n: 4, row } };
            let (key, json) = shown(&finished);
            assert_eq!(key, id.endpoint.to_string());
            let (followers, mut follower) = broadcast::channel(2);
            hand_on(b"{\"of\": \"another version\"}", &followers);
            hand_on(&json, &followers);
            let got = follower.try_recv().unwrap();
            finished.attempt.row.report.body = Bytes::new();
            assert_eq!((&got.tenant, &got.attempt), (&finished.tenant, &finished.attempt));
        }
    }
}

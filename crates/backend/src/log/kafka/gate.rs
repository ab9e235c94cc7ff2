//! Whether brokers can be reached: a probe once a second, so that nothing queues up for brokers known to be away.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::producer::Producer;

use super::producer::{Client, Context};

/// Between probes.
const EVERY: Duration = Duration::from_secs(1);
/// Between probes while brokers are away, or may be.
const EVERY_AWAY: Duration = Duration::from_millis(250);
/// A probe that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// One late answer is no outage.
const FAILURES: u32 = 2;

/// What is known about the brokers.
#[derive(Debug, Default)]
pub(super) struct Gate {
    away: Mutex<Option<String>>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Gate {
    /// Whether records may be sent, or else why not.
    pub(super) fn open(&self) -> Result<(), String> {
        match &*self.away.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Ends [`watch`].
    pub(super) fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }

    fn set(&self, away: Option<String>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = away;
    }

    /// Waits for `time`; false once it is to stop.
    fn rest(&self, time: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let (stop, _) = self.stopped.wait_timeout_while(stop, time, |stop| !*stop).unwrap_or_else(PoisonError::into_inner);
        !*stop
    }
}

/// Probes `topic` until the gate is stopped or the client dropped.
pub(super) fn watch(gate: &Gate, client: &Weak<Client>, topic: &str) {
    let mut failures = 0;
    while gate.rest(if failures == 0 { EVERY } else { EVERY_AWAY }) {
        let Some(client) = client.upgrade() else { return };
        if let Some((_, reason)) = client.client().fatal_error() {
            tracing::error!(reason, "Kafka takes nothing more from this process; it must be restarted");
            return gate.set(Some(format!("Kafka takes nothing more from this process, restart it: {reason}")));
        }
        let context: &Arc<Context> = client.context();
        match client.client().fetch_metadata(Some(topic), PATIENCE) {
            Ok(_) => {
                if failures >= FAILURES {
                    tracing::info!("Kafka can be reached again");
                }
                failures = 0;
                gate.set(None);
                context.trouble.forget();
            }
            Err(error) => {
                failures += 1;
                if failures == FAILURES {
                    let reason = context.trouble.latest().map_or_else(|| error.to_string(), |(_, reason)| reason);
                    tracing::warn!(reason, "Kafka can't be reached");
                    gate.set(Some(format!("no Kafka broker answers: {reason}")));
                }
            }
        }
    }
}

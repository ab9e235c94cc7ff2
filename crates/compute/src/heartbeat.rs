//! Signs of life of a job that runs, and whether it is still to be run.

use std::time::Duration;

use postrider_core::job::{Claim, Lost};
use postrider_ingest::clock;
use postrider_ingest::jobs::Moved;
use tokio::time::Instant;

use crate::progress::Progress;
use crate::queue::Waiting;
use crate::run::lease;
use crate::worker::Shop;

/// Between two looks at the job: a withdrawal is noticed after so long.
const LOOK: Duration = Duration::from_secs(1);
/// The claim is renewed once one in this many parts of its lease is over.
const PARTS: u32 = 3;

/// Keeps a claim for as long as it is the worker's; says why it no longer is. A store that does not answer changes nothing:
/// if another worker takes the job meanwhile, this one finds out when it wants to end it.
pub(crate) async fn heartbeat(shop: &Shop, waiting: &Waiting, claim: Claim, progress: &Progress) -> Lost {
    let Waiting { tenant, job: id, .. } = waiting;
    let (mut renewed, mut told) = (Instant::now(), progress.counts());
    // What could not be told is told before anything newer: a text that grows is told piece by piece.
    let mut untold = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let job = match shop.store.job(tenant, *id).await {
            Ok(Some(job)) => job,
            Ok(None) => return Lost::Over,
            Err(error) => {
                tracing::warn!(%error, job = %id, "a running job can't be looked at; trying again");
                continue;
            }
        };
        let (now, reached) = (clock::now(), progress.counts());
        let next = match job.renew(claim, reached, now, lease(shop)) {
            Ok(next) => next,
            Err(lost) => return lost,
        };
        let has_moved = reached != told;
        let mut stands = job;
        if has_moved || renewed.elapsed() >= shop.options.lease / PARTS {
            match shop.store.swap_job(tenant, *id, &next).await {
                Ok(true) => (renewed, stands) = (Instant::now(), next),
                Ok(false) => continue, // the next look says what it is now
                Err(error) => {
                    tracing::warn!(%error, job = %id, "a claim can't be renewed; trying again");
                    continue;
                }
            }
        }
        let word = untold.take().or_else(|| progress.word());
        if !has_moved && word.is_none() {
            continue;
        }
        let moved = if has_moved { Moved::Further } else { Moved::Not };
        match shop.jobs.tell_progress(tenant, *id, &stands, now, moved, word.as_deref()).await {
            Ok(()) => told = reached,
            Err(error) => {
                tracing::warn!(%error, job = %id, "a job's progress can't be told; trying again");
                untold = word;
            }
        }
    }
}

//! Signs of life of a job that runs, and whether it is still to be run.

use std::cell::Cell;
use std::time::Duration;

use postrider_core::job::{Claim, Lost};
use postrider_ingest::clock;
use tokio::time::Instant;

use crate::queue::Waiting;
use crate::run::lease;
use crate::worker::Shop;

/// Between two looks at the job: a withdrawal is noticed after so long.
const LOOK: Duration = Duration::from_secs(1);
/// The claim is renewed once one in this many parts of its lease is over.
const PARTS: u32 = 3;

/// Keeps a claim for as long as it is the worker's; says why it no longer is. A store that does not answer changes nothing:
/// if another worker takes the job meanwhile, this one finds out when it wants to end it.
pub(crate) async fn heartbeat(shop: &Shop, waiting: &Waiting, claim: Claim, progress: &Cell<u16>) -> Lost {
    let Waiting { tenant, job: id, .. } = waiting;
    let (mut renewed, mut told) = (Instant::now(), 0);
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
        let (now, permille) = (clock::now(), progress.get());
        let next = match job.renew(claim, permille, now, lease(shop)) {
            Ok(next) => next,
            Err(lost) => return lost,
        };
        let has_moved = permille != told;
        if !has_moved && renewed.elapsed() < shop.options.lease / PARTS {
            continue;
        }
        match shop.store.swap_job(tenant, *id, &next).await {
            Ok(true) => renewed = Instant::now(),
            Ok(false) => continue, // the next look says what it is now
            Err(error) => {
                tracing::warn!(%error, job = %id, "a claim can't be renewed; trying again");
                continue;
            }
        }
        if has_moved {
            match shop.jobs.tell_progress(tenant, *id, &next, now).await {
                Ok(()) => told = permille,
                Err(error) => tracing::warn!(%error, job = %id, "a job's progress can't be told; trying again"),
            }
        }
    }
}

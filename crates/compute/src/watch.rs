//! A job that a worker outside does: its record stays open until it has ended, and somebody notices that nothing is heard of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::job::State;
use postrider_ingest::clock;
use postrider_ingest::jobs::OutsideKind;

use crate::run::{AGAIN, Next, One};

/// Between two looks: an eighth of the time that the job has been there for.
const LOOK: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(10);

impl One<'_> {
    /// Looks at the job once.
    pub(crate) async fn watch(&self, kind: &OutsideKind) -> Next {
        let (jobs, waiting) = (&self.shop.jobs, self.waiting);
        let is_begun = match self.row().await {
            Ok(job) => !matches!(job.state, State::Pending { .. }),
            Err(next) => return next,
        };
        match jobs.watch(&waiting.tenant, waiting.job, kind).await {
            Ok(None) => Next::Done,
            Ok(Some(until)) => {
                let now = clock::now();
                let look = Duration::from(now.since(waiting.job.0.time())) / 8;
                let wait = look.clamp(*LOOK.start(), *LOOK.end()).min(Duration::from(until.since(now)).max(*LOOK.start()));
                if is_begun { Next::Elsewhere(wait) } else { Next::Later(wait) }
            }
            Err(error) => {
                tracing::warn!(%error, job = %waiting.job, "a job can't be watched; trying again");
                Next::Later(AGAIN)
            }
        }
    }
}

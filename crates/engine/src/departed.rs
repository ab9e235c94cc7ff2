//! What is left of a worker when its partitions have gone: attempts in flight, and what becomes of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use postrider_core::shard::{Action, Input, Shard};
use postrider_ingest::clock;
use tokio::time::{Instant, sleep_until};

use crate::attempt::{Landed, Outlet};
use crate::lookups::{self, Answered, Known};
use crate::outbox::Outbox;
use postrider_backend::log::Tenure;

/// A worker without partitions. Its shards' rows wait until its attempts have ended at the latest; until then nobody else
/// makes them.
pub(crate) struct Departed {
    pub(crate) shards: BTreeMap<Tenure, Shard>,
    pub(crate) outlet: Rc<Outlet>,
    pub(crate) sending: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    pub(crate) lookups: FuturesUnordered<LocalBoxFuture<'static, Option<Answered>>>,
    pub(crate) outbox: Outbox,
}

impl Departed {
    /// Records how the attempts in flight end, until `deadline`; the rest is cut off, and made again by who follows.
    pub(crate) async fn wind_up(mut self, deadline: Instant) {
        while self.shards.values().any(Shard::is_busy) {
            tokio::select! {
                biased;
                tenures = self.outbox.written() => {
                    tenures.into_iter().for_each(|tenure| self.feed(tenure, Input::Written { count: 1 }));
                }
                Some(Landed { tenure, id, report }) = self.sending.next() => self.feed(tenure, Input::Finished { id, report }),
                Some(_) = self.lookups.next() => {} // nobody waits for it any more
                () = sleep_until(deadline) => {
                    let in_flight = self.sending.len();
                    tracing::warn!(in_flight, "the drain deadline has passed; attempts in flight are cut off and made again later");
                    return;
                }
            }
            self.carry_out();
        }
    }

    fn feed(&mut self, tenure: Tenure, input: Input) {
        if let Some(shard) = self.shards.get_mut(&tenure) {
            shard.handle(input, clock::now());
        }
    }

    fn carry_out(&mut self) {
        for (tenure, shard) in &mut self.shards {
            while let Some(action) = shard.poll() {
                match action {
                    Action::Write(change) => self.outbox.push_change(*tenure, change),
                    Action::Disable { meta, .. } => {
                        let Some(known) = Known::from_meta(&meta) else { continue };
                        self.lookups.push(Box::pin(lookups::disable(self.outlet.directory.clone(), known)));
                    }
                    // Of a partition that could not be handed over in time; it is not this worker's any more.
                    Action::Send(_)
                    | Action::Load { .. }
                    | Action::Find(_)
                    | Action::Resolve { .. }
                    | Action::Commit(_)
                    | Action::Pause
                    | Action::Resume
                    | Action::Drained => {}
                }
            }
        }
    }
}

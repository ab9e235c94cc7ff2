//! A delivery's whole way through a shard that has nothing to wait for: it arrives, is sent, succeeds, is written and
//! committed. The cost must not depend on how many lanes there are.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use postrider_core::attempt::{Answer, Report};
use postrider_core::delivery::Delivery;
use postrider_core::endpoint::{Endpoint, Policy};
use postrider_core::offsets::{Offset, Progress};
use postrider_core::record::Command;
use postrider_core::secret::Secret;
use postrider_core::shard::{Action, Input, Limits, Shard};
use postrider_core::time::{Millis, Time};

use crate::samples::{self, Ids, NOW, TENANT};

pub(crate) fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    for lanes in [1, 64, 10_000] {
        let mut world = World::new(lanes);
        (0..lanes).for_each(|_| world.deliver()); // every lane is known then, as it is while a server runs
        group.bench_with_input(BenchmarkId::new("delivery", lanes), &(), |bencher, ()| bencher.iter(|| world.deliver()));
    }
    group.finish();
}

struct World {
    shard: Shard,
    policy: Policy,
    ids: Ids,
    lanes: u64,
    delivered: u64,
    meta: Bytes,
    payload: Bytes,
}

impl World {
    fn new(lanes: u64) -> World {
        let url = Endpoint::of_url(TENANT, "https://example.com/", Secret::from_random([7; 32]), None);
        World {
            shard: Shard::new(Limits::default(), Progress::default(), 1),
            policy: url.policy(),
            ids: Ids::default(),
            lanes,
            delivered: 0,
            meta: samples::envelope(Ids::default().next(), samples::endpoint(0)).encode().into(),
            payload: samples::json(1024),
        }
    }

    /// One delivery, from its arrival until its write is durable.
    fn deliver(&mut self) {
        let endpoint = samples::endpoint(self.delivered % self.lanes);
        let id = samples::delivery(self.ids.next(), endpoint);
        self.delivered += 1;
        // Sixteen deliveries a millisecond, so that commits come about as often as they do under load.
        let now = Time(NOW.0 + self.delivered / 16);
        let (meta, payload) = (self.meta.clone(), self.payload.clone());
        let delivery = Delivery { id, key: None, since: now, attempts: 0, failed: 0, meta, payload };
        self.shard.handle(Input::Arrived { offset: Offset(self.delivered), command: Command::Deliver, delivery }, now);
        let mut written = 0;
        while let Some(action) = self.shard.poll() {
            match action {
                Action::Send(attempt) => {
                    let answer = Answer::Status { code: 200, retry_after: None };
                    let report = Report { started: now, took: Millis(1), answer, body: Bytes::new() };
                    self.shard.handle(Input::Finished { id: attempt.delivery.id, report }, now);
                }
                Action::Write(_) => written += 1,
                Action::Resolve { endpoint, .. } => {
                    self.shard.handle(Input::Endpoint { endpoint, policy: self.policy.clone() }, now);
                }
                Action::Commit(_) => {}
                Action::Load { .. } | Action::Find(_) | Action::Pause | Action::Resume | Action::Disable { .. } | Action::Drained => {
                    unreachable!("nothing fails and nothing waits here: {action:?}")
                }
            }
        }
        assert_eq!(written, 1, "a delivery that succeeds is written once");
        self.shard.handle(Input::Written { count: written }, now);
        while let Some(action) = self.shard.poll() {
            assert!(matches!(action, Action::Commit(_)), "nothing is left but to commit: {action:?}");
        }
    }
}

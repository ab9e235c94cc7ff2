//! The rows of deliveries that succeeded at once, an event's and an attempt's each, written to the local store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use postrider_backend::log::local as log;
use postrider_backend::store::{AttemptRow, Body, Dead, DeliveryWrite, EventRow, EventWrite, Store, Target, Write, local};
use postrider_core::attempt::{Answer, DeliveryState, Report};
use postrider_core::offsets::Offset;
use postrider_core::partition::Partition;
use postrider_core::time::Millis;

use crate::append::{folder, runtime};
use crate::samples::{self, Ids, KIND, NOW, TENANT};

pub(crate) fn write(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = folder();
    let log = log::Log::open(&folder.path().join("log"), log::Options::default()).expect("an empty folder");
    let day = Millis::from_secs(24 * 3600);
    let options = local::Options { folder: folder.path().join("store"), retention: day, job_retention: day, min_free_bytes: 0 };
    let store = Store::Local(local::Store::open(&options, log).expect("an empty folder"));
    let mut ids = Ids::default();
    let mut group = criterion.benchmark_group("store");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for deliveries in [1, 64, 512] {
        group.throughput(Throughput::Elements(deliveries));
        group.bench_with_input(BenchmarkId::new("deliveries", deliveries), &deliveries, |bencher, deliveries| {
            let batch = || (0..*deliveries).flat_map(|_| rows(&mut ids)).collect::<Arc<[Write]>>();
            let written = |batch: Arc<[Write]>| runtime.block_on(store.write(batch)).expect("the disk takes it");
            bencher.iter_batched(batch, written, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn rows(ids: &mut Ids) -> [Write; 2] {
    let (event, endpoint) = (ids.next(), samples::endpoint(1));
    let tenant: Arc<str> = TENANT.into();
    let row = EventRow {
        given_id: None,
        kind: KIND.to_owned(),
        metadata: None,
        targets: vec![Target { endpoint, url: None }],
        key: None,
        correlation_id: None,
        body: Body::At(Offset(1)),
    };
    let report = Report { started: NOW, took: Millis(1), answer: Answer::Status { code: 200, retry_after: None }, body: Bytes::new() };
    let attempt = AttemptRow { report, next: None, state: DeliveryState::Succeeded, kind: KIND.to_owned() };
    [
        Write::Event(EventWrite { tenant: tenant.clone(), event, chunk: 0, row }),
        Write::Delivery(DeliveryWrite {
            tenant,
            partition: Partition(0),
            id: samples::delivery(event, endpoint),
            attempt: Some((1, attempt)),
            end: None,
            dead: Dead::Keep,
            remove: None,
            put: None,
        }),
    ]
}

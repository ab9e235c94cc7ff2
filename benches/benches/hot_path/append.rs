//! Records made durable in the local log: what callers at a time share is one write and one `fdatasync`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::future::join_all;
use postrider_backend::log::{Append, Log, Topic, local};
use postrider_core::partition;
use tokio::runtime::Runtime;

use crate::samples::{self, Ids};

pub(crate) fn append(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = folder();
    let log = Log::Local(local::Log::open(folder.path(), local::Options::default()).expect("an empty folder"));
    let record = record(&log);
    let mut group = criterion.benchmark_group("append");
    // Each append stays on disk until the end.
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for callers in [1, 16, 64] {
        group.throughput(Throughput::Elements(callers));
        group.bench_with_input(BenchmarkId::new("callers", callers), &callers, |bencher, callers| {
            bencher.iter(|| {
                let appends = (0..*callers).map(|_| log.append(vec![record.clone()]));
                for appended in runtime.block_on(join_all(appends)) {
                    appended.expect("the disk takes it");
                }
            });
        });
    }
    group.finish();
}

/// A runtime as each worker thread has one.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

/// A folder on the disk that the build lies on; one in memory would have no `fdatasync` to measure.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn record(log: &Log) -> Append {
    let endpoint = samples::endpoint(1);
    Append {
        topic: Topic::Deliveries,
        partition: partition::of_endpoint(endpoint, log.partitions(Topic::Deliveries)),
        meta: samples::envelope(Ids::default().next(), endpoint).encode().into(),
        payload: samples::json(1024),
        failure: None,
    }
}

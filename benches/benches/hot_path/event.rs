//! An event as it comes in, and as it goes out.

use criterion::{Criterion, Throughput};
use postrider_ingest::Submission;
use std::hint::black_box;

use crate::samples::{self, KIND, NOW};

pub(crate) fn read_and_render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event");
    for kib in [1, 64] {
        let data = samples::json(kib * 1024);
        let request = format!("{{\"type\":\"{KIND}\",\"data\":{}}}", std::str::from_utf8(&data).expect("JSON is UTF-8"));
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(format!("read/{kib}KiB"), |bencher| {
            bencher.iter(|| Submission::from_json(black_box(request.as_bytes())).expect("it is valid"));
        });
        let event = Submission::from_json(request.as_bytes()).expect("it is valid");
        let at = event.created_at(NOW);
        group.bench_function(format!("render/{kib}KiB"), |bencher| {
            bencher.iter(|| event.body(black_box("evt_01K70000000000000000000000"), &at));
        });
    }
    group.finish();
}

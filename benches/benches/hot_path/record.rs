//! The envelope that a record of the log begins with.

use std::hint::black_box;

use criterion::Criterion;
use postrider_core::record::Envelope;

use crate::samples::{self, Ids};

pub(crate) fn encode_and_decode(criterion: &mut Criterion) {
    let envelope = samples::envelope(Ids::default().next(), samples::endpoint(1));
    let bytes = envelope.encode();
    let mut group = criterion.benchmark_group("record");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&envelope).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| Envelope::decode(black_box(&bytes)).expect("it was encoded")));
    group.finish();
}

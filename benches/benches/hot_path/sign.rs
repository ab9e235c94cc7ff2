//! Both signatures of a delivery, and all of its headers.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use postrider_core::secret::Secret;
use postrider_core::sign::Signer;
use postrider_core::trace::TraceParent;
use postrider_egress::{Headers, Message, delivery_headers};

use crate::samples::{self, Ids, KIND, NOW};

pub(crate) fn sign(criterion: &mut Criterion) {
    let signer = Signer::new(&Secret::from_random([7; 32]), []);
    let event = Ids::default().next();
    let id = event.to_string();
    let trace = TraceParent::of_attempt(samples::delivery(event, samples::endpoint(1)), 1).into();
    let timestamp = NOW.0 / 1000;
    let mut group = criterion.benchmark_group("sign");
    for kib in [1, 64] {
        let body = samples::json(kib * 1024);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("signatures/{kib}KiB"), |bencher| bencher.iter(|| signer.sign(&id, timestamp, black_box(&body))));
        let message = Message { id: &id, timestamp, kind: KIND, attempt: 1, correlation_id: None, trace, body: &body };
        let own = Headers::default();
        group.bench_function(format!("headers/{kib}KiB"), |bencher| bencher.iter(|| delivery_headers(&signer, black_box(&message), &own)));
    }
    group.finish();
}

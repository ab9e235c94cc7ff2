//! Which endpoints want an event. The cost must not depend on how many others there are.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use postrider_core::id::EndpointId;
use postrider_core::pattern::{Pattern, Routes};

use crate::samples;

pub(crate) fn match_types(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for endpoints in [1, 100, 10_000] {
        let patterns: Vec<(EndpointId, Vec<Pattern>)> =
            (0..endpoints).map(|number| (samples::endpoint(number), patterns(number))).collect();
        let routes = Routes::new(patterns.iter().map(|(id, patterns)| (*id, patterns.as_slice())));
        group.bench_with_input(BenchmarkId::from_parameter(endpoints), "shop0.order.created", |bencher, kind| {
            bencher.iter(|| routes.matching(black_box(kind)));
        });
    }
    group.finish();
}

/// Each endpoint wants the types of a shop of its own, every other one by a prefix.
fn patterns(number: u64) -> Vec<Pattern> {
    let text = if number.is_multiple_of(2) { format!("shop{number}.*") } else { format!("shop{number}.order.created") };
    vec![text.parse().expect("a pattern")]
}

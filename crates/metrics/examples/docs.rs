//! Writes docs/metrics.md: `cargo run -p postrider-metrics --example docs > docs/metrics.md`.

fn main() {
    print!("{}", postrider_metrics::markdown());
}

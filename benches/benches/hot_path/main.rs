//! What a delivery's way is made of, each piece by itself: `cargo bench -p postrider-benches`.
//!
//! Every piece is run as the program runs it, with the sizes of the load test: bodies of 1 KiB. Names are
//! `piece/variant`, so that `cargo bench -p postrider-benches -- sign` runs the pieces of signing only.

mod append;
mod event;
mod record;
mod route;
mod samples;
mod shard;
mod sign;
mod store;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let pieces =
        [event::read_and_render, route::match_types, record::encode_and_decode, append::append, shard::step, sign::sign, store::write];
    pieces.into_iter().for_each(|piece: fn(&mut Criterion)| piece(&mut criterion));
    criterion.final_summary();
}

//! The tests' bare server as a program: against it the driver's own cost is measured, and what a fault looks like is seen.
//!
//! `loadtest --spawn target/release/examples/bare_server --rate 20000`, or with a fault:
//! `--spawn "target/release/examples/bare_server loses 100"`.

#[path = "../tests/it/fake.rs"]
mod fake;

use std::time::Duration;

use fake::Fault;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = arguments.get(1).and_then(|number| number.parse().ok()).unwrap_or(100);
    let fault = match arguments.first().map(String::as_str) {
        None => Fault::None,
        Some("loses") => Fault::LosesOneIn(number),
        Some("repeats") => Fault::RepeatsOneIn(number),
        Some("refuses") => Fault::RefusesOneIn(number),
        Some("stalls") => Fault::Stalls(Duration::from_millis(number)),
        Some("signs-wrongly") => Fault::SignsWrongly,
        Some(other) => panic!("{other} is no fault; known are loses, repeats, refuses, stalls (ms) and signs-wrongly"),
    };
    println!("listening on http://{}", fake::start(fault));
    loop {
        std::thread::park();
    }
}

//! Speech by the real espeak-ng, and what becomes of it when the program fails.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod fake;
mod faults;
mod orders;
mod speaking;
mod wav;

use postrider_speech::{Espeak, Order};

/// The real one. These tests fail without it rather than pass untried.
async fn espeak() -> Espeak {
    match Espeak::find(None).await {
        Ok(espeak) => espeak,
        Err(error) => panic!("these tests need espeak-ng: {error}"),
    }
}

fn english(text: impl Into<String>) -> Order {
    Order { text: text.into(), language: "en".to_owned(), ..Order::default() }
}

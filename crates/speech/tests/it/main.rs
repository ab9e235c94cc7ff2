//! Speech by the real espeak-ng, and what becomes of it when the program fails.

// Helpers of tests are not tests, so clippy.toml's exception does not reach them.
#![allow(clippy::unwrap_used)]

mod fake;
mod faults;
mod orders;
mod speaking;
mod wav;

use std::io::{Read, Seek};

use postrider_speech::{Espeak, Order, Request, SpeechError};

/// The real one. These tests fail without it rather than pass untried.
async fn espeak() -> Espeak {
    match Espeak::find(None).await {
        Ok(espeak) => espeak,
        Err(error) => panic!("these tests need espeak-ng: {error}"),
    }
}

/// The whole file.
async fn spoken(espeak: &Espeak, request: &Request) -> Result<Vec<u8>, SpeechError> {
    let mut file = tempfile::tempfile().unwrap();
    espeak.speak(request, file.try_clone().unwrap(), |_| ()).await?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap();
    Ok(bytes)
}

fn english(text: impl Into<String>) -> Order {
    Order { text: text.into(), language: "en".to_owned(), ..Order::default() }
}

//! Which orders are taken, and what the others are told.

use postrider_speech::{BadRequest, Format, MAX_TEXT, Order};

use crate::{english, espeak};

async fn refused(order: Order) -> BadRequest {
    espeak().await.request(order).expect_err("a bad order")
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let order = Order {
        text: " \n\0".to_owned(),
        language: "dothraki".to_owned(),
        voice: Some("../../etc/passwd".to_owned()),
        rate: Some(79),
        pitch: Some(100),
        format: Format::Ogg,
    };
    let bad = refused(order).await;
    assert_eq!(bad.fields.iter().map(|bad| bad.field).collect::<Vec<_>>(), ["text", "language", "voice", "rate", "pitch"]);
    let words = bad.to_string();
    assert!(words.starts_with("text: must have something to say; language: unknown language \"dothraki\"; most like it are "), "{words}");
    assert!(words.contains("voice: unknown voice \"../../etc/passwd\"; most like it are "), "{words}");
    assert!(words.ends_with("rate: must be 80 to 450 words a minute, not 79; pitch: must be 0 to 99, not 100"), "{words}");
}

#[tokio::test]
async fn the_ends_of_the_ranges_are_taken() {
    let espeak = espeak().await;
    for (rate, pitch) in [(80, 0), (450, 99)] {
        assert!(espeak.request(Order { rate: Some(rate), pitch: Some(pitch), ..english("yes") }).is_ok());
    }
    assert!(espeak.request(english("x".repeat(MAX_TEXT))).is_ok());
    let bad = refused(english("x".repeat(MAX_TEXT + 1))).await;
    assert_eq!(bad.to_string(), "text: must be at most 1048576 bytes, not 1048577");
}

#[tokio::test]
async fn a_voice_that_is_no_plain_name_is_refused() {
    for voice in ["", "../f3", "/etc/passwd", "f3+f1", "f3 -w x", "-f", "f3\0", "nobody"] {
        let bad = refused(Order { voice: Some(voice.to_owned()), ..english("yes") }).await;
        assert_eq!(bad.fields[0].field, "voice", "{voice}");
    }
}

#[tokio::test]
async fn languages_go_by_codes_and_names() {
    let espeak = espeak().await;
    for (wanted, code) in [("oromo", "om"), ("OM", "om"), ("English", "en-gb"), ("en_US", "en-us"), ("german", "de"), ("Amharic", "am")] {
        assert_eq!(espeak.language(wanted).unwrap().code, code, "{wanted}");
    }
    let unknown = espeak.language("oromoo").unwrap_err();
    assert_eq!(unknown.nearest[0].name, "Oromo");
    assert!(unknown.others > 100);
}

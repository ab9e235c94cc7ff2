//! What the real espeak-ng says.

use postrider_speech::{Espeak, Format, Order, SpeechError};
use vorbis_rs::VorbisDecoder;

use crate::wav::Wav;
use crate::{english, espeak, spoken};

async fn bytes(order: Order) -> Vec<u8> {
    by(&espeak().await, order).await
}

async fn by(espeak: &Espeak, order: Order) -> Vec<u8> {
    spoken(espeak, &espeak.request(order).unwrap()).await.unwrap()
}

async fn heard(order: Order) -> Wav {
    Wav::read(&bytes(order).await)
}

const SENTENCE: &str = "The quick brown fox jumps over the lazy dog.";

#[tokio::test]
async fn a_sentence_takes_about_as_long_as_a_person_would() {
    let wav = heard(english(SENTENCE)).await;
    assert_eq!(wav.rate, 22_050);
    // Nine words at 175 a minute.
    assert!((2.0..5.0).contains(&wav.seconds()), "{} s", wav.seconds());
    assert!(wav.sound() > 1.0, "{} s of sound", wav.sound());
}

#[tokio::test]
async fn oromo_is_spoken_by_its_name_and_code() {
    let text = "Akkam jirta? Ani nagaan jira, galatoomi. Afaan Oromoo afaan bareedaa dha.";
    let of = |language: &str| bytes(Order { text: text.to_owned(), language: language.to_owned(), ..Order::default() });
    let (by_name, by_code, as_english) = (of("oromo").await, of("om").await, of("en").await);
    assert!((3.0..9.0).contains(&Wav::read(&by_name).seconds()));
    assert!(by_name == by_code, "both are Oromo");
    assert!(by_name != as_english, "Oromo is not read as if it were English");
}

#[tokio::test]
async fn every_language_that_is_listed_can_be_spoken_in_another_voice() {
    let espeak = espeak().await;
    assert!(espeak.languages().count() > 100);
    for language in espeak.languages() {
        assert_eq!(espeak.language(&language.code).unwrap(), language);
        let order = Order { text: "1 2 3 ᎣᏏᏲ".to_owned(), language: language.code.clone(), ..Order::default() };
        let usual = by(&espeak, order.clone()).await;
        assert!(Wav::read(&usual).sound() > 0.2, "{language} is silent");
        assert!(usual != by(&espeak, Order { voice: Some("f3".to_owned()), ..order }).await, "{language} has one voice only");
    }
}

#[tokio::test]
async fn voice_rate_and_pitch_are_heard() {
    let usual = bytes(english(SENTENCE)).await;
    let voice = bytes(Order { voice: Some("f3".to_owned()), ..english(SENTENCE) }).await;
    let high = bytes(Order { pitch: Some(99), ..english(SENTENCE) }).await;
    assert!(usual != voice && usual != high && voice != high);
    let slow = heard(Order { rate: Some(80), ..english(SENTENCE) }).await;
    let fast = heard(Order { rate: Some(450), ..english(SENTENCE) }).await;
    assert!(slow.seconds() > 2.5 * fast.seconds(), "{} s and {} s", slow.seconds(), fast.seconds());
}

#[tokio::test]
async fn a_long_text_is_spoken_into_one_file_with_rising_progress() {
    let text = "So it was, and so it is, and nothing else was said on that day. ".repeat(1600);
    assert!(text.len() > 100_000);
    let espeak = espeak().await;
    let request = espeak.request(Order { rate: Some(450), ..english(text) }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    let mut shares = Vec::new();
    espeak.speak(&request, std::fs::File::create(&path).unwrap(), |share| shares.push(share)).await.unwrap();
    assert!(shares.len() >= 50, "{} parts", shares.len());
    assert!(shares.is_sorted_by(|one, next| one < next) && shares.last() == Some(&1.0), "{shares:?}");
    let wav = Wav::read(&std::fs::read(&path).unwrap());
    // 25,600 words at 450 a minute.
    assert!((2000.0..5000.0).contains(&wav.seconds()), "{} s", wav.seconds());
}

#[tokio::test]
async fn ogg_is_the_same_speech_in_far_fewer_bytes() {
    let espeak = espeak().await;
    let text = format!("{SENTENCE} ").repeat(100);
    let wav = by(&espeak, english(text.as_str())).await;
    let ogg = by(&espeak, Order { format: Format::Ogg, ..english(text) }).await;
    assert!(ogg.len() * 6 < wav.len(), "{} bytes, {} as WAV", ogg.len(), wav.len());
    let decoded = decoded(&ogg);
    let wav = Wav::read(&wav);
    assert_eq!((decoded.rate, decoded.samples.len()), (wav.rate, wav.samples.len()));
    assert!((decoded.sound() / wav.sound() - 1.0).abs() < 0.1, "{} s and {} s of sound", decoded.sound(), wav.sound());
}

#[tokio::test]
async fn ogg_without_a_sound_is_a_file_all_the_same() {
    let ogg = bytes(Order { format: Format::Ogg, ..english("\u{200b}") }).await;
    assert!(decoded(&ogg).seconds() < 1.0);
}

fn decoded(ogg: &[u8]) -> Wav {
    let mut decoder = VorbisDecoder::<&[u8]>::new(ogg).unwrap();
    let (rate, mut samples) = (decoder.sampling_frequency().get(), Vec::new());
    while let Some(block) = decoder.decode_audio_block().unwrap() {
        assert_eq!(block.samples().len(), 1);
        samples.extend(block.samples()[0].iter().map(|sample| (sample * 32768.0) as i16));
    }
    Wav { rate, samples }
}

#[tokio::test]
async fn a_text_without_a_sound_is_a_file_all_the_same() {
    for text in ["\u{200b}", ". . .", "\u{301}"] {
        assert!(heard(english(text)).await.seconds() < 5.0, "{text:?}");
    }
}

#[tokio::test]
async fn nothing_in_a_text_is_a_command_or_markup_or_phonemes() {
    // With what it must sound like, where that is known.
    let pairs = [
        ("one [[h@l'oU]] two", "one [ [h@l'oU]] two"),
        ("one \u{1}200S two \u{1}99P three", "one  200S two  99P three"),
        ("one\0two", "one two"),
        ("one\u{1b}[31m two", "one [31m two"),
    ];
    for (text, same) in pairs {
        assert!(bytes(english(text)).await == bytes(english(same)).await, "{text:?}");
    }
    let slow = heard(english("<prosody rate=\"x-slow\">no</prosody>")).await;
    assert!(slow.sound() > heard(english("no")).await.sound() * 2.0, "markup is read out");
    for text in ["-w /tmp/x", "--help", "-v xx", "--stdin\n-f /etc/passwd", "<speak>", "<audio src=\"/etc/passwd\"/>", "&lt;"] {
        assert!(heard(english(text)).await.sound() > 0.2, "{text:?}");
    }
}

#[tokio::test]
async fn strange_texts_are_spoken_or_refused_in_words() {
    let espeak = espeak().await;
    let texts = [
        "x".repeat(10_000),
        "[".repeat(5_000),
        "9".repeat(3_000),
        "😀".repeat(1_000),
        "e\u{301}".repeat(3_000),
        "漢".repeat(2_000),
        "a\u{202e}b\u{feff}\u{fffd}\u{10ffff}\u{e000}".repeat(300),
        "((((".repeat(1_000),
        "a.b,".repeat(2_000),
    ];
    for text in texts {
        let start = text.chars().take(5).collect::<String>();
        for language in ["en", "om", "cmn", "ar"] {
            let order = Order { text: text.clone(), language: language.to_owned(), rate: Some(450), ..Order::default() };
            match spoken(&espeak, &espeak.request(order).unwrap()).await {
                Ok(file) => assert!(Wav::read(&file).rate > 0),
                Err(error) => assert!(matches!(error, SpeechError::Failed { .. } | SpeechError::Flood), "{start} in {language}: {error}"),
            }
        }
    }
}

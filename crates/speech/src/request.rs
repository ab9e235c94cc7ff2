//! What is to be spoken, and how.

use std::fmt;
use std::ops::RangeInclusive;

use crate::audio::Format;
use crate::language::Languages;
use crate::voice::Voices;

/// Longest text, in bytes: 1 MiB. Two thirds of it are about as much as fits into a file at the usual rate.
pub const MAX_TEXT: usize = 1 << 20;
const RATES: RangeInclusive<u32> = 80..=450;
const PITCHES: RangeInclusive<u32> = 0..=99;

/// What someone asks for, unchecked.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// 1 to [`MAX_TEXT`] bytes that are not all space. Control characters are heard as spaces.
    pub text: String,
    /// A code or name, such as `om`, `oromo` or `en-us`.
    pub language: String,
    /// The variant of the voice, such as `f3`; espeak-ng's usual one otherwise.
    pub voice: Option<String>,
    /// 80 to 450 words a minute, 175 otherwise.
    pub rate: Option<u32>,
    /// 0 to 99, 50 otherwise.
    pub pitch: Option<u32>,
    /// WAV otherwise.
    pub format: Format,
}

/// An order that espeak-ng can carry out; [`Espeak::request`](crate::Espeak::request) makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(crate) text: String,
    /// The language's file, with the variant behind `+`.
    pub(crate) voice: String,
    pub(crate) rate: u32,
    pub(crate) pitch: u32,
    pub(crate) format: Format,
}

/// Why an order can't be carried out: every field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .fields.iter().map(BadField::to_string).collect::<Vec<_>>().join("; "))]
pub struct BadRequest {
    /// At least one.
    pub fields: Vec<BadField>,
}

/// A field of an [`Order`] that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// Its name.
    pub field: &'static str,
    /// What it must be.
    pub message: String,
}

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Request {
    pub(crate) fn new(order: Order, languages: &Languages, voices: &Voices) -> Result<Request, BadRequest> {
        let text = check_text(&order.text);
        let language = languages.find(&order.language).map_err(|unknown| unknown.to_string());
        let voice = order.voice.as_deref().map(|wanted| voices.find(wanted)).transpose();
        let rate = within(RATES, order.rate.unwrap_or(175), "words a minute");
        let pitch = within(PITCHES, order.pitch.unwrap_or(50), "");
        match (text, language, voice, rate, pitch) {
            (Ok(()), Ok(language), Ok(variant), Ok(rate), Ok(pitch)) => {
                let voice = variant.map_or_else(|| language.file.clone(), |variant| format!("{}+{variant}", language.file));
                Ok(Request { text: order.text, voice, rate, pitch, format: order.format })
            }
            (text, language, voice, rate, pitch) => {
                let errors = [
                    ("text", text.err()),
                    ("language", language.err()),
                    ("voice", voice.err()),
                    ("rate", rate.err()),
                    ("pitch", pitch.err()),
                ];
                let fields = errors.into_iter().filter_map(|(field, error)| Some(BadField { field, message: error? }));
                Err(BadRequest { fields: fields.collect() })
            }
        }
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("must be at most {MAX_TEXT} bytes, not {}", text.len()));
    }
    if text.chars().all(|character| character.is_whitespace() || character.is_control()) {
        return Err("must have something to say".to_owned());
    }
    Ok(())
}

fn within(range: RangeInclusive<u32>, value: u32, unit: &str) -> Result<u32, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    let words = format!("must be {} to {} {unit}", range.start(), range.end());
    Err(format!("{}, not {value}", words.trim_end()))
}

/// A part of a text as espeak-ng may get it: neither NUL nor the character that begins commands to it, nor any other control
/// character, and no `[[` as it begins phonemes. Brackets and spaces are not heard.
pub(crate) fn harmless(part: &str) -> String {
    let plain: String = part.chars().map(|character| if character.is_control() && character != '\n' { ' ' } else { character }).collect();
    plain.replace('[', " [")
}

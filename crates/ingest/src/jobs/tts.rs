//! Texts that are to be spoken.

use postrider_speech::{BadField, Espeak, Format, MAX_TEXT, Order, Request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::kinds::{Kinds, Speech};
use crate::submission::{Invalid, Problem};

/// Longest name of a voice and of a language of an upstream, in bytes.
const MAX_NAME: usize = 100;
/// Words a minute that an upstream's speed of 1 stands for, and what may be asked for.
const USUAL_RATE: u32 = 175;
const RATES: std::ops::RangeInclusive<u32> = 80..=450;

/// A text to be spoken.
#[derive(Clone, Debug)]
pub enum TtsInput {
    /// By the program of this machine.
    Espeak {
        /// As espeak-ng takes it.
        request: Request,
        /// What the file will be.
        media_type: &'static str,
    },
    /// By the upstream: what its `/audio/speech` takes.
    Upstream(Map<String, Value>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    text: String,
    language: String,
    #[serde(default)]
    voice: Option<String>,
    #[serde(default)]
    rate: Option<u32>,
    #[serde(default)]
    pitch: Option<u32>,
    #[serde(default)]
    format: RawFormat,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawFormat {
    #[default]
    Wav,
    Ogg,
    Mp3,
    Flac,
    Aac,
}

impl TtsInput {
    /// Reads `{text, language, …}`; names everything that is wrong.
    pub fn from_json(kinds: &Kinds, bytes: &[u8]) -> Result<TtsInput, Invalid> {
        let raw: Raw = Invalid::from_json(bytes)?;
        let speech = kinds.speech.as_ref().map_err(|why| Invalid::Fields(vec![Problem::new("", why.clone())]))?;
        match speech {
            Speech::Espeak(espeak) => of_espeak(espeak, raw),
            Speech::Upstream { model, voice } => of_upstream(model, voice, raw),
        }
    }
}

fn of_espeak(espeak: &Espeak, raw: Raw) -> Result<TtsInput, Invalid> {
    let Raw { text, language, voice, rate, pitch, format } = raw;
    let (format, media_type) = match format {
        RawFormat::Wav => (Format::Wav, "audio/wav"),
        RawFormat::Ogg => (Format::Ogg, "audio/ogg"),
        RawFormat::Mp3 | RawFormat::Flac | RawFormat::Aac => {
            return Err(Invalid::Fields(vec![Problem::new("format", "must be `wav` or `ogg`: espeak-ng makes nothing else")]));
        }
    };
    let problem = |BadField { field, message }| Problem::new(field, message);
    let order = Order { text, language, voice, rate, pitch, format };
    let request = espeak.request(order).map_err(|bad| Invalid::Fields(bad.fields.into_iter().map(problem).collect()))?;
    Ok(TtsInput::Espeak { request, media_type })
}

fn of_upstream(model: &str, usual: &str, raw: Raw) -> Result<TtsInput, Invalid> {
    let Raw { text, language, voice, rate, pitch, format } = raw;
    let mut problems = Vec::new();
    if text.trim().is_empty() || text.len() > MAX_TEXT {
        problems.push(Problem::new("text", format!("must have 1 to {MAX_TEXT} bytes that are not all space")));
    }
    let is_name = |name: &str| (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    for (field, name) in [("language", Some(&language)), ("voice", voice.as_ref())] {
        if name.is_some_and(|name| !is_name(name)) {
            problems.push(Problem::new(field, format!("must have 1 to {MAX_NAME} bytes")));
        }
    }
    if rate.is_some_and(|rate| !RATES.contains(&rate)) {
        problems.push(Problem::new("rate", format!("must be {} to {} words a minute", RATES.start(), RATES.end())));
    }
    if pitch.is_some() {
        problems.push(Problem::new("pitch", "is not possible here: the server has an upstream speak, which takes none"));
    }
    if !problems.is_empty() {
        return Err(Invalid::Fields(problems));
    }
    let format = match format {
        RawFormat::Wav => "wav",
        RawFormat::Ogg => "opus",
        RawFormat::Mp3 => "mp3",
        RawFormat::Flac => "flac",
        RawFormat::Aac => "aac",
    };
    let mut request = Map::new();
    request.insert("model".to_owned(), json!(model));
    request.insert("input".to_owned(), json!(text));
    request.insert("voice".to_owned(), json!(voice.as_deref().unwrap_or(usual)));
    request.insert("response_format".to_owned(), json!(format));
    if let Some(rate) = rate {
        request.insert("speed".to_owned(), json!((f64::from(rate) / f64::from(USUAL_RATE) * 100.0).round() / 100.0));
    }
    Ok(TtsInput::Upstream(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Bert;

    fn read(job: &Value) -> Result<TtsInput, Invalid> {
        let speech = Ok(Speech::Upstream { model: "tts-1".to_owned(), voice: "alloy".to_owned() });
        let kinds = Kinds { speech, bert: Bert::Missing, upstream: Ok(()), guard: postrider_egress::Guard::default(), outside: Vec::new() };
        TtsInput::from_json(&kinds, job.to_string().as_bytes())
    }

    #[test]
    fn an_upstream_gets_what_it_understands() {
        let job = json!({ "text": "Akkam", "language": "om", "rate": 350, "format": "ogg" });
        let Ok(TtsInput::Upstream(request)) = read(&job) else { panic!("it was refused") };
        let expected = json!({ "model": "tts-1", "input": "Akkam", "voice": "alloy", "response_format": "opus", "speed": 2.0 });
        assert_eq!(Value::Object(request), expected);
        let wrong = read(&json!({ "text": " ", "language": "", "voice": "", "rate": 7, "pitch": 50 }));
        let Err(Invalid::Fields(problems)) = wrong else { panic!("it was taken") };
        assert_eq!(problems.into_iter().map(|p| p.field).collect::<Vec<_>>(), ["text", "language", "voice", "rate", "pitch"]);
    }
}

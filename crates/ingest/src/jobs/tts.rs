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
/// Longest text that an upstream is asked to speak at once, in bytes: OpenAI's takes 4,096 characters.
pub const MAX_PART: usize = 4096;

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
    /// By the upstream.
    Upstream(UpstreamSpeech),
}

/// A text to be spoken by an upstream.
#[derive(Clone, Debug)]
pub struct UpstreamSpeech {
    /// What is to be spoken.
    pub text: String,
    /// What the file is to be.
    pub format: AudioFormat,
    /// The rest of the request.
    manner: Map<String, Value>,
}

impl UpstreamSpeech {
    /// What `/audio/speech` takes, to have `part` of the text spoken as `response_format`.
    pub fn request(&self, part: &str, response_format: &str) -> Map<String, Value> {
        let mut request = self.manner.clone();
        request.insert("input".to_owned(), json!(part));
        request.insert("response_format".to_owned(), json!(response_format));
        request
    }
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
    format: AudioFormat,
}

/// What a file of audio is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioFormat {
    /// `audio/wav`
    #[default]
    Wav,
    /// `audio/ogg`
    Ogg,
    /// `audio/mpeg`
    Mp3,
    /// `audio/flac`
    Flac,
    /// `audio/aac`
    Aac,
}

impl AudioFormat {
    /// As `/audio/speech` calls it.
    pub fn response_format(self) -> &'static str {
        match self {
            AudioFormat::Wav => "wav",
            AudioFormat::Ogg => "opus",
            AudioFormat::Mp3 => "mp3",
            AudioFormat::Flac => "flac",
            AudioFormat::Aac => "aac",
        }
    }
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
        AudioFormat::Wav => (Format::Wav, "audio/wav"),
        AudioFormat::Ogg => (Format::Ogg, "audio/ogg"),
        AudioFormat::Mp3 | AudioFormat::Flac | AudioFormat::Aac => {
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
    if format == AudioFormat::Flac && text.len() > MAX_PART {
        let words =
            format!("can't be flac for a text of more than {MAX_PART} bytes, whose parts can't be joined; use wav, ogg, mp3 or aac");
        problems.push(Problem::new("format", words));
    }
    if !problems.is_empty() {
        return Err(Invalid::Fields(problems));
    }
    let mut manner = Map::new();
    manner.insert("model".to_owned(), json!(model));
    manner.insert("voice".to_owned(), json!(voice.as_deref().unwrap_or(usual)));
    if let Some(rate) = rate {
        manner.insert("speed".to_owned(), json!((f64::from(rate) / f64::from(USUAL_RATE) * 100.0).round() / 100.0));
    }
    Ok(TtsInput::Upstream(UpstreamSpeech { text, format, manner }))
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
        let Ok(TtsInput::Upstream(speech)) = read(&job) else { panic!("it was refused") };
        let request = speech.request(&speech.text, speech.format.response_format());
        let expected = json!({ "model": "tts-1", "input": "Akkam", "voice": "alloy", "response_format": "opus", "speed": 2.0 });
        assert_eq!(Value::Object(request), expected);
        let wrong = read(&json!({ "text": " ", "language": "", "voice": "", "rate": 7, "pitch": 50 }));
        let Err(Invalid::Fields(problems)) = wrong else { panic!("it was taken") };
        assert_eq!(problems.into_iter().map(|p| p.field).collect::<Vec<_>>(), ["text", "language", "voice", "rate", "pitch"]);
        let long = |format: &str| read(&json!({ "text": "a".repeat(MAX_PART + 1), "language": "om", "format": format }));
        assert!(matches!(long("flac"), Err(Invalid::Fields(problems)) if problems[0].field == "format"));
        assert!(long("mp3").is_ok());
    }
}

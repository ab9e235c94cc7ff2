//! A text that the upstream speaks, part by part.

use std::fs::File;
use std::io::{self, Seek, Write};

use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_core::job::Error;
use postrider_ingest::jobs::{AudioFormat, MAX_PART, UpstreamSpeech};
use postrider_speech::{Audio, Format, MAX_AUDIO, SpeechError, parts};
use postrider_upstream::{Upstream, UpstreamError};
use serde_json::{Map, Value};

use super::{AGAIN, unspoken, unwritten};
use crate::generate::{failed, upstream};
use crate::worker::Shop;

/// Parts of one text that are asked for at one time.
const AT_ONCE: usize = 4;
/// How often a part that breaks off is begun.
const SPEECHES: u32 = 3;

/// Has the upstream speak into `file`, which is empty; gives the media type. `progress` is told the share that is spoken.
pub(super) async fn speak(shop: &Shop, speech: &UpstreamSpeech, file: &File, progress: impl Fn(f32)) -> Result<String, Error> {
    let upstream = upstream(shop)?;
    if speech.text.len() <= MAX_PART {
        let request = speech.request(&speech.text, speech.format.response_format());
        return part(upstream, &request, &mut file.try_clone().map_err(unwritten)?).await;
    }
    let mut joined = Joined::begin(file.try_clone().map_err(unwritten)?, speech.format).await?;
    let asked = joined.response_format();
    // Nobody speaks mere space.
    let texts = parts(&speech.text, MAX_PART).filter(|text| !text.trim().is_empty());
    let spoken = stream::iter(texts).map(async |text| {
        let mut file = tempfile::tempfile().map_err(unwritten)?;
        let media_type = part(upstream, &speech.request(text, asked), &mut file).await?;
        file.rewind().map_err(unwritten)?;
        Ok((text.len(), media_type, file))
    });
    let mut spoken = std::pin::pin!(spoken.buffered(AT_ONCE));
    let mut bytes = 0;
    while let Some((length, media_type, file)) = spoken.try_next().await? {
        joined.append(media_type, file).await?;
        bytes += length;
        progress(bytes as f32 / speech.text.len() as f32);
    }
    joined.end().await
}

/// Has the upstream speak into `file`; gives the media type, which is of audio. What breaks off is begun again.
async fn part(upstream: &Upstream, request: &Map<String, Value>, file: &mut File) -> Result<String, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        file.set_len(0).and_then(|()| file.rewind()).map_err(unwritten)?;
        let mut speech = upstream.speech(request).await.map_err(failed)?;
        if !is_audio(&speech.media_type) {
            return Err(malformed(format!("no audio, but `{:.100}`", speech.media_type)));
        }
        let mut bytes = 0;
        let broken = loop {
            match speech.next().await {
                Ok(Some(piece)) => {
                    bytes += piece.len() as u64;
                    if bytes > MAX_AUDIO {
                        return Err(unspoken(SpeechError::TooLong));
                    }
                    file.write_all(&piece).map_err(unwritten)?;
                }
                Ok(None) if bytes == 0 => return Err(malformed("an empty file".to_owned())),
                Ok(None) => return Ok(speech.media_type),
                Err(error) => break error,
            }
        };
        let may_pass = matches!(broken, UpstreamError::Cut(_) | UpstreamError::TimedOut(_));
        if !may_pass || tries == SPEECHES {
            return Err(failed(broken));
        }
        tracing::warn!(error = %broken, "a speech broke off; trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// One file of many parts.
enum Joined {
    /// Of samples, behind one header.
    Samples { audio: Box<Audio>, media_type: &'static str },
    /// Of frames that stand for themselves: such files are joined by being laid end to end.
    Frames { file: File, format: AudioFormat, bytes: u64, media_type: String },
}

impl Joined {
    async fn begin(file: File, format: AudioFormat) -> Result<Joined, Error> {
        let (samples, media_type) = match format {
            AudioFormat::Wav => (Format::Wav, "audio/wav"),
            AudioFormat::Ogg => (Format::Ogg, "audio/ogg"),
            AudioFormat::Mp3 | AudioFormat::Flac | AudioFormat::Aac => {
                return Ok(Joined::Frames { file, format, bytes: 0, media_type: String::new() });
            }
        };
        Ok(Joined::Samples { audio: Box::new(Audio::begin(file, samples).await.map_err(unspoken)?), media_type })
    }

    /// What the parts are to be.
    fn response_format(&self) -> &'static str {
        match self {
            Joined::Samples { .. } => AudioFormat::Wav.response_format(),
            Joined::Frames { format, .. } => format.response_format(),
        }
    }

    async fn append(&mut self, part: String, mut given: File) -> Result<(), Error> {
        match self {
            Joined::Samples { audio, .. } => match audio.append(tokio::fs::File::from_std(given)).await {
                Err(SpeechError::NotAudio) => Err(malformed(format!(
                    "`{part}` that is not 16 bit mono WAV of one sample rate, so the parts of a text can't be joined"
                ))),
                joined => joined.map_err(unspoken),
            },
            Joined::Frames { file, format, bytes, media_type } => {
                if !is_framed(&part, *format) || !(media_type.is_empty() || *media_type == part) {
                    let asked = format.response_format();
                    return Err(malformed(format!("`{part}` where {asked} was asked for, so the parts of a text can't be joined")));
                }
                *bytes += given.metadata().map_err(unwritten)?.len();
                if *bytes > MAX_AUDIO {
                    return Err(unspoken(SpeechError::TooLong));
                }
                *media_type = part;
                let mut file = file.try_clone().map_err(unwritten)?;
                let copied = tokio::task::spawn_blocking(move || io::copy(&mut given, &mut file)).await;
                copied.map_err(io::Error::other).flatten().map(drop).map_err(unwritten)
            }
        }
    }

    /// Completes the file; gives its media type.
    async fn end(self) -> Result<String, Error> {
        match self {
            Joined::Samples { audio, media_type } => audio.end().await.map(|()| media_type.to_owned()).map_err(unspoken),
            Joined::Frames { media_type, .. } => Ok(media_type),
        }
    }
}

/// Whether files of that type can be laid end to end where `format` was asked for.
fn is_framed(media_type: &str, format: AudioFormat) -> bool {
    match format {
        AudioFormat::Mp3 => matches!(media_type, "audio/mpeg" | "audio/mp3"),
        AudioFormat::Aac => matches!(media_type, "audio/aac" | "audio/aacp" | "audio/x-aac"),
        AudioFormat::Wav | AudioFormat::Ogg | AudioFormat::Flac => false,
    }
}

/// Whether it can stand in our own answers as the type of an audio file.
fn is_audio(media_type: &str) -> bool {
    let is_token = |text: &str| (1..=60).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.+".contains(&c));
    media_type.strip_prefix("audio/").is_some_and(is_token)
}

fn malformed(what: String) -> Error {
    failed(UpstreamError::Malformed(what))
}

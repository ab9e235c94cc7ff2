//! The kind `tts`: a text spoken into a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use postrider_backend::blobs::BlobError;
use postrider_core::job::{Artifact, Counts, Error, Output};
use postrider_ingest::jobs::{Speech, TtsInput};
use postrider_speech::{MAX_AUDIO, SpeechError};
use postrider_upstream::UpstreamError;
use serde_json::{Map, Value};

use crate::generate::{failed, upstream};
use crate::progress::Progress;
use crate::worker::Shop;

/// Bytes of the file that are read at a time.
const PIECE: usize = 1 << 20;
/// How often a speech of an upstream that breaks off is begun.
const SPEECHES: u32 = 3;
/// Before blobs that are not available are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Speaks the text of `input`, and keeps the file in `folder`.
pub(crate) async fn run(shop: &Shop, folder: &str, input: Bytes, progress: &Progress) -> Result<Output, Error> {
    let kinds = &shop.jobs.kinds;
    let input = TtsInput::from_json(kinds, &input).map_err(|error| Error::new("invalid_input", error))?;
    // It has no name, so that it goes with its process, however that ends.
    let mut file = tempfile::tempfile().map_err(unwritten)?;
    let media_type = match (&input, &kinds.speech) {
        (TtsInput::Espeak { request, media_type }, Ok(Speech::Espeak(espeak))) => {
            let out = file.try_clone().map_err(unwritten)?;
            // The last hundredth is for keeping it.
            espeak.speak(request, out, |share| progress.set(Counts::of((share * 990.0) as usize, 1000))).await.map_err(unspoken)?;
            (*media_type).to_owned()
        }
        (TtsInput::Upstream(request), _) => by_upstream(shop, request, &mut file).await?,
        (TtsInput::Espeak { .. }, Ok(Speech::Upstream { .. }) | Err(_)) => return Err(Error::new("unavailable", "espeak-ng is not here")),
    };
    let bytes = file.seek(SeekFrom::End(0)).map_err(unwritten)?;
    let name = format!("{folder}/audio");
    loop {
        file.rewind().map_err(unwritten)?;
        match shop.blobs.put_stream(&name, pieces(file.try_clone().map_err(unwritten)?)).await {
            Ok(()) => break,
            Err(error @ BlobError::Unavailable(_)) => tracing::warn!(%error, "a job's file can't be kept; trying again"),
            Err(error @ (BlobError::Missing { .. } | BlobError::Invalid { .. })) => return Err(Error::new("internal", error)),
        }
        tokio::time::sleep(AGAIN).await;
    }
    let artifact = Artifact { name, bytes, media_type };
    Ok(Output { result: None, artifact: Some(artifact) })
}

/// Has the upstream speak into `file`; gives the media type, which must be of audio. What breaks off is begun again.
async fn by_upstream(shop: &Shop, request: &Map<String, Value>, file: &mut File) -> Result<String, Error> {
    let upstream = upstream(shop)?;
    let mut tries = 0;
    loop {
        tries += 1;
        file.set_len(0).and_then(|()| file.rewind()).map_err(unwritten)?;
        let mut speech = upstream.speech(request).await.map_err(failed)?;
        if !is_audio(&speech.media_type) {
            return Err(failed(UpstreamError::Malformed(format!("no audio, but `{:.100}`", speech.media_type))));
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
                Ok(None) if bytes == 0 => return Err(failed(UpstreamError::Malformed("an empty file".to_owned()))),
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

/// Whether it can stand in our own answers as the type of an audio file.
fn is_audio(media_type: &str) -> bool {
    let is_token = |text: &str| (1..=60).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.+".contains(&c));
    media_type.strip_prefix("audio/").is_some_and(is_token)
}

/// The file from where it stands, read where that holds nobody up.
fn pieces(file: File) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, async |mut file| {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = BytesMut::zeroed(PIECE);
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            Ok::<_, io::Error>((piece.freeze(), file))
        });
        let (piece, file) = read.await.map_err(io::Error::other)??;
        Ok((!piece.is_empty()).then_some((piece, file)))
    })
}

fn unspoken(error: SpeechError) -> Error {
    let code = match &error {
        SpeechError::TooLong | SpeechError::TimedOut | SpeechError::Flood => "text_too_long",
        SpeechError::Missing { .. } | SpeechError::NotEspeak { .. } => "unavailable",
        SpeechError::Start(_) | SpeechError::Failed { .. } | SpeechError::NotAudio | SpeechError::Pipe(_) | SpeechError::Write(_) => {
            "synthesis_failed"
        }
    };
    Error::new(code, error)
}

fn unwritten(error: io::Error) -> Error {
    Error::new("synthesis_failed", format_args!("the audio can't be written: {error}"))
}

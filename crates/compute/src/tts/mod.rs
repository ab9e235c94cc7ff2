//! The kind `tts`: a text spoken into a file.

mod upstream;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use postrider_backend::blobs::BlobError;
use postrider_core::job::{Artifact, Counts, Error, Output};
use postrider_ingest::jobs::{Speech, TtsInput};
use postrider_speech::SpeechError;

use crate::progress::Progress;
use crate::worker::Shop;

/// Bytes of the file that are read at a time.
const PIECE: usize = 1 << 20;
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
            espeak.speak(request, out, |share| progress.set(spoken(share))).await.map_err(unspoken)?;
            (*media_type).to_owned()
        }
        (TtsInput::Upstream(speech), _) => upstream::speak(shop, speech, &file, |share| progress.set(spoken(share))).await?,
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

/// How far a job is of whose text this share is spoken. The last hundredth is for keeping the file.
fn spoken(share: f32) -> Counts {
    Counts::of((share * 990.0) as usize, 1000)
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

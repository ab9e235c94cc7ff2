//! The kind `tts`: a text spoken into a file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use postrider_backend::blobs::BlobError;
use postrider_core::job::{Artifact, Error, Output};
use postrider_ingest::jobs::TtsInput;
use postrider_speech::SpeechError;

use crate::worker::Shop;

/// Bytes of the file that are read at a time.
const PIECE: usize = 1 << 20;
/// Before blobs that are not available are tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Speaks the text of `input`, and keeps the file in `folder`.
pub(crate) async fn run(shop: &Shop, folder: &str, input: Bytes, progress: &Cell<u16>) -> Result<Output, Error> {
    let kinds = &shop.jobs.kinds;
    let input = TtsInput::from_json(kinds, &input).map_err(|error| Error::new("invalid_input", error))?;
    let espeak = kinds.speech.as_ref().map_err(|why| Error::new("unavailable", why))?;
    // It has no name, so that it goes with its process, however that ends.
    let mut file = tempfile::tempfile().map_err(unwritten)?;
    let out = file.try_clone().map_err(unwritten)?;
    // The last hundredth is for keeping it.
    espeak.speak(&input.request, out, |share| progress.set((share * 990.0) as u16)).await.map_err(unspoken)?;
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
    let artifact = Artifact { name, bytes, media_type: input.media_type().to_owned() };
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

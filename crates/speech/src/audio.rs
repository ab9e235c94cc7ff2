//! One file of audio from many: whatever speaks gives a whole WAV for each part of a text.

use std::fs::File;
use std::io::{self, SeekFrom};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::SpeechError;
use crate::ogg::Ogg;
use crate::sandbox::MAX_OUTPUT;
use crate::wav::{Beginning, HEADER, header};

/// Most bytes of audio in one file, before Ogg makes them fewer: 2 GiB, 13 hours. Some readers take the lengths in a WAV for
/// signed numbers of 32 bits.
pub const MAX_AUDIO: u64 = (2 << 30) - 1024;
/// espeak-ng's sample rate, for the file of a text without a sound.
const USUAL_RATE: u32 = 22_050;
const BLOCK: u64 = 64 << 10;

/// What a file of audio is: 16 bit, mono, at espeak-ng's sample rate, which is 22,050 Hz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `audio/wav`: RIFF WAVE, 2.6 MB a minute.
    #[default]
    Wav,
    /// `audio/ogg`: Ogg Vorbis, about an eighth of that.
    Ogg,
}

/// A file in the making, of parts that are each a WAV of 16 bit mono, all at one sample rate.
pub struct Audio {
    sink: Sink,
    /// Of samples already written.
    bytes: u64,
    rate: Option<u32>,
}

enum Sink {
    Wav(tokio::fs::File),
    Ogg(Ogg),
}

/// What was given of one part.
pub(crate) struct Given {
    beginning: Beginning,
    /// Of samples.
    bytes: u64,
}

impl Audio {
    /// Begins a file of `format` in `file`, which is empty.
    pub async fn begin(file: File, format: Format) -> Result<Audio, SpeechError> {
        let mut sink = match format {
            Format::Wav => Sink::Wav(tokio::fs::File::from_std(file)),
            Format::Ogg => Sink::Ogg(Ogg::begin(file, USUAL_RATE)),
        };
        if let Sink::Wav(file) = &mut sink {
            file.write_all(&[0; HEADER]).await.map_err(SpeechError::Write)?;
        }
        Ok(Audio { sink, bytes: 0, rate: None })
    }

    /// Joins a part to what is there. Errors: it can't be read, written or joined, or is too long; then so is the file.
    pub async fn append(&mut self, part: impl AsyncRead + Unpin) -> Result<(), SpeechError> {
        let given = self.copy(part).await?;
        self.check(&given)
    }

    /// Writes the samples as they come. Whether they can stay is for [`Audio::check`], once the program has ended well.
    pub(crate) async fn copy(&mut self, mut given: impl AsyncRead + Unpin) -> Result<Given, SpeechError> {
        let beginning = Beginning::read(&mut given).await.map_err(SpeechError::Pipe)?;
        let mut block = Vec::with_capacity(BLOCK as usize);
        let (mut read, mut bytes) = (0, 0);
        loop {
            block.clear();
            (&mut given).take(BLOCK).read_to_end(&mut block).await.map_err(SpeechError::Pipe)?;
            if block.is_empty() {
                return Ok(Given { beginning, bytes });
            }
            read += block.len() as u64;
            if read > MAX_OUTPUT {
                return Err(SpeechError::Flood);
            }
            if let Beginning::Wav { rate, bytes: all } = beginning {
                // Behind the samples a file may have more, which is no sound.
                block.truncate(usize::try_from(all - bytes).unwrap_or(usize::MAX));
                bytes += block.len() as u64;
                if self.bytes + bytes > MAX_AUDIO {
                    return Err(SpeechError::TooLong);
                }
                self.sink.write(rate, &block).await.map_err(SpeechError::Write)?;
            }
        }
    }

    /// Counts what was copied.
    pub(crate) fn check(&mut self, given: &Given) -> Result<(), SpeechError> {
        match given.beginning {
            Beginning::Empty => Ok(()),
            Beginning::Wav { rate, .. } if *self.rate.get_or_insert(rate) == rate && given.bytes.is_multiple_of(2) => {
                self.bytes += given.bytes;
                Ok(())
            }
            Beginning::Wav { .. } | Beginning::Other => Err(SpeechError::NotAudio),
        }
    }

    /// Completes the file.
    pub async fn end(self) -> Result<(), SpeechError> {
        let bytes = u32::try_from(self.bytes).expect("MAX_AUDIO fits into 32 bits");
        let header = header(self.rate.unwrap_or(USUAL_RATE), bytes);
        self.sink.end(&header).await.map_err(SpeechError::Write)
    }
}

impl Sink {
    async fn write(&mut self, rate: u32, samples: &[u8]) -> io::Result<()> {
        match self {
            Sink::Wav(file) => file.write_all(samples).await,
            Sink::Ogg(ogg) => ogg.write(rate, samples).await,
        }
    }

    async fn end(self, header: &[u8]) -> io::Result<()> {
        match self {
            Sink::Wav(mut file) => {
                file.seek(SeekFrom::Start(0)).await?;
                file.write_all(header).await?;
                file.flush().await
            }
            Sink::Ogg(ogg) => ogg.end().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn wav(rate: u32, samples: &[u8]) -> Vec<u8> {
        [&header(rate, samples.len() as u32)[..], samples].concat()
    }

    async fn begun() -> Audio {
        Audio::begin(tempfile::tempfile().unwrap(), Format::Wav).await.unwrap()
    }

    async fn joined(parts: &[Vec<u8>]) -> Result<Vec<u8>, SpeechError> {
        let mut file = tempfile::tempfile().unwrap();
        let mut audio = Audio::begin(file.try_clone().unwrap(), Format::Wav).await?;
        for part in parts {
            audio.append(&part[..]).await?;
        }
        audio.end().await?;
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap();
        Ok(bytes)
    }

    #[tokio::test]
    async fn samples_of_all_parts_are_behind_one_header() {
        let parts = [wav(22_050, &[1, 2]), Vec::new(), wav(22_050, &[3, 4, 5, 6])];
        assert_eq!(joined(&parts).await.unwrap(), wav(22_050, &[1, 2, 3, 4, 5, 6]));
        assert_eq!(joined(&[]).await.unwrap(), wav(22_050, &[]));
        let with_more = [wav(22_050, &[1, 2]), b"LIST\x04\0\0\0INFO".to_vec()].concat();
        assert_eq!(joined(&[with_more, wav(22_050, &[3, 4])]).await.unwrap(), wav(22_050, &[1, 2, 3, 4]));
    }

    #[tokio::test]
    async fn what_is_not_such_audio_is_refused() {
        let stereo = wav(22_050, &[1, 2]).iter().enumerate().map(|(at, &byte)| if at == 22 { 2 } else { byte }).collect();
        for part in [b"hello".to_vec(), vec![0; 100], stereo, wav(22_050, &[1]), wav(16_000, &[1, 2]), wav(0, &[1, 2])] {
            let refused = joined(&[wav(22_050, &[0, 0]), part]).await;
            assert!(matches!(refused, Err(SpeechError::NotAudio)), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_speech_that_does_not_fit_into_a_file_is_refused() {
        let mut full = begun().await;
        full.bytes = MAX_AUDIO - 2;
        assert!(full.copy(&wav(22_050, &[0; 2])[..]).await.is_ok());
        assert!(matches!(full.copy(&wav(22_050, &[0; 4])[..]).await, Err(SpeechError::TooLong)));
    }

    #[tokio::test]
    async fn more_than_one_part_can_be_is_refused() {
        assert!(matches!(begun().await.copy(tokio::io::repeat(7)).await, Err(SpeechError::Flood)));
    }
}

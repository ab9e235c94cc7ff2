//! One WAV file from many: the program gives a whole one for each part of a text.

use std::io::SeekFrom;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use crate::error::SpeechError;
use crate::sandbox::MAX_OUTPUT;

/// Most bytes of audio in one file: 2 GiB, 13 hours. Some readers take the lengths in a WAV for signed numbers of 32 bits.
pub const MAX_AUDIO: u64 = (2 << 30) - 1024;
/// espeak-ng's sample rate, for the file of a text without a sound.
const USUAL_RATE: u32 = 22_050;
const HEADER: usize = 44;

/// A WAV file in the making: 16 bit, mono.
pub(crate) struct Wav<'a, W> {
    out: &'a mut W,
    /// Of samples already written.
    bytes: u64,
    rate: Option<u32>,
}

/// What one process gave: the header as it wrote it, or what there was of it, and the bytes of its samples.
pub(crate) struct Given {
    header: Vec<u8>,
    bytes: u64,
}

impl<'a, W: AsyncWrite + AsyncSeek + Unpin> Wav<'a, W> {
    /// Leaves room for the header.
    pub(crate) async fn begin(out: &'a mut W) -> Result<Wav<'a, W>, SpeechError> {
        out.write_all(&[0; HEADER]).await.map_err(SpeechError::Write)?;
        Ok(Wav { out, bytes: 0, rate: None })
    }

    /// Writes the samples as they come. Whether they are ones is for [`Wav::check`], once the program has ended well.
    pub(crate) async fn copy(&mut self, mut given: impl AsyncRead + Unpin) -> Result<Given, SpeechError> {
        let mut header = Vec::with_capacity(HEADER);
        (&mut given).take(HEADER as u64).read_to_end(&mut header).await.map_err(SpeechError::Pipe)?;
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0;
        loop {
            let read = given.read(&mut buffer).await.map_err(SpeechError::Pipe)?;
            if read == 0 {
                return Ok(Given { header, bytes });
            }
            bytes += read as u64;
            if bytes > MAX_OUTPUT {
                return Err(SpeechError::Flood);
            }
            if self.bytes + bytes > MAX_AUDIO {
                return Err(SpeechError::TooLong);
            }
            self.out.write_all(&buffer[..read]).await.map_err(SpeechError::Write)?;
        }
    }

    /// Counts what was copied. Nothing at all is silence.
    pub(crate) fn check(&mut self, given: &Given) -> Result<(), SpeechError> {
        if given.header.is_empty() {
            return Ok(());
        }
        let rate = sample_rate(&given.header).ok_or(SpeechError::NotAudio)?;
        if *self.rate.get_or_insert(rate) != rate || !given.bytes.is_multiple_of(2) {
            return Err(SpeechError::NotAudio);
        }
        self.bytes += given.bytes;
        Ok(())
    }

    /// Writes the header, which has the lengths.
    pub(crate) async fn end(self) -> Result<(), SpeechError> {
        let header = header(self.rate.unwrap_or(USUAL_RATE), self.bytes);
        self.out.seek(SeekFrom::Start(0)).await.map_err(SpeechError::Write)?;
        self.out.write_all(&header).await.map_err(SpeechError::Write)?;
        self.out.flush().await.map_err(SpeechError::Write)
    }
}

/// Microsoft's RIFF specification: little endian, PCM, 16 bit, mono.
fn header(rate: u32, bytes: u64) -> [u8; HEADER] {
    let bytes = u32::try_from(bytes).expect("MAX_AUDIO fits into 32 bits");
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(b"RIFF");
    header[4..8].copy_from_slice(&(bytes + 36).to_le_bytes());
    header[8..16].copy_from_slice(b"WAVEfmt ");
    header[16..24].copy_from_slice(&[16, 0, 0, 0, 1, 0, 1, 0]);
    header[24..28].copy_from_slice(&rate.to_le_bytes());
    header[28..32].copy_from_slice(&rate.saturating_mul(2).to_le_bytes());
    header[32..40].copy_from_slice(b"\x02\0\x10\0data");
    header[40..].copy_from_slice(&bytes.to_le_bytes());
    header
}

/// The rate in a header that is one of ours but for the rate and the lengths, which espeak-ng can't know.
fn sample_rate(given: &[u8]) -> Option<u32> {
    let rate = u32::from_le_bytes(*given.get(24..28)?.first_chunk()?);
    let mut expected = header(rate, 0);
    for lengths in [4..8, 40..44] {
        expected[lengths.clone()].copy_from_slice(given.get(lengths)?);
    }
    (given == expected && rate > 0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn wav(rate: u32, samples: &[u8]) -> Vec<u8> {
        [&header(rate, samples.len() as u64)[..], samples].concat()
    }

    async fn joined(parts: &[Vec<u8>]) -> Result<Vec<u8>, SpeechError> {
        let mut out = Cursor::new(Vec::new());
        let mut joined = Wav::begin(&mut out).await?;
        for part in parts {
            let given = joined.copy(&part[..]).await?;
            joined.check(&given)?;
        }
        joined.end().await?;
        Ok(out.into_inner())
    }

    #[tokio::test]
    async fn samples_of_all_parts_are_behind_one_header() {
        let parts = [wav(22_050, &[1, 2]), Vec::new(), wav(22_050, &[3, 4, 5, 6])];
        assert_eq!(joined(&parts).await.unwrap(), wav(22_050, &[1, 2, 3, 4, 5, 6]));
        assert_eq!(joined(&[]).await.unwrap(), wav(22_050, &[]));
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
        let mut out = Cursor::new(Vec::new());
        let mut full = Wav::begin(&mut out).await.unwrap();
        full.bytes = MAX_AUDIO - 2;
        let part = wav(22_050, &[0; 2]);
        assert!(full.copy(&part[..]).await.is_ok());
        let part = wav(22_050, &[0; 4]);
        assert!(matches!(full.copy(&part[..]).await, Err(SpeechError::TooLong)));
    }

    #[tokio::test]
    async fn more_than_one_part_can_be_is_refused() {
        let mut out = Cursor::new(Vec::new());
        let mut wav = Wav::begin(&mut out).await.unwrap();
        assert!(matches!(wav.copy(tokio::io::repeat(7)).await, Err(SpeechError::Flood)));
    }
}

//! The header of a WAV file: 16 bit, mono.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the samples.
pub(crate) const HEADER: usize = 44;
/// What may stand before the samples of a file that another program wrote: so many chunks of so many bytes.
const MAX_CHUNKS: usize = 16;
const MAX_CHUNK: u32 = 64 << 10;
/// The tag of samples as they are.
const PCM: u16 = 1;

/// Microsoft's RIFF specification: little endian, PCM, 16 bit, mono.
pub(crate) fn header(rate: u32, bytes: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(b"RIFF");
    header[4..8].copy_from_slice(&bytes.wrapping_add(36).to_le_bytes());
    header[8..16].copy_from_slice(b"WAVEfmt ");
    header[16..24].copy_from_slice(&[16, 0, 0, 0, 1, 0, 1, 0]);
    header[24..28].copy_from_slice(&rate.to_le_bytes());
    header[28..32].copy_from_slice(&rate.wrapping_mul(2).to_le_bytes());
    header[32..40].copy_from_slice(b"\x02\0\x10\0data");
    header[40..].copy_from_slice(&bytes.to_le_bytes());
    header
}

/// What a file of audio begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nothing: it is empty, which is silence.
    Empty,
    /// The header of a WAV of 16 bit mono, up to its samples.
    Wav {
        rate: u32,
        /// Of samples at most: programs that do not know how many will come say too many.
        bytes: u64,
    },
    /// Something else.
    Other,
}

impl Beginning {
    /// Reads up to the samples of a WAV, past what else a header may hold.
    pub(crate) async fn read(given: &mut (impl AsyncRead + Unpin)) -> io::Result<Beginning> {
        let mut riff = Vec::with_capacity(12);
        (&mut *given).take(12).read_to_end(&mut riff).await?;
        match &riff[..] {
            [] => Ok(Beginning::Empty),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => match chunks(given).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Beginning::Other),
                read => read,
            },
            _other => Ok(Beginning::Other),
        }
    }
}

async fn chunks(given: &mut (impl AsyncRead + Unpin)) -> io::Result<Beginning> {
    let mut rate = None;
    for _ in 0..MAX_CHUNKS {
        let (mut name, mut chunk) = ([0; 4], Vec::new());
        given.read_exact(&mut name).await?;
        let size = given.read_u32_le().await?;
        if name == *b"data" {
            // A program that writes to a pipe says 0, or more than there can be.
            let bytes = if size == 0 { u64::MAX } else { size.into() };
            return Ok(rate.map_or(Beginning::Other, |rate| Beginning::Wav { rate, bytes }));
        }
        if size > MAX_CHUNK {
            break;
        }
        (&mut *given).take(u64::from(size.next_multiple_of(2))).read_to_end(&mut chunk).await?;
        if name == *b"fmt " {
            rate = sample_rate(&chunk);
        }
    }
    Ok(Beginning::Other)
}

/// The rate in a `fmt ` chunk that says 16 bit mono PCM, be it in the form for many channels.
fn sample_rate(format: &[u8]) -> Option<u32> {
    let number = |at: usize| format.get(at..at + 2)?.first_chunk().copied().map(u16::from_le_bytes);
    let is_pcm = match number(0)? {
        0xFFFE => number(24)? == PCM,
        tag => tag == PCM,
    };
    let rate = u32::from_le_bytes(*format.get(4..8)?.first_chunk()?);
    (is_pcm && number(2)? == 1 && number(14)? == 16 && rate > 0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], bytes: &[u8]) -> Vec<u8> {
        let padding = vec![0; bytes.len() % 2];
        [&name[..], &(bytes.len() as u32).to_le_bytes(), bytes, &padding].concat()
    }

    async fn read(chunks: &[Vec<u8>]) -> Beginning {
        let file = [b"RIFF\0\0\0\0WAVE".to_vec(), chunks.concat()].concat();
        Beginning::read(&mut &file[..]).await.unwrap()
    }

    #[tokio::test]
    async fn headers_of_other_programs_are_read() {
        let plain = header(24_000, 6)[20..36].to_vec();
        let list = chunk(b"LIST", b"INFOISFT\x0d\0\0\0Lavf60.16.100\0");
        for (length, bytes) in [(6, 6), (0, u64::MAX), (u32::MAX, u32::MAX.into())] {
            let data = [&b"data"[..], &length.to_le_bytes(), &[1; 6]].concat();
            assert_eq!(read(&[chunk(b"fmt ", &plain), list.clone(), data]).await, Beginning::Wav { rate: 24_000, bytes });
        }
        let mut many = plain.clone();
        many[..2].copy_from_slice(&0xFFFE_u16.to_le_bytes());
        many.extend([22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
        let odd = chunk(b"odd ", b"1");
        let read = read(&[odd, chunk(b"fmt ", &many), chunk(b"data", &[1; 4])]).await;
        assert_eq!(read, Beginning::Wav { rate: 24_000, bytes: 4 });
    }

    #[tokio::test]
    async fn what_can_not_be_joined_is_told_apart() {
        let with = |at: usize, value: u8| {
            let mut format = header(24_000, 2)[20..36].to_vec();
            format[at] = value;
            vec![chunk(b"fmt ", &format), chunk(b"data", &[1, 2])]
        };
        let no_format = vec![chunk(b"data", &[1, 2])];
        let no_data = vec![chunk(b"fmt ", &header(24_000, 2)[20..36])];
        let endless = vec![chunk(b"junk", b""); 100];
        for chunks in
            [with(0, 3), with(2, 2), with(14, 24), no_format, no_data, endless, vec![vec![7; 30]], vec![b"LIST\xff\xff\xff\xff".to_vec()]]
        {
            assert_eq!(read(&chunks).await, Beginning::Other, "{chunks:?}");
        }
        assert_eq!(Beginning::read(&mut &b""[..]).await.unwrap(), Beginning::Empty);
        assert_eq!(Beginning::read(&mut &b"RIFF"[..]).await.unwrap(), Beginning::Other);
    }
}

//! The header of a WAV file: 16 bit, mono.

/// Bytes before the samples.
pub(crate) const HEADER: usize = 44;

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

/// The rate in a header that is one of ours but for the rate and the lengths, which espeak-ng can't know.
pub(crate) fn sample_rate(given: &[u8]) -> Option<u32> {
    let rate = u32::from_le_bytes(*given.get(24..28)?.first_chunk()?);
    let mut expected = header(rate, 0);
    for lengths in [4..8, 40..44] {
        expected[lengths.clone()].copy_from_slice(given.get(lengths)?);
    }
    (given == expected && rate > 0).then_some(rate)
}

//! A reader of WAV files that takes nothing on trust.

/// 16 bit, mono.
pub(crate) struct Wav {
    pub(crate) rate: u32,
    pub(crate) samples: Vec<i16>,
}

impl Wav {
    /// Panics unless it is one whole RIFF file of two chunks, the lengths of which are right.
    pub(crate) fn read(bytes: &[u8]) -> Wav {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let short = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
        assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"WAVE"[..]));
        assert_eq!(number(4) as usize, bytes.len() - 8);
        assert_eq!((&bytes[12..16], number(16)), (&b"fmt "[..], 16));
        let (format, channels, rate, block, bits) = (short(20), short(22), number(24), short(32), short(34));
        assert_eq!((format, channels, block, bits), (1, 1, 2, 16));
        assert_eq!(number(28), rate * 2);
        assert_eq!((&bytes[36..40], number(40) as usize), (&b"data"[..], bytes.len() - 44));
        assert_eq!(bytes.len() % 2, 0);
        Wav { rate, samples: bytes[44..].chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate)
    }

    /// Seconds of samples that can be heard.
    pub(crate) fn sound(&self) -> f64 {
        self.samples.iter().filter(|sample| sample.unsigned_abs() > 200).count() as f64 / f64::from(self.rate)
    }
}

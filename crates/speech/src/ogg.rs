//! Ogg Vorbis, an eighth of the size of WAV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::{NonZeroU8, NonZeroU32};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};
use vorbis_rs::{VorbisBitrateManagementStrategy, VorbisEncoderBuilder};

/// Of -0.2 to 1: 42 kbit/s for speech at espeak-ng's rate.
const QUALITY: f32 = 0.2;
/// As vorbis_rs advises; it takes long over long ones.
const SAMPLES_AT_ONCE: usize = 4096;

/// Encodes on a thread of its own, as the encoder can't move between threads. Dropping it ends the file where it is.
pub(crate) struct Ogg {
    blocks: Sender<Block>,
    encoded: JoinHandle<io::Result<()>>,
}

struct Block {
    rate: u32,
    samples: Vec<f32>,
}

impl Ogg {
    /// Encodes into `file`, at `usual_rate` if nothing is written.
    pub(crate) fn begin(file: File, usual_rate: u32) -> Ogg {
        let (blocks, waiting) = channel(2);
        Ogg { blocks, encoded: spawn_blocking(move || encode(file, waiting, usual_rate)) }
    }

    /// Takes samples of 16 bit. The rate is that of the first ones.
    pub(crate) async fn write(&mut self, rate: u32, samples: &[u8]) -> io::Result<()> {
        let samples = samples.as_chunks().0.iter().map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32768.0).collect();
        if self.blocks.send(Block { rate, samples }).await.is_ok() {
            return Ok(());
        }
        (&mut self.encoded).await?.and(Err(io::Error::other("the encoder ended too early")))
    }

    pub(crate) async fn end(self) -> io::Result<()> {
        drop(self.blocks);
        self.encoded.await?
    }
}

fn encode(file: File, mut blocks: Receiver<Block>, usual_rate: u32) -> io::Result<()> {
    let mut next = blocks.blocking_recv();
    let rate = NonZeroU32::new(next.as_ref().map_or(usual_rate, |block| block.rate)).ok_or(io::ErrorKind::InvalidData)?;
    // One stream a file, so any serial will do; the same speech gives the same file.
    let mut encoder = VorbisEncoderBuilder::new_with_serial(rate, NonZeroU8::MIN, BufWriter::new(file), 1)
        .bitrate_management_strategy(VorbisBitrateManagementStrategy::QualityVbr { target_quality: QUALITY })
        .build()
        .map_err(io::Error::other)?;
    while let Some(block) = next {
        for samples in block.samples.chunks(SAMPLES_AT_ONCE) {
            encoder.encode_audio_block([samples]).map_err(io::Error::other)?;
        }
        next = blocks.blocking_recv();
    }
    encoder.finish().map_err(io::Error::other)?.flush()
}

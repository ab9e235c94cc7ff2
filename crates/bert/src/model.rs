//! A model opened from its folder.

use std::path::{Path, PathBuf};

use candle_core::Device;

use crate::config::Config;
use crate::encoder::Encoder;
use crate::text::Texts;
use crate::workers::Workers;

/// A model that scores pairs. Opened once and shared: it does not change.
///
/// Understood are models of the family BERT, in the files that the library transformers saves: `config.json` (`model_type` is
/// `bert`), `tokenizer.json` and `model.safetensors`. Holds the weights in 32 bits, four bytes for each parameter, and for a moment when it
/// is opened two or three times that.
pub struct Model {
    pub(crate) texts: Texts,
    pub(crate) encoder: Encoder,
    pub(crate) workers: Workers,
}

/// Why a model can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing or can't be read.
    #[error("{file}: {source}; a model's folder has config.json, tokenizer.json and model.safetensors")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A configuration isn't what is expected there.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong where.
        source: serde_json::Error,
    },
    /// The model is of a kind that isn't understood.
    #[error("{file}: {setting} is \"{found}\"; only \"{supported}\" is supported, choose a model with that")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The first such setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What it would have to be.
        supported: &'static str,
    },
    /// `tokenizer.json` isn't a tokenizer.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The weights aren't those of a model that `config.json` describes.
    #[error("{file}: {source}; it has to be the weights for the config.json beside it")]
    Weights {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: candle_core::Error,
    },
    /// The system gives no more threads.
    #[error("no threads to run the model: {0}; allow the process more, or set RAYON_NUM_THREADS")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Model {
    /// Reads a model's folder.
    pub fn open(folder: &Path) -> Result<Model, ModelError> {
        let file = folder.join("config.json");
        let config: Config = serde_json::from_slice(&read(&file)?).map_err(|source| ModelError::Config { file: file.clone(), source })?;
        if let Some((setting, found, supported)) = config.unsupported() {
            return Err(ModelError::Unsupported { file, setting, found: found.to_owned(), supported });
        }
        let texts = Texts::open(folder, config.max_position_embeddings)?;
        let file = folder.join("model.safetensors");
        let bytes = read(&file)?;
        let encoder = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
            .and_then(|weights| {
                drop(bytes);
                Encoder::new(&config, &weights)
            })
            .map_err(|source| ModelError::Weights { file, source })?;
        Ok(Model { texts, encoder, workers: Workers::new()? })
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.encoder.layers()
    }
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(file).map_err(|source| ModelError::Unreadable { file: file.to_owned(), source })
}

//! Texts as the ids of their tokens.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{Tokenizer, TruncationParams};

use crate::model::{ModelError, read};

/// Makes ids of texts, with the model's marks around them and no longer than the model takes.
pub(crate) struct Texts {
    tokenizer: Tokenizer,
    /// The ids of an empty text: the marks of beginning and end.
    marks: Vec<u32>,
}

#[derive(Deserialize)]
struct TokenizerConfig {
    /// A float, as Python writes a number without end for "no limit".
    model_max_length: Option<f64>,
}

impl Texts {
    /// Reads `tokenizer.json`, and how long texts may be from `tokenizer_config.json` if there is one.
    ///
    /// What `tokenizer.json` itself says of padding and truncation is of its maker's use and does not count, as in Python.
    pub(crate) fn open(folder: &Path, positions: usize) -> Result<Texts, ModelError> {
        let file = folder.join("tokenizer.json");
        let unreadable = |reason: tokenizers::Error| ModelError::Tokenizer { file: file.clone(), reason: reason.to_string() };
        let mut tokenizer = Tokenizer::from_bytes(read(&file)?).map_err(unreadable)?;
        let max_length = longest(folder, positions)?;
        tokenizer.with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() })).map_err(unreadable)?;
        tokenizer.with_padding(None);
        let marks = tokenizer.encode_fast("", true).map_err(unreadable)?.get_ids().to_vec();
        Ok(Texts { tokenizer, marks })
    }

    /// The ids of a text's tokens, marks included.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c));
        Ok(self.tokenizer.encode_fast(text, true)?.get_ids().to_vec())
    }

    /// Whether a token is one of the marks around a text.
    pub(crate) fn is_mark(&self, id: u32) -> bool {
        self.marks.contains(&id)
    }

    /// Whether a text has nothing between its marks.
    pub(crate) fn is_empty(&self, ids: &[u32]) -> bool {
        ids.len() <= self.marks.len()
    }
}

/// How many tokens a text may have: what the model has positions for, or fewer if its tokenizer is configured so.
fn longest(folder: &Path, positions: usize) -> Result<usize, ModelError> {
    let file = folder.join("tokenizer_config.json");
    if !file.exists() {
        return Ok(positions);
    }
    let config: TokenizerConfig =
        serde_json::from_slice(&read(&file)?).map_err(|source| ModelError::Config { file: file.clone(), source })?;
    Ok(config.model_max_length.map_or(positions, |length| positions.min(length as usize)))
}

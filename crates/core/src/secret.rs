//! Secrets that can't reach a log by accident.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The text of a signing secret, as given or generated. Debug output never shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Longest secret that a user may give, in bytes.
pub const MAX_SECRET: usize = 256;

impl Secret {
    /// A secret that its owner chose: any text that can stand in a configuration file. `None` for other texts.
    pub fn chosen(text: &str) -> Option<Secret> {
        let is_fine = (1..=MAX_SECRET).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
        is_fine.then(|| Secret::new(text))
    }

    /// Takes a secret's text as a user gave it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Stands for another secret, where none was given.
    pub fn none() -> Secret {
        Secret(String::new())
    }

    /// Whether it is a secret of its own.
    pub fn is_given(&self) -> bool {
        !self.0.is_empty()
    }

    /// A generated secret: `whsec_` and the base64 of 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Secret {
        Secret(format!("whsec_{}", STANDARD.encode(bytes)))
    }

    /// The text itself: for its owner's eyes, and the key of the `sha256=` scheme.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The key of the Standard Webhooks scheme: what is behind `whsec_`, decoded; the text's bytes where it does not decode.
    pub fn standard_key(&self) -> Vec<u8> {
        let encoded = self.0.strip_prefix("whsec_").unwrap_or(&self.0);
        STANDARD.decode(encoded).unwrap_or_else(|_| self.0.as_bytes().to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

//! What of a model's `config.json` is needed, and which models are understood.

use serde::Deserialize;

/// The shape of a model, as its `config.json` has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Config {
    model_type: String,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_positions")]
    position_embedding_type: String,
}

fn default_eps() -> f32 {
    1e-12
}

fn default_activation() -> String {
    "gelu".to_owned()
}

fn default_positions() -> String {
    "absolute".to_owned()
}

impl Config {
    /// The first setting whose value is not understood, with what it would have to be.
    pub(crate) fn unsupported(&self) -> Option<(&'static str, &str, &'static str)> {
        [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ]
        .into_iter()
        .find(|(_, found, supported)| found != supported)
        .map(|(setting, found, supported)| (setting, found.as_str(), supported))
    }
}

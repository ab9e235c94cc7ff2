//! BERTScore: how close texts are to references by the embeddings of their tokens, for judging the results of a batch.
//!
//! Precision, recall and F1 are those of the Python package `bert-score` with the same model and layer, to 1e-4;
//! `tests/reference` has its numbers for a thousand pairs in many scripts, and what makes them. The model is a folder with
//! `config.json`, `tokenizer.json` and `model.safetensors`, and runs on the CPU.
//!
//! Threads: each model has one a core, or as many as the variable RAYON_NUM_THREADS says. A call uses all of them, and calls at
//! the same time take turns, so that there is nothing to gain by making several.
//!
//! Architecture invariant: reads its folder when it is opened and nothing afterwards; no network, clock or async. The same pairs
//! give the same scores to within rounding, however they are split among calls. Memory is bounded for each call, however many
//! pairs it is given.
//!
//! Read [`Model`] and [`Pair`] first.

mod batch;
mod config;
mod encoder;
mod idf;
mod kernels;
mod matching;
mod model;
mod score;
mod text;
mod workers;

pub use idf::Idf;
pub use model::{Model, ModelError};
pub use score::{Options, Pair, Score, ScoreError};

//! Where the model is that the tests use, and what an unusable folder is refused with.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use postrider_bert::{Model, ModelError};

/// The folder of all-MiniLM-L6-v2, which is too large to be in the repository.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("POSTRIDER_TEST_BERT").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-bert"));
    assert!(
        folder.join("model.safetensors").exists(),
        "there is no model in {}: run `python3 crates/bert/tests/reference/model.py target/test-bert` in the repository, or have \
         POSTRIDER_TEST_BERT name the folder of all-MiniLM-L6-v2",
        folder.display()
    );
    folder
}

/// The model, opened once for all tests.
pub(crate) fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open(&folder()).unwrap_or_else(|error| panic!("{error}")))
}

/// A folder with the real model's small files, of which one is replaced.
fn folder_with(file: &str, content: &[u8]) -> tempfile::TempDir {
    let changed = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(folder().join(name), changed.path().join(name)).expect("a copy");
    }
    std::fs::write(changed.path().join(file), content).expect("a file");
    changed
}

fn refusal(folder: &Path) -> ModelError {
    Model::open(folder).err().expect("an error")
}

#[test]
fn a_missing_file_is_named_with_what_a_folder_has() {
    let empty = tempfile::tempdir().expect("a folder");
    let error = refusal(empty.path());
    assert!(matches!(error, ModelError::Unreadable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("config.json: No such file") && text.contains("tokenizer.json and model.safetensors"), "{text}");
    let error = refusal(folder_with("other", b"").path());
    assert!(error.to_string().contains("model.safetensors: No such file"), "{error}");
}

#[test]
fn a_model_of_another_kind_is_refused_by_what_it_is() {
    let roberta = br#"{"model_type":"roberta","num_hidden_layers":1,"num_attention_heads":1,"max_position_embeddings":8}"#;
    let error = refusal(folder_with("config.json", roberta).path());
    assert!(error.to_string().ends_with("model_type is \"roberta\"; only \"bert\" is supported, choose a model with that"), "{error}");
}

#[test]
fn damaged_files_are_named() {
    for (file, content) in
        [("config.json", &b"{}"[..]), ("tokenizer.json", b"{"), ("tokenizer_config.json", b"["), ("model.safetensors", b"none")]
    {
        let error = refusal(folder_with(file, content).path());
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn weights_of_another_shape_are_refused() {
    let text = std::fs::read_to_string(folder().join("config.json")).expect("config.json");
    let deeper = text.replace("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7");
    assert_ne!(deeper, text);
    let changed = folder_with("config.json", deeper.as_bytes());
    std::fs::copy(folder().join("model.safetensors"), changed.path().join("model.safetensors")).expect("a copy");
    let error = refusal(changed.path());
    assert!(error.to_string().contains("encoder.layer.6.") && error.to_string().contains("model.safetensors"), "{error}");
}

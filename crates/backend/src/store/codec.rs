//! The values of rows, as bytes. The same for every store.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Appends a row's value to `out`.
pub(super) fn encode(row: &impl Serialize, out: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(row, out).expect("rows of strings and numbers always encode")
}

/// Reads a row's value.
pub(super) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(value).map_err(|error| StoreError::Damaged(format!("{}: {error}", std::any::type_name::<T>())))
}

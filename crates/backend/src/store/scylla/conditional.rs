//! What a lightweight transaction answers: whether its condition held, and the row as it was.

use bytes::Bytes;
use scylla::response::query_result::QueryResult;
use scylla::value::{CqlValue, Row};

use super::failure::damaged;
use crate::store::StoreError;

/// The answer of a statement with a condition.
pub(super) struct Answer {
    /// Whether the condition held, so that the statement took effect.
    pub(super) applied: bool,
    /// The row that was there, by the names of its columns. Complete where the condition did not hold.
    row: Vec<(String, CqlValue)>,
}

impl Answer {
    /// Columns differ between servers, and from answer to answer, so they are taken by name.
    pub(super) fn of(result: QueryResult) -> Result<Answer, StoreError> {
        let rows = result.into_rows_result().map_err(damaged)?;
        let names: Vec<String> = rows.column_specs().iter().map(|column| column.name().to_owned()).collect();
        let row: Row = rows.first_row().map_err(damaged)?;
        let mut row: Vec<(String, CqlValue)> =
            names.into_iter().zip(row.columns).filter_map(|(name, value)| value.map(|value| (name, value))).collect();
        let Some(at) = row.iter().position(|(name, _)| name == "[applied]") else {
            return Err(StoreError::Damaged("a conditional statement was answered without its outcome".to_owned()));
        };
        match row.swap_remove(at).1 {
            CqlValue::Boolean(applied) => Ok(Answer { applied, row }),
            other => Err(StoreError::Damaged(format!("a conditional statement was answered {other:?}"))),
        }
    }

    /// A blob of the row that was there.
    pub(super) fn blob(&mut self, name: &str) -> Option<Bytes> {
        match self.take(name)? {
            CqlValue::Blob(bytes) => Some(Bytes::from(bytes)),
            _other => None,
        }
    }

    /// A number of the row that was there.
    pub(super) fn number(&mut self, name: &str) -> Option<i64> {
        match self.take(name)? {
            CqlValue::BigInt(number) => Some(number),
            _other => None,
        }
    }

    fn take(&mut self, name: &str) -> Option<CqlValue> {
        let at = self.row.iter().position(|(column, _)| column == name)?;
        Some(self.row.swap_remove(at).1)
    }
}

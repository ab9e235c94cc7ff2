//! The answer to a question, page by page.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::bound::BoundStatement;
use scylla::statement::prepared::PreparedStatement;

use super::failure::{damaged, failed};
use crate::store::StoreError;

/// Time-out of one page.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(5);

/// A question and how far it is answered.
pub(super) struct Pages {
    bound: BoundStatement,
    state: Option<PagingState>,
}

/// One page of an answer.
pub(super) struct Answered(QueryRowsResult);

impl Pages {
    /// Asks `statement` with `values`; pages have up to `size` rows, or as many as the statement says.
    pub(super) fn new(statement: &PreparedStatement, values: &impl SerializeRow, size: Option<i32>) -> Result<Pages, StoreError> {
        let mut bound = statement.clone().bind(values).map_err(damaged)?;
        if let Some(size) = size {
            bound.set_page_size(size);
        }
        Ok(Pages { bound, state: Some(PagingState::start()) })
    }

    /// The next page; `None` behind the last. Pages can be empty.
    pub(super) async fn next(&mut self, session: &Session, what: &'static str) -> Result<Option<Answered>, StoreError> {
        let Some(state) = self.state.take() else { return Ok(None) };
        let (result, next) = session.execute_bound_single_page(&self.bound, state).await.map_err(failed(what, READ_LIMIT))?;
        self.state = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok(Some(Answered(result.into_rows_result().map_err(damaged)?)))
    }

    /// Whether there are no more pages.
    pub(super) fn is_over(&self) -> bool {
        self.state.is_none()
    }
}

impl Answered {
    /// Its rows.
    pub(super) fn rows<R: for<'r> DeserializeRow<'r, 'r>>(&self) -> Result<Vec<R>, StoreError> {
        let rows = self.0.rows::<R>().map_err(damaged)?;
        rows.map(|row| row.map_err(damaged)).collect()
    }
}

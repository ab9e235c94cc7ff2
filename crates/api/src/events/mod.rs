//! Events: taken in, shown, replayed, and streamed while they are delivered.

pub(crate) mod batch;
pub(crate) mod receive;
pub(crate) mod replay;
pub(crate) mod show;
pub(crate) mod stream;

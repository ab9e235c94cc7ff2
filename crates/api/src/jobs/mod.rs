//! Jobs: work that takes long and ends in a webhook.

pub(crate) mod download;
pub(crate) mod show;
pub(crate) mod submit;

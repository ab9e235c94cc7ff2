//! Webhook endpoints: registered, changed, tried out, and looked back on.

pub(crate) mod history;
pub(crate) mod manage;
pub(crate) mod replay;
pub(crate) mod sample;
pub(crate) mod secrets;
mod settings;
mod verdict;

//! A client of an OpenAI-compatible server: the models that jobs ask.
//!
//! Its address is the operator's, not a sender's, so it may be private and is not guarded as deliveries are. What it
//! answers is not trusted: every wait, every answer and the number of tries has a limit, redirects are not followed, and
//! nothing that it says can carry the key any further.
//!
//! Architecture invariant: knows nothing of jobs, tenants or the store.
//!
//! Read [`Upstream`] and [`UpstreamError`] first.

mod chat;
mod error;
mod exchange;
mod frames;
mod options;
mod tries;
mod upstream;

pub use chat::{Completion, Usage};
pub use error::UpstreamError;
pub use exchange::Answer;
pub use frames::{Frame, Frames, TooLong};
pub use options::{OpenError, UpstreamOptions};
pub use upstream::{Speech, Upstream};

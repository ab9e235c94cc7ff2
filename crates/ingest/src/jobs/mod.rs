//! The one way in for jobs: checked, made durable, told about, withdrawn.
//!
//! A job is a record on its kind's topic, which wakes workers, and a row, which says where it stands. The record comes
//! first: one without a row was never acknowledged. Every change of a job becomes an event of its tenant, and its end one
//! to the URLs that came with it; see [`Jobs::tell`].

mod input;
mod kinds;
mod link;
mod submission;
mod submit;
mod tell;

pub use input::{Detail, EvaluateInput, TtsInput};
pub use kinds::Kinds;
pub use link::{Link, LinkError};
pub use submission::{JobSubmission, Refused};
pub use submit::{CancelError, JobReceipt, Jobs};
pub use tell::INLINE_RESULT;

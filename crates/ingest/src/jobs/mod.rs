//! The one way in for jobs: checked, made durable, told about, withdrawn.
//!
//! A job is a record on its kind's topic, which wakes workers, and a row, which says where it stands. The record comes
//! first: one without a row was never acknowledged. Every change of a job becomes an event of its tenant, and its end one
//! to the URLs that came with it; see [`Jobs::tell`].

mod batch;
mod experiment;
mod generate;
mod hook;
mod http;
mod input;
mod kinds;
mod link;
mod outside;
mod own;
mod submission;
mod submit;
mod tell;
mod tts;

pub use batch::{Batch, BatchEndpoint, BatchInput, BatchResult, BatchStatus};
pub use experiment::{ExperimentInput, Field, FieldType, Pricing};
pub use generate::GenerateInput;
pub use http::{HttpBody, HttpInput};
pub use input::{BertOptions, Detail, EvaluateInput};
pub use kinds::{Bert, Kind, Kinds, MAX_KIND, OutsideKind, Speech, wrong_kind};
pub use link::{Link, LinkError};
pub use outside::{Heard, News, Report};
pub use submission::{JobSubmission, Refused};
pub use submit::{CancelError, JobReceipt, Jobs};
pub use tell::{INLINE_RESULT, Moved};
pub use tts::{AudioFormat, MAX_PART, TtsInput, UpstreamSpeech};

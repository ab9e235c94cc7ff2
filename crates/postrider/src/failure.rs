//! How a command fails: words for the user, a code for scripts.

use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line or a file it names is wrong. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// No server answers. Exit code 3.
    #[error("cannot reach {url}: {reason}\n{advice}")]
    Unreachable {
        /// Which server.
        url: String,
        /// Why not.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// Anything else. Exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code that scripts see.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Failure::Failed(_) => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Unreachable { .. } => ExitCode::from(3),
        }
    }
}

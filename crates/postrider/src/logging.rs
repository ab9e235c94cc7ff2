//! What the program says about itself while it runs, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Format, Tracing};

/// Starts logging; a second call changes nothing. The filter was checked when the configuration was read.
pub(crate) fn start(config: &Tracing) {
    let filter = EnvFilter::builder().parse_lossy(&config.filter);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging had been started before");
    }
}

//! What a sender may do, and why one could not be made.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// The limits of one [`Sender`](crate::Sender), and what it trusts. They hold per worker thread.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ranges that may be reached although they are not public (`[egress] allow`).
    pub allow: Vec<IpNet>,
    /// A PEM file of certificate authorities to trust in addition to the public ones.
    pub extra_ca: Option<PathBuf>,
    /// How many idle connections are kept per origin (scheme, host and port). Further ones are closed after use.
    pub max_idle_per_origin: usize,
    /// How many idle connections are kept in all. The one idle for longest gives way.
    pub max_idle: usize,
    /// How many connections may be open at once, idle ones included; so also how many exchanges may run at once.
    /// At least 1.
    pub max_connections: usize,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How many names the cache of the name look-up holds.
    pub max_cached_names: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            allow: Vec::new(),
            extra_ca: None,
            max_idle_per_origin: 1024,
            max_idle: 4096,
            max_connections: 8192,
            idle_timeout: Duration::from_secs(60),
            max_cached_names: 4096,
        }
    }
}

/// Why a [`Sender`](crate::Sender) could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The file of additional certificate authorities can't be used.
    #[error("[egress] extra_ca: {} can't be used: {reason}", path.display())]
    ExtraCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The system's name servers could not be read.
    #[error("the system's configuration for looking up names can't be read: {reason}")]
    Resolver {
        /// What is wrong with it.
        reason: String,
    },
}

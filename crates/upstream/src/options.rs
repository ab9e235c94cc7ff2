//! Which server is asked, and how patiently.

use std::path::PathBuf;
use std::time::Duration;

use postrider_core::secret::Secret;
use postrider_egress::EgressError;

/// Where an upstream is, and its limits.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// What its paths begin with, usually ending in `/v1`.
    pub base_url: String,
    /// Sent as a bearer token, if there is one.
    pub api_key: Secret,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest silence of an answer that is streamed, and longest wait for its beginning.
    pub idle: Duration,
    /// Longest time of one whole exchange.
    pub total: Duration,
    /// Most bytes of one answer.
    pub max_bytes: usize,
    /// How often a request is sent, where what failed may pass. At least 1.
    pub tries: u32,
    /// A PEM file of certificate authorities to trust beside the public ones.
    pub extra_ca: Option<PathBuf>,
}

impl Default for UpstreamOptions {
    fn default() -> UpstreamOptions {
        UpstreamOptions {
            base_url: String::new(),
            api_key: Secret::none(),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
            max_bytes: 64 << 20,
            tries: 5,
            extra_ca: None,
        }
    }
}

/// No upstream can be asked with these options.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("upstream.base_url is `{given}`, not an address such as https://api.openai.com/v1: {reason}")]
    Url {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key can't stand in a header.
    #[error("upstream.api_key has characters that can't be sent; it must be visible ASCII")]
    Key,
    /// TLS can't be set up.
    #[error("{0}")]
    Tls(#[from] EgressError),
}

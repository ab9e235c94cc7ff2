//! The way out: posts deliveries to addresses that others chose, and makes the calls of jobs.
//!
//! Architecture invariant: this is the only crate that connects to an address from outside. Every address, looked
//! up or literal, passes the [`Guard`] and is then dialed as checked: there is no second look-up in between. A
//! request goes out at most once per [`Sender::send`], redirects are not followed, proxies of the environment are
//! not asked, and every wait, buffer and list has a limit.
//!
//! Connections belong to their [`Sender`], one per worker thread: an exchange drives its connection itself, so that
//! nothing is spawned and nothing crosses threads on the way.
//!
//! Read [`Sender`] and [`Target`] first.

mod connection;
mod dial;
mod fault;
mod guard;
mod headers;
mod idle;
mod options;
mod response;
mod retry_after;
mod sender;
mod stream;
mod target;
mod tls;

pub use guard::Guard;
pub use headers::{Headers, Message, call_headers, delivery_headers, wrong_call_headers, wrong_headers};
pub use options::{EgressError, Options};
pub use retry_after::parse as parse_retry_after;
pub use sender::{CallError, Post, Reply, Sender};
pub use target::{MAX_URL, Method, Target, UrlError, check_url};
pub use tls::client_config;

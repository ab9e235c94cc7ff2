//! Where bytes rest: the log that carries records, the store that is looked up, blobs, and the cached directory.
//!
//! Architecture invariant: no decisions about deliveries and no HTTP. What a seam promises is one contract, tested
//! the same for every backend. A call that says "durable" means it: `kill -9` at any moment loses nothing that was
//! acknowledged.
//!
//! Read [`log::Log`], [`store::Store`] and [`folder::Folder`] first.

pub mod blobs;
pub mod directory;
pub mod folder;
pub mod live;
pub mod log;
mod meters;
pub mod store;

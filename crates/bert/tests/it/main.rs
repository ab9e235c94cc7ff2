//! The crate with a real model: against the reference implementation's numbers, and what it refuses.

mod folder;
mod reference;
mod scoring;

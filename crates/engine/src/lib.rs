//! The loops around core: they wait, carry out and report back.
//!
//! Architecture invariant: nothing is decided here. What goes when, what is kept and what may be committed is
//! [`postrider_core::shard::Shard`]'s to say; a [`deliverer`] only moves bytes between log, store and receivers.
//! Engine and API never call each other: they meet through log and store.
//!
//! Read [`deliverer::run`] first: the whole life of a delivery is in that file.

mod attempt;
pub mod deliverer;
mod departed;
mod lookups;
mod meters;
mod notices;
mod outbox;
pub mod router;
mod rows;
mod strain;
mod targets;

pub use deliverer::{Deliverer, DelivererOptions, EngineError};

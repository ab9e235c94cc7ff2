//! Text in, speech out, through the program `espeak-ng` of this machine.
//!
//! A text is cut at the ends of its sentences and spoken part by part, each by a fresh process, into one file, WAV or Ogg. However
//! long the text, memory is that of one part of the text and a buffer of audio.
//!
//! Architecture invariant: it knows no jobs, HTTP or storage. The text reaches the program by its standard input only, after
//! its limits of memory, processor time and files are in force, and nothing in it is taken for markup, phonemes or commands.
//! Dropping a future ends its processes.
//!
//! Read [`Espeak`] and [`Order`] first; `sandbox` says what the program is kept from, and what not.

mod audio;
mod error;
mod espeak;
mod language;
mod nearest;
mod ogg;
mod request;
mod sandbox;
mod sentences;
mod voice;
mod wav;

pub use audio::{Audio, Format, MAX_AUDIO};
pub use error::SpeechError;
pub use espeak::Espeak;
pub use language::{Language, UnknownLanguage};
pub use request::{BadField, BadRequest, MAX_TEXT, Order, Request};
pub use sentences::parts;

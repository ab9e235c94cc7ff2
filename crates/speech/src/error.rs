//! Why there is no speech.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::audio::MAX_AUDIO;
use crate::espeak::is_name;
use crate::sandbox::{MAX_OUTPUT, TIMEOUT};

/// Why no speech was made.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// There is no such program, so nothing can be spoken until it is installed.
    #[error(
        "there is no program {} {}; install espeak-ng (Debian and Ubuntu: `apt-get install espeak-ng`, elsewhere the package \
         espeak-ng), or give the path of the program",
        program.display(),
        if is_name(program) { "in PATH" } else { "that can be run" }
    )]
    Missing {
        /// What was looked for: a path, or a name in PATH.
        program: PathBuf,
    },
    /// The program was found but does not answer as espeak-ng does.
    #[error("{} is not an espeak-ng that works: {reason}", program.display())]
    NotEspeak {
        /// The program that was asked.
        program: PathBuf,
        /// What was expected of it.
        reason: &'static str,
    },
    /// The program can't be started, or its limits can't be set.
    #[error("espeak-ng can't be started within its limits: {0}")]
    Start(#[source] io::Error),
    /// The program took too long for one part of the text.
    #[error("espeak-ng took longer than {} seconds for one part of the text and was ended", TIMEOUT.as_secs())]
    TimedOut,
    /// The program ended with an error, or a limit ended it.
    #[error("espeak-ng failed ({status}){}{complaint}", if complaint.is_empty() { "" } else { ": " })]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it wrote to its standard error.
        complaint: String,
    },
    /// There is far more audio of one part of the text than speech can have.
    #[error("one part of the text gave more than {} MiB of audio", MAX_OUTPUT >> 20)]
    Flood,
    /// A part of the text gave something that the others can't be joined to.
    #[error("a part of the text gave something other than 16 bit mono WAV of one sample rate")]
    NotAudio,
    /// The whole speech does not fit into one file.
    #[error("the speech takes more than {} MiB of audio; split the text, or speak it at a higher rate", MAX_AUDIO >> 20)]
    TooLong,
    /// What was to be spoken can't be handed over, or what was spoken can't be read: the pipe to or from the program broke.
    #[error("the audio of a part of the text can't be read: {0}")]
    Pipe(#[source] io::Error),
    /// The audio can't be written to where the caller wants it.
    #[error("the audio can't be written: {0}")]
    Write(#[source] io::Error),
}

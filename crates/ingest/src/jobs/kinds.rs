//! Which kinds of jobs this machine can take and do, and why not the others.

use std::path::Path;

use postrider_core::job::JobKind;
use postrider_speech::Espeak;

/// What kinds need beside this program.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// For `tts`; or else what to install.
    pub speech: Result<Espeak, String>,
}

impl Kinds {
    /// Looks for what kinds need: `espeak` is the program of that name, or a path to it.
    ///
    /// Needs a Tokio runtime. Ends within seconds.
    pub async fn find(espeak: &Path) -> Kinds {
        Kinds { speech: Espeak::find(Some(espeak)).await.map_err(|error| error.to_string()) }
    }

    /// Why jobs of `kind` can be neither taken nor done here, if so.
    pub fn unavailable(&self, kind: JobKind) -> Option<&str> {
        match kind {
            JobKind::Evaluate => None,
            JobKind::Tts => self.speech.as_ref().err().map(String::as_str),
        }
    }
}

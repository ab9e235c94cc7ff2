//! The program: found once, then asked to speak.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};

use crate::audio::Audio;
use crate::error::SpeechError;
use crate::language::{Language, Languages, UnknownLanguage};
use crate::request::{BadRequest, Order, Request, harmless};
use crate::sandbox::{self, Sandbox};
use crate::sentences::parts;
use crate::voice::Voices;

/// Longest part of a text that one process speaks, in bytes: two or three minutes.
pub(crate) const MAX_PART: usize = 2 << 10;

/// The espeak-ng of this machine, its languages and voices.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use postrider_speech::{Espeak, Order};
///
/// let espeak = Espeak::find(None).await?;
/// let order = Order { text: "Akkam jirta?".into(), language: "oromo".into(), ..Order::default() };
/// let request = espeak.request(order)?;
/// let file = std::fs::File::create("akkam.wav")?;
/// espeak.speak(&request, file, |share| println!("{:.0} %", share * 100.0)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Espeak {
    sandbox: Sandbox,
    version: String,
    languages: Languages,
    voices: Voices,
}

impl Espeak {
    /// Finds the program, `espeak-ng` in PATH without a name or path, and asks it for its languages and voices.
    /// It is told of ESPEAK_DATA_PATH, where that is set.
    ///
    /// Errors: [`SpeechError::Missing`], or the others when it can't be run or is another program.
    pub async fn find(program: Option<&Path>) -> Result<Espeak, SpeechError> {
        let sandbox = Sandbox { program: locate(program.unwrap_or(Path::new("espeak-ng")))?, data: env::var_os("ESPEAK_DATA_PATH") };
        let not_espeak = |reason| SpeechError::NotEspeak { program: sandbox.program.clone(), reason };
        let version = ask(&sandbox, "--version").await?;
        // `eSpeak NG text-to-speech: 1.51  Data at: /usr/lib/espeak-ng-data`
        let version = version.split_once("eSpeak NG text-to-speech: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let version = version.ok_or_else(|| not_espeak("it does not tell its version as espeak-ng does"))?.to_owned();
        let languages = Languages::parse(&ask(&sandbox, "--voices").await?);
        if languages.iter().next().is_none() {
            return Err(not_espeak("it lists no languages; is its data installed?"));
        }
        let voices = Voices::parse(&ask(&sandbox, "--voices=variant").await?);
        Ok(Espeak { sandbox, version, languages, voices })
    }

    /// Its version, such as `1.51`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it speaks.
    pub fn languages(&self) -> impl Iterator<Item = &Language> {
        self.languages.iter()
    }

    /// The language of a code or name, in whatever case: `om`, `Oromo`, `en_US`.
    ///
    /// `en` and `English` are the English that espeak-ng prefers, and `om-ET` is `om`, as that region is not known.
    pub fn language(&self, text: &str) -> Result<&Language, UnknownLanguage> {
        self.languages.find(text)
    }

    /// The order, if it can be carried out.
    ///
    /// Errors: every field that is wrong, with what it must be.
    pub fn request(&self, order: Order) -> Result<Request, BadRequest> {
        Request::new(order, &self.languages, &self.voices)
    }

    /// Speaks into `out`, an empty file, and leaves a whole one there, of the request's format.
    ///
    /// `progress` is told the share of the text that is spoken, rising to 1. Dropping the future ends the program.
    ///
    /// Errors: what is in `out` then is of no use.
    pub async fn speak(&self, request: &Request, out: File, mut progress: impl FnMut(f32)) -> Result<(), SpeechError> {
        let (rate, pitch) = (request.rate.to_string(), request.pitch.to_string());
        // `-b 1`: the text is UTF-8, never anything else by guess.
        let arguments = ["--stdin", "--stdout", "-b", "1", "-s", &rate, "-p", &pitch, "-v", &request.voice];
        let mut audio = Audio::begin(out, request.format).await?;
        let mut spoken = 0;
        for part in parts(&request.text, MAX_PART) {
            let mut running = self.sandbox.start(&arguments)?;
            let copied = audio.copy(running.stdout());
            let given = running.finish(harmless(part).as_bytes(), copied).await?;
            audio.check(&given)?;
            spoken += part.len();
            progress(spoken as f32 / request.text.len() as f32);
        }
        audio.end().await
    }
}

async fn ask(sandbox: &Sandbox, question: &str) -> Result<String, SpeechError> {
    let mut running = sandbox.start(&[question])?;
    let answer = sandbox::text(running.stdout());
    running.finish(b"", answer).await
}

/// The path of a program: itself where it has a folder, otherwise the first in PATH that can be run.
fn locate(program: &Path) -> Result<PathBuf, SpeechError> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let found = if is_name(program) { in_path(program.as_os_str(), &path) } else { absolute(program).ok() };
    found.filter(|found| can_be_run(found)).ok_or_else(|| SpeechError::Missing { program: program.to_owned() })
}

/// Whether it is to be looked for in PATH.
pub(crate) fn is_name(program: &Path) -> bool {
    program.parent() == Some(Path::new(""))
}

fn in_path(program: &OsStr, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).filter_map(|folder| absolute(folder.join(program)).ok()).find(|candidate| can_be_run(candidate))
}

fn can_be_run(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

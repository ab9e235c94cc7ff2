//! A program that stands in for espeak-ng where it has to fail.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use postrider_speech::{Espeak, Order, Request, SpeechError};
use tempfile::TempDir;

use crate::spoken;

/// The header that espeak-ng writes.
pub(crate) const HEADER: &str = r"RIFF\044\360\377\177WAVEfmt \020\0\0\0\001\0\001\0\042V\0\0D\254\0\0\002\0\020\0data\0\360\377\177";

/// A folder with the program.
pub(crate) struct Fake {
    folder: TempDir,
}

impl Fake {
    /// One that carries out these shell commands when it is to speak.
    ///
    /// The program itself is a link: one that was just written can't be run while another test happens to hold it open.
    pub(crate) fn new(body: &str) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fake-espeak-ng"), folder.path().join("espeak-ng")).unwrap();
        std::fs::write(folder.path().join("body"), body).unwrap();
        Fake { folder }
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("espeak-ng")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn found(&self) -> (Espeak, Request) {
        let espeak = Espeak::find(Some(&self.program())).await.unwrap();
        let order = Order { text: "Hello.".to_owned(), language: "en".to_owned(), ..Order::default() };
        let request = espeak.request(order).unwrap();
        (espeak, request)
    }

    pub(crate) async fn speak(&self) -> Result<Vec<u8>, SpeechError> {
        let (espeak, request) = self.found().await;
        spoken(&espeak, &request).await
    }
}

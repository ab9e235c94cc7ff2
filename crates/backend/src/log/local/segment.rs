//! The files that the stream is cut into. A segment's name is the position of its first byte.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::frame::{Header, Unreadable};

/// Verified whole frames, from a position of the stream on.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    pub(super) base: u64,
    pub(super) bytes: Bytes,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Where `at` is within its bytes, if it holds that position.
    pub(super) fn index(&self, at: u64) -> Option<usize> {
        let index = at.checked_sub(self.base)?;
        (at < self.end()).then_some(index as usize)
    }
}

pub(super) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// The first positions of all segments, ascending, each with the file's length.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 20);
        if let Some(base) = base.and_then(|digits| digits.parse().ok()) {
            found.push((base, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes names in `dir`, and the lack of them, durable.
pub(super) fn sync_names(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// One segment, open for reading.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    base: u64,
    /// Behind the last byte that may be read.
    limit: u64,
}

/// Why no frames came.
#[derive(Debug)]
pub(super) enum ReadError {
    /// What begins at this position of the stream is no whole, intact frame.
    Bad {
        /// Position in the stream.
        at: u64,
    },
    /// The operating system refused.
    Io(io::Error),
}

impl Reader {
    pub(super) fn open(dir: &Path, base: u64, limit: u64) -> io::Result<Reader> {
        Ok(Reader { file: File::open(path(dir, base))?, base, limit })
    }

    /// Reads and verifies the frames from `at` on: one at least, and more while they are within `want` bytes.
    /// `at` must lie before the limit.
    pub(super) fn frames(&self, at: u64, mut want: u64) -> Result<Chunk, ReadError> {
        let there = self.limit - at;
        loop {
            let mut bytes = vec![0; there.min(want) as usize];
            self.fill(&mut bytes, at)?;
            let (whole, stopped_by) = whole_frames(&bytes);
            match stopped_by {
                Some(Unreadable::Short { needed }) if whole == 0 && want < needed as u64 && needed as u64 <= there => {
                    want = needed as u64;
                }
                Some(Unreadable::Short { .. } | Unreadable::Broken) if whole == 0 => return Err(ReadError::Bad { at }),
                Some(_) | None => {
                    bytes.truncate(whole);
                    return Ok(Chunk { base: at, bytes: bytes.into() });
                }
            }
        }
    }

    /// All bytes from `at` to the limit.
    pub(super) fn rest(&self, at: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; (self.limit - at) as usize];
        self.fill(&mut bytes, at)?;
        Ok(bytes)
    }

    fn fill(&self, bytes: &mut [u8], at: u64) -> Result<(), ReadError> {
        self.file.read_exact_at(bytes, at - self.base).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => ReadError::Bad { at },
            _ => ReadError::Io(error),
        })
    }
}

/// How many bytes are whole, intact frames, and what ended them before the end of `bytes`.
fn whole_frames(bytes: &[u8]) -> (usize, Option<Unreadable>) {
    let mut whole = 0;
    while whole < bytes.len() {
        let rest = &bytes[whole..];
        match Header::read(rest) {
            Ok(header) if header.is_intact(rest) => whole += header.total,
            Ok(_) => return (whole, Some(Unreadable::Broken)),
            Err(unreadable) => return (whole, Some(unreadable)),
        }
    }
    (whole, None)
}

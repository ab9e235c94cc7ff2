//! The lines of a file, one by one, however large it is.

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use postrider_backend::blobs::Blobs;
use postrider_core::job::Error;
use postrider_ingest::files::File;

use super::check::wrong_line;
use super::patiently;

/// Bytes of the file that are read at a time.
const PIECE: u64 = 1 << 20;
/// Most bytes of a line.
const MAX_LINE: usize = 4 << 20;

/// A line that is not blank.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// From 1, blank ones included.
    pub(super) number: u32,
    /// Without its end.
    pub(super) bytes: Bytes,
}

/// Reads a file; holds no more of it than a line and a piece.
pub(super) struct Lines {
    blobs: Blobs,
    name: String,
    size: u64,
    read: u64,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line's end.
    searched: usize,
    number: u32,
}

impl Lines {
    pub(super) fn new(blobs: &Blobs, file: &File) -> Lines {
        let (name, size) = (file.content.clone(), file.bytes);
        Lines { blobs: blobs.clone(), name, size, read: 0, buffer: BytesMut::new(), searched: 0, number: 0 }
    }

    /// The next line that is not blank. Errors: it is too long, or the file is gone.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Error> {
        loop {
            let Some(bytes) = self.any().await? else { return Ok(None) };
            self.number = self.number.saturating_add(1);
            if bytes.len() > MAX_LINE {
                return Err(self.too_long());
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some(Line { number: self.number, bytes }));
            }
        }
    }

    async fn any(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = memchr(b'\n', &self.buffer[self.searched..]) {
                let mut line = self.buffer.split_to(self.searched + end + 1);
                line.truncate(line.len() - 1);
                self.searched = 0;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                self.number = self.number.saturating_add(1);
                return Err(self.too_long());
            }
            if self.read >= self.size {
                self.searched = 0;
                let last = self.buffer.split();
                return Ok((!last.is_empty()).then(|| last.freeze()));
            }
            let range = self.read..self.size.min(self.read + PIECE);
            let piece = patiently("a batch's file can't be read", async || self.blobs.get_range(&self.name, range.clone()).await).await?;
            if piece.is_empty() {
                return Err(Error::new("internal", "a batch's file is shorter than it was"));
            }
            self.read += piece.len() as u64;
            self.buffer.extend_from_slice(&piece);
        }
    }

    fn too_long(&self) -> Error {
        wrong_line(self.number, "line_too_long", format!("a line may have at most {MAX_LINE} bytes"), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    async fn read(text: Vec<u8>) -> Result<Vec<(u32, usize)>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let bytes = text.len() as u64;
        blobs.put_stream("x", stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))])).await.unwrap();
        let file = File { filename: String::new(), bytes, lines: 0, created_at: 0, content: "x".to_owned() };
        let (mut lines, mut found) = (Lines::new(&blobs, &file), Vec::new());
        while let Some(line) = lines.next().await? {
            found.push((line.number, line.bytes.len()));
        }
        Ok(found)
    }

    #[tokio::test]
    async fn lines_are_found_wherever_pieces_end() {
        assert_eq!(read(Vec::new()).await, Ok(vec![]));
        assert_eq!(read(b"a\n\r\n \nbc".to_vec()).await, Ok(vec![(1, 1), (4, 2)]));
        let lengths = [PIECE as usize - 1, 1, PIECE as usize, 2 * PIECE as usize + 5, 3];
        let text: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
        assert_eq!(read(text).await, Ok((1..).zip(lengths).collect()));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_read_to_its_end() {
        for text in [vec![b'x'; MAX_LINE + 1], [b"a\n".to_vec(), vec![b'x'; 40 << 20]].concat()] {
            let first = if text[1] == b'x' { 1 } else { 2 };
            let error = read(text).await.expect_err("it is too long");
            assert_eq!((error.lines[0].line, error.lines[0].code.as_str()), (Some(first), "line_too_long"));
        }
        assert_eq!(read(vec![b'x'; MAX_LINE]).await, Ok(vec![(1, MAX_LINE)]));
    }
}

//! Files: uploaded, or made by batches; kept among the blobs.
//!
//! A file is two blobs: its content, under a name that nobody else writes, and what is known of it, under its id. The second
//! is written last and once, and makes the file exist: who finds it there already has lost to whoever wrote it.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use postrider_backend::blobs::{BlobError, Blobs, Order};
use postrider_core::id::{FileId, Uid};
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};

/// Files that are looked up at one time for a list.
const AHEAD: usize = 16;

/// Where files lie: under the day of their number and their tenant.
#[derive(Clone, Debug)]
pub struct Files {
    blobs: Blobs,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// What its sender called it. Never a path.
    pub filename: String,
    /// Its size.
    pub bytes: u64,
    /// Its lines, where a batch made it.
    pub lines: u32,
    /// When it was made, in milliseconds.
    pub created_at: u64,
    /// The blob of its content.
    pub content: String,
}

/// Which files a list holds.
#[derive(Clone, Debug)]
pub struct FileFilter {
    /// For this purpose only, by its name.
    pub purpose: Option<String>,
    /// Behind this one.
    pub after: Option<FileId>,
    /// Oldest or newest first.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
}

/// Files of a list, and whether there are more.
#[derive(Clone, Debug)]
pub struct FilePage {
    /// In order.
    pub files: Vec<(FileId, File)>,
    /// Whether there is a next page.
    pub has_more: bool,
}

impl Files {
    /// Where the blobs of all files lie.
    pub const BLOBS: &str = "files";

    /// Files among `blobs`.
    pub fn new(blobs: Blobs) -> Files {
        Files { blobs }
    }

    /// Where the files of a day lie. Days are counted from the Unix epoch.
    pub fn day(at: Time) -> String {
        format!("{}/{}", Files::BLOBS, at.0 / 86_400_000)
    }

    /// The blob for the content of a file that has this number, and that nobody but the caller, who chose `unique`, writes.
    pub fn content(tenant: &str, number: Uid, unique: u64) -> String {
        format!("{}/{}/content/{:032x}-{unique:016x}", Files::day(number.time()), segment(tenant), number.0)
    }

    /// Writes a file's content to the blob `content`, and says its size. It is no file yet. Errors: as [`Blobs::put_stream`].
    pub async fn write<E: std::fmt::Display>(&self, content: &str, parts: impl Stream<Item = Result<Bytes, E>>) -> Result<u64, BlobError> {
        let mut bytes = 0;
        self.blobs.put_stream(content, parts.inspect_ok(|part| bytes += part.len() as u64)).await?;
        Ok(bytes)
    }

    /// Makes `file` exist under this id, unless one does; gives the one that does. The content of one that came too late goes.
    pub async fn publish(&self, tenant: &str, id: FileId, file: File) -> Result<File, BlobError> {
        let json = serde_json::to_vec(&file).map_err(|error| invalid(id, error))?;
        if self.blobs.put_new(&meta(tenant, id), json.into()).await? {
            return Ok(file);
        }
        let Some(first) = self.find(tenant, id).await? else {
            return Err(BlobError::Unavailable(format!("`{id}` was deleted while it was made")));
        };
        if first.content != file.content {
            self.blobs.delete(&file.content).await?;
        }
        Ok(first)
    }

    /// The file of this id.
    pub async fn find(&self, tenant: &str, id: FileId) -> Result<Option<File>, BlobError> {
        match self.blobs.get(&meta(tenant, id)).await {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| invalid(id, error)),
            Err(BlobError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a file; says whether there was one.
    pub async fn delete(&self, tenant: &str, id: FileId) -> Result<bool, BlobError> {
        let Some(file) = self.find(tenant, id).await? else { return Ok(false) };
        self.blobs.delete(&meta(tenant, id)).await?;
        self.blobs.delete(&file.content).await?;
        Ok(true)
    }

    /// Files by the time they were made. Reads the days that the page is of, and looks up its files only.
    pub async fn list(&self, tenant: &str, filter: &FileFilter) -> Result<FilePage, BlobError> {
        let FileFilter { purpose, after, order, limit } = filter;
        let most = limit.saturating_add(1);
        let wanted = |id: &FileId| {
            let is_behind = after.is_none_or(|after| match order {
                Order::Ascending => *id > after,
                Order::Descending => *id < after,
            });
            is_behind && purpose.as_ref().is_none_or(|purpose| id.purpose.name() == purpose)
        };
        let mut ids: Vec<FileId> = Vec::new();
        for day in self.days(*after, *order).await? {
            if ids.len() == most {
                break;
            }
            let folder = format!("{day}/{}/meta", segment(tenant));
            let names = self.blobs.names(&folder, *order, most - ids.len(), |name| parsed(name).is_some_and(|id| wanted(&id))).await?;
            ids.extend(names.iter().filter_map(|name| parsed(name)));
        }
        let has_more = ids.len() == most;
        ids.truncate(*limit);
        let found = stream::iter(ids).map(|id| async move { Ok(self.find(tenant, id).await?.map(|file| (id, file))) });
        // What was deleted meanwhile is left out.
        let files = found.buffered(AHEAD).try_filter_map(|found| async { Ok::<_, BlobError>(found) }).try_collect().await?;
        Ok(FilePage { files, has_more })
    }

    /// The folders of days, from that of `after` on.
    async fn days(&self, after: Option<FileId>, order: Order) -> Result<Vec<String>, BlobError> {
        let mut days = self.blobs.folders(Files::BLOBS).await?;
        // Of names of one length the greater is the newer.
        days.sort_by_key(|day| (day.len(), day.clone()));
        if let Some(after) = after {
            let bound = Files::day(after.number.time());
            let bound = (bound.len(), bound);
            days.retain(|day| match order {
                Order::Ascending => (day.len(), day) >= (bound.0, &bound.1),
                Order::Descending => (day.len(), day) <= (bound.0, &bound.1),
            });
        }
        if order == Order::Descending {
            days.reverse();
        }
        Ok(days)
    }
}

/// The blob of what is known of a file.
fn meta(tenant: &str, id: FileId) -> String {
    format!("{}/{}/meta/{}", Files::day(id.number.time()), segment(tenant), digits(&id.to_string()))
}

/// An id without what all begin with: names of one length, in order of time.
fn digits(id: &str) -> &str {
    id.trim_start_matches("file-")
}

fn parsed(name: &str) -> Option<FileId> {
    format!("file-{name}").parse().ok()
}

/// A tenant as one part of a name, whatever it is called: another tenant's is another.
fn segment(tenant: &str) -> String {
    let mut segment = String::from("t-");
    for byte in tenant.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => segment.push(byte.into()),
            _other => write!(segment, ".{byte:02x}").expect("a text takes all that is written to it"),
        }
    }
    segment
}

fn invalid(id: FileId, error: serde_json::Error) -> BlobError {
    BlobError::Invalid { name: id.to_string(), why: format!("what is known of it can't be read: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_core::id::FilePurpose;

    const DAY: u64 = 86_400_000;

    fn id(day: u64, n: u64, purpose: FilePurpose) -> FileId {
        FileId { number: Uid::new(Time(day * DAY + n), 0, n << 2), purpose }
    }

    async fn make(files: &Files, tenant: &str, id: FileId, text: &'static str, unique: u64) -> File {
        let content = Files::content(tenant, id.number, unique);
        let parts = text.as_bytes().chunks(2).map(|part| Ok::<_, BlobError>(Bytes::from_static(part)));
        let bytes = files.write(&content, stream::iter(parts)).await.unwrap();
        let file = File { filename: "../x".to_owned(), bytes, lines: 0, created_at: 7, content };
        files.publish(tenant, id, file).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_its_tenants_alone_and_goes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(Blobs::open(dir.path()).unwrap());
        let one = id(20_000, 1, FilePurpose::Batch);
        let made = make(&files, "a", one, "hello", 1).await;
        assert_eq!((files.find("a", one).await.unwrap(), made.bytes), (Some(made.clone()), 5));
        for other in ["b", "", "A", "a/meta", "a\0", ".61"] {
            assert_eq!(files.find(other, one).await.unwrap(), None, "{other:?}");
            assert!(!files.delete(other, one).await.unwrap());
        }
        assert_eq!(files.blobs.get(&made.content).await.unwrap(), "hello");
        assert!(files.delete("a", one).await.unwrap() && !files.delete("a", one).await.unwrap());
        assert!(matches!(files.blobs.get(&made.content).await, Err(BlobError::Missing { .. })));
    }

    #[tokio::test]
    async fn of_two_who_make_one_file_the_first_does_and_the_others_content_goes() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(Blobs::open(dir.path()).unwrap());
        let one = id(20_000, 1, FilePurpose::BatchOutput);
        let (first, second) = (make(&files, "a", one, "first", 1).await, make(&files, "a", one, "2nd", 2).await);
        assert_eq!(first, second);
        assert!(matches!(files.blobs.get(&Files::content("a", one.number, 2)).await, Err(BlobError::Missing { .. })));
    }

    #[tokio::test]
    async fn lists_go_page_by_page_over_days_in_both_orders() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(Blobs::open(dir.path()).unwrap());
        let mut all = Vec::new();
        for (day, n) in [(999, 1), (1000, 1), (1000, 2), (1000, 3), (10_000, 1)] {
            for purpose in [FilePurpose::Batch, FilePurpose::Vision] {
                all.push(id(day, n, purpose));
                make(&files, "a", id(day, n, purpose), "x", n * 2 + u64::from(purpose == FilePurpose::Batch)).await;
            }
        }
        make(&files, "b", id(1000, 9, FilePurpose::Batch), "x", 1).await;
        for (order, purpose) in [(Order::Ascending, None), (Order::Descending, None), (Order::Descending, Some("batch"))] {
            let mut expected: Vec<FileId> =
                all.iter().copied().filter(|id| purpose.is_none_or(|purpose| id.purpose.name() == purpose)).collect();
            if order == Order::Descending {
                expected.reverse();
            }
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let filter = FileFilter { purpose: purpose.map(str::to_owned), after, order, limit: 3 };
                let page = files.list("a", &filter).await.unwrap();
                found.extend(page.files.iter().map(|(id, _)| *id));
                after = found.last().copied();
                if !page.has_more {
                    break;
                }
                assert_eq!(page.files.len(), 3);
            }
            assert_eq!(found, expected, "{order:?} {purpose:?}");
        }
    }
}

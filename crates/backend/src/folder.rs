//! The data folder: one process at a time, one format, settings that must not change.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The format this build writes and reads.
const FORMAT: u32 = 1;
const VERSION_FILE: &str = "VERSION";
/// Where the version is written before it gets its name; a crash may leave it behind.
const VERSION_DRAFT: &str = "VERSION.new";
const TITLE: &str = "postrider data folder, format ";
const PARTITIONS: &str = "partitions ";

/// A data folder can't be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error("{} is in use by another postrider (lock held); stop it or choose another data folder", folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// A newer build wrote it.
    #[error(
        "{} was written by format {found}, this build reads {supported}; run a newer postrider, or move the folder away",
        folder.display()
    )]
    Newer {
        /// The data folder.
        folder: PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest format this build knows.
        supported: u32,
    },
    /// The folder holds files, but none that says it is ours.
    #[error("{} holds files that are not postrider's; choose an empty folder, or one that postrider made", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// The number of partitions is fixed when the folder is made: changing it would move endpoints between partitions.
    #[error("{} was made with {found} partitions, the configuration asks for {asked}; set it back to {found}", folder.display())]
    Partitions {
        /// The data folder.
        folder: PathBuf,
        /// What the folder was made with.
        found: u16,
        /// What the configuration asks for.
        asked: u16,
    },
    /// A file differs from what was durably written, and it is no torn tail.
    #[error("{} is damaged at byte {at}, before its tail; restore it from a copy", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Position within the file.
        at: u64,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was opened, read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl OpenError {
    /// For `map_err`: names the `path` that an operation was about.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
        |source| OpenError::Io { path: path.to_owned(), source }
    }
}

/// An opened data folder. Locked until dropped, so keep it for as long as anything in it is open.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself, holding the lock: no file of ours appears in a folder that is not ours.
    _lock: File,
}

impl Folder {
    /// Opens the data folder at `path`, making it where there is none or an empty one.
    ///
    /// `partitions` is fixed by whoever makes the folder.
    pub fn open(path: &Path, partitions: u16) -> Result<Folder, OpenError> {
        create(path).map_err(OpenError::io(path))?;
        let lock = File::open(path).map_err(OpenError::io(path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { folder: path.to_owned() },
            TryLockError::Error(source) => OpenError::Io { path: path.to_owned(), source },
        })?;
        let version = path.join(VERSION_FILE);
        match fs::read_to_string(&version) {
            Ok(text) => check(path, &text, partitions)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path, &lock, partitions)?,
            Err(source) => return Err(OpenError::Io { path: version, source }),
        }
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder and those missing above it, durably: a power cut that took a new folder's name took all in it.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create(parent)?;
    fs::create_dir_all(path)?;
    File::open(parent)?.sync_all()
}

fn check(path: &Path, version: &str, asked: u16) -> Result<(), OpenError> {
    let foreign = || OpenError::Foreign { folder: path.to_owned() };
    let mut lines = version.lines();
    let found = lines.next().and_then(|line| line.strip_prefix(TITLE)).and_then(|format| format.parse().ok()).ok_or_else(foreign)?;
    if found > FORMAT {
        return Err(OpenError::Newer { folder: path.to_owned(), found, supported: FORMAT });
    }
    let found = lines.next().and_then(|line| line.strip_prefix(PARTITIONS)).and_then(|count| count.parse().ok()).ok_or_else(foreign)?;
    if found != asked {
        return Err(OpenError::Partitions { folder: path.to_owned(), found, asked });
    }
    Ok(())
}

fn make(path: &Path, directory: &File, partitions: u16) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(OpenError::io(path))? {
        let name = entry.map_err(OpenError::io(path))?.file_name();
        // A file system's own top folder counts as empty.
        if name != VERSION_DRAFT && name != "lost+found" {
            return Err(OpenError::Foreign { folder: path.to_owned() });
        }
    }
    let draft = path.join(VERSION_DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(format!("{TITLE}{FORMAT}\n{PARTITIONS}{partitions}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path.join(VERSION_FILE))?;
        directory.sync_all()
    };
    write().map_err(OpenError::io(&draft))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> OpenError {
        Folder::open(path, 4).expect_err("it must be refused")
    }

    #[test]
    fn a_folder_opens_again_and_only_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/data");
        let folder = Folder::open(&path, 4).unwrap();
        assert!(matches!(refused(&path), OpenError::InUse { .. }));
        drop(folder);
        Folder::open(&path, 4).unwrap();
    }

    #[test]
    fn what_is_not_ours_or_not_the_same_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "mine").unwrap();
        assert!(matches!(refused(dir.path()), OpenError::Foreign { .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        for (version, expected) in [
            ("postrider data folder, format 2\n", "run a newer postrider"),
            ("postrider data folder, format 1\npartitions 8\n", "was made with 8 partitions, the configuration asks for 4"),
            ("1.2.3\n", "not postrider's"),
        ] {
            fs::write(dir.path().join(VERSION_FILE), version).unwrap();
            let words = refused(dir.path()).to_string();
            assert!(words.contains(expected), "{words}");
            assert_eq!(fs::read_to_string(dir.path().join(VERSION_FILE)).unwrap(), version);
        }
    }

    #[test]
    fn a_crash_while_making_it_leaves_a_folder_that_opens() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(VERSION_DRAFT), "postrid").unwrap();
        Folder::open(dir.path(), 4).unwrap();
    }
}

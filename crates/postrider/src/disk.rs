//! How much room is left where this process writes.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use postrider_metrics::names;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// A folder that this process writes to.
pub(crate) struct Folder {
    /// As metrics call it.
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
}

/// Shows the room in `folders` as long as the process lives.
///
/// On a thread of its own that nobody waits for: a network file system may never answer.
pub(crate) fn watch(folders: Vec<Folder>) -> io::Result<()> {
    let run = move || {
        let mut seen = vec![Ok(()); folders.len()];
        loop {
            for (folder, before) in folders.iter().zip(&mut seen) {
                let now = folder.look();
                if let Err(error) = now
                    && before.is_ok()
                {
                    tracing::warn!(folder = %folder.path.display(), %error, "the room on the disk can't be looked at");
                }
                *before = now;
            }
            thread::sleep(EVERY);
        }
    };
    thread::Builder::new().name("disk".to_owned()).spawn(run).map(drop)
}

impl Folder {
    fn look(&self) -> Result<(), rustix::io::Errno> {
        let found = rustix::fs::statvfs(&self.path)?;
        names::DISK_FREE.gauge(&[self.name]).set((found.f_bavail * found.f_frsize) as f64);
        names::DISK_SIZE.gauge(&[self.name]).set((found.f_blocks * found.f_frsize) as f64);
        Ok(())
    }
}

//! Deletes what jobs made once it is no longer kept.

use std::time::Duration;

use postrider_backend::blobs::{BlobError, Blobs};
use postrider_core::time::{Millis, Time};
use postrider_ingest::clock;
use postrider_ingest::files::Files;
use postrider_ingest::jobs::Jobs;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Jobs lie in folders of the day they were made and are kept from their last change on, which may be so much later.
const SLACK: Millis = Millis::from_secs(2 * 86_400);

/// Deletes the blobs of jobs, and files, older than `retention`, from time to time, until `stop`. Any number of processes may do so.
pub async fn run(blobs: Blobs, retention: Millis, stop: CancellationToken) {
    loop {
        if let Err(error) = sweep(&blobs, clock::now() - retention - SLACK).await {
            tracing::warn!(%error, "old files, and what old jobs made, can't be deleted; trying again in an hour");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Deletes the blobs of jobs and files that were made on a day before `before`.
async fn sweep(blobs: &Blobs, before: Time) -> Result<(), BlobError> {
    for (root, kept) in [(Jobs::BLOBS, Jobs::day(before)), (Files::BLOBS, Files::day(before))] {
        for folder in blobs.folders(root).await? {
            // Of names of one length the smaller is the older.
            if (folder.len(), &folder) < (kept.len(), &kept) {
                let count = blobs.delete_folder(&folder).await?;
                tracing::info!(folder, count, "deleted what is no longer kept");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use postrider_core::id::{JobId, Uid};

    const DAY: u64 = 86_400_000;

    #[tokio::test]
    async fn what_is_old_goes_and_what_is_not_stays() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let names = [998, 999, 1000, 1001, 10_000]
            .map(|day| format!("{}/1-00/result.json", Jobs::folder(JobId(Uid::new(Time(day * DAY + 5), 0, 0)))));
        for name in &names {
            blobs.put(name, Bytes::from_static(b"{}")).await.unwrap();
        }
        blobs.put("else/1/x", Bytes::new()).await.unwrap();
        let files = [999, 1000].map(|day| Files::content("t", Uid::new(Time(day * DAY), 0, 0), 7));
        for name in &files {
            blobs.put(name, Bytes::new()).await.unwrap();
        }
        // What a process leaves that is killed while it writes a blob is none, and lies there all the same.
        let torn = dir.path().join(&names[0]).with_file_name("audio#1");
        std::fs::write(&torn, b"RIFF").unwrap();
        sweep(&blobs, Time(1000 * DAY + 7)).await.unwrap();
        assert!(!torn.exists());
        let mut left = Vec::new();
        for name in &names {
            left.push(blobs.size(name).await.is_ok());
        }
        assert_eq!(left, [false, false, true, true, true]);
        assert_eq!(blobs.folders(Jobs::BLOBS).await.unwrap().len(), 3, "empty folders go, too");
        assert!(blobs.size("else/1/x").await.is_ok());
        assert!(blobs.size(&files[0]).await.is_err() && blobs.size(&files[1]).await.is_ok());
    }
}

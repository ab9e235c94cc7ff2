//! The folder of one server: its configuration, data and log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Names the servers file that a folder belongs to; a folder without it is not ours to empty.
const OWNER: &str = ".servers";
/// Where a server's data lies in its folder.
const DATA: &str = "data";

/// Makes the empty folder `dir/name` for the servers that `file` describes.
///
/// # Errors
/// There is such a folder which was not made here, or which belongs to servers of another file.
pub(super) fn fresh(dir: &Path, name: &str, file: &Path) -> anyhow::Result<PathBuf> {
    let folder = dir.join(name);
    if folder.exists() {
        let owner = fs::read_to_string(folder.join(OWNER))
            .with_context(|| format!("{} was not made by `cargo xtask up`; choose another --dir", folder.display()))?;
        if Path::new(&owner) != file && Path::new(&owner).exists() {
            bail!(
                "{} belongs to the servers of {owner}; end those with `cargo xtask down --file {owner}`, or choose another --dir",
                folder.display()
            );
        }
        fs::remove_dir_all(&folder).with_context(|| format!("{} can't be emptied", folder.display()))?;
    }
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join(OWNER), file.as_os_str().as_encoded_bytes()))
        .with_context(|| format!("{} can't be made", folder.display()))?;
    Ok(folder)
}

/// Where the data of the server in `folder` lies.
pub(super) fn data(folder: &Path) -> PathBuf {
    folder.join(DATA)
}

/// Deletes the data of the server in `folder`; its log stays to be read.
pub(super) fn delete_data(folder: &Path) -> anyhow::Result<()> {
    let data = data(folder);
    if folder.join(OWNER).exists() && data.exists() {
        fs::remove_dir_all(&data).with_context(|| format!("{} can't be deleted", data.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{data, delete_data, fresh};
    use std::fs;

    #[test]
    fn only_folders_made_here_are_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("servers.json");
        fs::create_dir(dir.path().join("theirs")).unwrap();
        assert!(fresh(dir.path(), "theirs", &file).unwrap_err().to_string().contains("choose another --dir"));

        let ours = fresh(dir.path(), "ours", &file).unwrap();
        fs::create_dir(data(&ours)).unwrap();
        fs::write(ours.join("log"), "words").unwrap();
        delete_data(&ours).unwrap();
        assert!(!data(&ours).exists() && ours.join("log").exists());
        assert!(!fresh(dir.path(), "ours", &file).unwrap().join("log").exists());

        fs::write(&file, "{}").unwrap();
        let error = fresh(dir.path(), "ours", &dir.path().join("other.json")).unwrap_err();
        assert!(error.to_string().contains("cargo xtask down --file"), "{error}");
    }
}

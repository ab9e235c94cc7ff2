//! The machine that a run was made on, and what of it others use (proc(5)).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Files of a folder that are looked at for its size; a server's data is in fewer.
const MAX_FILES: usize = 100_000;

/// What a machine is, in words that a reader of the figures needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name; empty where the system does not tell.
    pub(crate) cpu: String,
    /// How many of its cores there are for this process.
    pub(crate) cores: usize,
    /// Memory in all, in bytes; 0 where the system does not tell.
    pub(crate) memory_bytes: u64,
    /// The kernel's version; empty where the system does not tell.
    pub(crate) kernel: String,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, name)| name.to_owned());
        let memory =
            read("/proc/meminfo").lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Machine {
            cpu: cpu.unwrap_or_default(),
            cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: memory.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// CPU time of all cores since the machine was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    /// Spent on any program, or on the kernel.
    pub(crate) busy: Duration,
    /// Taken by the host for its other guests, while something here wanted it.
    pub(crate) stolen: Duration,
}

impl Cores {
    /// The sums until now; `None` where the system does not tell.
    pub(crate) fn now() -> Option<Cores> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let [user, nice, system, _idle, _waiting, irq, softirq, stolen, ..] = ticks[..] else { return None };
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
        Some(Cores { busy: time(user + nice + system + irq + softirq), stolen: time(stolen) })
    }
}

/// Disk space that the files in `folder` take, in bytes. What vanishes while it is looked at counts as nothing.
pub(crate) fn disk(folder: &Path) -> u64 {
    let (mut folders, mut bytes, mut files) = (vec![folder.to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            files += 1;
            if files > MAX_FILES {
                return bytes;
            }
            if about.is_dir() { folders.push(entry.path()) } else { bytes += about.blocks() * 512 }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_what_it_is_and_does() {
        let here = Machine::here();
        assert!(here.cores > 0 && here.memory_bytes > 0 && !here.kernel.is_empty(), "{here:?}");
        assert!(Cores::now().expect("Linux tells").busy > Duration::ZERO);
    }

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(disk(folder.path()), 0);
        fs::create_dir(folder.path().join("deeper")).expect("made");
        fs::write(folder.path().join("deeper/file"), vec![1; 100_000]).expect("written");
        fs::File::open(folder.path().join("deeper/file")).and_then(|file| file.sync_all()).expect("synced");
        assert!(disk(folder.path()) >= 100_000);
        assert_eq!(disk(Path::new("/nowhere/at/all")), 0);
    }
}

//! The processes of the server under test: started, disturbed, measured and ended.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::server::{Address, Announced, Process, START_TIMEOUT, Spawned, Url};

/// What the server's processes use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time since they were started, of those that were killed, too.
    pub(crate) cpu: Duration,
    /// Memory that is resident, in bytes.
    pub(crate) resident: u64,
    /// The most that each had resident at any time, summed, in bytes.
    pub(crate) peak: u64,
    /// Open files, sockets among them.
    pub(crate) files: u64,
}

/// All processes of the server, as far as they are known.
pub(crate) struct Fleet {
    api_key: String,
    members: Vec<Member>,
    cpu_of_killed: Duration,
    peak: u64,
}

enum Member {
    /// One that was not started here.
    Found(Process),
    Running {
        command: String,
        spawned: Spawned,
        /// Set while where it listens is not known.
        announces: Option<(Url, Instant)>,
    },
    Killed {
        command: String,
    },
}

impl Fleet {
    /// A server that runs already, of which one process may be known.
    pub(crate) fn found(process: Option<Process>) -> Fleet {
        Fleet { api_key: String::new(), members: process.map(Member::Found).into_iter().collect(), cpu_of_killed: Duration::ZERO, peak: 0 }
    }

    /// Starts `command` and waits until it says where it listens.
    pub(crate) fn serving(command: &str, api_key: &str) -> anyhow::Result<(Fleet, Address)> {
        let (spawned, url) = Spawned::serving(command, api_key)?;
        let first = Member::Running { command: command.to_owned(), spawned, announces: None };
        Ok((Fleet { api_key: api_key.to_owned(), members: vec![first], cpu_of_killed: Duration::ZERO, peak: 0 }, url.parse()?))
    }

    /// Starts another process.
    pub(crate) fn add(&mut self, command: &str) -> anyhow::Result<()> {
        let member = self.start(command.to_owned())?;
        self.members.push(member);
        Ok(())
    }

    /// How many there are, those that were killed among them.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// What they use; `None` where no process is known.
    ///
    /// Errors: one has ended by itself.
    pub(crate) fn usage(&mut self) -> anyhow::Result<Option<Usage>> {
        if self.members.is_empty() {
            return Ok(None);
        }
        let mut usage = Usage { cpu: self.cpu_of_killed, resident: 0, peak: 0, files: 0 };
        for process in self.members.iter().filter_map(Member::process) {
            let memory = process.memory()?;
            usage.cpu += process.cpu()?;
            usage.resident += memory.resident;
            usage.peak += memory.peak;
            usage.files += process.files()?;
        }
        self.peak = self.peak.max(usage.peak);
        Ok(Some(Usage { peak: self.peak, ..usage }))
    }

    /// Ends process `number` with SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let member = &mut self.members[number];
        let Member::Running { command, spawned, .. } = member else { bail!("process {number} does not run, so it can't be killed") };
        self.cpu_of_killed += spawned.process().cpu()?;
        let command = std::mem::take(command);
        *member = Member::Killed { command }; // dropping it kills it
        Ok(())
    }

    /// Starts process `number` again after it was killed.
    pub(crate) fn revive(&mut self, number: usize) -> anyhow::Result<()> {
        let Member::Killed { command } = &mut self.members[number] else {
            bail!("process {number} was not killed, so it can't be started")
        };
        let command = std::mem::take(command);
        self.members[number] = self.start(command)?;
        Ok(())
    }

    /// Stops process `number` where it is.
    pub(crate) fn freeze(&self, number: usize) -> anyhow::Result<()> {
        self.running(number)?.freeze()
    }

    /// Lets process `number` go on.
    pub(crate) fn thaw(&self, number: usize) -> anyhow::Result<()> {
        self.running(number)?.thaw()
    }

    /// Where the first process listens, once after it was started again.
    ///
    /// Errors: it says nothing of it in time, or ended.
    pub(crate) fn moved(&mut self) -> anyhow::Result<Option<Address>> {
        let Some(Member::Running { command, announces, .. }) = self.members.first_mut() else { return Ok(None) };
        let Some((url, deadline)) = announces else { return Ok(None) };
        match url.look() {
            Announced::At(url) => {
                *announces = None;
                url.parse().map(Some)
            }
            Announced::NotYet if Instant::now() < *deadline => Ok(None),
            Announced::NotYet => bail!("`{command}` does not listen {} s after it was started again", START_TIMEOUT.as_secs()),
            Announced::Never => bail!("`{command}` ended when it was started again"),
        }
    }

    /// Ends all that were started here; none is left.
    ///
    /// Errors: one had to be killed.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.members.drain(..).try_for_each(|member| match member {
            Member::Found(_) | Member::Killed { .. } => Ok(()),
            Member::Running { command, spawned, .. } => spawned.stop().with_context(|| format!("`{command}`")),
        })
    }

    fn start(&self, command: String) -> anyhow::Result<Member> {
        let (spawned, url) = Spawned::start(&command, &self.api_key)?;
        Ok(Member::Running { command, spawned, announces: Some((url, Instant::now() + START_TIMEOUT)) })
    }

    fn running(&self, number: usize) -> anyhow::Result<&Spawned> {
        match &self.members[number] {
            Member::Running { spawned, .. } => Ok(spawned),
            Member::Found(_) | Member::Killed { .. } => bail!("process {number} does not run, so nothing can be done to it"),
        }
    }
}

impl Member {
    fn process(&self) -> Option<Process> {
        match self {
            Member::Found(process) => Some(process.clone()),
            Member::Running { spawned, .. } => Some(spawned.process()),
            Member::Killed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "sh -c 'echo listening on http://127.0.0.1:$$; exec sleep 60'";

    #[test]
    fn a_killed_process_is_counted_on_and_says_where_it_listens_once_it_is_back() {
        let (mut fleet, first) = Fleet::serving(SERVER, "k").expect("it starts");
        let before = fleet.usage().expect("it lives").expect("it is known");
        assert!(before.resident > 0 && before.files >= 3, "{before:?}");
        fleet.kill(0).expect("it runs");
        let between = fleet.usage().expect("none is missed").expect("it is known");
        assert!(between.resident == 0 && between.cpu >= before.cpu && between.peak >= before.peak);
        assert!(fleet.kill(0).is_err() && fleet.freeze(0).is_err());
        fleet.revive(0).expect("it was killed");
        let deadline = Instant::now() + Duration::from_secs(20);
        let again = loop {
            assert!(Instant::now() < deadline, "it never listens");
            if let Some(address) = fleet.moved().expect("it starts") {
                break address;
            }
            std::thread::yield_now();
        };
        assert_ne!(again.socket, first.socket);
        fleet.freeze(0).and_then(|()| fleet.thaw(0)).expect("it runs");
        fleet.stop().expect("sleep ends when told");
    }

    #[test]
    fn a_frozen_process_ends_when_told() {
        let (mut fleet, _) = Fleet::serving(SERVER, "k").expect("it starts");
        fleet.freeze(0).expect("it runs");
        fleet.stop().expect("it is woken for it");
    }

    #[test]
    fn a_process_that_ends_by_itself_is_an_error() {
        let (mut fleet, _) = Fleet::serving(SERVER, "k").expect("it starts");
        fleet.add("true").expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        while fleet.usage().is_ok() {
            assert!(Instant::now() < deadline, "its end is never noticed");
        }
    }
}

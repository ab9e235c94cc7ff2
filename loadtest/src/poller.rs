//! epoll with tokens of our own.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::stream::Peer;

/// Events taken from the kernel in one call.
const BATCH: usize = 256;

/// Which socket has become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The receiver's listening socket.
    Listener,
    /// A connection of the receiver, by its slot.
    Inbound(u32),
    /// A connection of the driver, by its slot.
    Outbound(u32),
}

impl Token {
    const OUTBOUND: u64 = 1 << 32;
    const LISTENER: u64 = 1 << 33;

    fn encode(self) -> u64 {
        match self {
            Token::Listener => Token::LISTENER,
            Token::Inbound(slot) => u64::from(slot),
            Token::Outbound(slot) => Token::OUTBOUND | u64::from(slot),
        }
    }

    fn decode(data: u64) -> Token {
        let slot = data as u32;
        if data & Token::LISTENER != 0 {
            Token::Listener
        } else if data & Token::OUTBOUND != 0 {
            Token::Outbound(slot)
        } else {
            Token::Inbound(slot)
        }
    }
}

/// A socket that can be worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Which one.
    pub(crate) token: Token,
    /// Whether the kernel has seen the peer end the connection.
    pub(crate) peer: Peer,
}

/// Waits for sockets. A slot that is used again may get a token meant for its predecessor: being ready is a hint.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A poller that watches nothing.
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `socket` for both directions, edge-triggered, until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.encode()), interest)?)
    }

    /// Waits at most `timeout` and puts what became ready into `ready`, which is emptied first.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let mut events = [MaybeUninit::<Event>::uninit(); BATCH];
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let found = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((found, _)) => found,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(found.iter().map(|event| Ready { token: Token::decode({ event.data }.u64()), peer: peer(event.flags) }));
        Ok(())
    }
}

fn peer(flags: EventFlags) -> Peer {
    let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
    if ended { Peer::Closed } else { Peer::Open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [Token::Listener, Token::Inbound(0), Token::Inbound(u32::MAX), Token::Outbound(0), Token::Outbound(u32::MAX)] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}

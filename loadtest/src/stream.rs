//! A non-blocking connection with what was received and what is still to be written.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// One end of a connection, registered edge-triggered: each call works until it would block.
pub(crate) struct Stream {
    socket: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    written: usize,
}

/// Whether the peer may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It may.
    Open,
    /// It has ended the connection.
    Closed,
}

impl Stream {
    /// Takes a socket that is in non-blocking mode.
    pub(crate) fn new(socket: TcpStream) -> Stream {
        Stream { socket, inbox: Vec::new(), outbox: Vec::new(), written: 0 }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Moves what has arrived into the inbox. `scratch` is shared between connections, so that idle ones own little.
    ///
    /// `hint` is what the poller said of the peer. While it is open, a short read has emptied the socket (epoll(7), Q9),
    /// and the read that would block is saved; once it has closed, no further edge would tell of the end.
    pub(crate) fn fill(&mut self, scratch: &mut [u8], hint: Peer) -> io::Result<Peer> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Ok(Peer::Closed),
                Ok(count) => {
                    self.inbox.extend_from_slice(&scratch[..count]);
                    if count < scratch.len() && hint == Peer::Open {
                        return Ok(Peer::Open);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Peer::Open),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was received and not consumed.
    pub(crate) fn inbox(&self) -> &[u8] {
        &self.inbox
    }

    /// Drops the first `used` bytes of the inbox.
    pub(crate) fn consume(&mut self, used: usize) {
        self.inbox.drain(..used);
    }

    /// Where bytes to be written are put; [`Stream::flush`] writes them.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Writes what the socket takes; the rest goes with the next call.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.outbox.len() {
            match self.socket.write(&self.outbox[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(())
    }
}

//! Sends the events when they are due, over connections that carry one request at a time.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::batch;
use crate::clock::{Clock, Micros};
use crate::ledger::{Ledger, Seq};
use crate::payload::Payload;
use crate::poller::{Poller, Token};
use crate::schedule::Schedule;
use crate::stream::{Peer, Stream};
use crate::wire::{Malformed, Message};

/// The wait before a connection that ended is made anew, so that a server that is down is not hammered.
const RECONNECT: Duration = Duration::from_millis(20);
/// Read at once from one connection; answers are small.
const SCRATCH: usize = 16 * 1024;

/// The driver's side of the load.
///
/// An event that finds no free connection waits, and its clock runs. There is no time-out for answers: a server that
/// never answers keeps its connections busy until the run ends, and what it was to answer counts as unanswered.
pub(crate) struct Driver {
    server: SocketAddr,
    clock: Clock,
    poller: Rc<Poller>,
    schedule: Schedule,
    payload: Payload,
    slots: Vec<Slot>,
    /// Slots that are `Idle`, each once.
    idle: Vec<u32>,
    /// Slots that are `Down`, and when they are to be connected again; in that order.
    down: VecDeque<(Micros, u32)>,
    in_flight: u64,
    scratch: Box<[u8]>,
}

enum Slot {
    Down,
    Connecting(Stream),
    Idle(Stream),
    /// Waits for the answer to the request that starts with the event.
    Busy(Stream, Seq),
}

/// A connection can't be used any more.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server ended the connection")]
    Ended,
}

impl Driver {
    /// A driver that makes `connections` to `server` as soon as it first runs.
    pub(crate) fn new(
        server: SocketAddr,
        connections: usize,
        schedule: Schedule,
        payload: Payload,
        poller: Rc<Poller>,
        clock: Clock,
    ) -> Driver {
        let slots = (0..connections).map(|_| Slot::Down).collect();
        let down = (0..connections as u32).map(|slot| (Micros(0), slot)).collect();
        let scratch = vec![0; SCRATCH].into_boxed_slice();
        Driver { server, clock, poller, schedule, payload, slots, idle: Vec::new(), down, in_flight: 0, scratch }
    }

    /// Sends what is due, as far as connections are free, and makes connections anew.
    pub(crate) fn dispatch(&mut self, ledger: &mut Ledger) {
        self.reconnect();
        while !self.idle.is_empty() {
            let now = self.clock.now();
            let Some(due) = self.schedule.next(now).filter(|due| *due <= now) else { return };
            let slot = self.idle.pop().expect("one is idle");
            self.schedule.take();
            self.send(slot, due, ledger);
        }
    }

    /// When [`Driver::dispatch`] has work again, unless a connection becomes ready before.
    pub(crate) fn next_wakeup(&self) -> Option<Micros> {
        let due = if self.idle.is_empty() { None } else { self.schedule.next(self.clock.now()) };
        let connect = self.down.front().map(|(at, _)| *at);
        due.into_iter().chain(connect).min()
    }

    /// Works on the connection of `slot`, which the poller says is ready.
    pub(crate) fn ready(&mut self, slot: u32, hint: Peer, ledger: &mut Ledger) {
        match self.take(slot) {
            Slot::Down => {}
            Slot::Connecting(stream) => match is_connected(stream.socket()) {
                Ok(true) => self.rest(slot, stream),
                Ok(false) => self.put(slot, Slot::Connecting(stream)),
                Err(_) => self.lose(slot), // the server is down; tried again until the run ends
            },
            Slot::Idle(mut stream) => match stream.fill(&mut self.scratch, hint) {
                Ok(Peer::Open) if stream.inbox().is_empty() => self.put(slot, Slot::Idle(stream)),
                Ok(Peer::Open | Peer::Closed) | Err(_) => {
                    self.idle.retain(|idle| *idle != slot);
                    self.lose(slot);
                }
            },
            Slot::Busy(stream, first) => self.receive(slot, stream, first, hint, ledger),
        }
    }

    /// Whether everything that was due is sent and answered.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight == 0 && self.schedule.next(self.clock.now()).is_none()
    }

    /// Events that are due and not sent.
    pub(crate) fn overdue(&self) -> u64 {
        self.schedule.overdue(self.clock.now())
    }

    /// Sends nothing more; gives the number of events that were due and are never sent.
    pub(crate) fn stop(&mut self) -> u64 {
        let unsent = self.overdue();
        self.schedule.stop();
        unsent
    }

    /// The server is to be found at `server` from now on.
    pub(crate) fn follow(&mut self, server: SocketAddr) {
        self.server = server;
    }

    /// Ends all connections and makes none any more; for a driver that is done.
    pub(crate) fn hang_up(&mut self) {
        self.slots.fill_with(|| Slot::Down);
        self.idle.clear();
        self.down.clear();
    }

    /// Ends the driver; what is still in flight counts as unanswered.
    pub(crate) fn abandon(self, ledger: &mut Ledger) {
        ledger.unanswered(self.in_flight * self.payload.batch() as u64);
    }

    fn send(&mut self, slot: u32, due: Micros, ledger: &mut Ledger) {
        let Slot::Idle(mut stream) = self.take(slot) else { unreachable!("only idle slots are listed as idle") };
        let first = ledger.send(self.payload.batch(), due);
        self.in_flight += 1;
        self.payload.render(stream.outbox(), first);
        match stream.flush() {
            Ok(()) => self.put(slot, Slot::Busy(stream, first)),
            Err(_) => self.fail(slot, ledger),
        }
    }

    fn receive(&mut self, slot: u32, mut stream: Stream, first: Seq, hint: Peer, ledger: &mut Ledger) {
        match self.answer(&mut stream, first, hint, ledger) {
            Ok(None) => self.put(slot, Slot::Busy(stream, first)),
            Ok(Some(Peer::Open)) => {
                self.in_flight -= 1;
                self.rest(slot, stream);
            }
            Ok(Some(Peer::Closed)) => {
                self.in_flight -= 1;
                self.lose(slot);
            }
            Err(_) => self.fail(slot, ledger),
        }
    }

    /// Reads the answer to the request that starts with `first`; `None` while it is not there, else what becomes of the peer.
    fn answer(&mut self, stream: &mut Stream, first: Seq, hint: Peer, ledger: &mut Ledger) -> Result<Option<Peer>, Broken> {
        stream.flush()?;
        let peer = stream.fill(&mut self.scratch, hint)?;
        let Some(message) = Message::parse(stream.inbox())? else {
            return if peer == Peer::Closed { Err(Broken::Ended) } else { Ok(None) };
        };
        let status = message.status()?;
        self.settle(status, &message.body, first, ledger);
        let closes = message.closes || peer == Peer::Closed;
        let used = message.used;
        stream.consume(used);
        Ok(Some(if closes { Peer::Closed } else { Peer::Open }))
    }

    fn settle(&self, status: u16, body: &[u8], first: Seq, ledger: &mut Ledger) {
        let now = self.clock.now();
        let batch = self.payload.batch();
        match (status, batch) {
            (202, 1) => ledger.accept(first, now),
            (202, _) => {
                for (seq, accepted) in (first.0..).map(Seq).zip(batch::accepted(body)).take(batch) {
                    if accepted { ledger.accept(seq, now) } else { ledger.refuse(status, 1) }
                }
            }
            (_, _) => ledger.refuse(status, batch as u64),
        }
    }

    /// The connection broke with a request in flight.
    fn fail(&mut self, slot: u32, ledger: &mut Ledger) {
        self.in_flight -= 1;
        ledger.unanswered(self.payload.batch() as u64);
        self.lose(slot);
    }

    fn rest(&mut self, slot: u32, stream: Stream) {
        self.put(slot, Slot::Idle(stream));
        self.idle.push(slot);
    }

    fn lose(&mut self, slot: u32) {
        self.put(slot, Slot::Down);
        self.down.push_back((self.clock.now() + RECONNECT, slot));
    }

    fn take(&mut self, slot: u32) -> Slot {
        std::mem::replace(&mut self.slots[slot as usize], Slot::Down)
    }

    fn put(&mut self, slot: u32, state: Slot) {
        self.slots[slot as usize] = state;
    }

    fn reconnect(&mut self) {
        while let Some((at, slot)) = self.down.front().copied() {
            if at > self.clock.now() {
                return;
            }
            self.down.pop_front();
            match connect(self.server).and_then(|socket| self.poller.add(&socket, Token::Outbound(slot)).map(|()| socket)) {
                Ok(socket) => self.put(slot, Slot::Connecting(Stream::new(socket))),
                Err(_) => self.lose(slot), // refused at once, or out of sockets for now; tried again
            }
        }
    }
}

/// Begins a connection without waiting for it.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}

fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    match socket.take_error()? {
        Some(error) => Err(error),
        None => Ok(socket.peer_addr().is_ok()),
    }
}

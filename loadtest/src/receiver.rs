//! Takes the deliveries and answers them as each endpoint's temper says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use postrider_core::sign;
use postrider_core::time::Time;

use crate::clock::{Clock, Micros};
use crate::endpoints::{EndpointNo, Endpoints, Reply, Temper};
use crate::ledger::{Ledger, Seq};
use crate::payload;
use crate::poller::{Poller, Token};
use crate::stream::{Peer, Stream};
use crate::wire::{Malformed, Message};

/// Connections that the system may hold ready for being accepted.
const ACCEPT_QUEUE: i32 = 4096;

/// One delivery in so many has its signature verified.
const SAMPLE: u64 = 100;
/// Read at once from one connection.
const SCRATCH: usize = 64 * 1024;
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// What came of verifying a sample of signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// Deliveries that were verified.
    pub(crate) checked: u64,
    /// Those that could not be.
    pub(crate) failed: u64,
    /// Why the first of them failed.
    pub(crate) first_failure: Option<String>,
}

/// The receiving side of the load: a listening socket and its connections, each with at most one answer kept back.
pub(crate) struct Receiver {
    listener: TcpListener,
    clock: Clock,
    poller: Rc<Poller>,
    endpoints: Rc<Endpoints>,
    delay: Duration,
    slots: Vec<Option<Inbound>>,
    free: Vec<u32>,
    /// When an answer that is kept back is due, by slot; no entry outlives its connection.
    timers: BTreeSet<(Micros, u32)>,
    opened: u64,
    requests: BTreeMap<Temper, u64>,
    signatures: Signatures,
    service: Service,
    scratch: Box<[u8]>,
}

/// Whether the receiving side as a whole works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Each endpoint answers as its temper says.
    Works,
    /// None answers: every request's connection is ended.
    IsOut,
}

struct Inbound {
    stream: Stream,
    kept: Option<Kept>,
}

/// An answer that is kept back; nothing further is read before it is written.
struct Kept {
    due: Micros,
    response: &'static [u8],
    seq: Option<Seq>,
}

/// What becomes of a connection.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the peer ended the connection, or its endpoint did")]
    HungUp,
}

impl Receiver {
    /// Binds the socket that deliveries are sent to, on a free port of 127.0.0.1.
    pub(crate) fn bind() -> io::Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // With the standard library's queue of 128, a burst of connections is met with silence, and waits a second.
        socket2::SockRef::from(&listener).listen(ACCEPT_QUEUE)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// A receiver on a socket of [`Receiver::bind`]; healthy endpoints answer after `delay`.
    pub(crate) fn new(
        listener: TcpListener,
        endpoints: Rc<Endpoints>,
        delay: Duration,
        poller: Rc<Poller>,
        clock: Clock,
    ) -> io::Result<Receiver> {
        poller.add(&listener, Token::Listener)?;
        Ok(Receiver {
            listener,
            clock,
            poller,
            endpoints,
            delay,
            slots: Vec::new(),
            free: Vec::new(),
            timers: BTreeSet::new(),
            opened: 0,
            requests: BTreeMap::new(),
            signatures: Signatures::default(),
            service: Service::Works,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
        })
    }

    /// The URL of an endpoint of the receiver at `address`.
    pub(crate) fn url(address: SocketAddr, endpoint: EndpointNo) -> String {
        format!("http://{address}/e/{}", endpoint.0)
    }

    /// Takes the connections that wait to be accepted.
    ///
    /// Errors: no more can be opened (`ulimit -n`), which would look like losses of the server.
    pub(crate) fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => self.open(socket).context("cannot take a delivery's connection")?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => return Err(error).context("cannot accept deliveries"),
            }
        }
    }

    /// Works on the connection of `slot`, which the poller says is ready.
    pub(crate) fn ready(&mut self, slot: u32, hint: Peer, ledger: &mut Ledger) {
        let Some(mut inbound) = self.slots[slot as usize].take() else { return };
        match self.work(slot, &mut inbound, hint, ledger) {
            Ok(()) => self.slots[slot as usize] = Some(inbound),
            Err(_) => self.close(slot, &inbound), // what was not answered is sent again; the ledger sees it then
        }
    }

    /// Writes the answers that were kept back until now.
    pub(crate) fn fire(&mut self, ledger: &mut Ledger) {
        while let Some((due, slot)) = self.timers.first().copied() {
            if due > self.clock.now() {
                return;
            }
            self.timers.pop_first();
            let Some(mut inbound) = self.slots[slot as usize].take() else { unreachable!("no timer outlives its connection") };
            if let Some(kept) = inbound.kept.take() {
                inbound.stream.outbox().extend_from_slice(kept.response);
                kept.seq.into_iter().for_each(|seq| ledger.answer(seq));
            }
            match self.serve(slot, &mut inbound, ledger) {
                Ok(()) => self.slots[slot as usize] = Some(inbound),
                Err(_) => self.close(slot, &inbound),
            }
        }
    }

    /// From now on the receiving side is as `service` says.
    pub(crate) fn set(&mut self, service: Service) {
        self.service = service;
    }

    /// When [`Receiver::fire`] has work.
    pub(crate) fn next_wakeup(&self) -> Option<Micros> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Connections that were made to it.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// Requests to endpoints of `temper`.
    pub(crate) fn requests(&self, temper: Temper) -> u64 {
        self.requests.get(&temper).copied().unwrap_or(0)
    }

    /// What came of verifying signatures.
    pub(crate) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    fn open(&mut self, socket: TcpStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.poller.add(&socket, Token::Inbound(slot))?;
        let inbound = Some(Inbound { stream: Stream::new(socket), kept: None });
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = inbound,
            None => self.slots.push(inbound),
        }
        self.opened += 1;
        Ok(())
    }

    fn close(&mut self, slot: u32, inbound: &Inbound) {
        if let Some(kept) = &inbound.kept {
            self.timers.remove(&(kept.due, slot));
        }
        self.free.push(slot);
    }

    fn work(&mut self, slot: u32, inbound: &mut Inbound, hint: Peer, ledger: &mut Ledger) -> Result<(), Ended> {
        let peer = inbound.stream.fill(&mut self.scratch, hint)?;
        self.serve(slot, inbound, ledger)?;
        if peer == Peer::Closed { Err(Ended::HungUp) } else { Ok(()) }
    }

    /// Answers the requests that have arrived, up to one whose answer is kept back.
    fn serve(&mut self, slot: u32, inbound: &mut Inbound, ledger: &mut Ledger) -> Result<(), Ended> {
        while inbound.kept.is_none() {
            let Some(message) = Message::parse(inbound.stream.inbox())? else { break };
            let (reply, seq) = self.judge(&message, ledger);
            let used = message.used;
            inbound.stream.consume(used);
            match reply {
                Reply::HangUp => return Err(Ended::HungUp),
                Reply::Answer { response, after: Duration::ZERO, .. } => {
                    inbound.stream.outbox().extend_from_slice(response);
                    seq.into_iter().for_each(|seq| ledger.answer(seq));
                }
                Reply::Answer { response, after, .. } => {
                    let due = self.clock.now() + after;
                    inbound.kept = Some(Kept { due, response, seq });
                    self.timers.insert((due, slot));
                }
            }
        }
        Ok(inbound.stream.flush()?)
    }

    /// Enters a request in the ledger and says how it is answered, and which event that answer takes.
    fn judge(&mut self, message: &Message<'_>, ledger: &mut Ledger) -> (Reply, Option<Seq>) {
        let Some(endpoint) = self.endpoint(message.target()) else {
            ledger.stray();
            return (Reply::Answer { response: NOT_FOUND, after: Duration::ZERO, success: false }, None);
        };
        let now = self.clock.now();
        let temper = self.endpoints.temper(endpoint);
        *self.requests.entry(temper).or_default() += 1;
        let reply = match self.service {
            Service::Works => temper.reply(now, self.delay),
            Service::IsOut => Reply::HangUp,
        };
        let Some(seq) = payload::sequence(&message.body) else {
            ledger.stray();
            return (reply, None);
        };
        if seq.0 % SAMPLE == 0 {
            self.verify(message, endpoint);
        }
        match reply {
            Reply::Answer { success: true, .. } => {
                ledger.arrive(seq, endpoint, now);
                (reply, Some(seq))
            }
            Reply::Answer { success: false, .. } | Reply::HangUp => (reply, None),
        }
    }

    fn endpoint(&self, target: &[u8]) -> Option<EndpointNo> {
        let number = std::str::from_utf8(target.strip_prefix(b"/e/")?).ok()?;
        self.endpoints.find(number.parse().ok()?)
    }

    fn verify(&mut self, message: &Message<'_>, endpoint: EndpointNo) {
        self.signatures.checked += 1;
        if let Err(failure) = verified(message, &self.endpoints, endpoint) {
            self.signatures.failed += 1;
            self.signatures.first_failure.get_or_insert(failure);
        }
    }
}

fn verified(message: &Message<'_>, endpoints: &Endpoints, endpoint: EndpointNo) -> Result<(), String> {
    let header = |name: &str| message.header(name).ok_or_else(|| format!("no {name} header"));
    let timestamp = header("webhook-timestamp")?.parse().map_err(|_| "webhook-timestamp is no number".to_owned())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let now = Time(now.as_millis() as u64);
    let (id, signature) = (header("webhook-id")?, header("webhook-signature")?);
    sign::verify_standard(endpoints.secret(endpoint), id, timestamp, &message.body, signature, now).map_err(|error| error.to_string())
}

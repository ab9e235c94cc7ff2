//! Connections that wait for their next request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::options::Options;
use crate::target::Origin;

/// Idle connections by origin, the latest used first; a bounded number, each for a bounded time.
///
/// Invariant: an origin is listed exactly while it has a connection here, its tickets rising.
pub(crate) struct Idle {
    max_per_origin: usize,
    max: usize,
    timeout: Duration,
    // Held for moments only, by one thread: it is never waited for.
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// By ticket, so the first has been idle for longest.
    waiting: BTreeMap<u64, Waiting>,
    by_origin: HashMap<Origin, VecDeque<u64>>,
    next_ticket: u64,
    /// Whether a task closes what expires.
    swept: bool,
}

struct Waiting {
    connection: Connection,
    origin: Origin,
    since: Instant,
}

impl Idle {
    pub(crate) fn new(options: &Options) -> Arc<Idle> {
        Arc::new(Idle {
            max_per_origin: options.max_idle_per_origin,
            max: options.max_idle,
            timeout: options.idle_timeout,
            shelf: Mutex::default(),
        })
    }

    /// A connection to `origin` that is still open as far as we know. Those found closed are dropped.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut shelf = self.shelf();
        while let Some(ticket) = shelf.by_origin.get(origin).and_then(|tickets| tickets.back().copied()) {
            let mut connection = shelf.remove(ticket)?;
            if connection.is_idle() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps `connection` for the next request to `origin`, if it can be used again and there is room.
    pub(crate) fn put(self: &Arc<Self>, origin: &Origin, connection: Connection) {
        if !connection.keeps() || self.max == 0 {
            return;
        }
        let mut shelf = self.shelf();
        if shelf.by_origin.get(origin).is_some_and(|tickets| tickets.len() >= self.max_per_origin) {
            return;
        }
        while shelf.waiting.len() >= self.max {
            shelf.remove_oldest();
        }
        shelf.insert(Waiting { connection, origin: origin.clone(), since: Instant::now() });
        if !shelf.swept {
            shelf.swept = true;
            tokio::spawn(sweep(Arc::downgrade(self), self.timeout / 4));
        }
    }

    /// Closes the connection that has been idle for longest; false when there is none.
    pub(crate) fn close_oldest(&self) -> bool {
        self.shelf().remove_oldest()
    }

    /// Closes what has been idle for too long or was closed by its receiver; false when nothing is left.
    fn close_expired(&self, now: Instant) -> bool {
        let mut shelf = self.shelf();
        let expired = shelf.waiting.iter_mut().filter_map(|(ticket, waiting)| {
            (now.saturating_duration_since(waiting.since) >= self.timeout || !waiting.connection.is_idle()).then_some(*ticket)
        });
        for ticket in expired.collect::<Vec<_>>() {
            shelf.remove(ticket);
        }
        shelf.swept = !shelf.waiting.is_empty();
        shelf.swept
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().expect("nothing panics while it is held")
    }
}

/// Closes what expires until nothing is left: without traffic, nobody else would.
async fn sweep(idle: Weak<Idle>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(idle) = idle.upgrade() else { return };
        if !idle.close_expired(Instant::now()) {
            return;
        }
    }
}

impl Shelf {
    fn insert(&mut self, waiting: Waiting) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.by_origin.entry(waiting.origin.clone()).or_default().push_back(ticket);
        self.waiting.insert(ticket, waiting);
    }

    fn remove(&mut self, ticket: u64) -> Option<Connection> {
        let Waiting { connection, origin, .. } = self.waiting.remove(&ticket)?;
        if let Some(tickets) = self.by_origin.get_mut(&origin) {
            // Nearly always the last or the first.
            let is_it = |other: &mut u64| *other == ticket;
            if tickets.pop_back_if(is_it).or_else(|| tickets.pop_front_if(is_it)).is_none() {
                tickets.retain(|other| *other != ticket);
            }
            if tickets.is_empty() {
                self.by_origin.remove(&origin);
            }
        }
        Some(connection)
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.waiting.keys().next().copied();
        oldest.and_then(|ticket| self.remove(ticket)).is_some()
    }
}

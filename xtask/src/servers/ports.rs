//! Ports that nobody uses.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, bail};

/// Below the range that the system gives to outgoing connections (32768 to 60999 on Linux). A port of that range could be
/// taken by any client in the seconds until the server listens, or while a test has it down; a client that keeps trying
/// such a port may even connect to itself.
const RANGE: std::ops::Range<u16> = 20_000..32_768;
/// Attempts to find one free port.
const TRIES: usize = 1_000;

/// `N` different ports of this machine's loopback address on which nobody listens.
pub(super) fn free<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut found = BTreeSet::new();
    for _ in 0..TRIES {
        if found.len() == N {
            break;
        }
        let random = getrandom::u32().context("the system gives no random numbers")?;
        let port = RANGE.start + u16::try_from(random % u32::from(RANGE.end - RANGE.start)).expect("less than the range's length");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.insert(port);
        }
    }
    let ports: Vec<u16> = found.into_iter().collect();
    let Ok(ports) = ports.try_into() else { bail!("no {N} free ports between {} and {}", RANGE.start, RANGE.end) };
    Ok(ports)
}

#[cfg(test)]
mod tests {
    #[test]
    fn free_ports_differ_and_can_be_bound() {
        // Somebody else may take one in between, but hardly every time.
        let are_free = || {
            let ports: [u16; 8] = super::free().unwrap();
            let listeners: Vec<_> = ports.iter().map(|port| std::net::TcpListener::bind(("127.0.0.1", *port))).collect();
            listeners.iter().all(Result::is_ok)
        };
        assert!((0..5).any(|_| are_free()));
    }
}

//! Which addresses a delivery may reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Keeps deliveries out of networks that only we can reach (server-side request forgery).
///
/// Refused are all ranges that are not public unicast (the IANA special-purpose registries of IPv4 and IPv6), and
/// IPv6 addresses that carry a refused IPv4 address inside. What the operator allows by name is let through.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
}

impl Guard {
    /// A guard that lets `allow` through in addition to public addresses.
    pub fn new(allow: Vec<IpNet>) -> Guard {
        Guard { allow }
    }

    /// Whether a delivery may be sent to `address`.
    pub fn permits(&self, address: IpAddr) -> bool {
        if self.allow.iter().any(|net| net.contains(&address)) {
            return true;
        }
        match address {
            IpAddr::V4(v4) => !REFUSED_V4.iter().any(|net| net.contains(&v4)),
            IpAddr::V6(v6) => {
                !REFUSED_V6.iter().any(|net| net.contains(&v6)) && carried(v6).into_iter().flatten().all(|v4| self.permits(v4.into()))
            }
        }
    }
}

/// The IPv4 addresses that `v6` leads to, where its range embeds any.
fn carried(v6: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = v6.to_bits();
    let v4_above = |low: u32| Some(Ipv4Addr::from_bits((bits >> low) as u32));
    if MAPPED.contains(&v6) || COMPATIBLE.contains(&v6) || NAT64.contains(&v6) {
        [v4_above(0), None]
    } else if SIX_TO_FOUR.contains(&v6) {
        [v4_above(80), None]
    } else if TEREDO.contains(&v6) {
        // The server in clear, the client with every bit flipped (RFC 4380 section 4).
        [v4_above(64), Some(Ipv4Addr::from_bits(!(bits as u32)))]
    } else {
        [None, None]
    }
}

const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff], 96);
const COMPATIBLE: Ipv6Net = v6([0; 6], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0], 32);

const REFUSED_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),       // "this network"; 0.0.0.0 reaches the local host
    v4([10, 0, 0, 0], 8),      // private (RFC 1918)
    v4([100, 64, 0, 0], 10),   // carrier-grade NAT
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, where clouds keep their metadata
    v4([172, 16, 0, 0], 12),   // private (RFC 1918)
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // 6to4 relays, deprecated
    v4([192, 168, 0, 0], 16),  // private (RFC 1918)
    v4([198, 18, 0, 0], 15),   // benchmarking
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved
    v4([255, 255, 255, 255], 32),
];

const REFUSED_V6: [Ipv6Net; 14] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    v6([0x64, 0xff9b, 1, 0, 0, 0], 48),  // NAT64 of a local network
    v6([0x100, 0, 0, 0, 0, 0], 64),      // discard only
    v6([0x2001, 2, 0, 0, 0, 0], 48),     // benchmarking
    v6([0x2001, 0x10, 0, 0, 0, 0], 28),  // ORCHID
    v6([0x2001, 0x20, 0, 0, 0, 0], 28),  // ORCHIDv2
    v6([0x2001, 0xdb8, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0], 20),     // documentation
    v6([0x5f00, 0, 0, 0, 0, 0], 16),     // segment routing identifiers
    v6([0xfc00, 0, 0, 0, 0, 0], 7),      // unique local
    v6([0xfe80, 0, 0, 0, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0, 0, 0, 0], 10),     // site-local, deprecated
    v6([0xff00, 0, 0, 0, 0, 0], 8),      // multicast
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f]: [u16; 6], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ];

    const REFUSED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.170",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "2002:7f00:1::",
        // Teredo: a private server; a public server with the client 10.0.0.1.
        "2001:0:a00:1::f7f7:f7f7",
        "2001:0:808:808::f5ff:fffe",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
    ];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_are_permitted() {
        for text in PUBLIC {
            assert!(Guard::default().permits(address(text)), "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for text in REFUSED {
            assert!(!Guard::default().permits(address(text)), "{text}");
        }
    }

    #[test]
    fn an_allowed_net_is_let_through_in_every_disguise_and_nothing_else() {
        let guard = Guard::new(vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()]);
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "::1"] {
            assert!(guard.permits(address(text)), "{text}");
        }
        for text in ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "::", "fd00::1"] {
            assert!(!guard.permits(address(text)), "{text}");
        }
    }
}

//! Proxies that are trusted to say for whom they ask, and how what they say is read.
//!
//! Only `X-Forwarded-For` is read, and only from a peer that is listed: from anyone else it is what
//! any client may write.

use std::net::{IpAddr, SocketAddr};

use super::addresses::Key;
use super::slot::Peer;

/// The proxies of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies {
    networks: Vec<Network>,
    /// Whoever comes over a unix socket is one.
    has_unix: bool,
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// Of IPv4 in the form of `::ffff:0:0/96`, so that one comparison serves both families.
    start: u128,
    bits: u32,
}

/// For whom a trusted proxy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) key: Key,
    /// It named somebody, and not somebody on this machine.
    pub(crate) is_remote: bool,
}

impl Proxies {
    /// Reads a list of addresses, networks (`10.0.0.0/8`) and `unix`.
    pub(crate) fn parse(list: &[String]) -> Result<Self, String> {
        let mut proxies = Self::default();
        for text in list {
            match Network::parse(text) {
                _ if text == "unix" => proxies.has_unix = true,
                Some(network) => proxies.networks.push(network),
                None => {
                    return Err(format!(
                        "a trusted proxy is an address, a network like 10.0.0.0/8, or unix, not \
                         {text:?}"
                    ));
                }
            }
        }
        Ok(proxies)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.has_unix
    }

    /// Whether a peer is one of them.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix => self.has_unix,
            Peer::Ip(address) => self.has(address.ip()),
        }
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.has(ip))
    }

    /// For whom a request of a trusted `peer` counts. Each proxy adds at the end whom it was asked
    /// by, so the list is read from there, as far as those who wrote it are trusted.
    pub(crate) fn client(&self, peer: Peer, head: &[u8]) -> Client {
        let mut nearest = match peer {
            Peer::Unix => None,
            Peer::Ip(address) => Some(address.ip()),
        };
        let mut is_remote = false;
        for entry in forwarded_for(head) {
            let Some(ip) = parse_entry(entry) else {
                is_remote = true; // whoever it is, it is not known to be on this machine
                break;
            };
            is_remote |= !ip.is_loopback();
            nearest = Some(ip);
            if !self.has(ip) {
                break;
            }
        }
        Client { key: nearest.map_or(Key::Unix, Key::of), is_remote }
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().ok()?;
        let bits_max = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
            None => bits_max,
        };
        let bits = if bits <= bits_max { bits + 128 - bits_max } else { return None };
        Some(Self { start: wide(ip) & mask(bits), bits })
    }

    fn has(&self, ip: IpAddr) -> bool {
        wide(ip) & mask(self.bits) == self.start
    }
}

/// IPv4 as it is mapped into IPv6.
fn wide(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

/// The entries of all lines, the last first.
fn forwarded_for(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: &[u8] = b"x-forwarded-for";
    let values = head.split(|b| *b == b'\n').rev().filter_map(|line| {
        let (name, rest) = line.split_at_checked(NAME.len())?;
        let value = rest.strip_prefix(b":")?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    let entries = values.flat_map(|value| value.rsplit(|b| *b == b','));
    entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty())
}

/// An address, with or without brackets and a port.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = match (bare, text.parse::<IpAddr>()) {
        (Some(bare), _) => IpAddr::V6(bare.parse().ok()?),
        (None, Ok(ip)) => ip,
        (None, Err(_)) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[&str]) -> Result<Proxies, String> {
        Proxies::parse(&list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
    }

    fn key(ip: &str) -> Key {
        Key::of(ip.parse().expect("an address"))
    }

    #[test]
    fn networks_are_read_or_refused() {
        for good in ["10.0.0.0/8", "10.1.2.3", "::1", "fd00::/8", "unix", "0.0.0.0/0", "::/0"] {
            assert!(proxies(&[good]).is_ok(), "{good}");
        }
        let bad = [
            "",
            "10.0.0.0/33",
            "::1/129",
            "10.0.0/8",
            "proxy.example",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "[::1]",
            "127.0.0.1:80",
            "Unix",
            "fe80::1%eth0",
            "10.0.0.0/4294967297",
        ];
        for bad in bad {
            assert!(proxies(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_has_what_begins_as_it_does() {
        let proxies = proxies(&["10.1.2.3/8", "192.0.2.7", "fd00::/8", "::ffff:172.16.0.0/108"]);
        let proxies = proxies.expect("all are networks");
        for (ip, wanted) in [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("::ffff:10.0.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fdff::1", true),
            ("fe00::", false),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("::10.0.0.1", false),
        ] {
            assert_eq!(proxies.has(ip.parse().expect("an address")), wanted, "{ip}");
        }
        assert!(!proxies.trusts(Peer::Unix));
    }

    #[test]
    fn the_client_is_the_first_untrusted_from_the_right() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8", "fd00::/8"]).expect("networks");
        let peer = Peer::Ip("127.0.0.1:9".parse().expect("an address"));
        let cases: &[(&str, &str, bool)] = &[
            // Nothing is named.
            ("", "127.0.0.1", false),
            ("X-Forwarded-For:\r\n", "127.0.0.1", false),
            ("X-Forwarded-For: , ,\r\n", "127.0.0.1", false),
            ("Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n", "127.0.0.1", false),
            ("X-Forwarded-For-Not: 1.2.3.4\r\n", "127.0.0.1", false),
            // The forms of one entry.
            ("X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4", true),
            ("x-forwarded-FOR:1.2.3.4 \r\n", "1.2.3.4", true),
            ("X-Forwarded-For: 1.2.3.4:5678\r\n", "1.2.3.4", true),
            ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::", true),
            ("X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::", true),
            ("X-Forwarded-For: [2001:db8::1]:443\r\n", "2001:db8::", true),
            ("X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4", true),
            // What the client wrote itself stands on the left and is not looked at.
            ("X-Forwarded-For: 9.9.9.9, 1.2.3.4\r\n", "1.2.3.4", true),
            ("X-Forwarded-For: 127.0.0.1, 1.2.3.4\r\n", "1.2.3.4", true),
            ("X-Forwarded-For: junk, 1.2.3.4,,\r\n", "1.2.3.4", true),
            // Trusted ones pass on what they were asked by.
            ("X-Forwarded-For: 9.9.9.9, 1.2.3.4, 10.0.0.7\r\n", "1.2.3.4", true),
            ("X-Forwarded-For: 1.2.3.4, fd00::7, 10.0.0.7:80\r\n", "1.2.3.4", true),
            // Several lines are one list.
            ("X-Forwarded-For: 1.2.3.4\r\nA: b\r\nX-Forwarded-For: 10.0.0.7\r\n", "1.2.3.4", true),
            ("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n", "5.6.7.8", true),
            // All are trusted: the one at the left.
            ("X-Forwarded-For: 10.0.0.9, 10.0.0.7\r\n", "10.0.0.9", true),
            ("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1", false),
            ("X-Forwarded-For: ::1\r\n", "::1", false),
            ("X-Forwarded-For: 127.0.0.1, 10.0.0.7\r\n", "127.0.0.1", true),
            // What cannot be read ends it, and the nearer one counts.
            ("X-Forwarded-For: unknown\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: \"1.2.3.4\"\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: for=1.2.3.4\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: 1.2.3.4, _hidden, 10.0.0.7\r\n", "10.0.0.7", true),
            ("X-Forwarded-For: 1.2.3.4, 10.0.0.7:99999\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: 1.2.3\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: fe80::1%eth0\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: [1.2.3.4]\r\n", "127.0.0.1", true),
            ("X-Forwarded-For: \u{e9}\r\n", "127.0.0.1", true),
        ];
        for (fields, wanted, is_remote) in cases {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            let wanted = Client { key: key(wanted), is_remote: *is_remote };
            assert_eq!(proxies.client(peer, head.as_bytes()), wanted, "{fields:?}");
        }
        let unix = proxies.client(Peer::Unix, b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(unix, Client { key: Key::Unix, is_remote: false });
    }
}

//! The defaults of who may: which `Host` is served, which `Origin` may act, who is local.

use std::net::{IpAddr, SocketAddr};

use super::proxies::Proxies;
use crate::config::Config;

/// An address that is listened on, as far as these checks care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// An address and port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix,
}

/// The rules of one server, made once.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) open: bool,
    pub(crate) local_publish: bool,
    pub(crate) proxies: Proxies,
    addresses: Vec<IpAddr>,
    /// Some listener takes every interface: any literal address may be its name.
    any_address: bool,
    loopback_only: bool,
    /// What a `Host` mostly says: `localhost`, the names that are served, the addresses as they are
    /// usually written.
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Policy {
    /// The rules for these listeners.
    #[must_use]
    pub fn new(config: &Config, listening: &[Listening]) -> Self {
        let tcp = || {
            listening.iter().filter_map(|listening| match listening {
                Listening::Tcp(address) => Some(address.ip()),
                Listening::Unix => None,
            })
        };
        Self {
            open: config.open,
            local_publish: config.local_publish,
            proxies: Proxies::parse(&config.trusted_proxies).unwrap_or_else(|mistake| {
                log::error!("no proxy is trusted: {mistake}");
                Proxies::default()
            }),
            addresses: tcp().collect(),
            any_address: tcp().any(|ip| ip.is_unspecified()),
            loopback_only: tcp().all(|ip| ip.is_loopback()),
            hosts: std::iter::once("localhost".to_owned())
                .chain(config.hosts.iter().cloned())
                .chain(tcp().map(|ip| match ip {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                }))
                .collect(),
            origins: config.origins.iter().map(|o| trim_origin(o).to_ascii_lowercase()).collect(),
        }
    }

    /// What is wrong with a configuration, if anything is that [`new`](Self::new) would leave out.
    ///
    /// # Errors
    /// A sentence for whoever configured it.
    pub fn check(config: &Config) -> Result<(), String> {
        Proxies::parse(&config.trusted_proxies).map(drop)
    }

    /// Whether a request for this `Host` is for us. Names that merely resolve to a loopback address
    /// are how a web page reaches services behind its visitor's back (DNS rebinding).
    #[must_use]
    pub fn allows_host(&self, host: &[u8]) -> bool {
        if self.open {
            return true;
        }
        let name = &host[..name_len(host)];
        // Mostly they are alike to the letter, which is told sooner.
        let is = |known: &[u8]| known == name || known.eq_ignore_ascii_case(name);
        if self.hosts.iter().any(|known| is(known.as_bytes())) {
            return true;
        }
        let Ok(name) = std::str::from_utf8(name) else { return false };
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        literal.parse::<IpAddr>().is_ok_and(|ip| self.any_address || self.addresses.contains(&ip))
    }

    /// Whether a page of this `Origin` may act on, and read from, what is asked of this `Host`.
    #[must_use]
    pub fn allows_origin(&self, origin: &[u8], host: Option<&[u8]>) -> bool {
        if self.open {
            return true;
        }
        let Ok(origin) = std::str::from_utf8(origin) else { return false };
        let origin = origin.to_ascii_lowercase();
        if self.origins.iter().any(|listed| matches_origin(listed, &origin)) {
            return true;
        }
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let host = host.and_then(|host| std::str::from_utf8(host).ok()).unwrap_or("");
        if !authority.is_empty() && is_same_host(scheme, authority, &host.to_ascii_lowercase()) {
            return true;
        }
        let (name, port) = split_port(authority);
        let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
        self.loopback_only && is_port && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    }
}

fn trim_origin(origin: &str) -> &str {
    origin.trim_end_matches('/')
}

/// Equal, or listed as `https://*.example.org` for any labels in front.
fn matches_origin(listed: &str, origin: &str) -> bool {
    let Some((scheme, suffix)) = listed.split_once("://*.") else { return listed == origin };
    origin
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"))
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|labels| {
            labels.len() > 1
                && labels.ends_with('.')
                && labels.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        })
}

/// The scheme is ignored but for its default port: TLS may end at a proxy in front of us.
fn is_same_host(scheme: &str, authority: &str, host: &str) -> bool {
    if authority == host {
        return true;
    }
    let default = if scheme == "https" { "443" } else { "80" };
    let ((a_name, a_port), (h_name, h_port)) = (split_port(authority), split_port(host));
    a_name == h_name && a_port.unwrap_or(default) == h_port.unwrap_or(default)
}

/// `name:port` apart; brackets of an IPv6 literal stay with the name.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let (name, rest) = authority.split_at(name_len(authority.as_bytes()));
    (name, rest.strip_prefix(':'))
}

fn name_len(authority: &[u8]) -> usize {
    // In brackets a colon is part of the name.
    let at = authority.iter().rposition(|b| matches!(b, b':' | b']'));
    at.filter(|at| authority[*at] == b':').unwrap_or(authority.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(config: &Config, listening: &[&str]) -> Policy {
        let listening: Vec<_> =
            listening.iter().map(|a| Listening::Tcp(a.parse().expect("an address"))).collect();
        Policy::new(config, &listening)
    }

    #[test]
    fn a_host_is_what_is_listened_on_or_named() {
        let config = Config { hosts: vec!["Box.local".into()], ..Config::default() };
        let policy = policy(&config, &["127.0.0.1:7070", "[::1]:7070"]);
        for good in ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:7070", "box.local:7070"] {
            assert!(policy.allows_host(good.as_bytes()), "{good}");
        }
        for bad in ["evil.example", "127.0.0.2", "localhost.evil.example", "10.0.0.1", ""] {
            assert!(!policy.allows_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_the_own_host_or_listed_or_loopback() {
        let config = Config {
            origins: vec!["https://app.example/".into(), "https://*.corp.example".into()],
            ..Config::default()
        };
        let policy = policy(&config, &["127.0.0.1:7070"]);
        let allows = |origin: &str, host: &str| {
            policy.allows_origin(origin.as_bytes(), Some(host.as_bytes()))
        };
        assert!(allows("https://box.example", "box.example"));
        assert!(allows("https://box.example", "box.example:443"));
        assert!(allows("http://localhost:3000", "127.0.0.1:7070"));
        assert!(allows("http://[::1]:3000", "127.0.0.1:7070"));
        assert!(allows("https://app.example", "127.0.0.1:7070"));
        assert!(allows("https://a.b.corp.example", "127.0.0.1:7070"));
        assert!(!allows("https://corp.example", "127.0.0.1:7070"));
        assert!(!allows("https://evilcorp.example", "127.0.0.1:7070"));
        assert!(!allows("http://app.example", "127.0.0.1:7070"));
        assert!(!allows("https://box.example:8443", "box.example"));
        assert!(!allows("http://localhost.evil.example", "127.0.0.1:7070"));
        assert!(!allows("http://localhost:x", "127.0.0.1:7070"));
        assert!(!allows("null", "127.0.0.1:7070"));
        assert!(!allows("null", "null"));
    }

    #[test]
    fn a_public_listener_trusts_no_loopback_origin() {
        let policy = policy(&Config::default(), &["0.0.0.0:7070"]);
        assert!(!policy.allows_origin(b"http://localhost:3000", Some(b"192.0.2.1:7070")));
        assert!(policy.allows_host(b"192.0.2.1"));
        assert!(!policy.allows_host(b"evil.example"));
    }
}

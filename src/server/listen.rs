//! Where a server listens: addresses as people write them, bound with the options that accepted
//! sockets inherit.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token, event::Source};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};

use super::explained::explain;
use super::socket::Socket;
use super::unix::{self, Access};
use crate::config::Config;
use crate::engine::{Listening, Peer};

/// A peer that acknowledges nothing for so long is gone, in time for a heartbeat to notice.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// What the kernel keeps of a connection's bytes that it has not sent. When half of it has left, the
/// socket takes more: so a reader that is merely slow shows progress in time, which it would not with
/// the megabytes that the kernel takes by itself, and what is newest does not queue behind them.
const UNSENT_BYTES: u32 = 64 * 1024;

/// A socket that is listened on, and where.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Acceptor,
    address: LocalAddr,
    /// Somebody else bound it, and goes on holding it.
    pub(super) is_inherited: bool,
}

#[derive(Debug)]
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listener that somebody else has bound, such as systemd; see [`Config::bind_with`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Inherited {
    /// A TCP socket that listens.
    Tcp(std::net::TcpListener),
    /// A unix stream socket that listens.
    Unix(std::os::unix::net::UnixListener),
}

/// Where a server is reachable, as it is printed: `http://127.0.0.1:7070`, `unix:/run/x.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalAddr {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listener {
    pub(super) fn local_addr(&self) -> LocalAddr {
        self.address.clone()
    }

    pub(super) fn listening(&self) -> Listening {
        match self.address {
            LocalAddr::Tcp(address) => Listening::Tcp(address),
            LocalAddr::Unix(_) => Listening::Unix,
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (socket, peer) = match &self.socket {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                (Socket::Tcp(stream), Peer::Ip(peer))
            }
            Acceptor::Unix(listener) => (Socket::Unix(listener.accept()?.0), Peer::Unix),
        };
        socket.prepare();
        Ok((socket, peer))
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Acceptor::Tcp(listener) => listener,
            Acceptor::Unix(listener) => listener,
        }
    }

    /// Takes a listener over as it is, and gives it the options that accepted sockets inherit.
    fn take_over(inherited: Inherited) -> io::Result<Self> {
        let (socket, address) = match inherited {
            Inherited::Tcp(listener) => {
                let address = LocalAddr::Tcp(listener.local_addr()?);
                listener.set_nonblocking(true)?;
                set_tcp_options(SockRef::from(&listener))?;
                (Acceptor::Tcp(TcpListener::from_std(listener)), address)
            }
            Inherited::Unix(listener) => {
                let path = unix_path(&listener.local_addr()?);
                listener.set_nonblocking(true)?;
                (Acceptor::Unix(UnixListener::from_std(listener)), LocalAddr::Unix(path))
            }
        };
        Ok(Self { socket, address, is_inherited: true })
    }
}

/// The path of a socket, or a name without a file as it is usually written.
fn unix_path(address: &std::os::unix::net::SocketAddr) -> PathBuf {
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        return format!("@{}", String::from_utf8_lossy(name)).into();
    }
    address.as_pathname().map(Path::to_owned).unwrap_or_default()
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (LocalAddr::Unix(path), false) = (&self.address, self.is_inherited) {
            let _ = fs::remove_file(path);
        }
    }
}

/// An address as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    /// Both families on one port: loopback, or every interface.
    Both {
        port: u16,
        is_public: bool,
    },
    One(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    fn parse(text: &str) -> io::Result<Self> {
        let bad = || {
            let message = format!(
                "{text:?} is no address to listen on: write 7070, 127.0.0.1:7070, [::1]:7070, \
                 :7070 for every interface, or unix:PATH"
            );
            io::Error::new(ErrorKind::InvalidInput, message)
        };
        let port = |text: &str| text.parse::<u16>().map_err(|_| bad());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(bad()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(rest) = text.strip_prefix(':').or_else(|| text.strip_prefix("[::]:")) {
            return Ok(Self::Both { port: port(rest)?, is_public: true });
        }
        if let Some(rest) = text.strip_prefix("localhost:") {
            return Ok(Self::Both { port: port(rest)?, is_public: false });
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self::Both { port: port(text)?, is_public: false });
        }
        text.parse().map(Self::One).map_err(|_| bad())
    }

    fn is_public(&self) -> bool {
        match self {
            Self::Both { is_public, .. } => *is_public,
            Self::One(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

/// Takes over what is inherited, and binds everything that `config` names; the default only if
/// there is neither.
///
/// # Errors
/// `InvalidInput` for what is written wrong or would be open to the world without a decision to be
/// so; else what the system says.
pub(super) fn bind_all(
    config: &Config,
    decides: bool,
    inherited: Vec<Inherited>,
) -> io::Result<Vec<Listener>> {
    let decides = decides || config.open;
    let mut listeners = Vec::new();
    for one in inherited {
        let listener = Listener::take_over(one)?;
        if let (LocalAddr::Tcp(address), false) = (&listener.address, decides) {
            refuse_public(&address.to_string(), &Address::One(*address))?;
        }
        listeners.push(listener);
    }
    let default = ["7070".to_owned()];
    let is_default = config.listen.is_empty() && listeners.is_empty();
    let written = if is_default { &default[..] } else { &config.listen };
    let mut addresses = Vec::with_capacity(written.len());
    for text in written {
        let address = Address::parse(text)?;
        if !decides {
            refuse_public(text, &address)?;
        }
        addresses.push(address);
    }
    let access = Access::of(config)?;
    for address in addresses {
        bind(&address, access, config.backlog, &mut listeners)?;
    }
    Ok(listeners)
}

fn refuse_public(text: &str, address: &Address) -> io::Result<()> {
    if !address.is_public() {
        return Ok(());
    }
    let message = format!(
        "{text} can be reached from other machines and nothing decides who may do what: \
         allow everything to everyone (--open, Config::open), bind with an application, \
         or listen on a loopback address"
    );
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

fn bind(
    address: &Address,
    access: Access,
    backlog: i32,
    listeners: &mut Vec<Listener>,
) -> io::Result<()> {
    match address {
        Address::One(address) => listeners.push(bind_tcp(*address, backlog)?),
        Address::Unix(path) => listeners.push(bind_unix(path, access, backlog)?),
        Address::Both { port, is_public } => bind_both(*port, *is_public, backlog, listeners)?,
    }
    Ok(())
}

/// One port on both families. A family that the machine lacks is a warning.
fn bind_both(
    port: u16,
    is_public: bool,
    backlog: i32,
    listeners: &mut Vec<Listener>,
) -> io::Result<()> {
    let (v4, v6): (IpAddr, IpAddr) = if is_public {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into())
    } else {
        (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
    };
    let mut tries = if port == 0 { 16 } else { 1 };
    loop {
        tries -= 1;
        let first = bind_tcp(SocketAddr::new(v4, port), backlog);
        let chosen = match &first {
            Ok(Listener { address: LocalAddr::Tcp(address), .. }) => address.port(),
            _ => port,
        };
        let second = bind_tcp(SocketAddr::new(v6, chosen), backlog);
        match (first, second) {
            (Ok(first), Ok(second)) => listeners.extend([first, second]),
            (Ok(one), Err(error)) | (Err(error), Ok(one)) if is_missing_family(&error) => {
                log::warn!("one address family is not available here: {error}");
                listeners.push(one);
            }
            // The number that was free on IPv4 is taken on IPv6: try another.
            (Ok(_), Err(error)) if tries > 0 && error.kind() == ErrorKind::AddrInUse => continue,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        }
        return Ok(());
    }
}

fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.kind() == ErrorKind::Unsupported
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let named = |error: io::Error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                ": another program listens there; choose another port (--listen)"
            }
            ErrorKind::PermissionDenied => ": ports below 1024 need a privilege; choose another",
            _ => "",
        };
        let text = format!("cannot listen on {address}: {error}{advice}");
        explain(error, text)
    };
    listen_tcp(address, backlog).map_err(named)
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<Listener> {
    let domain = Domain::for_address(address);
    let socket = RawSocket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_tcp_options(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let listener = TcpListener::from_std(socket.into());
    let address = LocalAddr::Tcp(listener.local_addr()?);
    Ok(Listener { socket: Acceptor::Tcp(listener), address, is_inherited: false })
}

/// Accepted sockets inherit these on Linux; elsewhere they are set on each.
fn set_tcp_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (USER_TIMEOUT, UNSENT_BYTES);
    Ok(())
}

fn bind_unix(path: &Path, access: Access, backlog: i32) -> io::Result<Listener> {
    let listener = unix::listen(path, access, backlog)?;
    let address = LocalAddr::Unix(path.to_owned());
    let socket = Acceptor::Unix(UnixListener::from_std(listener));
    Ok(Listener { socket, address, is_inherited: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let both = |port, is_public| Address::Both { port, is_public };
        let cases = [
            ("7070", both(7070, false)),
            ("localhost:1", both(1, false)),
            (":7070", both(7070, true)),
            ("[::]:7070", both(7070, true)),
            ("127.0.0.1:0", Address::One("127.0.0.1:0".parse().expect("an address"))),
            ("[::1]:9", Address::One("[::1]:9".parse().expect("an address"))),
            ("unix:/run/x.sock", Address::Unix("/run/x.sock".into())),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text).expect(text), expected);
        }
        for text in ["", "70700", "unix:", "example.org:80", "127.0.0.1", "::1:80x"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_others_can_reach_is_public() {
        for (text, expected) in [
            ("7070", false),
            (":7070", true),
            ("0.0.0.0:1", true),
            ("192.0.2.1:1", true),
            ("[::1]:1", false),
        ] {
            assert_eq!(Address::parse(text).expect(text).is_public(), expected, "{text}");
        }
    }
}

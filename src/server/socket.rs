//! One accepted connection: TCP or unix, never raising SIGPIPE.

use std::io::{self, Read};
use std::net::Shutdown;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

/// `Write::write` of a unix stream is a plain `write(2)`, which kills a host that keeps SIGPIPE at
/// its default; so both kinds send with a flag, or (where there is none) with a socket option.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const SEND_FLAGS: i32 = 0;

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => SockRef::from(&*stream).send_with_flags(bytes, SEND_FLAGS),
            Self::Unix(stream) => SockRef::from(&*stream).send_with_flags(bytes, SEND_FLAGS),
        }
    }

    /// Shuts the sending side; a peer that is gone already is no error.
    pub(super) fn finish(&mut self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Registered once, for both directions, for good.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, both),
            Self::Unix(stream) => stream.register(registry, token, both),
        }
    }

    /// Sets what accepted sockets do not inherit from their listener here.
    pub(super) fn prepare(&self) {
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            if let Self::Tcp(stream) = self {
                let socket = SockRef::from(stream);
                let _ = socket.set_tcp_nodelay(true);
                let _ = socket.set_keepalive(true);
            }
            #[cfg(any(target_os = "macos", target_os = "ios"))]
            {
                let _ = match self {
                    Self::Tcp(stream) => SockRef::from(stream).set_nosigpipe(true),
                    Self::Unix(stream) => SockRef::from(stream).set_nosigpipe(true),
                };
            }
            let _: Option<Duration> = None;
        }
    }
}

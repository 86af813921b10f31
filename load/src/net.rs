//! Sockets that never block, and the one wait for all of them. It knows no protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// What one read may bring.
const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1_024;

/// What happened on a line.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was added under.
    pub index: usize,
    /// There is something to read, be it an end or an error.
    pub readable: bool,
    /// There is room again.
    pub writable: bool,
}

/// The one wait, and the clock of the run.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// What every line reads into.
    scratch: Vec<u8>,
    /// Never sleeps: a generator that sleeps makes the server's write pay for waking it.
    spins: bool,
    returned: Instant,
    /// The time in which there was nothing to do.
    pub idle: Duration,
    /// Bytes that came, on all lines.
    pub received: u64,
    /// Bytes that went out.
    pub sent: u64,
}

impl std::fmt::Debug for Poll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Poll {
    /// A wait that spins, or sleeps.
    pub fn new(spins: bool) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            scratch: vec![0; SCRATCH_BYTES],
            spins,
            returned: Instant::now(),
            idle: Duration::ZERO,
            received: 0,
            sent: 0,
        })
    }

    /// Watches a line.
    pub fn add(&self, line: &Line, index: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &line.socket, data, line.interest())?;
        Ok(())
    }

    /// Watches it no more.
    pub fn remove(&self, line: &Line) -> io::Result<()> {
        epoll::delete(&self.epoll, &line.socket)?;
        Ok(())
    }

    /// What happened, at most until `until`. Empty if it was nothing.
    pub fn wait(&mut self, until: Instant, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let left = until.saturating_duration_since(Instant::now());
        let sleep = if self.spins { Duration::ZERO } else { left.min(Duration::from_millis(100)) };
        let timeout = rustix::time::Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(0),
            tv_nsec: sleep.subsec_nanos().into(),
        };
        self.events.clear();
        let before = Instant::now();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        if self.events.is_empty() {
            self.idle += now - self.returned.max(before);
        } else if !self.spins {
            self.idle += now - before;
        }
        self.returned = now;
        ready.extend(self.events.iter().map(|event| {
            let flags = { event.flags };
            Ready {
                index: usize::try_from({ event.data }.u64()).unwrap_or(usize::MAX),
                readable: flags.intersects(READS),
                writable: flags.contains(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }

    /// Reads what is there, once, and gives all that was not used yet to `take`, which says how much
    /// of it it used. `Ok(false)`: the other side has ended.
    pub fn read<E: From<io::Error>>(
        &mut self,
        line: &mut Line,
        take: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let kept = line.unread.len();
        if self.scratch.len() < kept + SCRATCH_BYTES / 2 {
            self.scratch.resize(kept * 2 + SCRATCH_BYTES, 0);
        }
        self.scratch[..kept].copy_from_slice(&line.unread);
        let room = &mut self.scratch[kept..];
        let read = match net::recv(&line.socket, room, RecvFlags::empty()) {
            Ok((0, _)) => return Ok(false),
            Ok((read, _)) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(Errno::CONNRESET) => return Ok(false),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        self.received += read as u64;
        let all = &self.scratch[..kept + read];
        let used = take(all)?;
        line.unread.clear();
        line.unread.extend_from_slice(&all[used..]);
        Ok(true)
    }

    /// Sends the bytes, or keeps what the kernel does not take until there is room.
    pub fn send(&mut self, line: &mut Line, index: usize, bytes: &[u8]) -> io::Result<()> {
        if !line.unsent.is_empty() {
            line.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let sent = line.write(bytes)?;
        self.sent += sent as u64;
        if sent < bytes.len() {
            line.unsent.extend_from_slice(&bytes[sent..]);
            self.change(line, index)?;
        }
        Ok(())
    }

    /// There is room: sends what was kept.
    pub fn flush(&mut self, line: &mut Line, index: usize) -> io::Result<()> {
        let unsent = std::mem::take(&mut line.unsent);
        let sent = line.write(&unsent)?;
        self.sent += sent as u64;
        line.unsent = unsent;
        line.unsent.drain(..sent);
        if line.unsent.is_empty() {
            line.unsent = Vec::new();
            self.change(line, index)?;
        }
        Ok(())
    }

    fn change(&self, line: &Line, index: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(index as u64);
        epoll::modify(&self.epoll, &line.socket, data, line.interest())?;
        Ok(())
    }
}

const READS: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR)
    .union(epoll::EventFlags::RDHUP);

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    /// What came and is not used yet: the beginning of something.
    unread: Vec<u8>,
    /// What the kernel has not taken.
    unsent: Vec<u8>,
}

impl Line {
    /// Connects. Several thousand lines to one address need several `source` addresses.
    pub fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        net::sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source {
            net::bind(&socket, &SocketAddr::new(source, 0))?;
        }
        match net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { socket, unread: Vec::new(), unsent: Vec::new() })
    }

    /// The kernel has taken all that was sent.
    pub fn has_room(&self) -> bool {
        self.unsent.is_empty()
    }

    fn interest(&self) -> epoll::EventFlags {
        if self.unsent.is_empty() {
            epoll::EventFlags::IN
        } else {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(sent),
            // Not connected yet is no room yet.
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// The address from which the `number`th connection to `target` comes: one pair of addresses has no
/// more ports than the machine's range, 28 000 by default. Loopback has many addresses.
pub fn source(target: SocketAddr, number: usize) -> Option<IpAddr> {
    const EACH: usize = 10_000;
    let IpAddr::V4(address) = target.ip() else { return None };
    let last = u8::try_from(number / EACH % 250).unwrap_or(0);
    (address.is_loopback() && number >= EACH).then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)))
}

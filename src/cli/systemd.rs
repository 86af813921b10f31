//! What a service manager and its child say to each other: listeners that it holds
//! (sd_listen_fds(3)), and how the server is (sd_notify(3)). Nothing of it without its variables.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::time::{Duration, Instant};

use holdline::server::{Inherited, LocalAddr};
use listenfd::ListenFd;
use socket2::SockRef;

/// More listeners than anybody has are a mistake in the environment.
const LISTENERS_MAX: u32 = 64;

/// The listeners that the service manager holds.
pub(crate) fn listeners() -> io::Result<Vec<Inherited>> {
    let Ok(count) = env::var("LISTEN_FDS") else { return Ok(Vec::new()) };
    let count = count.trim().parse().ok().filter(|count: &u32| *count <= LISTENERS_MAX);
    let Some(count) = count else {
        return Err(bad(format!("LISTEN_FDS is no number of sockets up to {LISTENERS_MAX}")));
    };
    // None of them if LISTEN_PID names another process.
    let mut found = ListenFd::from_env();
    (0..found.len().min(count as usize)).map(|number| take(&mut found, number)).collect()
}

fn take(found: &mut ListenFd, number: usize) -> io::Result<Inherited> {
    let unfit =
        || bad(format!("inherited socket {number} is none that listens, TCP or unix stream"));
    let (inherited, is_listening) = match found.take_tcp_listener(number) {
        Ok(Some(listener)) => {
            let is_listening = is_listening(SockRef::from(&listener));
            (Inherited::Tcp(listener), is_listening)
        }
        _ => {
            let listener = found.take_unix_listener(number).ok().flatten().ok_or_else(unfit)?;
            let is_listening = is_listening(SockRef::from(&listener));
            (Inherited::Unix(listener), is_listening)
        }
    };
    if is_listening { Ok(inherited) } else { Err(unfit()) }
}

fn is_listening(socket: SockRef<'_>) -> bool {
    #[cfg(target_os = "linux")]
    return socket.is_listener().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    return socket.local_addr().is_ok();
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Whoever started this process and wants to know how it is.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// How often it must hear that the loop turns, and when it next will.
    watchdog: Option<(Duration, Instant)>,
    has_said_stopping: bool,
}

impl Manager {
    /// The one that the environment names, if any.
    pub(crate) fn from_environment() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        let name = name.to_string_lossy();
        match connect(&name) {
            Ok(socket) => {
                let watchdog = interval().map(|every| (every, Instant::now() + every));
                Self { socket: Some(socket), watchdog, has_said_stopping: false }
            }
            Err(error) => {
                log::warn!("NOTIFY_SOCKET={name}: {error}");
                Self::default()
            }
        }
    }

    /// It listens.
    pub(crate) fn ready(&self, addresses: &[LocalAddr]) {
        let mut text = String::from("READY=1\nSTATUS=listening on");
        addresses.iter().for_each(|address| text.push_str(&format!(" {address}")));
        self.say(&text);
    }

    /// How long a turn may last before there is something to say.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        self.watchdog.map(|(_, due)| due.saturating_duration_since(Instant::now()))
    }

    /// The loop has turned.
    pub(crate) fn turned(&mut self, is_shutting_down: bool) {
        if is_shutting_down && !self.has_said_stopping {
            self.has_said_stopping = true;
            self.say("STOPPING=1\nSTATUS=draining");
        }
        if let Some((every, due)) = self.watchdog {
            let now = Instant::now();
            if due <= now {
                self.watchdog = Some((every, now + every));
                self.say("WATCHDOG=1");
            }
        }
    }

    /// What it does not take now is not worth waiting for.
    fn say(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes()) {
            log::debug!("the service manager was not told: {error}");
        }
    }
}

/// Half of what the manager waits for a sign of life, if that is for this process.
fn interval() -> Option<Duration> {
    let is_others = env::var("WATCHDOG_PID").is_ok_and(|pid| pid != process::id().to_string());
    let micros: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (!is_others && micros > 1).then(|| Duration::from_micros(micros / 2))
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&address)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

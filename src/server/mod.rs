//! A server: the engine with sockets, a clock, randomness and threads. The only floor that does I/O.

mod data;
mod hub;
mod limits;
mod listen;
mod shutdown;
#[cfg(feature = "cli")]
mod signals;
#[cfg_attr(loom, path = "sleep_model.rs")]
mod sleep;
mod socket;
mod turn;

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Events;

use self::data::Data;
use self::hub::{Clock, Command, Shared};
pub use self::hub::{Hub, HubError, PublishError, PublishReason};
pub use self::listen::{Inherited, LocalAddr};
use self::shutdown::Shutdown;
use self::sleep::{JoinHandle, Poll};
use self::turn::{EVENTS, Io, listener_token};
use crate::config::Config;
use crate::cursor::Epoch;
use crate::engine::{App, Engine, Policy};
pub use crate::hub::Published;
use crate::hub::{Bell, History, is_pattern};
use crate::sync::{AtomicBool, Mutex};
use crate::time::Now;

/// How long a dropped [`Running`] lets its connections end.
const DROP_GRACE: Duration = Duration::from_secs(1);

/// A server on the thread that turns it: [`run`](Self::run) it here, [`spawn`](Self::spawn) it, or
/// [`turn`](Self::turn) it from a loop of your own.
///
/// It sets no signal handler, logger or limit of the process.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let server = holdline::Server::bind("127.0.0.1:0")?;
/// let hub = server.hub();
/// let running = server.spawn()?; // its own thread; dropping ends it
/// hub.publish("clock", "tick").expect("a valid channel and room in the budget");
/// # drop(running);
/// # Ok(())
/// # }
/// ```
pub struct Server {
    engine: Engine,
    io: Io,
    events: Events,
    shared: Arc<Shared>,
    shutdown: Option<Shutdown>,
    drain_delay: Duration,
    #[cfg(feature = "cli")]
    drain: Duration,
    /// Where history goes at the end.
    data: Option<Data>,
    #[cfg(feature = "cli")]
    signals: Option<signal_hook_mio::v1_0::Signals>,
}

/// What a turn left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Turned {
    /// The server goes on.
    Running,
    /// It has been shut down: nothing is left to turn.
    Ended,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Config {
    /// Binds a server.
    ///
    /// # Errors
    /// `InvalidInput` for an address that is none, or that others can reach without
    /// [`Config::open`](Self#structfield.open) or an application that decides, and for a pattern that
    /// no channel can match; else what the system says, such as a port that is taken, or a directory
    /// that another server uses.
    pub fn bind(self) -> io::Result<Server> {
        Server::with(self, None, Vec::new())
    }

    /// Binds a server with an application, which also decides about public addresses.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_app(self, app: impl App + 'static) -> io::Result<Server> {
        Server::with(self, Some(Box::new(app)), Vec::new())
    }

    /// Binds a server that takes over listeners, besides those of [`listen`](Self#structfield.listen),
    /// if any; with an application, or without. Files of unix sockets that it took over stay. Once it
    /// drains it accepts nobody on these listeners: who comes waits for whoever takes them next.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_with(
        self,
        inherited: Vec<Inherited>,
        app: Option<Box<dyn App>>,
    ) -> io::Result<Server> {
        Server::with(self, app, inherited)
    }
}

impl Server {
    /// Binds a server with the defaults to one address.
    ///
    /// # Errors
    /// As [`Config::bind`].
    pub fn bind(address: impl Into<String>) -> io::Result<Self> {
        Config::default().listen(address).bind()
    }

    fn with(
        mut config: Config,
        app: Option<Box<dyn App>>,
        inherited: Vec<Inherited>,
    ) -> io::Result<Self> {
        if config.memory_bytes == 0 {
            config.memory_bytes = limits::default_memory();
        }
        check_latest(&config)?;
        Policy::check(&config)
            .map_err(|mistake| io::Error::new(ErrorKind::InvalidInput, mistake))?;
        let data = config.data.as_deref().map(Data::open).transpose()?;
        let mut listeners = listen::bind_all(&config, app.is_some(), inherited)?;
        let poll = Poll::new()?;
        let waker = sleep::waker(&poll)?;
        for (number, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), listener_token(number))?;
        }
        let clock = Clock::start();
        let now = clock.now();
        let epoch = Epoch::from_random(random()?);
        let kept = data.as_ref().map(|data| data.read(&config, now)).transpose()?.flatten();
        let history = Arc::new(kept.unwrap_or_else(|| History::new(&config, epoch, now)));
        let bell = Arc::new(Bell::new(move || {
            // A wake that fails finds the loop at its next deadline.
            let _ = waker.wake();
        }));
        history.add_bell(Arc::clone(&bell));
        let shared = Arc::new(Shared {
            history: Arc::clone(&history),
            bell,
            clock,
            commands: Mutex::default(),
            has_commands: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            message_bytes_max: config.message_bytes_max,
        });
        let listening: Vec<_> = listeners.iter().map(listen::Listener::listening).collect();
        let policy = Policy::new(&config, &listening);
        let io = Io::new(poll, listeners, &config);
        let drain_delay = config.drain_delay;
        #[cfg(feature = "cli")]
        let drain = config.drain;
        let memory_bytes = config.memory_bytes;
        let connections =
            (config.connections_max == 0).then(|| limits::default_connections(memory_bytes));
        let mut engine = Engine::with(Arc::new(config), history, policy, 0, random()?, now);
        if let Some(connections) = connections {
            engine.set_connections_max(connections);
        }
        if let Some(app) = app {
            engine.set_app(app);
        }
        // Nothing can fail any more, and nothing has been published yet.
        data.as_ref().map_or(Ok(()), Data::forget)?;
        shared.bell.doze();
        Ok(Self {
            engine,
            io,
            events: Events::with_capacity(EVENTS),
            shared,
            shutdown: None,
            drain_delay,
            #[cfg(feature = "cli")]
            drain,
            data,
            #[cfg(feature = "cli")]
            signals: None,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<LocalAddr> {
        self.io.listeners.iter().map(listen::Listener::local_addr).collect()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn hub(&self) -> Hub {
        Hub { shared: Arc::clone(&self.shared) }
    }

    /// The engine, to look at.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Turns until it is shut down.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn run(mut self) -> io::Result<()> {
        while self.turn(None)? == Turned::Running {}
        Ok(())
    }

    /// Runs on a thread of its own, until it is shut down or the handle is dropped.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn spawn(self) -> io::Result<Running> {
        let hub = self.hub();
        let thread = sleep::thread().spawn(move || self.run())?;
        Ok(Running { hub, thread: Some(thread) })
    }

    /// One pass: waits at most `timeout` (`None`: until something happens), takes in what came, does
    /// what is due, and writes what is owed.
    ///
    /// # Errors
    /// If the system refuses to wait for events, or a callback of the application panicked, or what is
    /// kept at the end cannot be written ([`Config::data`](Config#structfield.data)). The server should
    /// be dropped then.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turned> {
        let wait = match (timeout, self.next_timeout()) {
            (Some(asked), Some(due)) => Some(asked.min(due)),
            (asked, due) => asked.or(due),
        };
        self.io.wait(&mut self.events, wait)?;
        self.shared.bell.rise();
        let now = self.shared.clock.now();
        let has_signals = self.io.note(&self.events, &mut self.engine, now);
        self.obey(now, has_signals);
        self.io.accept(&mut self.engine, now);
        self.engine.handle_kept(now);
        self.io.read(&mut self.engine, now);
        self.engine.handle_timeout(now);
        self.io.write(&mut self.engine, now);
        // From here on a publication makes the descriptor readable, or shows in `next_timeout`.
        self.shared.bell.doze();
        if self.engine.has_failed() {
            return Err(io::Error::other("a callback of the application panicked"));
        }
        if !self.has_ended(now) {
            return Ok(Turned::Running);
        }
        self.keep(now)?;
        Ok(Turned::Ended)
    }

    /// The last publication has been; what is kept goes where it is to be kept.
    fn keep(&mut self, now: Now) -> io::Result<()> {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.shared.history.close();
        self.data.take().map_or(Ok(()), |data| data.write(&self.shared.history, now))
    }

    /// How long the next turn may wait: zero while anything is unfinished, `None` if nothing is due.
    /// Rounded up to the millisecond.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let has_commands = self.shared.has_commands.load(Ordering::SeqCst);
        if has_commands || self.io.has_work() || self.engine.has_work() {
            return Some(Duration::ZERO);
        }
        let end = self.shutdown_deadline();
        let due = [self.engine.next_deadline(), self.io.next_deadline(), end];
        let due = due.into_iter().flatten().min()?;
        let now = self.shared.clock.now().mono_ms;
        Some(Duration::from_millis(due.saturating_sub(now)))
    }

    /// Does what other threads, and signals, ask for.
    fn obey(&mut self, now: Now, has_signals: bool) {
        for command in self.shared.take_commands() {
            match command {
                Command::Answer(ticket, outcome) => self.engine.handle_answer(ticket, outcome, now),
                Command::Signal(value) => self.engine.handle_signal(value, now),
                Command::Shutdown(grace) => self.begin_shutdown(grace, now),
            }
        }
        #[cfg(feature = "cli")]
        if has_signals {
            self.obey_signals(now);
        }
        #[cfg(not(feature = "cli"))]
        let _ = has_signals;
        self.advance_shutdown(now);
    }
}

impl Drop for Server {
    /// Every WebSocket that the application was told of by `open` ends with `closed`.
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.engine.handle_end(self.shared.clock.now());
    }
}

/// Watch it for input; sleep at most [`Server::next_timeout`]; then [`Server::turn`] with zero.
///
/// There is no `AsFd`: mio's `Poll` lends its descriptor only as a number, and this crate has no
/// unsafe code to turn that into a borrow.
impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.io.poll.as_raw_fd()
    }
}

/// A server on its own thread. Dropping it shuts the server down and waits for the thread.
#[derive(Debug)]
pub struct Running {
    hub: Hub,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// A handle for other threads.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Waits until the server has ended by itself.
    ///
    /// # Errors
    /// What ended it, if it was not a shutdown.
    pub fn join(mut self) -> io::Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the server's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // It may have ended already; then there is nothing to say to it. Twice: without the delay.
            let _ = self.hub.shutdown(DROP_GRACE);
            let _ = self.hub.shutdown(DROP_GRACE);
            let _ = self.wait();
        }
    }
}

fn check_latest(config: &Config) -> io::Result<()> {
    let Some(bad) = config.latest.iter().find(|pattern| !is_pattern(pattern)) else {
        return Ok(());
    };
    let message = format!("{bad:?} matches no channel: write a name, * for any characters");
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(format!("no randomness: {error}")))
}

//! A server: the engine with sockets, a clock, randomness and threads. The only floor that does I/O.

mod board;
mod data;
mod explained;
mod hub;
mod limits;
mod listen;
mod loops;
mod mail;
mod shutdown;
#[cfg(feature = "cli")]
mod signals;
#[cfg_attr(loom, path = "sleep_model.rs")]
mod sleep;
mod socket;
mod subscription;
mod turn;
mod unix;

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::board::Board;
pub use self::board::ServerStats;
use self::data::Data;
use self::hub::{Clock, HubLimits, Shared};
pub use self::hub::{Hub, HubError, PublishError, PublishReason};
use self::listen::Listener;
pub use self::listen::{Inherited, LocalAddr};
use self::loops::{Ends, Handing, Loop, Others};
use self::mail::{Command, Mailbox, Order};
use self::shutdown::Shutdown;
use self::sleep::{JoinHandle, Poll};
pub use self::subscription::{SubscribeError, Subscription};
use self::turn::{Io, listener_token};
use crate::config::{Config, LOOPS_MAX};
use crate::cursor::Epoch;
use crate::engine::{App, Common, Engine, Policy};
pub use crate::hub::Published;
use crate::hub::{Bell, History, is_pattern};
use crate::sync::AtomicBool;
use crate::time::Now;

const PANICKED: &str = "a callback of the application panicked";
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
    /// The loop that is turned here.
    main: Loop,
    others: Others,
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
        f.debug_struct("Server").field("engine", &self.main.engine).finish_non_exhaustive()
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
        Server::with(self, Vec::new(), Vec::new())
    }

    /// Binds a server with an application, which also decides about public addresses.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); `InvalidInput` also with several
    /// [loops](Self#structfield.loops), each of which needs an application of its own:
    /// [`bind_apps`](Self::bind_apps).
    pub fn bind_app(self, app: impl App + 'static) -> io::Result<Server> {
        self.bind_with(Vec::new(), Some(Box::new(app)))
    }

    /// Binds a server with an application for each loop: `make` is called here with the number of each,
    /// from 0, and what it makes is called on the thread of that loop. What applications share is theirs
    /// to share, an [`Arc`] in each.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_apps<A: App + 'static>(self, make: impl FnMut(usize) -> A) -> io::Result<Server> {
        self.bind_apps_with(Vec::new(), make)
    }

    /// Binds a server that takes over listeners, besides those of [`listen`](Self#structfield.listen),
    /// if any; with an application, or without. Files of unix sockets that it took over stay. Once it
    /// drains it accepts nobody on these listeners: who comes waits for whoever takes them next.
    ///
    /// # Errors
    /// As [`bind_app`](Self::bind_app).
    pub fn bind_with(
        self,
        inherited: Vec<Inherited>,
        app: Option<Box<dyn App>>,
    ) -> io::Result<Server> {
        if app.is_some() && self.loops > 1 {
            let message = "one application cannot serve several loops: \
                           bind_apps makes one for each, or leave loops at 1";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        Server::with(self, app.into_iter().collect(), inherited)
    }

    /// Binds a server as [`bind_with`](Self::bind_with) does, with an application for each loop.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_apps_with<A: App + 'static>(
        self,
        inherited: Vec<Inherited>,
        mut make: impl FnMut(usize) -> A,
    ) -> io::Result<Server> {
        check_loops(&self)?;
        let loops = self.loops.max(1) as usize;
        let apps = (0..loops).map(|number| Box::new(make(number)) as Box<dyn App>).collect();
        Server::with(self, apps, inherited)
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

    /// With an application for each loop, or none.
    fn with(
        mut config: Config,
        apps: Vec<Box<dyn App>>,
        inherited: Vec<Inherited>,
    ) -> io::Result<Self> {
        check(&config)?;
        config.loops = config.loops.max(1);
        if config.memory_bytes == 0 {
            config.memory_bytes = limits::default_memory();
        }
        if config.connections_max == 0 {
            let connections = limits::default_connections(config.memory_bytes, config.loops);
            config.connections_max = u32::try_from(connections).unwrap_or(u32::MAX);
        }
        let data = config.data.as_deref().map(Data::open).transpose()?;
        let listeners = listen::bind_all(&config, !apps.is_empty(), inherited)?;
        let clock = Clock::start();
        let now = clock.now();
        let epoch = Epoch::from_random(random()?);
        let kept = data.as_ref().map(|data| data.read(&config, now)).transpose()?.flatten();
        let history = Arc::new(kept.unwrap_or_else(|| History::new(&config, epoch, now)));
        let config = Arc::new(config);
        let loops = config.loops as usize;
        let common = Common::new(Arc::clone(&config), Arc::clone(&history), loops);
        let polls = (0..loops).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            boxes: mailboxes(&polls, &history)?,
            history,
            clock,
            ends: Ends::new(),
            is_closed: AtomicBool::new(false),
            seats: Arc::default(),
            board: Board::new(common.totals()),
            limits: HubLimits::from(&*config),
        });
        let (main, others) = build(&common, polls, listeners, apps, &shared, now)?;
        // Nothing can fail any more, and nothing has been published yet.
        data.as_ref().map_or(Ok(()), Data::forget)?;
        shared.boxes.iter().for_each(|one| one.bell.doze());
        Ok(Self {
            main,
            others,
            shared,
            shutdown: None,
            drain_delay: config.drain_delay,
            #[cfg(feature = "cli")]
            drain: config.drain,
            data,
            #[cfg(feature = "cli")]
            signals: None,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<LocalAddr> {
        self.main.io.listeners.iter().map(Listener::local_addr).collect()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn hub(&self) -> Hub {
        Hub { shared: Arc::clone(&self.shared) }
    }

    /// The engine of the loop that is turned here, to look at.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.main.engine
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
        let thread = sleep::thread(0).spawn(move || {
            sleep::serve(self.hub().number());
            self.run()
        })?;
        Ok(Running { hub, thread: Some(thread) })
    }

    /// One pass: waits at most `timeout` (`None`: until something happens), takes in what came, does
    /// what is due, and writes what is owed. The first begins the threads of the other
    /// [loops](Config#structfield.loops), if there are any.
    ///
    /// It cannot be called again from within: an application has no way to reach the server that calls
    /// it.
    ///
    /// ```compile_fail
    /// use std::{cell::RefCell, rc::Rc};
    /// use holdline::{App, Server};
    ///
    /// struct Turns(Rc<RefCell<Server>>);
    /// impl App for Turns {} // not `Send`
    /// ```
    ///
    /// # Errors
    /// If the system refuses to wait for events or gives no thread, or a callback of the application
    /// panicked on any loop, or what is kept at the end cannot be written
    /// ([`Config::data`](Config#structfield.data)). The server should be dropped then.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turned> {
        self.others.start()?;
        let wait = match (timeout, self.next_timeout()) {
            (Some(asked), Some(due)) => Some(asked.min(due)),
            (asked, due) => asked.or(due),
        };
        let (now, has_signals) = self.main.wait(wait)?;
        self.obey(now, has_signals);
        self.main.turn(now);
        if self.main.engine.has_failed() {
            return Err(panicked());
        }
        if let Some(error) = self.others.error(&self.shared) {
            return Err(error);
        }
        if !self.has_ended(now) {
            return Ok(Turned::Running);
        }
        self.keep(now)?;
        Ok(Turned::Ended)
    }

    /// The last publication has been; what is kept goes where it is to be kept.
    fn keep(&mut self, now: Now) -> io::Result<()> {
        self.others.join();
        self.shared.close();
        self.shared.history.close();
        self.main.engine.end_listens(now);
        if self.main.engine.has_failed() {
            return Err(panicked());
        }
        self.data.take().map_or(Ok(()), |data| data.write(&self.shared.history, now))
    }

    /// How long the next turn may wait: zero while anything is unfinished, `None` if nothing is due.
    /// Rounded up to the millisecond.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.main.next_timeout(self.shutdown_deadline())
    }

    /// Does what other threads, and signals, ask for.
    fn obey(&mut self, now: Now, has_signals: bool) {
        for command in self.main.mailbox().take().commands {
            if let Some(Command::Shutdown(grace)) = self.main.obey(command, now) {
                self.begin_shutdown(grace, now);
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

/// Ends what is left of it at once, and waits for the threads of its other loops.
impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.others.order(Order::Stop, &self.shared);
        self.others.join();
        self.shared.close();
    }
}

/// Watch it for input; sleep at most [`Server::next_timeout`]; then [`Server::turn`] with zero.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.main.io.poll.registry().as_fd()
    }
}

/// As [`AsFd`], for loops that want a number. It is the server's until that is dropped.
impl AsRawFd for Server {
    fn as_raw_fd(&self) -> RawFd {
        self.main.io.poll.as_raw_fd()
    }
}

/// A server on its own thread. Dropping it shuts the server down and waits for the thread: without
/// [`drain_delay`](Config#structfield.drain_delay), and a second at most for clients that do not answer.
/// On a thread of the server itself, such as in a callback, nobody waits.
#[must_use = "the server ends when it is dropped"]
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
    /// What ended it, if it was not a shutdown; at once on a thread of the server itself.
    pub fn join(mut self) -> io::Result<()> {
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        if sleep::serves(self.hub.number()) {
            return Err(io::Error::other(
                "a thread of the server cannot wait for the server's end",
            ));
        }
        match thread.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the server's thread panicked")),
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

/// Builds the loops: the first, which has the listeners, and the others.
fn build(
    common: &Common,
    polls: Vec<Poll>,
    mut listeners: Vec<Listener>,
    apps: Vec<Box<dyn App>>,
    shared: &Arc<Shared>,
    now: Now,
) -> io::Result<(Loop, Others)> {
    let listening: Vec<_> = listeners.iter().map(Listener::listening).collect();
    for (number, listener) in listeners.iter_mut().enumerate() {
        listener.register(polls[0].registry(), listener_token(number))?;
    }
    let mut apps = apps.into_iter();
    let mut loops = Vec::with_capacity(polls.len());
    for (poll, number) in polls.into_iter().zip(0..) {
        let policy = Policy::new(common.config(), &listening);
        let io = Io::new(poll, std::mem::take(&mut listeners), common.config());
        let mut engine = Engine::with(common, policy, number, random()?, now);
        if let Some(app) = apps.next() {
            engine.set_app(app);
        }
        loops.push(Loop::new(engine, io, Arc::clone(shared)));
    }
    let others = loops.split_off(1);
    let mut main = loops.pop().expect("there is a first loop");
    if !others.is_empty() {
        main.io.handing = Some(Handing::new(Arc::clone(shared)));
    }
    Ok((main, Others::new(others)))
}

/// What other threads reach the loop of each poll by.
fn mailboxes(polls: &[Poll], history: &History) -> io::Result<Box<[Mailbox]>> {
    let made = polls.iter().enumerate().map(|(number, poll)| {
        let waker = sleep::waker(poll)?;
        let bell = Arc::new(Bell::new(move || {
            // A wake that fails finds the loop at its next deadline.
            let _ = waker.wake();
        }));
        history.add_loop(number, Arc::clone(&bell));
        Ok(Mailbox::new(bell))
    });
    made.collect()
}

fn panicked() -> io::Error {
    io::Error::other(PANICKED)
}

fn check(config: &Config) -> io::Result<()> {
    check_loops(config)?;
    check_latest(config)?;
    Policy::check(config).map_err(|mistake| io::Error::new(ErrorKind::InvalidInput, mistake))
}

fn check_loops(config: &Config) -> io::Result<()> {
    if config.loops <= LOOPS_MAX {
        return Ok(());
    }
    let message = format!("{} loops are too many: at most {LOOPS_MAX}", config.loops);
    Err(io::Error::new(ErrorKind::InvalidInput, message))
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

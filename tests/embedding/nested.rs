//! Work left over is never forgotten: a host that calls `turn` only when the descriptor is readable or
//! `next_timeout` says so, with budgets so small that every turn is cut short. Outside it watches
//! level-triggered (`poll(2)`) or edge-triggered (`epoll` with `EPOLLET`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdline::server::LocalAddr;
use holdline::{Config, Server, Turned};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long all clients of a test may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the host watches the server's descriptor.
enum Outside {
    Level,
    #[cfg(target_os = "linux")]
    Edge(std::os::fd::OwnedFd),
}

impl Outside {
    fn all() -> Vec<Self> {
        vec![
            Self::Level,
            #[cfg(target_os = "linux")]
            Self::edge(),
        ]
    }

    #[cfg(target_os = "linux")]
    fn edge() -> Self {
        use rustix::event::epoll::{CreateFlags, create};
        Self::Edge(create(CreateFlags::CLOEXEC).expect("an epoll"))
    }

    /// Begins to watch.
    fn add(&self, server: &Server) {
        match self {
            Self::Level => {}
            #[cfg(target_os = "linux")]
            Self::Edge(epoll) => {
                use rustix::event::epoll::{EventData, EventFlags, add};
                let flags = EventFlags::IN | EventFlags::ET;
                add(epoll, server, EventData::new_u64(0), flags).expect("added");
            }
        }
    }

    /// Sleeps; whether the descriptor has become readable.
    fn wait(&self, server: &Server, timeout: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
        match self {
            Self::Level => {
                let mut watched = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)];
                poll(&mut watched, Some(&timeout)).expect("polls") > 0
            }
            #[cfg(target_os = "linux")]
            Self::Edge(epoll) => {
                let mut events = [std::mem::MaybeUninit::uninit(); 4];
                let (events, _) =
                    rustix::event::epoll::wait(epoll, &mut events, Some(&timeout)).expect("waits");
                !events.is_empty()
            }
        }
    }
}

/// A program with a loop of its own.
struct Host {
    server: Server,
    outside: Outside,
    turns: usize,
}

impl Host {
    fn new(config: Config, outside: Outside) -> Self {
        let server = config.listen("127.0.0.1:0").open().bind().expect("binds");
        outside.add(&server);
        Self { server, outside, turns: 0 }
    }

    fn address(&self) -> SocketAddr {
        match self.server.local_addrs().first() {
            Some(LocalAddr::Tcp(address)) => *address,
            other => panic!("no TCP address: {other:?}"),
        }
    }

    /// One pass of the host's loop. It turns the server for no other reason than the two it may.
    fn step(&mut self, most: Duration) {
        let timeout = self.server.next_timeout().map_or(most, |its| its.min(most));
        let is_readable = self.outside.wait(&self.server, timeout);
        if is_readable || self.server.next_timeout() == Some(Duration::ZERO) {
            self.turns += 1;
            let turned = self.server.turn(Some(Duration::ZERO)).expect("turns");
            assert_eq!(turned, Turned::Running);
        }
    }

    /// Runs `client` so many times, each on a thread of its own, while the host loops.
    fn serve(&mut self, clients: usize, client: impl Fn(SocketAddr) + Send + Sync + 'static) {
        let (client, at) = (Arc::new(client), self.address());
        let done = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                let (client, done) = (Arc::clone(&client), Arc::clone(&done));
                std::thread::spawn(move || {
                    client(at);
                    done.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        while threads.iter().any(|thread| !thread.is_finished()) {
            let served = done.load(Ordering::SeqCst);
            assert!(Instant::now() < deadline, "stalled: {served} of {clients} are served");
            self.step(Duration::from_millis(20));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("a client that was served"));
    }

    /// Lets what is under way come to its end, then counts the turns of a while without anything.
    fn turns_while_idle(&mut self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut quiet = 0;
        while quiet < 20 {
            assert!(Instant::now() < deadline, "it never comes to rest");
            let before = self.turns;
            self.step(Duration::from_millis(10));
            quiet = if self.turns == before { quiet + 1 } else { 0 };
        }
        let before = self.turns;
        for _ in 0..30 {
            self.step(Duration::from_millis(10));
        }
        self.turns - before
    }
}

/// Every budget as small as it goes: hardly anything is done in the turn in which it came.
fn tiny() -> Config {
    Config {
        events_per_turn: 2,
        accepts_per_turn: 1,
        receive_buffer: 512,
        read_bytes_per_turn: 512,
        reply_bytes_per_turn: 256,
        writes_per_turn: 1,
        write_bytes_per_turn: 1_024,
        timers_per_turn: 1,
        arena_bytes: 1_024,
        ..Config::default()
    }
}

fn connect(at: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(at).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    BufReader::new(stream)
}

fn send(wire: &mut BufReader<TcpStream>, bytes: impl AsRef<[u8]>) {
    wire.get_mut().write_all(bytes.as_ref()).expect("sent");
}

/// Reads lines until one begins with `prefix`; the rest of it.
fn until(wire: &mut BufReader<TcpStream>, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(wire.read_line(&mut line).expect("a line"), 0, "ended before {prefix:?}");
        if let Some(rest) = line.strip_prefix(prefix) {
            return rest.trim_end().to_owned();
        }
    }
}

fn listen(wire: &mut BufReader<TcpStream>, since: &str) {
    let request = format!(
        "GET /channels/a?since={since} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    );
    send(wire, request);
}

#[test]
fn many_connections_that_ask_at_once_are_all_answered() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        host.serve(60, |at| {
            let mut wire = connect(at);
            // As many requests in one write as take several reads.
            send(&mut wire, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(40));
            for _ in 0..40 {
                assert_eq!(until(&mut wire, "HTTP/1.1 "), "200 OK");
                let length = until(&mut wire, "Content-Length: ").parse().expect("a number");
                until(&mut wire, "\r\n");
                std::io::copy(&mut wire.by_ref().take(length), &mut std::io::sink())
                    .expect("a body");
            }
        });
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn connections_that_are_not_accepted_yet_leave_no_time_to_sleep() {
    for outside in Outside::all() {
        let mut host = Host::new(Config { events_per_turn: 64, ..tiny() }, outside);
        // All of them before the first turn, and none says anything: the listener is reported once.
        let _waiting: Vec<_> = (0..5).map(|_| connect(host.address())).collect();
        assert!(host.outside.wait(&host.server, PATIENCE), "they are reported");
        for accepted in 1..=5 {
            host.server.turn(Some(Duration::ZERO)).expect("turns");
            assert_eq!(host.server.engine().len(), accepted);
            assert_eq!(host.server.next_timeout(), Some(Duration::ZERO));
        }
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn bodies_that_take_many_reads_are_read_to_their_end() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        host.serve(10, |at| {
            let mut wire = connect(at);
            let body = "x".repeat(60_000);
            let request = format!(
                "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            send(&mut wire, request);
            let status = until(&mut wire, "HTTP/1.1 ");
            assert!(status.starts_with("201 ") || status.starts_with("202 "), "{status}");
        });
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn a_large_history_is_replayed_to_everyone() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        let hub = host.server.hub();
        for n in 0..500 {
            hub.publish("a", format!("{n} {}", "x".repeat(1_000))).expect("published");
        }
        host.serve(8, |at| {
            let mut wire = connect(at);
            listen(&mut wire, "earliest");
            for n in 0..500 {
                let data = until(&mut wire, "data: ");
                assert!(data.starts_with(&format!("{n} ")), "expected {n}, came {data:.20}");
            }
        });
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn a_reader_that_pauses_gets_the_rest_when_it_goes_on() {
    for outside in Outside::all() {
        let mut host = Host::new(Config { history_bytes: 8 << 20, ..tiny() }, outside);
        let hub = host.server.hub();
        for n in 0..200 {
            hub.publish("a", format!("{n} {}", "x".repeat(20_000))).expect("published");
        }
        // Many times what the kernel's buffers take: it is blocked until the socket is writable again.
        host.serve(2, |at| {
            let mut wire = connect(at);
            listen(&mut wire, "earliest");
            assert!(until(&mut wire, "data: ").starts_with("0 "));
            std::thread::sleep(Duration::from_millis(200));
            for n in 1..200 {
                assert!(until(&mut wire, "data: ").starts_with(&format!("{n} ")));
            }
        });
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn what_other_threads_publish_reaches_listeners_and_wakes_the_host() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        let hub = host.server.hub();
        let listening = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&listening);
        let publisher = std::thread::spawn(move || {
            while listening.load(Ordering::SeqCst) < 20 {
                std::thread::yield_now();
            }
            for n in 0..300 {
                hub.publish("a", n.to_string()).expect("published");
            }
        });
        host.serve(20, move |at| {
            let mut wire = connect(at);
            listen(&mut wire, "latest");
            until(&mut wire, "retry: ");
            heard.fetch_add(1, Ordering::SeqCst);
            for n in 0..300 {
                assert_eq!(until(&mut wire, "data: "), n.to_string());
            }
        });
        publisher.join().expect("no panic");
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn a_poll_that_is_held_is_answered_by_the_next_timeout_alone() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        host.serve(5, |at| {
            let mut wire = connect(at);
            let request =
                "GET /poll?channel=a&since=latest&wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let began = Instant::now();
            send(&mut wire, request);
            assert_eq!(until(&mut wire, "HTTP/1.1 "), "200 OK");
            assert!(began.elapsed() > Duration::from_millis(500), "it was held");
        });
    }
}

#[test]
fn listeners_that_stay_cost_no_turn_while_nothing_happens() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        let stay = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = Arc::clone(&stay);
        host.serve(30, move |at| {
            let mut wire = connect(at);
            listen(&mut wire, "latest");
            until(&mut wire, "retry: ");
            kept.lock().expect("no panic").push(wire);
        });
        assert_eq!(host.turns_while_idle(), 0);
        // And they are served when something does.
        host.server.hub().publish("a", "at last").expect("published");
        let streams = std::mem::take(&mut *stay.lock().expect("no panic"));
        let streams = std::sync::Mutex::new(streams);
        host.serve(30, move |_| {
            let stream = streams.lock().expect("no panic").pop();
            assert_eq!(until(&mut stream.expect("one each"), "data: "), "at last");
        });
    }
}

#[test]
fn a_host_that_publishes_on_its_own_thread_need_not_be_woken() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        let hub = host.server.hub();
        // Nobody listens: nothing is due for it, or else it is due at once.
        for n in 0..100 {
            hub.publish("a", n.to_string()).expect("published");
            host.step(Duration::ZERO);
        }
        assert_eq!(host.turns_while_idle(), 0);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_is_noticed() {
    for outside in Outside::all() {
        let mut host = Host::new(tiny(), outside);
        host.serve(30, |at| {
            let mut wire = connect(at);
            listen(&mut wire, "latest");
            let mut some = [0; 10];
            wire.read_exact(&mut some).expect("the beginning of an answer");
        });
        let deadline = Instant::now() + PATIENCE;
        while !host.server.engine().is_empty() {
            assert!(Instant::now() < deadline, "connections that are gone are kept");
            host.step(Duration::from_millis(20));
        }
        assert_eq!(host.turns_while_idle(), 0);
    }
}

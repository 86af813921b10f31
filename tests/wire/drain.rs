//! The binary's end over real sockets: who is told when, and what a service manager sees of it.

use crate::clients::ws::Ws;
use crate::clients::{Http, PATIENCE, Sse, get, publish, wait_subscribers};
use crate::clock::Lateness;
use crate::support::{Running, exit_code, terminate};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn wait_unready(server: &Running) {
    let deadline = Instant::now() + PATIENCE;
    while get(server, "/ready").status != 503 {
        assert!(Instant::now() < deadline, "expected /ready to say 503");
    }
}

/// A path of its own for each test, short enough for a socket.
fn socket_path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("holdline-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Waits for its farewell, which must be the right one; when it came.
type Farewell = Box<dyn FnOnce() -> Instant + Send>;

/// One of each kind; seven in all, of which six listen.
fn one_of_each(server: &Running) -> Vec<Farewell> {
    let mut all: Vec<Farewell> = Vec::new();
    let mut json = Ws::open(server, "/ws?channel=a");
    json.until("live");
    all.push(Box::new(move || {
        assert!(json.op("bye")["retry_ms"].is_u64());
        let came = Instant::now();
        assert_eq!(json.closed().0, 1012);
        came
    }));
    let mut raw = Ws::open(server, "/channels/a");
    all.push(Box::new(move || {
        assert_eq!(raw.closed().0, 1012);
        Instant::now()
    }));
    for target in ["/events?channel=a", "/channels/a"] {
        let mut stream = Sse::open(server, target, &[]);
        stream.block().expect("the first block");
        all.push(Box::new(move || {
            assert!(stream.block().expect("a farewell").retry.is_some());
            let came = Instant::now();
            while stream.block().is_some() {}
            assert!(stream.orderly, "it is not cut");
            came
        }));
    }
    for target in ["/poll?channel=a&since=latest&wait=55", "/channels/a?wait=55"] {
        let mut poll = Http::open(server);
        poll.ask("GET", target, &[], b"");
        all.push(Box::new(move || {
            let answer = poll.answer("GET");
            assert!(answer.closes() && matches!(answer.status, 200 | 204), "came {answer:?}");
            Instant::now()
        }));
    }
    let mut idle = Http::open(server);
    idle.call("GET", "/health", &[], b"").expect(200);
    all.push(Box::new(move || {
        assert!(idle.wire.rest().is_empty());
        Instant::now()
    }));
    all
}

#[test]
fn sigterm_says_farewell_to_sixty_clients_one_by_one() {
    let mut server = Running::start(&["--drain", "4s"]);
    let clients: Vec<_> = (0..9).flat_map(|_| one_of_each(&server)).collect();
    wait_subscribers(&server, "a", 54);
    let threads: Vec<_> = clients.into_iter().map(std::thread::spawn).collect();
    let (lateness, began) = (Lateness::watch(), Instant::now());
    terminate(server.pid());
    let told: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().expect("the right farewell").duration_since(began))
        .collect();
    assert_eq!(exit_code(server.child(), PATIENCE), 0);
    let (took, most) = (began.elapsed(), lateness.allow(Duration::from_secs(8)));
    assert!(took < most, "it ends when everyone has gone, not after {took:?}");
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_ne!(told, sorted, "not in the order in which they came");
    // 3.2 s for 63: were they told at once, a quarter of them would not be apart.
    let middle = sorted[47] - sorted[15] + 2 * lateness.worst();
    assert!(middle > Duration::from_millis(500), "half of them within {middle:?}: {sorted:?}");
}

#[test]
fn in_the_delay_only_ready_says_so_and_a_second_signal_ends_it() {
    let mut server = Running::start(&["--drain", "60s", "--drain-delay", "60s"]);
    let mut stream = Sse::open(&server, "/events?channel=a", &[]);
    stream.block().expect("the first block");
    terminate(server.pid());
    wait_unready(&server);
    // Old and new ones are served as ever.
    publish(&server, "a", "still here");
    assert_eq!(stream.message()["text"], "still here");
    let mut late = Ws::open(&server, "/ws?channel=a");
    late.until("live");
    let mut kept = Http::open(&server);
    assert!(!kept.call("POST", "/channels/a", &[], b"x").closes());
    terminate(server.pid());
    assert_eq!(stream.message()["text"], "x");
    assert!(stream.block().expect("a farewell").retry.is_some());
    late.op("message");
    late.op("bye");
    assert_eq!(exit_code(server.child(), PATIENCE), 0);
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = Running::start(&["--drain", "10m"]);
    let mut streams: Vec<_> = (0..200).map(|_| Sse::open(&server, "/channels/a", &[])).collect();
    terminate(server.pid());
    wait_unready(&server);
    let began = Instant::now();
    terminate(server.pid());
    assert_eq!(exit_code(server.child(), PATIENCE), 0);
    assert!(began.elapsed() < Duration::from_secs(15), "two hundred would take twenty seconds");
    for stream in &mut streams {
        assert!(std::iter::from_fn(|| stream.block()).all(|block| block.data.is_none()));
        assert!(stream.orderly, "told, not cut");
    }
}

#[test]
fn what_is_left_after_the_grace_is_cut() {
    let mut server = Running::start(&["--drain", "1s"]);
    // It has begun to send something, and does not go on.
    let mut half = server.connect();
    half.write_all(
        b"POST /channels/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
    )
    .expect("sent");
    get(&server, "/health");
    let (lateness, began) = (Lateness::watch(), Instant::now());
    terminate(server.pid());
    // Its body would be given up after five seconds.
    let most = lateness.allow(Duration::from_secs(4));
    assert_eq!(exit_code(server.child(), PATIENCE), 0);
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
}

/// The binary as a service manager starts it.
struct Service {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Service {
    /// With a socket as the first descriptor behind the usual three.
    fn start(socket: impl Into<OwnedFd>, args: &[&str]) -> Self {
        let script = r#"LISTEN_PID=$$ exec "$0" "$@" 3<&0 </dev/null"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_holdline"), "--log-level", "error"]);
        command.env("LISTEN_FDS", "1").stdin(Stdio::from(socket.into()));
        Self::spawn(command.args(args))
    }

    fn spawn(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn err(&mut self) -> String {
        let mut text = String::new();
        let mut err = self.child.stderr.take().expect("stderr is piped");
        err.read_to_string(&mut text).expect("what it says");
        text
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes on one connection after the other.
struct Caller {
    is_over: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Caller {
    fn start(at: SocketAddr) -> Self {
        let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, counted) = (Arc::clone(&is_over), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let mut stream = TcpStream::connect(at).expect("nobody is refused");
                stream.set_read_timeout(Some(PATIENCE * 2)).expect("a timeout");
                let request = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\n\
                               Connection: close\r\nContent-Length: 1\r\n\r\nx";
                stream.write_all(request.as_bytes()).expect("it is taken");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 20"), "came {answer:?}");
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { is_over, count, thread }
    }

    /// Until it has been answered some more times.
    #[track_caller]
    fn wait(&self, more: usize) {
        let (start, deadline) = (self.count.load(Ordering::SeqCst), Instant::now() + PATIENCE);
        while self.count.load(Ordering::SeqCst) < start + more {
            assert!(Instant::now() < deadline, "the caller is not answered");
            assert!(!self.thread.is_finished(), "the caller has given up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("every call was answered");
    }
}

#[test]
fn over_inherited_sockets_a_restart_refuses_nobody() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("its address");
    let clone = || socket.try_clone().expect("a descriptor");
    let mut service = Service::start(clone(), &["--drain", "5s"]);
    assert_eq!(service.line(), format!("listening on http://{at}"));
    let callers: Vec<_> = (0..3).map(|_| Caller::start(at)).collect();
    for _ in 0..3 {
        callers.iter().for_each(|caller| caller.wait(20));
        // Somebody listens, so that the end takes its time.
        let mut stream = TcpStream::connect(at).expect("connects");
        let request = "GET /channels/a HTTP/1.1\r\nHost: localhost\r\n\
                       Accept: text/event-stream\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        terminate(service.child.id());
        assert_eq!(exit_code(&mut service.child, PATIENCE), 0);
        service = Service::start(clone(), &["--drain", "5s"]);
        service.line();
    }
    callers.iter().for_each(|caller| caller.wait(20));
    callers.into_iter().for_each(Caller::end);
}

#[test]
fn an_inherited_unix_socket_keeps_its_file_and_addresses_are_added() {
    let path = socket_path("inherited");
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut service = Service::start(socket, &["--listen", "127.0.0.1:0"]);
    assert_eq!(service.line(), format!("listening on unix:{}", path.display()));
    assert!(service.line().starts_with("listening on http://127.0.0.1:"));
    terminate(service.child.id());
    assert_eq!(exit_code(&mut service.child, PATIENCE), 0);
    assert!(path.exists(), "it belongs to who made it");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn inherited_sockets_are_held_to_the_same_rules() {
    let public = TcpListener::bind("0.0.0.0:0").expect("a port");
    let mut service = Service::start(public.try_clone().expect("a descriptor"), &[]);
    assert_eq!(exit_code(&mut service.child, PATIENCE), 2);
    assert!(service.err().contains("--open"));
    let mut service = Service::start(public, &["--open"]);
    assert!(service.line().starts_with("listening on http://0.0.0.0:"));
    // What does not listen is a mistake, be it a socket.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("its address")).expect("connects");
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    for socket in [OwnedFd::from(stream), OwnedFd::from(datagrams)] {
        let mut service = Service::start(socket, &[]);
        assert_eq!(exit_code(&mut service.child, PATIENCE), 2);
        assert!(service.err().contains("socket"), "it says which");
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("its address");
    let script = r#"LISTEN_PID=1 exec "$0" "$@" 3<&0 </dev/null"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_holdline"), "--listen", "127.0.0.1:0"]);
    command.env("LISTEN_FDS", "1").stdin(Stdio::from(OwnedFd::from(socket)));
    let mut service = Service::spawn(&mut command);
    assert_ne!(service.line(), format!("listening on http://{at}"));
    for bad in ["-1", "x", "2000000000"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
        let mut service = Service::spawn(command.env("LISTEN_FDS", bad));
        assert_eq!(exit_code(&mut service.child, PATIENCE), 2, "LISTEN_FDS={bad}");
    }
}

/// What a service is told to tell, and hears.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Self {
        let path = socket_path(name);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, path }
    }

    fn start(&self, variables: &[(&str, &str)]) -> Service {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
        command.args(["--listen", "127.0.0.1:0", "--drain-delay", "60s"]);
        command.env("NOTIFY_SOCKET", &self.path).envs(variables.iter().copied());
        Service::spawn(&mut command)
    }

    #[track_caller]
    fn hear(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn the_service_manager_is_told_ready_alive_and_stopping() {
    let manager = Manager::new("notify");
    let began = Instant::now();
    let mut service = manager.start(&[("WATCHDOG_USEC", "200000")]);
    let ready = manager.hear();
    assert!(ready.starts_with("READY=1\nSTATUS="), "came {ready:?}");
    assert!(ready.contains(service.line().strip_prefix("listening on ").expect("an address")));
    (0..4).for_each(|_| assert_eq!(manager.hear(), "WATCHDOG=1"));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400), "every 100 ms, not four in {took:?}");
    terminate(service.child.id());
    let mut said = manager.hear();
    while said == "WATCHDOG=1" {
        said = manager.hear();
    }
    assert!(said.starts_with("STOPPING=1"), "came {said:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "before the delay is over");
    assert_eq!(manager.hear(), "WATCHDOG=1", "also while it stops");
    terminate(service.child.id());
    assert_eq!(exit_code(&mut service.child, PATIENCE), 0);
}

#[test]
fn without_a_watchdog_of_its_own_a_service_says_nothing_in_between() {
    let manager = Manager::new("quiet");
    for variables in [&[][..], &[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")]] {
        let mut service = manager.start(variables);
        assert!(manager.hear().starts_with("READY=1"));
        manager.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        assert!(manager.socket.recv(&mut [0; 512]).is_err(), "nobody waits for it");
        manager.socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        terminate(service.child.id());
        assert!(manager.hear().starts_with("STOPPING=1"));
        terminate(service.child.id());
        assert_eq!(exit_code(&mut service.child, PATIENCE), 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_notify_socket_may_be_a_name_without_a_file() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("holdline-{}-notify", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdline"));
    command.args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", format!("@{name}"));
    let _service = Service::spawn(&mut command);
    let mut buffer = [0; 512];
    let length = manager.recv(&mut buffer).expect("a datagram");
    assert!(buffer[..length].starts_with(b"READY=1"));
}

//! The process: where it listens, what it refuses to do, and how it ends.

use crate::clients::ws::{CLOSE, HANDSHAKE, Ws};
use crate::clients::{
    Answer, Headers, Http, PATIENCE, Sse, Wire, call, get, lossy, publish, request,
    wait_subscribers,
};
use crate::support::{Running, exit_code, terminate};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The binary with these arguments only, killed when dropped.
struct Binary {
    child: Child,
    /// What it prints, line by line.
    lines: Receiver<String>,
}

impl Binary {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdline"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|l| sender.send(l))
        });
        Self { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line on stdout")
    }

    /// Waits for the end: exit code, stdout, stderr.
    #[track_caller]
    fn end(mut self) -> (i32, String, String) {
        let code = exit_code(&mut self.child, PATIENCE);
        let out: Vec<String> = self.lines.iter().collect();
        let mut err = Vec::new();
        let _ = self.child.stderr.take().expect("stderr is piped").read_to_end(&mut err);
        (code, out.join("\n"), lossy(&err))
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A short drain where the binary knows one, and how long to wait for its end.
fn drain() -> (&'static [&'static str], Duration) {
    let help = Binary::start(&["--help"]).end().1;
    if help.contains("--drain ") || help.contains("--drain=") {
        (&["--drain", "2s"], PATIENCE)
    } else {
        (&[], PATIENCE)
    }
}

/// One request that a server which is going away may leave without an answer.
fn attempt(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: Headers<'_>,
) -> Option<(Answer, Wire)> {
    let mut wire = Wire::new(TcpStream::connect(addr).ok()?);
    wire.send(&request(addr, method, target, headers, b""));
    Some((Answer::read(&mut wire, method)?, wire))
}

fn ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn a_public_address_is_refused_unless_open() {
    let all = ["0.0.0.0:0", ":0", "[::]:0"];
    for listen in &all[..if ipv6() { 3 } else { 2 }] {
        let (code, out, err) = Binary::start(&["--listen", listen]).end();
        assert_eq!(code, 2, "for --listen {listen}, came {out:?} {err:?}");
        assert!(err.contains("--open"), "it names --open, came {err:?}");
        assert!(!out.contains("listening on"), "came {out:?}");
    }
    let open = Binary::start(&["--listen", "0.0.0.0:0", "--open"]);
    let line = open.line();
    let port = line.strip_prefix("listening on http://0.0.0.0:").and_then(|p| p.parse().ok());
    let port: u16 = port.unwrap_or_else(|| panic!("expected an address, came {line:?}"));
    let (answer, _) = attempt(([127, 0, 0, 1], port).into(), "GET", "/health", &[]).expect("one");
    answer.expect(200);
}

#[test]
fn exit_codes_tell_usage_from_a_taken_port() {
    let bad: [&[&str]; 7] = [
        &["--frobnicate"],
        &["--listen"],
        &["--listen", "nonsense"],
        &["--history", "x"],
        &["--latest", ""],
        &["--latest", "sensors/*"],
        &["--latest", "good.*,_bad"],
    ];
    for args in bad {
        let (code, out, err) = Binary::start(args).end();
        assert_eq!((code, err.is_empty()), (2, false), "for {args:?}, came {out:?} {err:?}");
    }
    let (code, help, _) = Binary::start(&["--help"]).end();
    assert!(code == 0 && help.contains("--listen"), "came {code} {help:?}");
    let (code, version, _) = Binary::start(&["--version"]).end();
    assert!(code == 0 && version.contains(env!("CARGO_PKG_VERSION")), "came {version:?}");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (code, out, err) = Binary::start(&["--listen", &address]).end();
    assert_eq!(code, 1, "a taken port, came {out:?} {err:?}");
    assert!(err.contains("--listen"), "it names the other way, came {err:?}");
}

#[test]
fn on_channels_named_by_latest_only_the_newest_of_a_name_is_kept() {
    let server = Running::start(&["--latest", "sensors.*,*.state", "--latest", "exact"]);
    let rows = [("sensors.a.b", 2), ("door.state", 2), ("exact", 2), ("exactly", 4), ("other", 4)];
    for (channel, kept) in rows {
        let target = format!("/channels/{channel}");
        for target in [&target, &format!("{target}?event=x"), &target, &format!("{target}?event=x")]
        {
            call(&server, "POST", target, &[], b"1").expect(202);
        }
        let info = get(&server, &target).json();
        assert_eq!(info["messages"], kept, "came {info}");
    }
    assert_eq!(get(&server, "/stats").json()["conflated"], 6);
}

#[test]
fn a_port_alone_is_both_loopback_addresses() {
    let binary = Binary::start(&["--listen", "0"]);
    for prefix in &["127.0.0.1", "[::1]"][..if ipv6() { 2 } else { 1 }] {
        let line = binary.line();
        let address = line.strip_prefix("listening on http://").unwrap_or_default();
        assert!(address.starts_with(prefix), "expected {prefix}, came {line:?}");
        let address = address.parse().expect("an address");
        attempt(address, "GET", "/health", &[]).expect("an answer").0.expect(200);
    }
}

/// A path of its own for each test, short enough for a socket.
fn socket_path(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("holdline-{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[track_caller]
fn ask_unix(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.write_all(request.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer and the end");
    answer
}

#[test]
fn a_unix_socket_replaces_a_stale_file_and_is_removed_at_exit() {
    let path = socket_path("stale");
    drop(UnixListener::bind(&path).expect("a socket file that nobody answers on"));
    let listen = format!("unix:{}", path.display());
    let (args, patience) = drain();
    let mut binary = Binary::start(&[&["--listen", &listen], args].concat());
    assert_eq!(binary.line(), format!("listening on {listen}"));
    let head = "Host: any.example\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    let posted = ask_unix(&path, &format!("POST /channels/a HTTP/1.1\r\n{head}"));
    assert!(posted.starts_with("HTTP/1.1 202"), "unix peers pass, came {posted:?}");
    let stats = "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let stats = ask_unix(&path, stats);
    assert!(stats.starts_with("HTTP/1.1 200"), "came {stats:?}");
    terminate(binary.child.id());
    assert_eq!(exit_code(&mut binary.child, patience), 0);
    assert!(!path.exists(), "{} is removed at exit", path.display());
}

#[test]
fn a_unix_socket_leaves_other_files_and_living_sockets_alone() {
    let path = socket_path("file");
    std::fs::write(&path, "precious").expect("a file");
    let listen = format!("unix:{}", path.display());
    let (code, out, err) = Binary::start(&["--listen", &listen]).end();
    assert!(matches!(code, 1 | 2) && !err.is_empty(), "came {code} {out:?} {err:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
    std::fs::remove_file(&path).expect("removed");
    let living = UnixListener::bind(&path).expect("a socket");
    let (code, out, err) = Binary::start(&["--listen", &listen]).end();
    assert!(matches!(code, 1 | 2) && !err.is_empty(), "came {code} {out:?} {err:?}");
    UnixStream::connect(&path).expect("the living socket is still there");
    drop(living);
    let _ = std::fs::remove_file(&path);
}

#[test]
fn a_unix_socket_lets_in_whom_it_is_told_to() {
    let path = socket_path("mode");
    let listen = format!("unix:{}", path.display());
    let group = std::fs::metadata(std::env::current_exe().expect("this")).expect("a file").gid();
    let group = group.to_string();
    for mode in ["600", "0666"] {
        let args = ["--listen", &listen, "--unix-mode", mode, "--unix-group", &group];
        let binary = Binary::start(&args);
        assert_eq!(binary.line(), format!("listening on {listen}"));
        let file = std::fs::symlink_metadata(&path).expect("its file");
        assert_eq!(format!("{:o}", file.mode() & 0o777), mode.trim_start_matches('0'));
        assert_eq!(file.gid().to_string(), group);
        let health =
            ask_unix(&path, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(health.starts_with("HTTP/1.1 200"), "came {health:?}");
    }
    let _ = std::fs::remove_file(&path);
    let mistakes: [(&[&str], &str); 3] = [
        (&["--unix-group", "no such group"], "number"),
        (&["--unix-mode", "rw-rw----"], "octal"),
        (&["--unix-mode", "660", "--listen", "127.0.0.1:0"], "unix:PATH"),
    ];
    for (args, hint) in mistakes {
        let is_elsewhere = args.contains(&"--listen");
        let listen: &[&str] = if is_elsewhere { &[] } else { &["--listen", &listen] };
        let (code, out, err) = Binary::start(&[listen, args].concat()).end();
        assert!(code == 2 && err.contains(hint), "for {args:?}, came {code} {out:?} {err:?}");
        assert!(!path.exists(), "nothing is left behind");
    }
}

#[test]
fn sigterm_tells_every_client_and_the_process_exits_0() {
    let (args, patience) = drain();
    let mut server = Running::start(args);
    let mut json = Ws::open(&server, "/ws?channel=a");
    json.until("live");
    let mut raw = [Ws::open(&server, "/channels/a"), Ws::meta(&server, "/channels/a")];
    let mut streams = ["/channels/a", "/events?channel=a"].map(|t| Sse::open(&server, t, &[]));
    let mut polls = ["/poll?channel=a&since=latest&wait=55", "/channels/a?wait=55"].map(|target| {
        let mut http = Http::open(&server);
        http.ask("GET", target, &[], b"");
        http
    });
    wait_subscribers(&server, "a", 7);
    terminate(server.pid());
    for wire in [&json.wire, &raw[0].wire, &raw[1].wire, &polls[0].wire, &polls[1].wire] {
        wire.patience(patience);
    }
    streams.iter().for_each(|stream| stream.wire.patience(patience));
    let bye = json.op("bye");
    assert!(bye["code"] == 1012 && bye["retry_ms"].is_u64(), "came {bye}");
    for ws in std::iter::once(&mut json).chain(&mut raw) {
        assert_eq!(ws.closed().0, 1012);
        ws.send(CLOSE, &1012_u16.to_be_bytes());
    }
    for (stream, byes) in streams.iter_mut().zip([0, 1]) {
        let blocks: Vec<_> = std::iter::from_fn(|| stream.block()).skip(1).collect();
        assert!(stream.orderly, "an orderly end after {blocks:?}");
        let events: Vec<_> = blocks.iter().filter(|block| block.data.is_some()).collect();
        assert_eq!(events.len(), byes, "came {blocks:?}");
        let bye = events.iter().all(|b| b.event == "bye" && b.json()["retry_ms"].is_u64());
        assert!(bye, "retry_ms in a bye, came {blocks:?}");
        assert!(byes == 1 || blocks.iter().any(|b| b.retry.is_some()), "came {blocks:?}");
    }
    let answer = polls[0].answer("GET").expect(200);
    let body = answer.json();
    assert!(body["retry_ms"].is_u64() && body["messages"] == json!([]), "came {answer:?}");
    assert!(answer.closes(), "came {answer:?}");
    assert!(polls[1].answer("GET").expect(204).closes());
    drop((json, raw, streams, polls));
    assert_eq!(exit_code(server.child(), patience), 0);
}

#[test]
fn several_loops_are_one_server_to_everybody() {
    let mut server = Running::start(&["--loops", "3", "--drain", "5s"]);
    let mut streams: Vec<Sse> =
        (0..9).map(|_| Sse::open(&server, "/events?channel=a", &[])).collect();
    wait_subscribers(&server, "a", 9);
    #[cfg(target_os = "linux")]
    {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
        assert_eq!(tasks.count(), 3);
    }
    // Each of these comes over a connection of its own, so to any loop.
    let ids: Vec<String> = (0..9).map(|n| publish(&server, "a", n.to_string())).collect();
    for stream in &mut streams {
        let heard: Vec<_> = (0..9).map(|_| stream.message()["id"].clone()).collect();
        assert_eq!(json!(heard), json!(ids));
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = get(&server, "/stats").json();
        assert_eq!(stats["loops"], 3);
        if stats["connections"]["sse"] == 9 && stats["delivered"] == 81 {
            break;
        }
        assert!(Instant::now() < deadline, "came {stats}");
    }
    terminate(server.pid());
    for stream in &mut streams {
        while stream.block().is_some() {}
        assert!(stream.orderly, "an orderly end");
    }
    drop(streams);
    assert_eq!(exit_code(server.child(), PATIENCE), 0);
}

#[test]
fn while_draining_publishers_are_served_and_new_readers_are_told_later() {
    let (args, patience) = drain();
    let mut server = Running::start(args);
    let (addr, target) = (server.addr, "/events?channel=a");
    // Many streams, so that their ends spread and the drain takes its time.
    let streams: Vec<Sse> = (0..40).map(|_| Sse::open(&server, target, &[])).collect();
    terminate(server.pid());
    let deadline = Instant::now() + PATIENCE;
    while let Some((ready, _)) = attempt(addr, "GET", "/ready", &[]) {
        if ready.status == 503 {
            ready.expect_error(503, "draining");
            break;
        }
        assert!(Instant::now() < deadline, "expected /ready 503 after SIGTERM, came {ready:?}");
    }
    // Whoever comes too late finds nobody: then there is nothing to judge.
    if let Some((answer, _)) = attempt(addr, "POST", "/channels/a", &[]) {
        assert!(matches!(answer.status, 201 | 202) && answer.closes(), "came {answer:?}");
    }
    let accept = ("Accept", "text/event-stream");
    if let Some((answer, _)) = attempt(addr, "GET", target, &[accept]) {
        let text = answer.text();
        assert!(answer.status == 200 && text.contains("retry:"), "came {answer:?}");
        assert!(!text.contains("event: message"), "retry, then the end, came {text:?}");
    }
    for target in ["/events?channel=a&v=1", "/channels/a?v=1"] {
        if let Some((answer, _)) = attempt(addr, "GET", target, &[accept]) {
            answer.expect_error(503, "draining");
            assert!(answer.header("retry-after").is_some(), "came {answer:?}");
        }
    }
    let offer = [&HANDSHAKE[..], &[("Sec-WebSocket-Protocol", "holdline.v1.json")]].concat();
    if let Some((head, wire)) = attempt(addr, "GET", "/ws", &offer) {
        assert_eq!(head.status, 101, "came {head:?}");
        let mut ws = Ws { wire, head };
        ws.op("hello");
        assert_eq!(ws.op("bye")["code"], 1012);
        assert_eq!(ws.closed().0, 1012);
    }
    for target in ["/ws", "/channels/a"] {
        if let Some((answer, _)) = attempt(addr, "GET", target, &HANDSHAKE) {
            answer.expect_error(503, "draining");
        }
    }
    drop(streams);
    assert_eq!(exit_code(server.child(), patience), 0);
}

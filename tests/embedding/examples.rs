//! Each example that nests a server, driven by clients over loopback.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::clients::ws::{CLOSE, TEXT, Ws, close_code};
use crate::clients::{Sse, get, poll, texts, wait_subscribers};
use crate::support::Running;

/// Starts an example on a free port; its standard input stays open.
fn start(name: &str) -> (Running, ChildStdin) {
    let mut child = spawn(name);
    let input = child.stdin.take().expect("a pipe");
    (Running::over(child), input)
}

fn spawn(name: &str) -> Child {
    let test = std::env::current_exe().expect("this program");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps");
    let example = folder.join("examples").join(name);
    assert!(example.exists(), "no {}: cargo build --examples", example.display());
    let mut command = Command::new(example);
    command.arg("127.0.0.1:0").stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("the example starts")
}

/// A clock ticks for a listener of each transport, and on the second: its own timer and the server's
/// descriptor both wake it.
fn ticks(name: &str) {
    let (server, _input) = start(name);
    let mut stream = Sse::open(&server, "/channels/clock", &[]);
    let mut socket = Ws::open(&server, "/channels/clock");
    let first = stream.event();
    assert_eq!(first.event, "tick");
    let first = first.json()["t"].as_u64().expect("a number");
    assert_eq!(stream.event().json()["t"], first + 1, "no tick is lost");
    while socket.json()["t"] != first + 1 {}
    // What comes next, or one later where this process was held up for a second.
    let body = poll(&server, "channel=clock&since=latest");
    let next = body["messages"][0]["data"]["t"].as_u64();
    assert!(next.is_some_and(|next| next >= first + 2), "came {body}");
    get(&server, "/health").expect(200);
}

#[test]
fn a_mio_loop_ticks_and_serves() {
    ticks("nested");
}

#[test]
fn a_calloop_loop_ticks_and_serves() {
    ticks("calloop");
}

#[test]
fn a_poll_loop_publishes_what_its_other_descriptor_says() {
    let (server, mut input) = start("poll");
    let mut stream = Sse::open(&server, "/channels/lines", &[]);
    input.write_all(b"one\ntw").expect("written");
    assert_eq!(stream.event().data.as_deref(), Some("one"));
    input.write_all(b"o\n").expect("written");
    assert_eq!(stream.event().data.as_deref(), Some("two"));
    drop(input);
    // It goes on without an input, and remembers.
    let body = poll(&server, "channel=lines&since=earliest&wait=0");
    assert_eq!(texts(&body), ["one", "two"]);
    assert_eq!(cpu_ticks_while_idle(&server), 0, "an input that has ended is not spun over");
}

/// What the process takes of the processor in half a second in which nothing happens, in hundredths.
#[cfg(target_os = "linux")]
fn cpu_ticks_while_idle(server: &Running) -> u64 {
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("stat");
        let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split(' ').collect();
        let number = |at: usize| fields[at].parse::<u64>().expect("a number");
        number(12) + number(13) // utime, stime
    };
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(500));
    // One is what it may have spent on what came before.
    (used() - before).saturating_sub(1)
}

#[cfg(not(target_os = "linux"))]
fn cpu_ticks_while_idle(_: &Running) -> u64 {
    0
}

#[test]
fn a_game_takes_input_and_shows_its_world() {
    let (server, _input) = start("game");
    let page = get(&server, "/").expect(200);
    assert!(page.text().contains("/play"), "its own page");
    let mut player = Ws::open(&server, "/play");
    player.send(TEXT, b"right");
    player.send(TEXT, b"down");
    player.send(TEXT, b"down");
    let mut world = Sse::open(&server, "/channels/world", &[]);
    let moved = until(&mut world, |state| state["players"][0]["y"] == 22);
    let expected = serde_json::json!([{ "number": 1, "x": 21, "y": 22 }]);
    assert_eq!(moved["players"], expected);

    player.send(TEXT, b"dance");
    let (code, reason) = close_code(&player.message());
    assert_eq!((code, reason.as_str()), (1008, "send left, right, up or down"));
    player.send(CLOSE, &1008_u16.to_be_bytes());
    until(&mut world, |state| state["players"] == serde_json::json!([]));
}

#[test]
fn a_game_ticks_thirty_times_a_second_whoever_looks() {
    // From before its start: whoever is held up in between only sees a tick later.
    let began = std::time::Instant::now();
    let (server, _input) = start("game");
    let mut world = Sse::open(&server, "/channels/world", &[]);
    wait_subscribers(&server, "world", 1);
    let seen = tick(&until(&mut world, |state| tick(state) >= 30));
    let (took, least) = (began.elapsed().as_secs_f64(), (seen - 1) as f64 / 30.0);
    // Never quicker; how much slower is the machine's affair.
    assert!(took > 0.9 * least, "{seen} ticks in {took} s");
}

fn tick(state: &Value) -> u64 {
    state["tick"].as_u64().expect("a number")
}

fn until(world: &mut Sse, is_it: impl Fn(&Value) -> bool) -> Value {
    loop {
        let state = world.event().json();
        if is_it(&state) {
            return state;
        }
    }
}

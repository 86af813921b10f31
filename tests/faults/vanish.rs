//! Clients that vanish: from every state and in every way, over real sockets. What is left of them
//! is no connection, no subscription and no descriptor. `tests/flows/cleanup.rs` looks at the same
//! more closely, where time is virtual.

use std::net::SocketAddr;
use std::time::Duration;

use holdline::engine::{Action, Answer, Request, Route, Verdict};
use holdline::server::LocalAddr;
use holdline::{App, Config, ConnId, Ctx, Message};

use crate::fleet::process::descriptors;
use crate::fleet::states::{At, Leave};
use crate::fleet::{Connected, connect, eventually, request};
use crate::support::Running;
use std::io::Write;

/// Every interval so short that a test can wait for it.
fn hasty() -> Config {
    let ms = Duration::from_millis;
    Config {
        open: true,
        write_stall: ms(600),
        answer_deadline: ms(600),
        head_timeout: ms(600),
        body_timeout: ms(600),
        body_grace: ms(300),
        keep_alive: ms(600),
        linger_idle: ms(300),
        linger: ms(600),
        heartbeat: ms(600),
        sse_heartbeat: ms(600),
        pong_timeout: ms(600),
        close_timeout: ms(600),
        poll_wait: ms(600),
        poll_wait_max: ms(600),
        ..Config::default()
    }
}

/// Answers what is asked about `waits` never, and everything else at once.
struct Never;

impl App for Never {
    fn authorize(&mut self, cx: &mut Ctx<'_>, id: ConnId, action: Action<'_>) -> Answer<Verdict> {
        match action {
            Action::Subscribe { channel: "waits", .. }
            | Action::Publish { channel: "waits", .. } => Answer::Later(cx.ticket(id)),
            _ => Answer::Done(Verdict::Default),
        }
    }

    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        match request.path() {
            "/waits" => Answer::Later(cx.ticket(id)),
            _ => Answer::Done(Route::Pass),
        }
    }
}

fn start() -> (SocketAddr, holdline::server::Running) {
    let server = hasty().listen("127.0.0.1:0").bind_app(Never).expect("binds");
    let Some(LocalAddr::Tcp(addr)) = server.local_addrs().first().cloned() else {
        panic!("no address")
    };
    (addr, server.spawn().expect("a thread"))
}

/// Less than is kept, so that readers are owed all of it.
fn fill(running: &holdline::server::Running, channel: &str) {
    for _ in 0..10 {
        running.hub().publish(channel, Message::bytes(vec![0; 60_000])).expect("room");
    }
}

/// All at once, so that the time that some need passes for all.
#[test]
fn whoever_vanishes_from_any_state_in_any_way_leaves_no_connection() {
    let (addr, running) = start();
    for how in Leave::ALL {
        let streams = At::ALL.map(|at| at.enter(connect(addr)));
        let kept = streams.map(|stream| how.leave(stream));
        Connected::default().wait_while(addr, || {
            // What the kernel takes for the silent ones has an end: then they are known to be
            // stuck.
            if how == Leave::Silent {
                fill(&running, "abandoned");
            }
        });
        println!("{how:?}: nobody is left of {}", kept.len());
    }
}

#[test]
fn whoever_vanishes_while_an_answer_is_owed_leaves_no_connection() {
    let (addr, _running) = start();
    let accept = "Accept: text/event-stream\r\n";
    let scripts = [
        request("GET", "/waits", "", b""),
        request("GET", "/events?channel=waits", accept, b""),
        request("GET", "/poll?channel=waits&since=latest", "", b""),
        request("GET", "/channels/waits?wait=25", "", b""),
        request("POST", "/channels/waits", "", b"something"),
        crate::fleet::ws::upgrade("/ws?channel=waits", None),
        crate::fleet::ws::upgrade("/channels/waits", None),
    ];
    for how in Leave::ALL {
        let streams = scripts.each_ref().map(|bytes| {
            let mut stream = connect(addr);
            stream.write_all(bytes).expect("sent");
            stream
        });
        eventually("all of them to be there", || match Connected::ask(addr).http {
            7 => Ok(()),
            n => Err(format!("{n} wait")),
        });
        let kept = streams.map(|stream| how.leave(stream));
        Connected::wait_for_nobody(addr);
        println!("{how:?}: nobody is left of {}", kept.len());
    }
}

/// The binary, with its own intervals: those who say that they go are gone without any of them.
#[test]
fn whoever_says_that_it_goes_gives_its_descriptor_back() {
    let server = Running::start(&[]);
    Connected::wait_for_nobody(server.addr);
    let before = descriptors(server.pid());
    for how in [Leave::Close, Leave::Half, Leave::Reset] {
        let kept: Vec<_> = At::ALL
            .iter()
            .flat_map(|at| (0..5).map(|_| how.leave(at.enter(connect(server.addr)))))
            .collect();
        Connected::wait_for_nobody(server.addr);
        eventually("the descriptors of before", || match descriptors(server.pid()) {
            now if now <= before => Ok(()),
            now => Err(format!("{how:?}: {now:?}, not {before:?}")),
        });
        drop(kept);
    }
}

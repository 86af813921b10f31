//! A directory for history, as programs that embed a server see it.
#![cfg(feature = "server")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use holdline::server::{HubError, LocalAddr, PublishReason};
use holdline::{Config, Cursor, Hub, Server, Turned};

/// A path of its own for each test; what is there is removed at both ends.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdline-lib-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn bind(&self) -> Server {
        let config =
            Config { data: Some(self.0.clone()), ..Config::default().listen("127.0.0.1:0") };
        config.bind().expect("binds")
    }

    fn has_history(&self) -> bool {
        self.0.join("history").exists()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn publish(hub: &Hub, text: &str) -> Cursor {
    hub.publish("a", text).expect("published").id
}

/// Turns a server that nobody is connected to until it has ended.
fn end(server: &mut Server) {
    server.shutdown(Duration::from_secs(5));
    while server.turn(None).expect("a turn") == Turned::Running {}
}

/// Connects and does nothing.
fn connect(server: &Server) -> TcpStream {
    match server.local_addrs().first() {
        Some(LocalAddr::Tcp(address)) => TcpStream::connect(address).expect("connects"),
        other => panic!("no TCP address: {other:?}"),
    }
}

#[test]
fn who_turns_a_server_keeps_its_history_by_a_shutdown() {
    let dir = Dir::new("turn");
    let mut server = dir.bind();
    let first = publish(&server.hub(), "before any turn");
    end(&mut server);
    assert!(dir.has_history());
    drop(server);
    let server = dir.bind();
    assert!(!dir.has_history());
    let next = publish(&server.hub(), "after");
    assert_eq!((next.epoch, next.seq), (first.epoch, first.seq + 1));
}

#[test]
fn what_ended_takes_nothing_more_though_it_is_still_there() {
    let dir = Dir::new("ended");
    let mut server = dir.bind();
    let hub = server.hub();
    publish(&hub, "kept");
    end(&mut server);
    let late = hub.publish("a", "late").expect_err("it has ended");
    assert_eq!(late.reason, PublishReason::Closed);
    assert_eq!(hub.shutdown(Duration::ZERO), Err(HubError::Closed));
    let written = fs::read(dir.0.join("history")).expect("it is written");
    assert_eq!(server.turn(Some(Duration::ZERO)).expect("a turn"), Turned::Ended);
    assert_eq!(fs::read(dir.0.join("history")).expect("it is there"), written, "once");
}

#[test]
fn a_server_that_is_only_dropped_leaves_no_history() {
    let dir = Dir::new("drop");
    let server = dir.bind();
    let first = publish(&server.hub(), "lost");
    drop(server);
    assert!(!dir.has_history());
    assert_ne!(publish(&dir.bind().hub(), "after").epoch, first.epoch);
}

#[test]
fn a_thread_that_is_dropped_ends_in_order() {
    let dir = Dir::new("thread");
    let running = dir.bind().spawn().expect("a thread");
    let first = publish(running.hub(), "kept");
    drop(running);
    assert!(dir.has_history());
    assert_eq!(publish(&dir.bind().hub(), "after").epoch, first.epoch);
}

#[test]
fn connections_that_are_cut_at_the_end_do_not_keep_history_from_being_written() {
    let dir = Dir::new("cut");
    let mut server = dir.bind();
    let mut streams = [connect(&server), connect(&server)];
    for stream in &mut streams {
        let request =
            "GET /channels/a HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
    }
    let hub = server.hub();
    let first = loop {
        server.turn(Some(Duration::from_millis(10))).expect("a turn");
        let published = hub.publish("a", "kept").expect("published");
        if published.subscribers == 2 {
            break published.id;
        }
    };
    server.shutdown(Duration::ZERO);
    while server.turn(None).expect("a turn") == Turned::Running {}
    drop(server);
    let mut rest = String::new();
    let _ = streams[0].read_to_string(&mut rest);
    assert!(rest.contains("data: kept"), "came {rest:?}");
    assert_eq!(publish(&dir.bind().hub(), "after").epoch, first.epoch);
}

#[test]
fn whatever_was_accepted_from_any_thread_is_there_after_the_restart() {
    let dir = Dir::new("threads");
    let running = dir.bind().spawn().expect("a thread");
    let (sender, accepted) = mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (hub, sender) = (running.hub().clone(), sender.clone());
            std::thread::spawn(move || {
                loop {
                    match hub.publish("a", "x") {
                        Ok(published) => sender.send(published.id.seq).expect("a listener"),
                        Err(error) => return error.reason,
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let hub = running.hub().clone();
    let first = accepted.recv().expect("one was accepted");
    hub.shutdown(Duration::from_secs(5)).expect("it lives");
    running.join().expect("an orderly end");
    for thread in threads {
        assert_eq!(thread.join().expect("its end"), PublishReason::Closed);
    }
    let newest = accepted.iter().fold(first, u64::max);
    let next = publish(&dir.bind().hub(), "after");
    assert_eq!(next.seq, newest + 1, "no more and no less than what publishers were told");
}

#[test]
fn a_port_that_is_taken_costs_no_history() {
    let dir = Dir::new("port");
    let mut server = dir.bind();
    let first = publish(&server.hub(), "kept");
    end(&mut server);
    drop(server);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let config = Config { data: Some(dir.0.clone()), ..Config::default().listen(address) };
    config.bind().expect_err("the port is taken");
    assert_eq!(publish(&dir.bind().hub(), "after").epoch, first.epoch);
}

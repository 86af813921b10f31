//! Scenarios over an engine without sockets: what it does before bytes are written, and after.

use holdline::engine::ConnId;
use holdline::{Config, Rate};

use crate::support::{Driver, Transport};
use crate::{Round, frame};

const LISTENERS: usize = 1_000;
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// No limit that would be met here, and memory that does not depend on the machine's.
pub(crate) fn config() -> Config {
    Config {
        memory_bytes: 64 * 1024 * 1024,
        connections_max: 10_000,
        operations_per_connection: Rate::OFF,
        publishes_per_channel: Rate::OFF,
        keep_alive_requests: u16::MAX,
        ..Config::default()
    }
}

/// An engine whose history is as full as it gets.
fn driver() -> Driver {
    let mut driver = Driver::new(config(), 10_000);
    for _ in 0..10_000 {
        driver.publish(PAYLOAD);
    }
    driver.drain();
    driver
}

pub(crate) fn fan_out_ws() -> Round {
    fan_out(Transport::WsRaw, 1)
}

pub(crate) fn fan_out_ws_16() -> Round {
    fan_out(Transport::WsRaw, 16)
}

pub(crate) fn fan_out_sse() -> Round {
    fan_out(Transport::Sse, 1)
}

fn fan_out(transport: Transport, in_flight: usize) -> Round {
    let mut driver = driver();
    driver.listeners(transport, LISTENERS);
    Box::new(move |meter| {
        (0..in_flight).for_each(|_| driver.publish(PAYLOAD));
        let writes = driver.writes;
        meter(&mut || driver.drain());
        assert_eq!(driver.writes - writes, LISTENERS as u64, "one write for each");
        LISTENERS * in_flight
    })
}

/// An answer, and the next request.
pub(crate) fn fan_out_poll() -> Round {
    let mut driver = driver();
    let ids = driver.listeners(Transport::Poll, LISTENERS);
    Box::new(move |meter| {
        driver.publish(PAYLOAD);
        let request = Transport::Poll.request(&driver.position());
        let mut requests: Vec<_> = ids.iter().map(|id| (*id, request.clone())).collect();
        let writes = driver.writes;
        meter(&mut || {
            driver.drain();
            take(&mut driver, &mut requests);
        });
        assert_eq!(driver.writes - writes, LISTENERS as u64, "each was answered, and is held");
        LISTENERS
    })
}

/// What clients have sent, and what comes of it.
fn take(driver: &mut Driver, sent: &mut [(ConnId, Vec<u8>)]) {
    for (id, bytes) in sent {
        driver.engine.handle_bytes(*id, bytes, driver.now);
    }
    driver.drain();
}

/// Each subscribes to a channel of its own, publishes there, is told, and unsubscribes.
pub(crate) fn commands() -> Round {
    const CLIENTS: usize = 10;
    const PUBLISHES: usize = 14;
    let mut driver = driver();
    let request = Transport::WsJson.request_to("/ws");
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| (driver.connect(&request), segment(number, PUBLISHES))).collect();
    driver.drain();
    Box::new(move |meter| {
        let mut sent = clients.clone();
        let bytes = driver.bytes;
        meter(&mut || take(&mut driver, &mut sent));
        let pushed = CLIENTS * PUBLISHES * PAYLOAD.len();
        assert!(driver.bytes - bytes > pushed as u64, "all of them came back");
        assert!(driver.closed.is_empty());
        CLIENTS * (PUBLISHES + 2)
    })
}

fn segment(number: usize, publishes: usize) -> Vec<u8> {
    let text = str::from_utf8(&PAYLOAD).expect("ASCII");
    let mut segment = Vec::new();
    let mut add = |command: String| segment.extend(frame(1, command.as_bytes()));
    add(format!(r#"{{"op":"subscribe","ref":1,"channel":"own-{number}"}}"#));
    for at in 0..publishes {
        add(format!(
            r#"{{"op":"publish","ref":{},"channel":"own-{number}","text":"{text}"}}"#,
            2 + at
        ));
    }
    add(format!(r#"{{"op":"unsubscribe","ref":{},"channel":"own-{number}"}}"#, 2 + publishes));
    segment
}

/// Some of each transport come back, each from another position, so that nobody's bytes are another's.
pub(crate) fn resume() -> Round {
    const CLIENTS: usize = 20;
    const MISSED: usize = 100;
    let mut driver = driver();
    let mut requests = Vec::new();
    for _ in 0..CLIENTS {
        driver.publish(PAYLOAD);
        for transport in [Transport::WsRaw, Transport::WsJson, Transport::Sse, Transport::Poll] {
            requests.push(transport.request(&driver.position()));
        }
    }
    // Whoever was first missed more than a poll gives at once: all of them are asked for no more.
    requests.reverse();
    (0..MISSED - CLIENTS).for_each(|_| driver.publish(PAYLOAD));
    driver.drain();
    let owed: usize = (0..CLIENTS).map(|number| 4 * (MISSED - 1 - number)).sum();
    Box::new(move |meter| {
        let mut sent = requests.clone();
        let bytes = driver.bytes;
        let mut ids = Vec::with_capacity(sent.len());
        meter(&mut || {
            for request in &mut sent {
                let id = driver.engine.handle_accept(holdline::engine::Peer::Unix, driver.now);
                driver.engine.handle_bytes(id, request, driver.now);
                ids.push(id);
            }
            driver.drain();
        });
        assert!(driver.bytes - bytes > (owed * PAYLOAD.len()) as u64, "all of it");
        ids.iter().for_each(|id| driver.engine.handle_lost(*id, driver.now));
        driver.drain();
        owed
    })
}

/// Half a minute of silence, in steps of 100 ms; half of them are WebSockets whose clients are not silent.
pub(crate) fn heartbeats() -> Round {
    const CLIENTS: usize = 5_000;
    const STEP_MS: u64 = 100;
    let mut driver = driver();
    driver.listeners(Transport::Sse, CLIENTS);
    let sockets = driver.listeners(Transport::WsJson, CLIENTS);
    let pong = frame(10, b"");
    Box::new(move |meter| {
        let writes = driver.writes;
        for step in 0..300 {
            driver.now.mono_ms += STEP_MS;
            driver.now.unix_ms += STEP_MS;
            if step % 100 == 0 {
                sockets.iter().for_each(|id| driver.send(*id, &pong));
                driver.drain();
            }
            meter(&mut || due(&mut driver));
        }
        assert!(driver.closed.is_empty(), "nobody was too silent");
        (driver.writes - writes) as usize
    })
}

/// Everything that is due by now.
fn due(driver: &mut Driver) {
    while driver.engine.next_deadline().is_some_and(|due| due <= driver.now.mono_ms) {
        driver.engine.handle_timeout(driver.now);
        driver.drain();
    }
}

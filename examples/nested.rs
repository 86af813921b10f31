//! The library inside a loop that is not its own, on one thread: the clock of `clock.rs`.
//!
//! ```text
//! cargo run --release --example nested -- 127.0.0.1:7070
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7070/channels/clock
//! ```
//!
//! A host loop needs three things of a server: its descriptor, to watch for input; how long it may
//! sleep; and a call when either has come. The host here is a `mio::Poll`, because its `SourceFd`
//! takes a raw descriptor without unsafe code. `poll(2)`, `select(2)`, `epoll`, `kqueue`, libuv or
//! GLib do as well, level- or edge-triggered: put `server.as_raw_fd()` where they want a descriptor.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use holdline::{Message, Server, Turned};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const SERVER: Token = Token(0);

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let mut server = Server::bind(address)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;

    let hub = server.hub();
    let mut host = Poll::new()?;
    host.registry().register(&mut SourceFd(&server.as_raw_fd()), SERVER, Interest::READABLE)?;
    let mut events = Events::with_capacity(16);
    let mut next_tick = Instant::now();
    let mut t = 0;
    loop {
        // The host's own work.
        let now = Instant::now();
        if now >= next_tick {
            t += 1;
            hub.publish("clock", Message::json(format!("{{\"t\":{t}}}"))?.event("tick"))?;
            next_tick += Duration::from_secs(1);
        }
        // Sleep until the server's descriptor is readable, or the earlier of two deadlines.
        let mine = next_tick.saturating_duration_since(now);
        let timeout = server.next_timeout().map_or(mine, |its| its.min(mine));
        match host.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => other?,
        }
        // Whatever woke us: a turn that finds nothing to do is cheap.
        if server.turn(Some(Duration::ZERO))? == Turned::Ended {
            return Ok(());
        }
    }
}

//! The library inside a [calloop](https://docs.rs/calloop) event loop, as Wayland programs have one:
//! the clock of `clock.rs` from a calloop timer, on one thread.
//!
//! ```text
//! cargo run --release --example calloop -- 127.0.0.1:7070
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7070/channels/clock
//! ```

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use calloop::generic::Generic;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, Mode, PostAction};
use holdline::{Hub, Message, Server, Turned};

/// What the callbacks of the loop share.
struct Host {
    hub: Hub,
    t: u32,
}

impl Host {
    fn tick(&mut self) -> Result<(), Box<dyn Error>> {
        self.t += 1;
        let tick = Message::json(format!("{{\"t\":{}}}", self.t))?.event("tick");
        self.hub.publish("clock", tick)?;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let mut server = Server::bind(address)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;

    let mut events: EventLoop<'_, Host> = EventLoop::try_new()?;
    // A duplicate, so that the source owns a descriptor and the server stays ours to turn.
    let fd = server.as_fd().try_clone_to_owned()?;
    let source = Generic::new(fd, Interest::READ, Mode::Level);
    events.handle().insert_source(source, |_, _, _| Ok(PostAction::Continue))?;
    events.handle().insert_source(Timer::immediate(), |deadline, (), host| {
        if let Err(error) = host.tick() {
            eprintln!("no tick: {error}");
        }
        TimeoutAction::ToInstant(next(deadline))
    })?;

    let mut host = Host { hub: server.hub(), t: 0 };
    loop {
        // The loop wakes for its own sources, for the server's descriptor, or when the server is due.
        events.dispatch(server.next_timeout(), &mut host)?;
        // Not in a callback of the source: work that is left shows in `next_timeout` only.
        if server.turn(Some(Duration::ZERO))? == Turned::Ended {
            return Ok(());
        }
    }
}

/// A second after the last one was due, so that it does not drift.
fn next(deadline: Instant) -> Instant {
    deadline + Duration::from_secs(1)
}

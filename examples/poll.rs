//! The library inside a plain `poll(2)` loop that watches something else as well: each line of the
//! standard input is published on the channel `lines`.
//!
//! ```text
//! cargo run --release --example poll -- 127.0.0.1:7070
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7070/channels/lines
//! ```
//!
//! One thread, no callback: the loop is the program's own, and the server one descriptor in it.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use holdline::{Hub, Server, Turned};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let mut server = Server::bind(address)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    io::stdout().flush()?;

    let hub = server.hub();
    let mut input = Some(Input::new()?);
    loop {
        // Asked right before the sleep: what is unfinished, or was published since the last turn,
        // makes it zero. Rounded up, or the last part of a millisecond would be spun through.
        let timeout = server.next_timeout().map(timespec);
        let mut watched = vec![PollFd::new(&server, PollFlags::IN)];
        watched.extend(input.as_ref().map(|input| PollFd::new(&input.file, PollFlags::IN)));
        match poll(&mut watched, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => drop(other?),
        }
        let has_input = watched.get(1).is_some_and(|input| !input.revents().is_empty());
        if let Some(lines) = input.as_mut().filter(|_| has_input) {
            // An input that has ended stays readable: it is watched no longer.
            if !lines.publish(&hub)? {
                input = None;
            }
        }
        // Whatever woke us: a turn that finds nothing to do is cheap.
        if server.turn(Some(Duration::ZERO))? == Turned::Ended {
            return Ok(());
        }
    }
}

fn timespec(timeout: Duration) -> Timespec {
    // No more than a day, which any field takes, on any machine.
    let timeout = timeout.min(Duration::from_secs(86_400));
    Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ }
}

/// The standard input, without the buffer of `std::io::Stdin`: what waits there no poll would tell.
struct Input {
    file: File,
    line: Vec<u8>,
}

impl Input {
    fn new() -> io::Result<Self> {
        Ok(Self { file: File::from(io::stdin().as_fd().try_clone_to_owned()?), line: Vec::new() })
    }

    /// Publishes the lines that one read completes; whether there may be more.
    fn publish(&mut self, hub: &Hub) -> Result<bool, Box<dyn Error>> {
        let mut bytes = [0; 4096];
        let count = self.file.read(&mut bytes)?;
        for byte in &bytes[..count] {
            if *byte == b'\n' {
                hub.publish("lines", std::mem::take(&mut self.line))?;
            } else {
                self.line.push(*byte);
            }
        }
        Ok(count > 0)
    }
}

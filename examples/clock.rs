//! The library on a thread of its own: a clock on the channel `clock`, one tick a second.
//!
//! ```text
//! cargo run --release --example clock -- 127.0.0.1:7070
//! curl -N -H 'Accept: text/event-stream' http://127.0.0.1:7070/channels/clock
//! ```
//!
//! This thread only publishes. It never waits for a reader, however slow one is.

use std::error::Error;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use holdline::{Message, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let server = Server::bind(address)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;

    let hub = server.hub();
    let _running = server.spawn()?; // dropping it would end the server
    let start = Instant::now();
    for t in 1u32.. {
        let tick = Message::json(format!("{{\"t\":{t}}}"))?.event("tick");
        hub.publish("clock", tick)?;
        // From the start, so that it does not drift.
        let next = start + Duration::from_secs(u64::from(t));
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

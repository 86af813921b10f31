//! A WebSocket echo server: what comes on any path, text or binary, goes back as it came.
//!
//! ```text
//! cargo run --release --example echo -- 127.0.0.1:7070
//! ```
//!
//! It shows an application's own WebSockets: no built-in route answers, no channel exists. Messages
//! may be up to 64 MiB long and come in any number of fragments.

use std::io::Write;

use holdline::engine::{Answer, App, ConnId, Ctx, Kind, Queued, Request, Route};
use holdline::{Config, Routes};

const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

struct Echo;

impl App for Echo {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        // What is no WebSocket is passed on, to the built-in routes: they are off, so it is 404.
        let is_websocket = request.is_websocket();
        Answer::Done(if is_websocket { Route::WebSocket { protocol: None } } else { Route::Pass })
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, kind: Kind, bytes: &[u8]) {
        // A connection is not read while an echo waits for it, so this does not come to `Full`. An
        // application that sends more than it is sent keeps what was refused until `App::writable`.
        if cx.send(id, kind, bytes) == Queued::Full {
            cx.close(id, 1013, "the echo is not being read");
        }
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let config = Config {
        routes: Routes::none(),
        ws_message_bytes_max: MESSAGE_BYTES_MAX,
        ws_frame_bytes_max: MESSAGE_BYTES_MAX,
        ws_fragments_max: 0,
        ..Config::default()
    };
    let server = config.listen(address).open().bind_app(Echo)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    server.run()
}

//! A board that everyone's pointer moves on: state, of which only the newest counts, beside events, of
//! which each counts.
//!
//! ```text
//! cargo run --release --example cursors -- 127.0.0.1:7070
//! ```
//!
//! Open <http://127.0.0.1:7070/> in two windows, and move. Where a pointer is goes to `cursors`, under
//! its owner's name as the event: there `Config::latest` keeps and owes only the newest of each, so a
//! slow reader skips what is over. A click leaves a mark: `marks` is an ordinary channel, and who was
//! cut off is given all of them.

use std::io::Write;
use std::time::Duration;

use holdline::engine::{Action, Answer, App, ConnId, Ctx, Request, Response, Route, Verdict};
use holdline::{Config, Rate};

const PAGE: &str = include_str!("cursors.html");
/// Nothing from elsewhere; and a browser that knows the second rule lets nobody turn text into HTML.
const POLICY: &str = "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'";

struct Board;

impl App for Board {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        Answer::Done(match (request.method(), request.path()) {
            ("GET" | "HEAD", "/") => Response::new(200, "text/html; charset=utf-8", PAGE)
                .header("Content-Security-Policy", POLICY)
                .into(),
            _ => Route::Pass,
        })
    }

    /// Everyone may move and mark. `DELETE` would be asked like publishing, and nobody may wipe the board.
    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, action: Action<'_>) -> Answer<Verdict> {
        Answer::Done(match action {
            Action::Publish { channel: "cursors" | "marks", request }
                if request.is_none_or(|request| request.method() != "DELETE") =>
            {
                Verdict::Allow
            }
            _ => Verdict::Default,
        })
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let config = Config {
        latest: vec!["cursors".to_owned()],
        // Marks fade from the board after this time.
        history_age: Duration::from_secs(600),
        history_messages: 300,
        // Fifteen places a second of each pointer, and a few pointers behind one address.
        publishes_per_address: Rate::per_second(100, 200),
        ..Config::default()
    };
    let server = config.listen(address).bind_app(Board)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    server.run()
}

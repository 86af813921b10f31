//! A chat in the browser, over a WebSocket. The page is all there is to write: the server keeps what
//! was said, puts it into one order, and gives whoever was cut off what they missed.
//!
//! ```text
//! cargo run --release --example chat -- 127.0.0.1:7070
//! ```
//!
//! Open <http://127.0.0.1:7070/> in two windows. A chat whose server has a protocol and a state of
//! its own is `rooms.rs`.

use std::io::Write;
use std::time::Duration;

use holdline::engine::{Action, Answer, App, ConnId, Ctx, Request, Response, Route, Verdict};
use holdline::{Config, Message};

const PAGE: &str = include_str!("chat.html");
/// Nothing from elsewhere; and a browser that knows the second rule lets nobody turn text into HTML.
const POLICY: &str = "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'";

struct Chat;

impl App for Chat {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        Answer::Done(match (request.method(), request.path()) {
            ("GET" | "HEAD", "/") => Response::new(200, "text/html; charset=utf-8", PAGE)
                .header("Content-Security-Policy", POLICY)
                .into(),
            // `/ws`, and `/client.js` that the page imports, are built in.
            _ => Route::Pass,
        })
    }

    /// Anyone may listen; to speak, in this one room, too. To drop what was said is asked as publishing
    /// is, by a request: it stays forbidden.
    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, action: Action<'_>) -> Answer<Verdict> {
        Answer::Done(match action {
            Action::Publish { channel: "chat", request }
                if request.is_none_or(|request| request.method() != "DELETE") =>
            {
                Verdict::Allow
            }
            _ => Verdict::Default,
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    // The last hundred things said, for a day.
    let config = Config {
        history_messages: 100,
        history_age: Duration::from_secs(24 * 3600),
        ..Config::default()
    };
    let server = config.listen(address).bind_app(Chat)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    let welcome =
        r#"{"name":"server","text":"Say something. Open a second window to hear it there."}"#;
    server.hub().publish("chat", Message::json(welcome)?)?;
    Ok(server.run()?)
}

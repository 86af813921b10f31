//! The library inside a game loop with fixed ticks: 30 a second, and what is left of each frame is
//! the server's.
//!
//! ```text
//! cargo run --release --example game -- 127.0.0.1:7070
//! ```
//!
//! Players open a WebSocket at `/play` and send `up`, `down`, `left` or `right`. Everyone may watch
//! the world on the channel `world`, over any transport: with `Config::latest` whoever is slow gets
//! the newest state and not a queue of old ones. A page at `/` does both.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use holdline::engine::{Answer, CloseReason, Kind, Request, Response, Route};
use holdline::{App, Config, ConnId, Ctx, Message, Server, Turned};

const TICK: Duration = Duration::from_nanos(1_000_000_000 / 30);
const SIZE: i32 = 40;

/// What players do, in order.
enum Input {
    Joins(ConnId),
    Moves(ConnId, i32, i32),
    Leaves(ConnId),
}

/// The server's side: hands what players do to the game, which looks at it once a tick.
struct Players {
    inputs: Sender<Input>,
}

impl Players {
    fn tell(&self, input: Input) {
        // Without a game there is nobody to tell.
        let _ = self.inputs.send(input);
    }
}

impl App for Players {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        Answer::Done(match request.path() {
            "/play" => Route::WebSocket { protocol: None },
            "/" => Route::Respond(Response::new(200, "text/html; charset=utf-8", PAGE)),
            _ => Route::Pass,
        })
    }

    fn open(&mut self, _: &mut Ctx<'_>, id: ConnId) {
        self.tell(Input::Joins(id));
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, _: Kind, bytes: &[u8]) {
        let (x, y) = match bytes {
            b"left" => (-1, 0),
            b"right" => (1, 0),
            b"up" => (0, -1),
            b"down" => (0, 1),
            _ => {
                cx.close(id, 1008, "send left, right, up or down");
                return;
            }
        };
        self.tell(Input::Moves(id, x, y));
    }

    fn closed(&mut self, _: &mut Ctx<'_>, id: ConnId, _: CloseReason) {
        self.tell(Input::Leaves(id));
    }
}

/// The game's side: knows no server.
struct World {
    inputs: Receiver<Input>,
    /// In order of their number, so that the same game looks the same.
    players: BTreeMap<u32, (i32, i32)>,
    /// Which number a connection plays.
    numbers: Vec<(ConnId, u32)>,
    joined: u32,
    tick: u32,
}

impl World {
    fn new(inputs: Receiver<Input>) -> Self {
        Self { inputs, players: BTreeMap::new(), numbers: Vec::new(), joined: 0, tick: 0 }
    }

    fn step(&mut self) {
        self.tick += 1;
        for input in self.inputs.try_iter() {
            match input {
                Input::Joins(id) => {
                    self.joined += 1;
                    self.numbers.push((id, self.joined));
                    self.players.insert(self.joined, (SIZE / 2, SIZE / 2));
                }
                Input::Moves(id, x, y) => {
                    let number = self.numbers.iter().find(|(its, _)| *its == id);
                    let place = number.and_then(|(_, number)| self.players.get_mut(number));
                    if let Some(place) = place {
                        let inside = |at: i32| at.clamp(0, SIZE - 1);
                        *place = (inside(place.0 + x), inside(place.1 + y));
                    }
                }
                Input::Leaves(id) => {
                    let gone = self.numbers.iter().position(|(its, _)| *its == id);
                    if let Some(gone) = gone {
                        self.players.remove(&self.numbers.swap_remove(gone).1);
                    }
                }
            }
        }
    }

    fn state(&self) -> String {
        let mut state = format!("{{\"tick\":{},\"players\":[", self.tick);
        for (at, (number, (x, y))) in self.players.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(state, "{comma}{{\"number\":{number},\"x\":{x},\"y\":{y}}}");
        }
        state + "]}"
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let (inputs, received) = channel();
    let config = Config { latest: vec!["world".to_owned()], ..Config::default() };
    let mut server = config.listen(address).bind_app(Players { inputs })?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;

    let hub = server.hub();
    let mut world = World::new(received);
    let mut next_tick = Instant::now();
    loop {
        world.step();
        hub.publish("world", Message::json(world.state())?.event("state"))?;
        next_tick += TICK;
        if !spend_frame(&mut server, next_tick)? {
            return Ok(());
        }
    }
}

/// Serves until the frame is over, then sleeps no longer; whether the server goes on. A frame that is
/// over already gets one turn all the same, which the budgets of `Config` keep short.
fn spend_frame(server: &mut Server, end: Instant) -> std::io::Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // A turn waits for sockets and does what they bring. A game that draws, and so has its own
        // way to wait for the next frame, calls `turn(Some(Duration::ZERO))` in it instead.
        if server.turn(Some(left))? == Turned::Ended {
            return Ok(false);
        }
        if left.is_zero() {
            return Ok(true);
        }
    }
}

const PAGE: &str = r#"<!doctype html><title>game</title>
<p>Arrow keys move you.</p><pre id="world"></pre>
<script>
const play = new WebSocket(`ws://${location.host}/play`);
onkeydown = (event) => event.key.startsWith("Arrow") && play.send(event.key.slice(5).toLowerCase());
new EventSource("/channels/world").addEventListener("state", (event) => {
  const rows = Array.from({ length: 40 }, () => Array(40).fill("·"));
  for (const { number, x, y } of JSON.parse(event.data).players) rows[y][x] = number % 10;
  world.textContent = rows.map((row) => row.join(" ")).join("\n");
});
</script>
"#;

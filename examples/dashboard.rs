//! A live dashboard in the browser, over an event stream: whatever is published to `sensors` is a
//! card with a curve, under the name of its event.
//!
//! ```text
//! cargo run --release --example dashboard -- 127.0.0.1:7070
//! curl -H 'Event: cellar' -d 12.5 http://127.0.0.1:7070/channels/sensors
//! ```
//!
//! Open <http://127.0.0.1:7070/>. The program itself reads a few values of its machine (on Linux), once
//! a second. History is five minutes of them: whoever comes sees the curves at once, and a curve has
//! no hole where its reader was cut off.

use std::error::Error;
use std::fs::read_to_string;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdline::engine::{Answer, App, ConnId, Ctx, Request, Response, Route};
use holdline::{Config, Message};

const PAGE: &str = include_str!("dashboard.html");
/// Nothing from elsewhere; and a browser that knows the second rule lets nobody turn text into HTML.
const POLICY: &str = "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'";
const PERIOD: Duration = Duration::from_secs(1);

struct Pages;

impl App for Pages {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, request: &Request<'_>) -> Answer<Route> {
        Answer::Done(match (request.method(), request.path()) {
            ("GET" | "HEAD", "/") => Response::new(200, "text/html; charset=utf-8", PAGE)
                .header("Content-Security-Policy", POLICY)
                .into(),
            _ => Route::Pass,
        })
    }
}

/// The number behind a word in a file of the kernel's.
fn number(file: &str, word: &str, column: usize) -> Option<f64> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(word))?;
    line.split_whitespace().nth(column)?.parse().ok()
}

/// What there is to read here: a name, a unit, a value.
fn read(start: Instant, idle: &mut f64) -> Vec<(&'static str, &'static str, f64)> {
    // One sensor is there on every machine, and makes its day's way in a minute.
    let day = start.elapsed().as_secs_f64() * std::f64::consts::TAU / 60.0;
    let mut values = vec![("greenhouse", "°C", 21.0 + 4.0 * day.sin() + 0.5 * (day * 7.0).sin())];
    if let Some(now) = number("/proc/stat", "cpu0", 4) {
        // Hundredths of a second that the first core has idled.
        let busy = 100.0 - (now - std::mem::replace(idle, now)) / PERIOD.as_secs_f64();
        values.push(("cpu0", "%", busy.clamp(0.0, 100.0)));
    }
    let memory = |word| number("/proc/meminfo", word, 1);
    if let (Some(all), Some(free)) = (memory("MemTotal:"), memory("MemAvailable:")) {
        values.push(("memory", "%", 100.0 * (1.0 - free / all)));
    }
    values
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let config = Config {
        local_publish: true,     // sensors are programs of this machine
        history_messages: 6_000, // 20 of them, once a second, for five minutes
        ..Config::default()
    };
    let server = config.listen(address).bind_app(Pages)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;

    let hub = server.hub();
    let _running = server.spawn()?; // dropping it would end the server
    let (start, mut idle) = (Instant::now(), 0.0);
    read(start, &mut idle);
    loop {
        sleep(PERIOD);
        for (name, unit, value) in read(start, &mut idle) {
            let reading = format!(r#"{{"value":{value:.1},"unit":"{unit}"}}"#);
            hub.publish("sensors", Message::json(reading)?.event(name))?;
        }
    }
}

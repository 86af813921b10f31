//! A scoreboard that works by long-polling alone: plain requests, which pass whatever lets a web page
//! pass.
//!
//! ```text
//! cargo run --release --example scoreboard -- 127.0.0.1:7070
//! ```
//!
//! Open <http://127.0.0.1:7070/> in two windows. Pages publish what happened to `goals`; the program
//! listens to that, as any client might, and alone publishes to `score`. So nobody can make up a score,
//! and `Config::latest` owes those who come only the newest of each team.

use std::error::Error;
use std::io::Write;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use holdline::engine::{Action, Answer, App, ConnId, Ctx, Push, Request, Response, Route, Verdict};
use holdline::{Config, Hub, Message};
use serde_json::{Value, json};

const PAGE: &str = include_str!("scoreboard.html");
/// Nothing from elsewhere; and a browser that knows the second rule lets nobody turn text into HTML.
const POLICY: &str = "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'";
const TEAMS: [&str; 4] = ["Red", "Blue", "Green", "Gold"];

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

    fn authorize(&mut self, _: &mut Ctx<'_>, _: ConnId, action: Action<'_>) -> Answer<Verdict> {
        Answer::Done(match action {
            Action::Publish { channel: "goals", .. } => Verdict::Allow,
            _ => Verdict::Default,
        })
    }
}

/// Counts what the pages say. Anyone may have written it, so what makes no sense is left out.
fn referee(goals: Receiver<Push>, hub: &Hub) -> Result<(), Box<dyn Error>> {
    let mut points = [0_i64; TEAMS.len()];
    for team in 0..TEAMS.len() {
        announce(hub, team, 0)?;
    }
    for push in goals {
        let Push::Message { publication, .. } = push else { continue };
        let goal: Value = serde_json::from_slice(publication.payload()).unwrap_or_default();
        let team = TEAMS.iter().position(|team| goal["team"] == **team);
        if let (Some(team), Some(by @ (-1 | 1))) = (team, goal["by"].as_i64()) {
            points[team] = (points[team] + by).clamp(0, 999);
            announce(hub, team, points[team])?;
        }
    }
    Ok(())
}

/// The team is the event's name: `latest` keeps one message of each.
fn announce(hub: &Hub, team: usize, points: i64) -> Result<(), Box<dyn Error>> {
    let score = json!({ "team": TEAMS[team], "points": points, "place": team });
    hub.publish("score", Message::json(score.to_string())?.event(TEAMS[team]))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let config = Config {
        latest: vec!["score".to_owned()],
        history_age: Duration::from_secs(7 * 24 * 3600), // a score stands until the next
        ..Config::default()
    };
    let server = config.listen(address).bind_app(Pages)?;
    let hub = server.hub();
    let (sender, goals) = sync_channel(256);
    let _goals = hub.subscribe(&["goals"], None, sender)?;
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    let _running = server.spawn()?; // dropping it would end the server
    referee(goals, &hub)
}

//! A page and its JSON API, on one port with the built-in routes.
//!
//! ```text
//! cargo run --release --example page -- 127.0.0.1:7070
//! curl -d '{"text":"milk"}' http://127.0.0.1:7070/api/notes
//! ```
//!
//! The application answers `/` and `/api/notes`, and passes everything else on: so the page listens to
//! the channel `notes` by an event stream of the server's own, and nothing had to be written for that.
//! What takes time (here: a thread that pretends to have a disk) is answered by a ticket.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use holdline::engine::{Answer, App, ConnId, Ctx, Request, Response, Route, Ticket};
use holdline::{Config, Hub, Message};
use serde_json::{Value, json};

const PAGE: &str = include_str!("page.html");
/// Requests that the worker has not come to yet; beyond that clients are told to try again.
const JOBS_MAX: usize = 64;

/// What the worker is asked, and whom it answers.
struct Job {
    ticket: Ticket,
    /// A note to add; without one, to list them.
    text: Option<String>,
}

struct Notes {
    jobs: SyncSender<Job>,
}

impl App for Notes {
    fn request(&mut self, cx: &mut Ctx<'_>, id: ConnId, request: &Request<'_>) -> Answer<Route> {
        let text = match (request.method(), request.path()) {
            ("GET" | "HEAD", "/") => {
                let page = Response::new(200, "text/html; charset=utf-8", PAGE);
                return Answer::Done(page.header("Cache-Control", "max-age=60").into());
            }
            ("GET", "/api/notes") => None,
            ("POST", "/api/notes") => match note(request.body()) {
                Some(text) => Some(text),
                None => return refuse(400, "send {\"text\":\"…\"}"),
            },
            (_, "/api/notes") => return refuse(405, "GET or POST"),
            // The built-in routes.
            _ => return Answer::Done(Route::Pass),
        };
        let ticket = cx.ticket(id);
        match self.jobs.try_send(Job { ticket, text }) {
            Ok(()) => Answer::Later(ticket),
            Err(TrySendError::Full(_)) => refuse(503, "busy: try again in a second"),
            Err(TrySendError::Disconnected(_)) => refuse(500, "nobody answers any more"),
        }
    }
}

fn note(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = value["text"].as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn refuse(status: u16, error: &str) -> Answer<Route> {
    Answer::Done(respond(status, &json!({ "error": error })).into())
}

fn respond(status: u16, body: &Value) -> Response {
    Response::new(status, "application/json", body.to_string())
}

/// Answers one after the other, on a thread of its own.
fn work(jobs: Receiver<Job>, hub: &Hub) {
    let mut notes: Vec<Value> = Vec::new();
    for Job { ticket, text } in jobs {
        let response = match text {
            Some(text) => add(&mut notes, text, hub),
            // This thread alone publishes notes: the list and the cursor belong together.
            None => {
                let cursor = hub.position().to_string();
                respond(200, &json!({ "notes": notes, "cursor": cursor }))
            }
        };
        if hub.answer(ticket, response).is_err() {
            return; // the server has ended
        }
    }
}

fn add(notes: &mut Vec<Value>, text: String, hub: &Hub) -> Response {
    let note = json!({ "text": text, "number": notes.len() + 1 });
    let message = match Message::json(note.to_string()) {
        Ok(message) => message,
        Err(refusal) => return respond(400, &json!({ "error": refusal.message })),
    };
    match hub.publish("notes", message) {
        Ok(published) => {
            notes.push(note);
            respond(201, &json!({ "id": published.id.to_string(), "number": notes.len() }))
        }
        Err(error) => respond(503, &json!({ "error": error.refusal.message })),
    }
}

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let (jobs, worker) = sync_channel(JOBS_MAX);
    let server = Config::default().listen(address).bind_app(Notes { jobs })?;
    let hub = server.hub();
    std::thread::spawn(move || work(worker, &hub));
    for address in server.local_addrs() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    server.run()
}

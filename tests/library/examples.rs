//! The examples that show an application, as their users run them. `cargo test` builds them first; for
//! this program alone: `cargo build --examples`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest;

use super::{ask, connect, get, post, until};

/// A running example; killed when dropped.
struct Example {
    child: Child,
    address: SocketAddr,
}

impl Example {
    /// Cargo builds the examples with the tests, two folders up from these.
    fn start(name: &str) -> Self {
        let program = std::env::current_exe().expect("a path");
        let folder = program.parent().and_then(|deps| deps.parent()).expect("a folder");
        let program: PathBuf = folder.join("examples").join(name);
        let mut child = Command::new(&program)
            .arg("127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a first line");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("{line:?}")) }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of an answer.
fn body(answer: &str) -> serde_json::Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn a_page_its_api_and_the_built_in_routes_share_a_port() {
    let page = Example::start("page");
    let at = page.address;
    let answer = ask(at, &get("/"));
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nCache-Control: max-age=60")
    );
    assert!(answer.contains("<h1>Notes</h1>"), "{answer}");
    assert_eq!(body(&ask(at, &get("/api/notes")))["notes"], serde_json::json!([]));
    let added = ask(at, &post("/api/notes", "{\"text\":\"milk\"}"));
    assert!(added.starts_with("HTTP/1.1 201 "), "{added}");
    let list = body(&ask(at, &get("/api/notes")));
    assert_eq!(list["notes"], serde_json::json!([{ "text": "milk", "number": 1 }]));
    assert_eq!(list["cursor"], body(&added)["id"]);
    for bad in ["", "{}", "milk", "{\"text\":\" \"}"] {
        assert!(ask(at, &post("/api/notes", bad)).starts_with("HTTP/1.1 400 "), "{bad:?}");
    }
    // The page goes on where the list ended, by a route that is built in.
    let cursor = list["cursor"].as_str().expect("a cursor").to_owned();
    ask(at, &post("/api/notes", "{\"text\":\"bread\"}"));
    let mut stream = BufReader::new(connect(at));
    let request = format!(
        "GET /channels/notes?since={cursor} HTTP/1.1\r\nHost: localhost\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    std::io::Write::write_all(stream.get_mut(), request.as_bytes()).expect("sent");
    assert_eq!(until(&mut stream, "data: "), "{\"number\":2,\"text\":\"bread\"}");
    // Publishing is the application's alone.
    assert!(ask(at, &post("/channels/notes", "x")).starts_with("HTTP/1.1 403 "));
}

struct Talker(WebSocket<std::net::TcpStream>);

impl Talker {
    fn come(at: SocketAddr) -> Self {
        let mut request = format!("ws://{at}/rooms").into_client_request().expect("a request");
        let offer = "rooms.v1".parse().expect("a value");
        request.headers_mut().insert("Sec-WebSocket-Protocol", offer);
        let (socket, response) = tungstenite::client(request, connect(at)).expect("it connects");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "rooms.v1");
        assert_eq!(response.headers()["X-Rooms"], "welcome");
        let mut talker = Self(socket);
        assert!(talker.hears().starts_with("hello guest"));
        talker
    }

    fn says(&mut self, text: &str) {
        self.0.send(text.into()).expect("sent");
    }

    fn hears(&mut self) -> String {
        self.0.read().expect("a message").to_string()
    }
}

#[test]
fn people_talk_in_rooms() {
    let rooms = Example::start("rooms");
    let [mut ann, mut bob, mut eve] = [(); 3].map(|()| Talker::come(rooms.address));
    ann.says("/name ann");
    ann.says("anybody?");
    assert_eq!(ann.hears(), "join a room first");
    ann.says("/join no room");
    assert!(ann.hears().starts_with("a channel name is "));
    ann.says("/join tea");
    assert_eq!(ann.hears(), "* ann is here");
    bob.says("/join tea");
    assert_eq!([bob.hears(), ann.hears()], ["* guest2 is here", "* guest2 is here"]);
    eve.says("/join coffee");
    assert_eq!(eve.hears(), "* guest3 is here");
    bob.says("milk?");
    assert_eq!([bob.hears(), ann.hears()], ["guest2: milk?", "guest2: milk?"]);
    eve.says("hot");
    assert_eq!(eve.hears(), "guest3: hot", "and nothing of what was said elsewhere");
    bob.says("/quit");
    assert!(matches!(bob.0.read(), Ok(tungstenite::Message::Close(Some(_)))));
    drop(bob);
    assert_eq!(ann.hears(), "* guest2 is gone");
    // Without the subprotocol nobody is let in.
    assert!(
        tungstenite::client(format!("ws://{}/rooms", rooms.address), connect(rooms.address))
            .is_err()
    );
}

/// The messages of a channel, in order.
fn kept(at: SocketAddr, channel: &str) -> Vec<serde_json::Value> {
    let answer = ask(at, &get(&format!("/poll?channel={channel}&since=earliest&wait=0")));
    body(&answer)["messages"].as_array().expect("a list").clone()
}

#[test]
fn pages_that_use_the_client_let_nobody_do_more_than_they_need() {
    let allowed = [
        ("chat", "chat", false),
        ("cursors", "marks", false),
        ("scoreboard", "goals", true),  // what has been counted may go
        ("dashboard", "sensors", true), // this machine's own programs may
    ];
    for (name, channel, may_delete) in allowed {
        let example = Example::start(name);
        let at = example.address;
        let page = ask(at, &get("/"));
        assert!(page.starts_with("HTTP/1.1 200 "), "{name}: {page}");
        assert!(page.contains("require-trusted-types-for 'script'"), "{name}: {page}");
        assert!(page.contains("import Holdline from \"./client.js\";"), "{name}: {page}");
        assert!(ask(at, &get("/client.js")).starts_with("HTTP/1.1 200 "), "{name}");
        let published = ask(at, &post(&format!("/channels/{channel}"), "17"));
        assert!(published.starts_with("HTTP/1.1 20"), "{name}: {published}");
        let elsewhere = ask(at, &post("/channels/score", "17"));
        assert_eq!(elsewhere.starts_with("HTTP/1.1 403 "), name != "dashboard", "{elsewhere}");
        let delete = format!(
            "DELETE /channels/{channel} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let status = if may_delete { "HTTP/1.1 204 " } else { "HTTP/1.1 403 " };
        let deleted = ask(at, &delete);
        assert!(deleted.starts_with(status), "{name}: {deleted}");
    }
}

#[test]
fn the_referee_counts_what_makes_sense() {
    let board = Example::start("scoreboard");
    let at = board.address;
    let bad = ["", "null", "[]", "{\"team\":\"Red\",\"by\":7}", "{\"team\":\"Grey\",\"by\":1}"];
    for bad in bad {
        assert!(ask(at, &post("/channels/goals", bad)).starts_with("HTTP/1.1 201 "));
    }
    for goal in ["{\"team\":\"Blue\",\"by\":-1}", "{\"team\":\"Blue\",\"by\":1}"] {
        assert!(ask(at, &post("/channels/goals", goal)).starts_with("HTTP/1.1 201 "));
    }
    // It counts on a thread of its own: the newest of each team is what the channel keeps.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let scores = kept(at, "score");
        let points = |team: &str| {
            let score = scores.iter().find(|score| score["event"] == team);
            score.expect("each team has a score")["data"]["points"].clone()
        };
        if scores.len() == 4 && points("Blue") == 1 {
            assert_eq!(points("Red"), 0);
            break;
        }
        assert!(std::time::Instant::now() < end, "{scores:?}");
        std::thread::yield_now();
    }
}

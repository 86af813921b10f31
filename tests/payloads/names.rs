//! What publishers name besides the payload: events, media types, channels, keys. What is taken comes
//! back letter for letter, what could break a line is refused in every place where it can be said.

use serde_json::{Value, json};

use super::http::{Answer, Req};
use super::listen::{Kind, Listener};
use super::matrix::position;
use super::matter::Said;
use super::net::Net;
use super::publish::{Publisher, next_frame};
use super::ws;

/// Where a value is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Query,
    Object,
    Line,
    Command,
}

const PLACES: [Place; 5] =
    [Place::Header, Place::Query, Place::Object, Place::Line, Place::Command];

/// A value by its three names.
#[derive(Clone, Copy, Debug)]
struct Name {
    header: &'static str,
    /// `None`: it cannot be said there.
    query: Option<&'static str>,
    json: &'static str,
}

const EVENT: Name = Name { header: "Event", query: Some("event"), json: "event" };
const TYPE: Name = Name { header: "Content-Type", query: None, json: "type" };
const KEY: Name =
    Name { header: "Idempotency-Key", query: Some("idempotency_key"), json: "idempotency_key" };

fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Publishes `payload` with this value; the answer's id, or its status and code.
fn publish<N: Net>(
    publisher: &Publisher<'_, N>,
    channel: &str,
    place: Place,
    (name, value): (Name, &str),
) -> Result<String, (u16, String)> {
    let object = json!({ "channel": channel, "text": "payload", name.json: value });
    let answer = match place {
        Place::Header => {
            let request = Req::new(&format!("POST /channels/{channel}"));
            publisher.ask(request.field(format!("{}: {value}", name.header)).body("payload"))
        }
        Place::Query => {
            let query = format!("{}={}", name.query.unwrap_or("x"), encoded(value));
            publisher.ask(Req::new(&format!("POST /channels/{channel}?{query}")).body("payload"))
        }
        Place::Object => {
            let request = Req::new("POST /publish").field("Content-Type: application/json");
            publisher.ask(request.body(object.to_string()))
        }
        Place::Line => publisher.ask(Req::new("POST /publish").body(object.to_string())),
        Place::Command => return command(publisher, object),
    };
    result(&answer)
}

fn command<N: Net>(publisher: &Publisher<'_, N>, object: Value) -> Result<String, (u16, String)> {
    let mut object = object;
    object["op"] = "publish".into();
    let mut socket = publisher.socket("/ws");
    next_frame(&mut socket); // hello
    let frame = ws::frame(ws::TEXT, object.to_string().as_bytes(), [1, 2, 3, 4]);
    socket.send(&frame).expect("sent");
    let said = next_frame(&mut socket).json();
    match said["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        None => Err((400, said["code"].as_str().expect("a code").to_owned())),
    }
}

fn result(answer: &Answer) -> Result<String, (u16, String)> {
    let value: Value = serde_json::from_slice(&answer.body).expect("JSON");
    match value["id"].as_str() {
        Some(id) => Ok(id.to_owned()),
        // A line has no status of its own.
        None => {
            let status = if answer.status == 200 { 400 } else { answer.status };
            Err((status, value["error"].as_str().expect("an error").to_owned()))
        }
    }
}

fn said(media: Option<&str>) -> Said {
    Said { payload: b"payload".to_vec(), media: media.map(str::to_owned), is_json: false }
}

fn listeners<'n, N: Net>(net: &'n N, channel: &str, since: &str) -> Vec<Listener<'n, N>> {
    Kind::ALL.iter().map(|kind| Listener::open(net, *kind, channel, Some(since))).collect()
}

/// Says each of these in each place, and hears it from each listener, live and again.
fn check_taken<N: Net>(net: &N, name: Name, values: &[&str]) {
    let channel = "names";
    let start = position(net, channel);
    let publisher = Publisher::new(net, channel);
    let mut live = listeners(net, channel, &start);
    let mut messages = Vec::new();
    for value in values {
        for place in PLACES {
            if place == Place::Query && name.query.is_none() {
                continue;
            }
            let id = publish(&publisher, channel, place, (name, value))
                .unwrap_or_else(|refused| panic!("{name:?} {value:?} {place:?}: {refused:?}"));
            let (said, event) = match name.header {
                "Event" => (said(None), Some(*value)),
                "Content-Type" => (said(Some(value)), None),
                _ => (said(None), None),
            };
            for listener in &mut live {
                listener.expect(&said, &id, event);
            }
            messages.push((said, id, event));
        }
    }
    live.iter_mut().for_each(Listener::assert_quiet);
    for mut listener in listeners(net, channel, &start) {
        for (said, id, event) in &messages {
            listener.expect(said, id, *event);
        }
        listener.assert_quiet();
    }
}

/// Each of these is refused wherever it can be said, and nobody hears of it.
fn check_refused<N: Net>(net: &N, name: Name, values: &[&str]) {
    let channel = "names-refused";
    let start = position(net, channel);
    let publisher = Publisher::new(net, channel);
    let mut live = listeners(net, channel, &start);
    for value in values {
        for place in PLACES {
            let code = match place {
                Place::Query if name.query.is_none() => continue,
                Place::Query => "bad_query",
                // White space at its ends is no part of a field's value, and behind CRLF is another.
                Place::Header if value.trim() != *value || value.contains("\r\n") => continue,
                Place::Header if value.is_empty() => continue,
                Place::Header | Place::Object | Place::Line | Place::Command => "bad_request",
            };
            let told = publish(&publisher, channel, place, (name, value));
            assert_eq!(told, Err((400, code.to_owned())), "{name:?} {value:?} {place:?}");
        }
    }
    assert_eq!(position(net, channel), start, "something was published");
    live.iter_mut().for_each(Listener::assert_quiet);
}

/// What breaks lines, or ends strings, in one reading or another.
const BREAKS: [&str; 20] = [
    "a\nb",
    "a\rb",
    "a\r\nb",
    "\n",
    "\r",
    "a\n",
    "\na",
    "a\r\nX-Injected: y",
    "a\n\ndata: forged\n\n",
    "a\r\rdata: forged\r\r",
    "a\0b",
    "\0",
    "a\tb",
    "a\u{7f}",
    "a\u{b}b",
    "a\u{1b}[2J",
    "a\u{85}b",
    "a\u{2028}b",
    "gr\u{fc}n",
    "\u{feff}a",
];

pub fn events<N: Net>(net: &N) {
    let letters: Vec<String> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    let longest = "e".repeat(64);
    let looks = [
        "data:",
        "id:",
        "id:zzzzzz-99",
        "retry:1",
        ":",
        ":comment",
        "event:x",
        "message",
        "gap",
        "bye",
        "holdline",
        "Open",
        "binary2",
        "%0d%0a",
        "\\r\\n",
        "\"}",
        "</script>",
        "X-Injected:y",
        &longest,
    ];
    check_taken(net, EVENT, &letters);
    check_taken(net, EVENT, &looks);
    let too_long = "e".repeat(65);
    let reserved =
        ["open", "error", "binary", "holdline-gap", "holdline-", "a b", "", " ", &too_long];
    check_refused(net, EVENT, &reserved);
    check_refused(net, EVENT, &BREAKS);
}

pub fn media_types<N: Net>(net: &N) {
    let longest = format!("a/{}", "b".repeat(253));
    let looks = [
        "text/html",
        "image/png",
        "a/b; c=\"d, e\"; X-Injected: y",
        "data: x",
        "id: zzzzzz-99",
        ":",
        "</script>",
        "\"}",
        "\\",
        "~",
        "text/event-stream",
        "text/plain;charset=utf-7",
        &longest,
    ];
    check_taken(net, TYPE, &looks);
    let too_long = format!("a/{}", "b".repeat(254));
    check_refused(net, TYPE, &["", &too_long]);
    check_refused(net, TYPE, &BREAKS);
}

pub fn keys<N: Net>(net: &N) {
    let longest = "k".repeat(128);
    let too_long = "k".repeat(129);
    check_refused(net, KEY, &["", " ", "a b", &too_long]);
    check_refused(net, KEY, &BREAKS);
    // The same key is the same publication, wherever it is said; it is heard once, and told nobody.
    let channel = "names-keys";
    let start = position(net, channel);
    let publisher = Publisher::new(net, channel);
    let mut live = listeners(net, channel, &start);
    for key in ["k", "data:x", "\"}", "\\r\\n", "X-Injected:y", "~", &longest] {
        let ids = PLACES.map(|place| publish(&publisher, channel, place, (KEY, key)));
        let id = ids[0].as_ref().expect("it was taken");
        assert!(ids.iter().all(|other| other.as_ref() == Ok(id)), "{key:?}: {ids:?}");
        for listener in &mut live {
            listener.expect(&said(None), id, None);
            listener.assert_quiet();
        }
    }
}

pub fn channels<N: Net>(net: &N) {
    let longest = "c".repeat(255);
    for channel in ["data:x", "id:1", "retry:9", "0", "a.~_-:", "event::", "X-Injected:y", &longest]
    {
        let start = position(net, channel);
        let publisher = Publisher::new(net, channel);
        let mut live = listeners(net, channel, &start);
        let id = publish(&publisher, channel, Place::Object, (EVENT, "e")).expect("it was taken");
        for listener in &mut live {
            listener.expect(&said(None), &id, Some("e"));
            listener.assert_quiet();
        }
    }
    let too_long = "c".repeat(256);
    let publisher = Publisher::new(net, "x");
    let bad = ["", " ", "_x", "a b", "a/b", "a\"b", "a,b", "a;b", "../a", "<a>", &too_long];
    for channel in BREAKS.iter().chain(&bad) {
        for line in
            ["GET /poll?channel=", "GET /events?channel=", "GET /channels/", "POST /channels/"]
        {
            let answer = publisher.ask(Req::new(&format!("{line}{}", encoded(channel))));
            let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
            let code = told["error"].as_str().expect("a code");
            let is_empty_query = channel.is_empty() && line.contains('?');
            let wanted = if is_empty_query { "bad_query" } else { "bad_channel" };
            assert_eq!((answer.status, code), (400, wanted), "{line} {channel:?}");
            assert_eq!(answer.field("x-injected"), None, "{answer:?}");
        }
        for place in [Place::Object, Place::Line, Place::Command] {
            let told = publish(&publisher, channel, place, (EVENT, "e"));
            assert_eq!(told, Err((400, "bad_channel".to_owned())), "{channel:?} {place:?}");
        }
    }
}

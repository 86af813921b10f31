//! One channel read from a position on, by each transport, told in the same words.

use serde_json::Value;

use crate::sim::Sim;
use crate::sim::clients::{Sse, Ws};

/// What a reader of one channel gets, whatever it reads by.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Gap { reason: String, since: String, resumed: String },
    Closed(u16),
}

pub fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

pub fn gap(reason: &str, since: &str, resumed: String) -> Got {
    Got::Gap { reason: reason.to_owned(), since: since.to_owned(), resumed }
}

pub fn from_object(gap: &Value) -> Got {
    let [reason, since, resumed] =
        ["reason", "since", "resumed"].map(|name| gap[name].as_str().expect(name).to_owned());
    assert_eq!(gap["channels"], serde_json::json!(["a"]));
    assert!(gap["spread_ms"].as_u64().is_some_and(|ms| ms <= 5_000));
    Got::Gap { reason, since, resumed }
}

pub fn from_line(line: &str) -> Got {
    let mut parts =
        line.split("; ").map(|part| part.split_once('=').expect("a value").1.to_owned());
    let mut next = || parts.next().expect("three values");
    Got::Gap { reason: next(), since: next(), resumed: next() }
}

/// All that comes at once to one who asks for channel `a` from `since` on, on each transport.
pub fn everywhere(sim: &mut Sim, query: &str) -> [(&'static str, Vec<Got>); 7] {
    [
        ("ws", by_ws(sim, query)),
        ("events", by_events(sim, query)),
        ("poll", by_poll(sim, query)),
        ("meta", by_meta(sim, query)),
        ("raw sse", by_raw_sse(sim, query)),
        ("raw poll", by_raw_poll(sim, query)),
        ("raw ws", by_raw_ws(sim, query)),
    ]
}

fn by_ws(sim: &mut Sim, query: &str) -> Vec<Got> {
    let socket = Ws::open(sim, 0, &format!("/ws?channel=a&{query}"));
    let mut got = Vec::new();
    let values = socket.jsons(sim);
    let has_gap = values.iter().any(|value| value["op"] == "gap");
    assert_eq!(values[0]["cursor"].is_string(), !has_gap, "no position before a gap");
    assert_eq!(values[1]["recovered"].as_bool(), Some(!has_gap));
    for value in &values[2..] {
        match value["op"].as_str() {
            Some("message") => got.push(text(value["text"].as_str().expect("text"))),
            Some("gap") => got.push(from_object(value)),
            Some("live") => assert_eq!(value["cursor"], *sim.id(sim.history.head())),
            _ => panic!("{value}"),
        }
    }
    sim.reset(socket.line);
    got
}

fn by_events(sim: &mut Sim, query: &str) -> Vec<Got> {
    let mut sse = Sse::open(sim, 0, &format!("/events?channel=a&{query}"));
    let mut got = Vec::new();
    let first = sse.block(sim);
    assert!(first.retry.is_some_and(|ms| (2_000..=5_000).contains(&ms)));
    for block in sse.blocks(sim) {
        match block.name() {
            "message" => got.push(text(block.json()["text"].as_str().expect("text"))),
            "gap" => {
                got.push(from_object(&block.json()));
                assert_eq!(block.json()["resumed"].as_str(), block.id.as_deref());
            }
            _ => panic!("{block:?}"),
        }
    }
    assert_eq!(first.id.is_none(), matches!(got.first(), Some(Got::Gap { .. })), "{got:?}");
    sim.reset(sse.line);
    got
}

fn by_poll(sim: &mut Sim, query: &str) -> Vec<Got> {
    let line = sim.connect(0);
    sim.ask(line, "GET", &format!("/poll?channel=a&wait=0&{query}"), b"");
    sim.settle();
    let body = sim.answer(line).expect("an answer").json();
    assert_eq!(body["cursor"], *sim.id(sim.history.head()));
    let gaps = body["gap"].as_array().map_or(&[][..], Vec::as_slice).iter().map(from_object);
    let messages = body["messages"].as_array().expect("messages").iter();
    let got = gaps.chain(messages.map(|m| text(m["text"].as_str().expect("text")))).collect();
    sim.reset(line);
    got
}

fn by_meta(sim: &mut Sim, query: &str) -> Vec<Got> {
    let socket = Ws::meta(sim, 0, &format!("/channels/a?{query}"));
    let frames = socket.frames(sim);
    let mut got = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let frame = frame.text();
        let (head, payload) = frame.split_once("\n\n").expect("a head");
        if let Some(line) = head.strip_prefix("gap: ") {
            got.push(from_line(line));
        } else if head.starts_with("id: ") {
            got.push(text(payload));
        } else if let (Some(Got::Gap { resumed, .. }), true) = (got.last(), n == 1) {
            assert_eq!(head, format!("cursor: {resumed}"));
        } else {
            assert!(head.starts_with("cursor: ") && n == 0, "{frame}");
        }
    }
    sim.reset(socket.line);
    got
}

fn by_raw_sse(sim: &mut Sim, query: &str) -> Vec<Got> {
    let mut sse = Sse::open(sim, 0, &format!("/channels/a?{query}"));
    sse.block(sim);
    let mut got = Vec::new();
    for block in sse.blocks(sim) {
        match block.name() {
            "message" | "x" | "y" => got.push(text(&block.data.expect("data"))),
            "holdline-gap" => got.push(from_object(&block.json())),
            _ => panic!("{block:?}"),
        }
    }
    sim.reset(sse.line);
    got
}

fn by_raw_poll(sim: &mut Sim, query: &str) -> Vec<Got> {
    let line = sim.connect(0);
    let (mut got, mut query) = (Vec::new(), query.to_owned());
    loop {
        let answer = sim.get(line, &format!("/channels/a?wait=0&{query}"));
        got.extend(answer.header("holdline-gap").map(from_line));
        query = format!("since={}", answer.header("holdline-cursor").expect("a position"));
        if answer.status == 204 {
            break;
        }
        got.push(text(&answer.text()));
    }
    sim.reset(line);
    got
}

fn by_raw_ws(sim: &mut Sim, query: &str) -> Vec<Got> {
    let socket = Ws::open(sim, 0, &format!("/channels/a?{query}"));
    let frames = socket.frames(sim);
    let got = frames.iter().map(|frame| match frame.code() {
        Some(code) => Got::Closed(code),
        None => text(&frame.text()),
    });
    let got = got.collect();
    sim.reset(socket.line);
    got
}

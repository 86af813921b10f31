//! Flow (a): one message over a WebSocket, and everyone who listens gets it, on three transports.

use holdline::Config;
use serde_json::Value;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws};
use crate::sim::{Pace, Sim};

both_paces!(
    a_message_reaches_each_kind_of_listener_in_its_own_dialect,
    a_publisher_that_listens_hears_itself_before_its_answer_names_the_position,
    messages_of_many_publishers_come_to_all_in_one_order,
);

fn a_message_reaches_each_kind_of_listener_in_its_own_dialect(pace: Pace) {
    let mut sim = Sim::open(pace);
    let sender = Ws::open(&mut sim, 0, "/ws");
    let json = Ws::open(&mut sim, 0, "/ws?channel=news");
    let raw = Ws::open(&mut sim, 0, "/channels/news");
    let meta = Ws::meta(&mut sim, 0, "/channels/news");
    let mut events = Sse::open(&mut sim, 0, "/events?channel=news");
    let mut stream = Sse::open(&mut sim, 0, "/channels/news");
    let [poll, raw_poll] = [0, 0].map(|number| sim.connect(number));
    let since = sim.id(0);
    sim.ask(poll, "GET", &format!("/poll?channel=news&since={since}"), b"");
    sim.ask(raw_poll, "GET", &format!("/channels/news?since={since}"), b"");
    sim.settle();
    for ws in [&json, &raw, &meta] {
        ws.frames(&mut sim);
    }
    events.blocks(&mut sim);
    stream.blocks(&mut sim);

    let command = r#"{"op":"publish","ref":1,"channel":"news","event":"price","text":"ä\n2"}"#;
    sender.text(&mut sim, command);
    sim.settle();

    let id = sim.id(1);
    let answers = sender.jsons(&mut sim);
    assert_eq!(answers[1]["subscribers"], 7, "{answers:?}");
    assert_eq!((&answers[1]["ref"], &answers[1]["id"]), (&1.into(), &Value::from(id.clone())));
    let message = json.json(&mut sim);
    assert_eq!(message["op"], "message");
    assert_eq!(raw.frame(&mut sim).text(), "ä\n2");
    assert_eq!(meta.frame(&mut sim).text(), format!("id: {id}\nevent: price\n\nä\n2"));
    let block = events.block(&mut sim);
    assert_eq!((block.name(), block.id.as_deref()), ("message", Some(&*id)));
    let envelope = block.json();
    let block = stream.block(&mut sim);
    assert_eq!((block.name(), block.id.as_deref()), ("price", Some(&*id)));
    assert_eq!(block.data.as_deref(), Some("ä\n2"));
    let body = sim.answer(poll).expect("an answer").json();
    assert_eq!(body["cursor"].as_str(), Some(&*id));
    for value in [&message, &envelope, &body["messages"][0]] {
        let [channel, text] = ["channel", "text"].map(|name| value[name].as_str());
        assert_eq!((channel, text), (Some("news"), Some("ä\n2")), "{value}");
        assert_eq!((value["id"].as_str(), value["event"].as_str()), (Some(&*id), Some("price")));
    }
    let answer = sim.answer(raw_poll).expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "ä\n2".to_owned()));
    assert_eq!(answer.header("holdline-id"), Some(&*id));
    assert_eq!(answer.header("event"), Some("price"));
}

fn a_publisher_that_listens_hears_itself_before_its_answer_names_the_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    let ws = Ws::open(&mut sim, 0, "/ws?channel=news&channel=more");
    ws.jsons(&mut sim);
    sim.publish("more", "from elsewhere");
    ws.text(&mut sim, r#"{"op":"publish","ref":9,"channel":"news","text":"mine"}"#);
    sim.settle();
    let came = ws.jsons(&mut sim);
    let texts: Vec<_> = came.iter().map(|value| value["text"].as_str()).collect();
    assert_eq!(texts, [Some("from elsewhere"), Some("mine"), None], "{came:?}");
    assert_eq!((came[2]["op"].as_str(), came[2]["ref"].as_u64()), (Some("ok"), Some(9)));
    assert_eq!(came[2]["id"].as_str(), Some(&*sim.id(2)));
}

fn messages_of_many_publishers_come_to_all_in_one_order(pace: Pace) {
    let mut sim = Sim::new(Config::default().open(), 3, 5);
    sim.pace = pace;
    let listeners: Vec<_> =
        (0..9).map(|n| Ws::open(&mut sim, n % 3, "/ws?channel=a&channel=b")).collect();
    let senders: Vec<_> = (0..6).map(|n| Ws::open(&mut sim, n % 3, "/ws")).collect();
    for round in 0..10 {
        for (n, sender) in senders.iter().enumerate() {
            let channel = if sim.rng.bool() { "a" } else { "b" };
            let text = format!(r#"{{"op":"publish","channel":"{channel}","text":"{round}.{n}"}}"#);
            sender.text(&mut sim, &text);
            if sim.rng.u8(..) < 64 {
                sim.step();
            }
        }
    }
    sim.settle();
    let orders: Vec<Vec<_>> = listeners
        .iter()
        .map(|ws| {
            let came = ws.jsons(&mut sim);
            let messages = came.iter().filter(|value| value["op"] == "message");
            messages.map(|value| (value["id"].to_string(), value["text"].to_string())).collect()
        })
        .collect();
    assert_eq!(orders[0].len(), 60);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

/// 10 000 on three transports; polls come again when they are answered.
#[test]
fn ten_thousand_listeners_get_one_message_each() {
    ten_thousand(Pace::Whole);
}

#[test]
fn ten_thousand_listeners_get_one_message_each_byte_by_byte() {
    ten_thousand(Pace::Bytes);
}

fn ten_thousand(pace: Pace) {
    const EACH: usize = 3_333;
    let config = Config { connections_max: 20_000, ..Config::default().open() };
    let mut sim = Sim::with(config, pace);
    let sender = Ws::open(&mut sim, 0, "/ws");
    sender.jsons(&mut sim);
    let upgrade = crate::sim::ws::upgrade("/channels/news", None);
    let stream = b"GET /channels/news HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n";
    let poll = format!("GET /poll?channel=news&since={} HTTP/1.1\r\nHost: h\r\n\r\n", sim.id(0));
    let lines: Vec<[usize; 3]> = (0..EACH)
        .map(|_| {
            let three = [0; 3].map(|number| sim.connect(number));
            for (line, bytes) in three.iter().zip([&upgrade, &stream[..], poll.as_bytes()]) {
                sim.send(*line, bytes);
            }
            three
        })
        .collect();
    sim.settle();
    let connections = sim.engine().connections();
    assert_eq!((connections.ws, connections.sse, connections.poll), (EACH + 1, EACH, EACH));
    assert_eq!(sim.engine().subscriptions(), 3 * EACH);
    lines.iter().flatten().for_each(|line| sim.lines[*line].received.clear());

    sender.text(&mut sim, r#"{"op":"publish","ref":1,"channel":"news","text":"hello"}"#);
    sim.settle();
    assert_eq!(sender.json(&mut sim)["subscribers"], 3 * EACH);
    for [ws, sse, poll] in &lines {
        assert_eq!(sim.lines[*ws].received, b"\x81\x05hello");
        let event = format!("id: {}\ndata: hello\n\n", sim.id(1));
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        assert_eq!(sim.lines[*sse].received, chunk.as_bytes());
        let answer = sim.answer(*poll).expect("an answer").json();
        assert_eq!(answer["messages"][0]["text"], "hello");
    }
    assert_eq!(sim.engine().stats().delivered, 3 * EACH as u64);
    // A poll is answered once and its connection is free; streams go on.
    assert_eq!(sim.engine().subscriptions(), 2 * EACH);
    assert_eq!(sim.engine().connections().poll, 0);
    lines.iter().flatten().for_each(|line| sim.reset(*line));
    sim.reset(sender.line);
    sim.assert_deserted();
}

//! The JSON WebSocket `/ws`: every command, every answer, errors, close codes, heartbeats.

use crate::clients::ws::{
    BINARY, CLOSE, HANDSHAKE, Meta, PING, PONG, TEXT, Ws, close_code, frame_head,
};
use crate::clients::{
    Sse, call, get, kept, lossy, publish, publish_many, seq, text_of, wait_subscribers,
};
use crate::support::Running;
use serde_json::{Value, json};
use std::time::Duration;

/// A cursor that no server gave out.
const LOST: &str = "zzzzzzzz-5";

#[track_caller]
fn ops(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| text_of(object, "op")).collect()
}

/// An `ok` or `live` per channel, whatever their order.
#[track_caller]
fn channels_of(objects: &[Value], op: &str) -> Vec<String> {
    let of_op = objects.iter().filter(|object| object["op"] == op);
    let mut names: Vec<String> = of_op.map(|o| text_of(o, "channel").to_owned()).collect();
    names.sort_unstable();
    names
}

/// A connection that has read its hello and whatever its URL asked for.
#[track_caller]
fn subscribed(server: &Running, channel: &str) -> Ws {
    let mut ws = Ws::open(server, &format!("/ws?channel={channel}"));
    assert_eq!(ops(&ws.until("live")), ["hello", "ok", "live"]);
    ws
}

#[track_caller]
fn connected(server: &Running) -> Ws {
    let mut ws = Ws::open(server, "/ws");
    ws.op("hello");
    ws
}

#[track_caller]
fn expect_refusal(ws: &mut Ws, command: &str, code: &str) {
    let (_, answer) = ws.ask(command);
    let told = (&answer["op"], &answer["code"]);
    assert_eq!(told, (&json!("error"), &json!(code)), "for {command}, came {answer}");
    assert!(answer["message"].is_string(), "an error says what to do, came {answer}");
}

#[test]
fn hello_is_the_first_frame() {
    let server = Running::start(&[]);
    let old = publish(&server, "a", "old");
    let mut ws = Ws::open(&server, "/ws");
    assert_eq!(ws.head.header("sec-websocket-protocol"), None, "none was offered");
    let hello = ws.op("hello");
    let limits = [("version", 1), ("heartbeat_ms", 25_000), ("channels_max", 128)];
    for (name, value) in [&limits[..], &[("message_bytes_max", 65_536)]].concat() {
        assert_eq!(hello[name], value, "{name} of {hello}");
    }
    let connection = text_of(&hello, "connection");
    let hex = connection.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(connection.len() == 16 && hex, "16 hex digits, came {connection}");
    assert!(seq(text_of(&hello, "cursor")) >= seq(&old), "a position of now, came {hello}");
    for (asked, told) in [(10, 10_000), (1, 10_000), (42, 42_000), (9999, 300_000)] {
        let hello = Ws::open(&server, &format!("/ws?heartbeat={asked}")).op("hello");
        assert_eq!(hello["heartbeat_ms"], told, "for heartbeat={asked}, came {hello}");
    }
}

#[test]
fn the_handshake_selects_the_json_subprotocol_or_refuses_unknown_ones() {
    let server = Running::start(&[]);
    for offer in ["holdline.v1.json", "mqtt, holdline.v1.json", "holdline.v1.json,mqtt"] {
        let mut ws = Ws::with(&server, "/ws", &[("Sec-WebSocket-Protocol", offer)]);
        let selected = ws.head.must_header("sec-websocket-protocol");
        assert_eq!(selected, "holdline.v1.json", "of {offer}");
        ws.op("hello");
    }
    for offer in ["mqtt", "holdline.v1.meta"] {
        let offered = [("Sec-WebSocket-Protocol", offer)];
        let refused = Ws::handshake(&server, "/ws", &offered).err().expect("no 101");
        assert_eq!(refused.status, 400, "for {offer}, came {refused:?}");
    }
    let plain = get(&server, "/ws");
    plain.expect_error(426, "upgrade");
    assert!(plain.must_header("upgrade").eq_ignore_ascii_case("websocket"), "came {plain:?}");
    let with =
        |name: &str, value| HANDSHAKE.map(|(n, v)| if n == name { (n, value) } else { (n, v) });
    let version = call(&server, "GET", "/ws", &with("Sec-WebSocket-Version", "8"), b"");
    version.expect_error(426, "upgrade");
    assert_eq!(version.must_header("sec-websocket-version"), "13");
    for key in ["", "AAAA", "dGhlIHNhbXBsZSBub25jZQ", "!GhlIHNhbXBsZSBub25jZQ=="] {
        let answer = call(&server, "GET", "/ws", &with("Sec-WebSocket-Key", key), b"");
        assert_eq!(answer.status, 400, "for the key {key:?}, came {answer:?}");
    }
    Ws::handshake(&server, "/ws?channel=a%20b", &[])
        .err()
        .expect("no 101")
        .expect_error(400, "bad_channel");
}

#[test]
fn channels_of_the_url_are_subscribed_at_open() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..3);
    publish(&server, "b", "b");
    let target = format!("/ws?channel=a&channel=b&since={}", ids[1]);
    let mut ws = Ws::open(&server, &target);
    let hello = ws.op("hello");
    let start = seq(text_of(&hello, "cursor"));
    let replay = seq(&ids[1])..seq(&ids[2]);
    assert!(replay.contains(&start), "where replay starts, came {hello}");
    let mut came = ws.until("live");
    came.extend(ws.until("live"));
    assert_eq!(channels_of(&came, "ok"), ["a", "b"]);
    assert_eq!(channels_of(&came, "live"), ["a", "b"]);
    assert_eq!(channels_of(&came, "message"), ["a", "b"]);
    for ok in came.iter().filter(|o| o["op"] == "ok") {
        assert_eq!((&ok["recovered"], ok.get("ref")), (&json!(true), None), "came {ok}");
    }
    let live = came.last().expect("a live");
    assert!(seq(text_of(live, "cursor")) > seq(&ids[2]), "past what was replayed, came {live}");
    let id = publish(&server, "b", "live");
    let message = ws.op("message");
    assert_eq!((&message["id"], &message["text"]), (&json!(id), &json!("live")));
}

#[test]
fn a_lost_cursor_in_the_url_leaves_the_cursor_out_of_hello() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    for (query, count) in [("", 2), ("&gap=live", 0)] {
        let mut ws = Ws::open(&server, &format!("/ws?channel=a&since={LOST}{query}"));
        let came = ws.until("live");
        let expected = [&["hello", "ok", "gap"], &vec!["message"; count][..], &["live"]].concat();
        assert_eq!(ops(&came), expected, "with {query:?}, came {came:?}");
        assert_eq!(came[0].get("cursor"), None, "a gap follows, came {}", came[0]);
        assert_eq!(came[1]["recovered"], false, "came {}", came[1]);
        let gap = &came[2];
        assert_eq!((&gap["channels"], &gap["reason"]), (&json!(["a"]), &json!("epoch")), "{gap}");
        assert_eq!(gap["since"], LOST, "came {gap}");
        let before_kept = seq(text_of(gap, "resumed")) < seq(&ids[0]);
        assert_eq!(before_kept, count > 0, "where it goes on, came {gap}");
    }
}

#[test]
fn subscribe_says_ok_then_gap_then_messages_then_live() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..3);
    let mut ws = connected(&server);
    ws.say(&format!(r#"{{"op":"subscribe","ref":1,"channel":"a","since":"{}"}}"#, ids[0]));
    let came = ws.until("live");
    assert_eq!(ops(&came), ["ok", "message", "message", "live"]);
    let ok = json!({"op": "ok", "ref": 1, "channel": "a", "recovered": true});
    assert_eq!(came[0], ok);
    assert!(seq(text_of(&came[3], "cursor")) >= seq(&ids[2]), "came {}", came[3]);
    ws.say(r#"{"op":"subscribe","ref":2,"channel":"a","since":"earliest"}"#);
    let again = ws.until("live");
    assert_eq!(ops(&again), ["ok", "live"], "subscribed already: its since is ignored");
    assert_eq!(again[0], json!({"op": "ok", "ref": 2, "channel": "a"}));
    ws.say(r#"{"op":"subscribe","channel":"b"}"#);
    let new = ws.until("live");
    assert_eq!(new[0], json!({"op": "ok", "channel": "b"}), "no ref, no since");
    ws.say(&format!(r#"{{"op":"subscribe","ref":3,"channels":["c","d"],"since":"{LOST}"}}"#));
    let mut lost = ws.until("live");
    lost.extend(ws.until("live"));
    assert_eq!(channels_of(&lost, "ok"), ["c", "d"]);
    assert!(lost.iter().filter(|o| o["op"] == "ok").all(|o| o["recovered"] == false));
    assert!(lost.iter().any(|o| o["op"] == "gap"), "came {lost:?}");
    assert_eq!(channels_of(&lost, "live"), ["c", "d"]);
    ws.say(r#"{"op":"subscribe","channel":"e","since":"latest"}"#);
    assert_eq!(ws.op("ok")["recovered"], true, "latest is always recovered");
}

#[test]
fn channels_subscribed_together_replay_in_one_order() {
    let server = Running::start(&[]);
    let ids: Vec<String> = (0..9).map(|n| publish(&server, ["a", "b", "c"][n % 3], "x")).collect();
    let mut ws = connected(&server);
    ws.say(r#"{"op":"subscribe","channels":["c","a","b"],"since":"earliest"}"#);
    let mut came = Vec::new();
    while channels_of(&came, "live").len() < 3 {
        came.push(ws.json());
    }
    let replayed = came.iter().filter(|o| o["op"] == "message");
    let order: Vec<&str> = replayed.map(|o| text_of(o, "id")).collect();
    assert_eq!(order, ids);
}

#[test]
fn messages_carry_a_safe_position_while_a_later_subscription_catches_up() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "b", 0..5);
    let mut ws = subscribed(&server, "a");
    ws.say(r#"{"op":"subscribe","channel":"b","since":"earliest"}"#);
    let came = ws.until("live");
    let replayed: Vec<&Value> = came.iter().filter(|o| o["op"] == "message").collect();
    assert_eq!(replayed.len(), 5, "came {came:?}");
    for message in replayed {
        let cursor = seq(text_of(message, "cursor"));
        assert!(cursor <= seq(text_of(message, "id")), "no further than it got, came {message}");
    }
    let live = came.last().expect("a live");
    assert!(seq(text_of(live, "cursor")) >= seq(&ids[4]), "came {live}");
}

#[test]
fn a_bad_name_among_channels_means_that_nothing_is_done() {
    let server = Running::start(&[]);
    let mut ws = connected(&server);
    expect_refusal(&mut ws, r#"{"op":"subscribe","ref":1,"channels":["a","_b"]}"#, "bad_channel");
    expect_refusal(&mut ws, r#"{"op":"subscribe","ref":2,"channels":[]}"#, "bad_request");
    assert_eq!(get(&server, "/channels/a").json()["subscribers"], 0);
    let names =
        |r: std::ops::Range<u32>| r.map(|i| format!("\"c{i}\"")).collect::<Vec<_>>().join(",");
    let many = |range| format!(r#"{{"op":"subscribe","ref":3,"channels":[{}]}}"#, names(range));
    expect_refusal(&mut ws, &many(0..129), "bad_request");
    ws.say(&many(0..128));
    let mut came = Vec::new();
    while channels_of(&came, "live").len() < 128 {
        came.push(ws.json());
    }
    expect_refusal(&mut ws, r#"{"op":"subscribe","ref":4,"channel":"one.more"}"#, "bad_request");
    let (_, again) = ws.ask(r#"{"op":"subscribe","ref":5,"channel":"c0"}"#);
    assert_eq!(again["op"], "ok", "it is subscribed already, came {again}");
}

#[test]
fn unsubscribe_ends_a_channel_and_is_harmless_for_others() {
    let server = Running::start(&[]);
    let mut ws = subscribed(&server, "a");
    let (_, ok) = ws.ask(r#"{"op":"subscribe","ref":1,"channel":"b"}"#);
    assert_eq!(ok["op"], "ok");
    ws.op("live");
    for (n, channel) in [(2, "a"), (3, "a"), (4, "never")] {
        let (_, ok) = ws.ask(&format!(r#"{{"op":"unsubscribe","ref":{n},"channel":"{channel}"}}"#));
        assert_eq!(ok, json!({"op": "ok", "ref": n, "channel": channel}));
    }
    expect_refusal(&mut ws, r#"{"op":"unsubscribe","ref":5,"channel":"_x"}"#, "bad_channel");
    let unheard = call(&server, "POST", "/channels/a", &[], b"unheard").expect(202);
    assert_eq!(unheard.json()["subscribers"], 0);
    publish(&server, "b", "heard");
    assert_eq!(ws.op("message")["text"], "heard");
}

#[test]
fn publish_answers_with_id_and_subscribers_and_the_publisher_hears_it() {
    let server = Running::start(&[]);
    let mut ws = subscribed(&server, "a");
    let fields = r#""event":"e","idempotency_key":"k","data":{"n":[1, 2]}"#;
    let command = |n| format!(r#"{{"op":"publish","ref":{n},"channel":"a",{fields}}}"#);
    // The pages give no order between its answer and its own message.
    ws.say(&command(4));
    let mut came = [ws.json(), ws.json()];
    came.sort_by_key(|object| object["op"] == "message");
    let [ok, message] = &came;
    assert_eq!((&ok["op"], &ok["ref"], &ok["subscribers"]), (&json!("ok"), &json!(4), &json!(1)));
    assert_eq!((&message["op"], &message["id"]), (&json!("message"), &ok["id"]));
    assert_eq!((&message["event"], &message["data"]), (&json!("e"), &json!({"n": [1, 2]})));
    let (_, again) = ws.ask(&command(5));
    assert_eq!((&again["op"], &again["id"]), (&json!("ok"), &ok["id"]), "the same key");
    let (_, other) = ws.ask(r#"{"op":"publish","ref":6,"channel":"b","text":"x","ttl":0}"#);
    assert_eq!((&other["op"], &other["subscribers"]), (&json!("ok"), &json!(0)), "came {other}");
    assert_eq!((kept(&server, "a").len(), kept(&server, "b").len()), (1, 0));
}

#[test]
fn refused_commands_leave_the_connection_open() {
    let server = Running::start(&[]);
    let mut ws = connected(&server);
    let rows = [
        (r#""op":"dance""#, "bad_request"),
        (r#""channel":"a""#, "bad_request"),
        (r#""op":5"#, "bad_request"),
        (r#""op":"subscribe""#, "bad_request bad_channel"),
        (r#""op":"subscribe","channel":5"#, "bad_request"),
        (r#""op":"subscribe","channels":"a""#, "bad_request"),
        (r#""op":"subscribe","channels":["a",5]"#, "bad_request"),
        (r#""op":"subscribe","channel":"a","channels":["b"]"#, "bad_request"),
        (r#""op":"subscribe","channel":"a","channel":"b""#, "bad_request"),
        (r#""op":"subscribe","channel":"a","since":5"#, "bad_request"),
        (r#""op":"subscribe","channel":"a","since":"soon""#, "bad_since"),
        (r#""op":"subscribe","channel":"a","since":"""#, "bad_since"),
        (r#""op":"subscribe","channel":"a b""#, "bad_channel"),
        (r#""op":"publish","text":"x""#, "bad_request bad_channel"),
        (r#""op":"publish","channel":"a""#, "bad_request"),
        (r#""op":"publish","channels":["a"],"text":"x""#, "bad_request"),
        (r#""op":"publish","channel":"a","text":"x","data":1"#, "bad_request"),
        (r#""op":"publish","channel":"a","b64":"?""#, "bad_request"),
        (r#""op":"publish","channel":"a","text":"x","event":"open""#, "bad_request"),
        (r#""op":"publish","channel":"a","text":"x","ttl":-1"#, "bad_request"),
        (r#""op":"publish","channel":"_a","text":"x""#, "bad_channel"),
        (r#""op":"ping","t":{}"#, "bad_request"),
    ];
    for (n, (fields, codes)) in rows.iter().enumerate() {
        ws.say(&format!("{{\"ref\":{n},{fields}}}"));
        let error = ws.op("error");
        let told = codes.split(' ').any(|code| error["code"] == code);
        assert!(told, "expected {codes} for {fields}, came {error}");
        // An object with a repeated key says nothing certain, not even its ref.
        let repeated = fields.matches("\"channel\"").count() > 1;
        assert!(error["ref"] == n || repeated, "for {fields}, came {error}");
    }
    for reference in ["\"x\"", "-1", "1.5", "4294967296", "null"] {
        ws.say(&format!(r#"{{"op":"ping","t":1,"ref":{reference}}}"#));
        // The pages do not say whether null is a wrong type or no ref at all.
        let answer = ws.json();
        let told = (&answer["op"], &answer["code"]);
        let refused = told == (&json!("error"), &json!("bad_request"));
        assert!(refused || reference == "null", "for the ref {reference}, came {answer}");
    }
    let (_, ok) = ws.ask(r#"{"op":"subscribe","ref":4294967295,"channel":"a","unknown":[{}]}"#);
    assert_eq!(ok["op"], "ok", "the largest ref, and unknown fields are ignored, came {ok}");
    assert!(kept(&server, "a").is_empty(), "nothing was published");
}

#[test]
fn ping_is_answered_with_its_t() {
    let server = Running::start(&[]);
    let mut ws = connected(&server);
    for t in ["1", "-1.5", "1764000000123", "\"x\\u00e4\\n\""] {
        ws.say(&format!(r#"{{"op":"ping","t":{t}}}"#));
        let pong = ws.op("pong");
        let expected: Value = serde_json::from_str(t).expect("JSON");
        assert_eq!(pong["t"], expected, "came {pong}");
    }
    ws.send(PING, b"payload");
    let pong = ws.frame().expect("a pong");
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &b"payload"[..]));
}

/// First bytes (FIN, RSV, opcode) and payloads.
type Frames<'a> = &'a [(u8, &'a [u8])];

/// Sends frames, then reads to the Close; an `error` before it has to carry `code`.
#[track_caller]
fn expect_close(server: &Running, what: &str, frames: Frames<'_>, close: u16, code: &str) {
    let mut ws = connected(server);
    for (first, payload) in frames {
        ws.send_frame(*first, payload);
    }
    loop {
        let frame = ws.message();
        if frame.opcode == CLOSE {
            assert_eq!(close_code(&frame).0, close, "for {what}, came {frame:?}");
            break;
        }
        let object: Value = serde_json::from_slice(&frame.payload).expect("an object");
        let told = (&object["op"], &object["code"]);
        assert_eq!(told, (&json!("error"), &json!(code)), "for {what}, came {object}");
    }
    ws.send(CLOSE, &close.to_be_bytes());
    assert!(ws.frame().is_none(), "for {what}: nothing after the Close but the end");
}

#[test]
fn what_is_no_command_closes_4400() {
    let server = Running::start(&[]);
    let nested = |n| format!(r#"{{"op":"ping","t":1,"x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    let text = 0x80 | TEXT;
    for json in ["", "{", "{}x", "nope", &nested(32)] {
        expect_close(&server, json, &[(text, json.as_bytes())], 4400, "bad_json");
    }
    for json in ["[]", "5", "\"x\"", "null"] {
        expect_close(&server, json, &[(text, json.as_bytes())], 4400, "bad_request");
    }
    expect_close(&server, "binary", &[(0x80 | BINARY, b"{}")], 4400, "bad_request");
    let mut ws = connected(&server);
    ws.say(&nested(31));
    ws.op("pong");
}

#[test]
fn broken_frames_close_with_the_code_of_the_rfc() {
    let server = Running::start(&[]);
    let half = "\u{e4}".as_bytes();
    let rows: [(&str, Frames<'_>, u16); 12] = [
        ("RSV1", &[(0xc1, b"{}")], 1002),
        ("a reserved opcode", &[(0x83, b"")], 1002),
        ("a reserved control opcode", &[(0x8b, b"")], 1002),
        ("a fragmented ping", &[(0x09, b"")], 1002),
        ("a long ping", &[(0x89, &[0; 126])], 1002),
        ("a stray continuation", &[(0x80, b"x")], 1002),
        ("a text inside a message", &[(0x01, b"{"), (0x81, b"}")], 1002),
        ("a Close of one byte", &[(0x88, b"\x03")], 1002),
        ("a Close with 1005", &[(0x88, &1005_u16.to_be_bytes())], 1002),
        ("no UTF-8", &[(0x81, b"\"\xff\"")], 1007),
        ("half a character", &[(0x01, &half[..1]), (0x80, b"x")], 1007),
        ("over 64 KiB", &[(0x01, &[b' '; 65536]), (0x80, b" ")], 1009),
    ];
    for (what, frames, close) in rows {
        expect_close(&server, what, frames, close, "");
    }
    let mut unmasked = connected(&server);
    unmasked.wire.send(&[frame_head(0x81, 0, 2).as_slice(), b"{}"].concat());
    assert_eq!(unmasked.closed().0, 1002, "an unmasked frame");
    let mut huge = connected(&server);
    huge.wire.send(&frame_head(0x81, 0x80, 1 << 40));
    assert_eq!(huge.closed().0, 1009, "a length alone");
}

#[test]
fn a_close_is_echoed_and_the_server_ends_the_stream() {
    let server = Running::start(&[]);
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut ws = connected(&server);
        ws.send(CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat());
        assert_eq!(ws.closed().0, code);
        assert!(ws.frame().is_none(), "nothing after the Close but the end");
    }
    let mut ws = subscribed(&server, "a");
    ws.send(CLOSE, b"");
    ws.closed();
    wait_subscribers(&server, "a", 0);
}

/// Reads to a ping and a text, in either order; the two clocks may also beat apart.
#[track_caller]
fn ping_and_beat(ws: &mut Ws) -> String {
    let (mut pinged, mut beat) = (false, String::new());
    while !pinged || beat.is_empty() {
        let frame = ws.frame().expect("a ping and a heartbeat");
        match frame.opcode {
            PING => pinged = true,
            TEXT => beat = lossy(&frame.payload),
            _ => panic!("expected a ping or a text, came {frame:?}"),
        }
    }
    beat
}

#[test]
fn heartbeats_carry_the_cursor_on_every_transport() {
    let server = Running::start(&[]);
    let mut json = Ws::open(&server, "/ws?channel=a&heartbeat=10");
    json.until("live");
    let mut meta = Ws::meta(&server, "/channels/a?heartbeat=10");
    Meta::read(&mut meta);
    let mut plain = Ws::open(&server, "/channels/a?heartbeat=10");
    let targets = ["/events?channel=a&heartbeat=10", "/channels/a?heartbeat=10"];
    let mut streams = targets.map(|target| Sse::open(&server, target, &[]));
    for stream in &mut streams {
        stream.block().expect("the first block");
    }
    let noise = publish(&server, "noise", "not for them");
    for wire in [&json.wire, &meta.wire, &plain.wire, &streams[0].wire, &streams[1].wire] {
        wire.patience(Duration::from_secs(20)); // less than the default
    }
    let beat: Value = serde_json::from_str(&ping_and_beat(&mut json)).expect("an object");
    assert_eq!(beat["op"], "heartbeat", "came {beat}");
    assert!(seq(text_of(&beat, "cursor")) >= seq(&noise), "a fresh cursor, came {beat}");
    let beat = ping_and_beat(&mut meta);
    let cursor = beat.strip_prefix("cursor: ").and_then(|b| b.strip_suffix("\n\n"));
    assert!(seq(cursor.unwrap_or(&beat)) >= seq(&noise), "a fresh cursor, came {beat:?}");
    assert_eq!(plain.frame().expect("a frame").opcode, PING, "a plain one gets the ping");
    for stream in &mut streams {
        let beat = stream.block().expect("a heartbeat");
        assert_eq!((beat.comments.len(), &beat.data), (1, &None), "came {beat:?}");
        assert_eq!(beat.comments[0], "heartbeat");
        assert!(seq(beat.id.as_deref().unwrap_or_default()) >= seq(&noise), "came {beat:?}");
    }
}

#[test]
fn a_foreign_client_works() {
    let server = Running::start(&[]);
    let url = format!("ws://{}/ws?channel=a", server.addr);
    let (mut ws, _) = tungstenite::client(url, server.connect()).expect("a handshake");
    let mut next = || -> Value {
        let text = ws.read().expect("a message").into_text().expect("a text");
        serde_json::from_str(&text).expect("an object")
    };
    let first = [next(), next(), next()];
    assert_eq!(ops(&first), ["hello", "ok", "live"]);
    let id = publish(&server, "a", "hi");
    assert_eq!(next()["id"], id);
    ws.send(r#"{"op":"ping","t":7}"#.into()).expect("sent");
    let pong = ws.read().expect("a message").into_text().expect("a text");
    assert!(pong.contains("\"pong\""), "came {pong}");
    ws.close(None).expect("closing");
    while ws.read().is_ok() {}
}

#[test]
fn a_small_limit_of_payloads_is_none_of_commands() {
    let server = Running::start(&["--message-bytes-max", "1K"]);
    let mut ws = connected(&server);
    let names: Vec<String> = (0..60).map(|n| format!("sensors.room-{n:03}.temperature")).collect();
    ws.say(&json!({"op": "subscribe", "channels": names}).to_string());
    let told: Vec<Value> = (0..120).map(|_| ws.json()).collect();
    assert_eq!(channels_of(&told, "live").len(), 60, "came {told:?}");
    let publish = |text: usize| {
        json!({"op": "publish", "ref": 2, "channel": "a", "text": "x".repeat(text)}).to_string()
    };
    let (_, answer) = ws.ask(&publish(1024));
    assert_eq!(answer["op"], "ok", "came {answer}");
    expect_refusal(&mut ws, &publish(1025), "too_large");
    let mut raw = Ws::open(&server, "/channels/a");
    raw.send(TEXT, &[b'x'; 1024]);
    raw.send(TEXT, &[b'x'; 1025]);
    assert_eq!(raw.closed().0, 1009, "a frame is a payload there");
}

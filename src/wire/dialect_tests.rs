//! The bytes of every push in every dialect, against what is written down here, and their framing
//! against readers of its own.

use super::*;
use crate::message::{Budget, Message};

const EPOCH: &str = "k3J9xQ";
const SEQ: u64 = 42;
const TIME: u64 = 1_764_000_000_123;

const WS: [Dialect; 4] = [Dialect::WsRaw, Dialect::WsMeta, Dialect::WsJson, Dialect::WsJsonCursor];
const CHUNKED: [Dialect; 2] =
    [Dialect::SseRaw(Framing::Chunked), Dialect::SseJson(Framing::Chunked)];
const BARE: [Dialect; 2] = [Dialect::SseRaw(Framing::Bare), Dialect::SseJson(Framing::Bare)];

fn epoch() -> Epoch {
    Epoch::parse(EPOCH.as_bytes()).expect("it has the form of one")
}

fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: epoch(), seq }
}

fn publication(mut message: Message) -> Publication {
    message.check(usize::MAX).expect("it can be published");
    Publication::new(message, "news".into(), SEQ, TIME, &Arc::new(Budget::default()))
}

fn json(text: &str) -> Message {
    Message::json(text).expect("it is JSON")
}

/// What `write` appends, and that it only appends.
fn written(write: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    let mut behind = b"before".to_vec();
    write(&mut behind);
    assert_eq!(behind.strip_prefix(b"before"), Some(&out[..]));
    out
}

fn rendered(dialect: Dialect, message: Message) -> Vec<u8> {
    let publication = publication(message);
    written(|out| dialect.publication(out, &publication, epoch()))
}

/// The opcode and payload of one frame that is all of `bytes`, in the shortest form of its length.
fn unframed(bytes: &[u8]) -> (u8, &[u8]) {
    assert_eq!(bytes[0] & 0xf0, 0x80, "final, nothing reserved");
    let (len, payload) = match bytes[1] {
        126 => (usize::from(bytes[2]) << 8 | usize::from(bytes[3]), &bytes[4..]),
        127 => {
            let len = bytes[2..10].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, &bytes[10..])
        }
        short => (usize::from(short), &bytes[2..]),
    };
    assert!(bytes[1] < 126 || len > if bytes[1] == 126 { 125 } else { 65_535 }, "the shortest");
    assert_eq!(payload.len(), len);
    (bytes[0] & 15, payload)
}

/// The data of one chunk that is all of `bytes`, or of one and what ends the body.
fn unchunked(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a size");
    let digits = std::str::from_utf8(&bytes[..end]).expect("digits");
    assert!(!digits.starts_with('0') && digits == digits.to_lowercase(), "{digits}");
    let size = usize::from_str_radix(digits, 16).expect("a size");
    let (data, rest) = bytes[end + 2..].split_at(size);
    (data, rest.strip_prefix(b"\r\n").expect("the end of the chunk"))
}

/// What an event stream dispatches: id, event and data of each (WHATWG HTML §9.2.6).
fn events(stream: &str) -> Vec<(String, String, Option<String>)> {
    let (mut id, mut event, mut data) = (String::new(), String::new(), None::<String>);
    let mut events = Vec::new();
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    for line in stream.strip_suffix('\n').expect("a whole line").split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if data.is_some() {
                    events.push((id.clone(), std::mem::take(&mut event), data.take()));
                }
                event.clear();
            }
            "id" if !value.contains('\0') => id = value.into(),
            "event" => event = value.into(),
            "data" => {
                let line = |data| format!("{data}\n{value}");
                data = Some(data.map_or_else(|| value.into(), line));
            }
            _ => {}
        }
    }
    events
}

/// Everything there is to be said about a payload: the message, and its words in each dialect.
struct Golden {
    message: fn() -> Message,
    binary: bool,
    payload: &'static [u8],
    meta: &'static str,
    envelope: &'static str,
    raw_event: &'static str,
}

const GOLDEN: [Golden; 7] = [
    Golden {
        message: || "hi".into(),
        binary: false,
        payload: b"hi",
        meta: "",
        envelope: r#""text":"hi""#,
        raw_event: "data: hi\n\n",
    },
    Golden {
        message: || json("{\"a\":\r\n1}").event("tick"),
        binary: false,
        payload: b"{\"a\":  1}",
        meta: "event: tick\ncontent-type: application/json\n",
        envelope: r#""event":"tick","data":{"a":  1}"#,
        raw_event: "event: tick\ndata: {\"a\":  1}\n\n",
    },
    Golden {
        message: || Message::from("[1]").media_type("application/json"),
        binary: false,
        payload: b"[1]",
        meta: "content-type: application/json\n",
        envelope: r#""data":[1]"#,
        raw_event: "data: [1]\n\n",
    },
    Golden {
        message: || Message::from("[1]").media_type("application/ld+json; a=\"b\""),
        binary: false,
        payload: b"[1]",
        meta: "content-type: application/ld+json; a=\"b\"\n",
        envelope: r#""type":"application/ld+json; a=\"b\"","data":[1]"#,
        raw_event: "data: [1]\n\n",
    },
    Golden {
        message: || Message::from("{").media_type("text/plain").event("\"\\"),
        binary: false,
        payload: b"{",
        meta: "event: \"\\\ncontent-type: text/plain\n",
        envelope: r#""event":"\"\\","type":"text/plain","text":"{""#,
        raw_event: "event: \"\\\ndata: {\n\n",
    },
    Golden {
        message: || Message::bytes(*b"\xff\0\r\n").media_type("image/png").event("tick"),
        binary: true,
        payload: b"\xff\0\r\n",
        meta: "event: tick\ncontent-type: image/png\n",
        envelope: r#""event":"tick","type":"image/png","b64":"/wANCg==""#,
        raw_event: "event: binary\ndata: /wANCg==\n\n",
    },
    Golden {
        message: || Message::bytes(*b"\xff").media_type("application/octet-stream"),
        binary: true,
        payload: b"\xff",
        meta: "content-type: application/octet-stream\n",
        envelope: r#""b64":"/w==""#,
        raw_event: "event: binary\ndata: /w==\n\n",
    },
];

#[test]
fn each_form_of_publication_in_each_dialect() {
    for golden in &GOLDEN {
        let render = |dialect| rendered(dialect, (golden.message)());
        let opcode = if golden.binary { 2 } else { 1 };
        let head = format!(r#""channel":"news","id":"k3J9xQ-42","time":{TIME}"#);
        let fields = format!("{head},{}", golden.envelope);
        assert_eq!(unframed(&render(Dialect::WsRaw)), (opcode, golden.payload));
        let meta =
            [format!("id: k3J9xQ-42\n{}\n", golden.meta).as_bytes(), golden.payload].concat();
        assert_eq!(unframed(&render(Dialect::WsMeta)), (opcode, &meta[..]));
        let plain = format!(r#"{{"op":"message",{fields}}}"#);
        assert_eq!(unframed(&render(Dialect::WsJson)), (1, plain.as_bytes()));
        let placed = format!(r#"{{"op":"message",{fields},"cursor":"k3J9xQ-42"}}"#);
        assert_eq!(unframed(&render(Dialect::WsJsonCursor)), (1, placed.as_bytes()));
        let envelope = format!("{{{fields}}}");
        assert_eq!(render(Dialect::Poll), envelope.as_bytes());
        assert!(json::is_valid(plain.as_bytes()) && json::is_valid(envelope.as_bytes()));
        let raw = format!("id: k3J9xQ-42\n{}", golden.raw_event);
        let enveloped = format!("event: message\nid: k3J9xQ-42\ndata: {envelope}\n\n");
        for (number, expected) in [raw, enveloped].iter().enumerate() {
            assert_eq!(render(BARE[number]), expected.as_bytes());
            assert_eq!(unchunked(&render(CHUNKED[number])), (expected.as_bytes(), &b""[..]));
        }
    }
}

#[test]
fn whole_bytes_as_they_go_over_the_wire() {
    let all = |dialect| String::from_utf8(rendered(dialect, "hi".into())).expect("text");
    let fields = r#""channel":"news","id":"k3J9xQ-42","time":1764000000123,"text":"hi""#;
    assert_eq!(rendered(Dialect::WsRaw, "hi".into()), b"\x81\x02hi");
    assert_eq!(rendered(Dialect::WsRaw, Message::bytes(*b"\xff")), b"\x82\x01\xff");
    assert_eq!(rendered(Dialect::WsMeta, "hi".into()), b"\x81\x11id: k3J9xQ-42\n\nhi");
    assert_eq!(all(CHUNKED[0]), "18\r\nid: k3J9xQ-42\ndata: hi\n\n\r\n");
    let expected = format!("69\r\nevent: message\nid: k3J9xQ-42\ndata: {{{fields}}}\n\n\r\n");
    assert_eq!(all(CHUNKED[1]), expected);
    let expected = [b"\x81\x53{\"op\":\"message\",", fields.as_bytes(), b"}"].concat();
    assert_eq!(rendered(Dialect::WsJson, "hi".into()), expected);
}

#[test]
fn a_payload_cannot_end_its_event() {
    let cases = [
        ("", "data: \n"),
        (" a", "data:  a\n"),
        ("a\nb", "data: a\ndata: b\n"),
        ("a\rb", "data: a\ndata: b\n"),
        ("a\r\nb", "data: a\ndata: b\n"),
        ("a\n", "data: a\ndata: \n"),
        ("\n", "data: \ndata: \n"),
        ("a\n\nb", "data: a\ndata: \ndata: b\n"),
        ("a\r\n\r\nb", "data: a\ndata: \ndata: b\n"),
        ("a\r\r\nb", "data: a\ndata: \ndata: b\n"),
        ("a\n\rb", "data: a\ndata: \ndata: b\n"),
        ("data: a", "data: data: a\n"),
        ("id: 7\nevent: bye\n\n:", "data: id: 7\ndata: event: bye\ndata: \ndata: :\n"),
        ("a\0b", "data: a\0b\n"),
        ("\u{feff}a", "data: \u{feff}a\n"),
        ("a\u{2028}b\u{85}\u{b}", "data: a\u{2028}b\u{85}\u{b}\n"),
    ];
    for (payload, lines) in cases {
        let bytes = rendered(BARE[0], payload.into());
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text, format!("id: k3J9xQ-42\n{lines}\n"), "{payload:?}");
    }
}

#[test]
fn an_event_stream_reads_back_as_what_was_published() {
    let mut rng = fastrand::Rng::with_seed(42);
    let alphabet = ["\r", "\n", "\r\n", " ", ":", "data", "id: ", "event:", "\0", "\u{feff}", "ä"];
    for _ in 0..2_000 {
        let count = rng.usize(0..8);
        let payload: String = (0..count).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
        let as_read = payload.replace("\r\n", "\n").replace('\r', "\n");
        let stream = |dialect| {
            let twice = rendered(dialect, Message::from(&*payload).event("tick")).repeat(2);
            events(std::str::from_utf8(&twice).expect("text"))
        };
        let one = ("k3J9xQ-42".to_owned(), "tick".to_owned(), Some(as_read));
        assert_eq!(stream(BARE[0]), [one.clone(), one], "{payload:?}");
        let enveloped = stream(BARE[1]);
        assert!(enveloped.len() == 2 && enveloped[0].1 == "message", "{payload:?}");
        let envelope = enveloped[0].2.as_deref().expect("data");
        let mut expected = Vec::new();
        json::write_string(&mut expected, &payload);
        assert!(envelope.ends_with(&format!(",\"text\":{}}}", String::from_utf8_lossy(&expected))));
        assert!(json::is_valid(envelope.as_bytes()));
    }
}

#[test]
fn frames_have_the_shortest_length_whatever_is_around_the_payload() {
    // Around each boundary of the payload, and so far below that the whole frame crosses it.
    let edges = [0..130, 126..300, 65_150..65_160, 65_380..65_540];
    for len in edges.into_iter().flatten().chain([65_535, 65_536, 200_000]) {
        let message = || Message::from("x".repeat(len));
        for dialect in WS {
            let bytes = rendered(dialect, message());
            let (opcode, payload) = unframed(&bytes);
            assert_eq!(opcode, 1);
            let around = payload.len() - len;
            assert!(around < 150 && (dialect != Dialect::WsRaw || around == 0), "{len}");
        }
    }
    for (len, header) in [
        (125, &[0x81, 125][..]),
        (126, &[0x81, 126, 0, 126]),
        (65_535, &[0x81, 126, 255, 255]),
        (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let bytes = rendered(Dialect::WsRaw, Message::from("x".repeat(len)));
        assert_eq!(bytes.len(), header.len() + len);
        assert!(bytes.starts_with(header), "{len}");
    }
    // Escapes make a text longer than anyone could foresee.
    for len in [20, 21, 10_900, 10_950, 60_000] {
        let bytes = rendered(Dialect::WsJson, Message::from("\u{1}".repeat(len)));
        assert!(unframed(&bytes).1.len() > 6 * len);
    }
}

#[test]
fn chunks_say_their_size_in_as_many_digits_as_it_needs() {
    let around = rendered(BARE[0], "".into()).len();
    for size in [24, 255, 256, 4_095, 4_096, 65_535, 65_536, 0x0010_0000] {
        let bytes = rendered(CHUNKED[0], Message::from("x".repeat(size - around)));
        assert!(bytes.starts_with(format!("{size:x}\r\n").as_bytes()), "{size}");
        assert_eq!(unchunked(&bytes).0.len(), size);
        let bytes = rendered(CHUNKED[1], Message::from("x".repeat(size - around)));
        assert_eq!(unchunked(&bytes).1, b"");
    }
}

#[test]
fn an_empty_payload_is_a_message() {
    assert_eq!(rendered(Dialect::WsRaw, "".into()), b"\x81\x00");
    assert_eq!(rendered(Dialect::WsMeta, "".into()), b"\x81\x0fid: k3J9xQ-42\n\n");
    assert!(rendered(Dialect::Poll, "".into()).ends_with(b",\"text\":\"\"}"));
    assert_eq!(rendered(BARE[0], "".into()), b"id: k3J9xQ-42\ndata: \n\n");
}

/// Asserts what all dialects make of one push: frames of the WebSockets, the two event streams.
fn assert_push(
    write: impl Fn(Dialect, &mut Vec<u8>),
    [raw, meta, json]: [&[&str]; 3],
    [sse_raw, sse_json]: [&str; 2],
) {
    let all = |dialect| written(|out| write(dialect, out));
    for (dialect, frames) in [
        (Dialect::WsRaw, raw),
        (Dialect::WsMeta, meta),
        (Dialect::WsJson, json),
        (Dialect::WsJsonCursor, json),
    ] {
        let mut expected = Vec::new();
        frames.iter().for_each(|frame| ws::emit(&mut expected, Opcode::Text, frame.as_bytes()));
        assert_eq!(all(dialect), expected, "{dialect:?}");
        assert!(dialect.is_websocket());
    }
    for (number, expected) in [sse_raw, sse_json].into_iter().enumerate() {
        assert_eq!(all(BARE[number]), expected.as_bytes());
        let chunked = all(CHUNKED[number]);
        assert!(!CHUNKED[number].is_websocket());
        if expected.is_empty() {
            assert_eq!(chunked, b"");
        } else {
            assert_eq!(unchunked(&chunked).0, expected.as_bytes());
        }
    }
    assert_eq!(all(Dialect::Poll), b"", "an answer says it in its head or around its messages");
}

#[test]
fn a_heartbeat_says_the_position() {
    let comment = ": heartbeat\nid: k3J9xQ-7\n\n";
    assert_push(
        |dialect, out| dialect.heartbeat(out, cursor(7)),
        [&[], &["cursor: k3J9xQ-7\n\n"], &[r#"{"op":"heartbeat","cursor":"k3J9xQ-7"}"#]],
        [comment, comment],
    );
    // The id of a comment is kept by a client all the same, and nothing is dispatched.
    assert_eq!(events(comment), []);
}

#[test]
fn a_gap_says_what_was_lost() {
    let gap = Gap {
        channels: vec!["a".into(), "b.c".into()],
        reason: "trimmed",
        since: Some(cursor(3)),
        resumed: cursor(9),
        spread_ms: 2_100,
    };
    let fields = concat!(
        r#""channels":["a","b.c"],"reason":"trimmed","since":"k3J9xQ-3","#,
        r#""resumed":"k3J9xQ-9","spread_ms":2100"#
    );
    let line = "reason=trimmed; since=k3J9xQ-3; resumed=k3J9xQ-9";
    assert_eq!(written(|out| gap.write_json(out)), format!("{{{fields}}}").as_bytes());
    assert_eq!(written(|out| gap.write_line(out)), line.as_bytes());
    assert_push(
        |dialect, out| dialect.gap(out, &gap, cursor(7)),
        [
            &[],
            &[&format!("gap: {line}\n\n"), "cursor: k3J9xQ-9\n\n"],
            &[&format!(r#"{{"op":"gap",{fields}}}"#)],
        ],
        [
            &format!("event: holdline-gap\nid: k3J9xQ-7\ndata: {{{fields}}}\n\n"),
            &format!("event: gap\nid: k3J9xQ-7\ndata: {{{fields}}}\n\n"),
        ],
    );
    let unplaced = Gap { since: None, ..gap };
    let line = "reason=trimmed; since=; resumed=k3J9xQ-9";
    assert_eq!(written(|out| unplaced.write_line(out)), line.as_bytes());
    let object = String::from_utf8(written(|out| unplaced.write_json(out))).expect("text");
    assert!(object.contains(r#""since":"","resumed""#));
}

#[test]
fn only_the_json_protocol_says_live() {
    assert_push(
        |dialect, out| dialect.live(out, "news", cursor(7)),
        [&[], &[], &[r#"{"op":"live","channel":"news","cursor":"k3J9xQ-7"}"#]],
        ["", ""],
    );
}

#[test]
fn a_stream_ends_with_its_bye() {
    let both = "retry: 2731\n\nevent: bye\ndata: {\"retry_ms\":2731}\n\n";
    assert_push(
        |dialect, out| dialect.bye(out, 2_731),
        [&[], &[], &[r#"{"op":"bye","code":1012,"retry_ms":2731}"#]],
        ["retry: 2731\n\n", both],
    );
    for dialect in CHUNKED {
        let bytes = written(|out| dialect.bye(out, 2_731));
        assert_eq!(unchunked(&bytes).1, b"0\r\n\r\n");
    }
}

#[test]
fn the_first_block_says_when_to_come_back_and_the_position_if_it_is_safe() {
    let placed = "retry: 2000\nid: k3J9xQ-42\n\n";
    let cases = [(Some(cursor(42)), placed), (None, "retry: 2000\n\n")];
    for (id, expected) in cases {
        let bare = written(|out| Framing::Bare.first_block(out, 2_000, id));
        assert_eq!(bare, expected.as_bytes());
        let chunked = written(|out| Framing::Chunked.first_block(out, 2_000, id));
        assert_eq!(chunked, format!("{:x}\r\n{expected}\r\n", expected.len()).as_bytes());
    }
    assert_eq!(events(placed), [], "it dispatches nothing");
    assert_eq!(written(|out| Framing::Bare.end(out)), b"");
    assert_eq!(written(|out| Framing::Chunked.end(out)), b"0\r\n\r\n");
}

#[test]
fn of_gaps_that_belong_together_only_the_last_says_a_position() {
    let gap = |channel: &str, resumed| Gap {
        channels: vec![channel.into()],
        reason: "slow",
        since: None,
        resumed: cursor(resumed),
        spread_ms: 0,
    };
    let gaps = [gap("a", 3), gap("b", 5)];
    let object = |channel: &str, resumed: u64| {
        format!(
            r#"{{"channels":["{channel}"],"reason":"slow","since":"","resumed":"k3J9xQ-{resumed}","spread_ms":0}}"#
        )
    };
    let dialect = Dialect::SseJson(Framing::Bare);
    let (a, b) = (object("a", 3), object("b", 5));
    let expected = format!("event: gap\ndata: {a}\n\nevent: gap\nid: k3J9xQ-7\ndata: {b}\n\n");
    assert_eq!(written(|out| dialect.gaps(out, &gaps, cursor(7))), expected.as_bytes());
    assert_eq!(written(|out| dialect.gaps(out, &[], cursor(7))), b"");
}

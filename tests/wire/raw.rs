//! Raw mode: a channel is a URL and the body is the message, on every transport.

use crate::clients::ws::{BINARY, CLOSE, Frame, GapLine, Meta, TEXT, Ws, close_code, frame_head};
use crate::clients::{
    Answer, Headers, Http, Sse, call, get, kept, publish, publish_many, seq, text_of,
};
use crate::clients::{lossy, wait_subscribers};
use crate::support::Running;
use serde_json::json;

#[track_caller]
fn post(server: &Running, headers: Headers<'_>, body: &[u8]) {
    let answer = call(server, "POST", "/channels/a", headers, body);
    assert!(matches!(answer.status, 201 | 202), "expected 201 or 202, came {answer:?}");
}

#[track_caller]
fn expect_frame(ws: &mut Ws, opcode: u8, payload: &[u8]) {
    let Frame { opcode: kind, payload: came, .. } = ws.message();
    let came = (kind, lossy(&came));
    assert_eq!(came, (opcode, lossy(payload)), "opcode and payload of a frame");
}

/// A cursor that no server gave out.
const LOST: &str = "zzzzzzzz-5";

#[test]
fn post_and_put_publish_the_body() {
    let server = Running::start(&[]);
    for (method, body) in [("POST", "one"), ("PUT", "two")] {
        let answer = call(&server, method, "/channels/a", &[], body.as_bytes()).expect(202);
        let told = answer.json();
        assert_eq!((&told["channel"], &told["subscribers"]), (&json!("a"), &json!(0)));
        let last = kept(&server, "a").pop().expect("it is kept");
        assert_eq!((&last["text"], &last["id"]), (&json!(body), &told["id"]));
    }
}

#[test]
fn a_chunked_body_is_published_as_well() {
    let server = Running::start(&[]);
    let mut http = Http::open(&server);
    let head = "POST /channels/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    http.wire.send(head.as_bytes());
    http.wire.send(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    http.answer("POST").expect(202);
    assert_eq!(kept(&server, "a")[0]["text"], "abcde");
    http.wire.send(head.as_bytes());
    http.wire.send(b"10001\r\n");
    http.answer("POST").expect_error(413, "too_large");
}

#[test]
fn a_websocket_frame_in_publishes_and_a_frame_out_is_a_payload() {
    let server = Running::start(&[]);
    let mut ws = Ws::open(&server, "/channels/a");
    let sent: [(u8, &[u8], u8); 5] = [
        (TEXT, "h\u{e4}".as_bytes(), TEXT),
        (TEXT, b"", TEXT),
        (BINARY, b"utf-8", TEXT),
        (BINARY, b"\xff\x00", BINARY),
        (BINARY, b"", TEXT),
    ];
    for (opcode, payload, out) in sent {
        ws.send(opcode, payload);
        expect_frame(&mut ws, out, payload);
    }
    ws.send_frame(TEXT, b"in ");
    ws.send_frame(0, b"");
    ws.send_frame(0x80, b"parts");
    expect_frame(&mut ws, TEXT, b"in parts");
    post(&server, &[("Content-Type", "application/json")], b"[1]");
    expect_frame(&mut ws, TEXT, b"[1]");
    let kept = kept(&server, "a");
    let octets = "application/octet-stream";
    assert_eq!((&kept[0]["text"], kept[0].get("type")), (&json!("h\u{e4}"), None));
    assert_eq!((&kept[2]["text"], &kept[2]["type"]), (&json!("utf-8"), &json!(octets)));
    assert_eq!((&kept[3]["b64"], kept[3].get("type")), (&json!("/wA="), None));
}

#[test]
fn a_websocket_replays_from_since_and_goes_on_live() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..4);
    let forms = [(ids[1].as_str(), 2), ("earliest", 0), ("1h", 0), (&ids[3], 4)];
    for ((since, first), last) in forms.into_iter().zip(4..) {
        let mut ws = Ws::open(&server, &format!("/channels/a?since={since}"));
        for n in first..last {
            expect_frame(&mut ws, TEXT, n.to_string().as_bytes());
        }
        publish(&server, "a", last.to_string());
        expect_frame(&mut ws, TEXT, last.to_string().as_bytes());
    }
    let mut ws = Ws::open(&server, "/channels/a");
    wait_subscribers(&server, "a", 1);
    publish(&server, "a", "from now on");
    expect_frame(&mut ws, TEXT, b"from now on");
}

#[test]
fn a_websocket_message_has_at_most_64_kib() {
    let server = Running::start(&[]);
    let full = vec![b'x'; 65536];
    let mut ws = Ws::open(&server, "/channels/a");
    ws.send(TEXT, &full);
    expect_frame(&mut ws, TEXT, &full);
    ws.send_frame(TEXT, &full);
    ws.send_frame(0x80, b"x");
    assert_eq!(ws.closed().0, 1009, "too large in two fragments");
    let mut ws = Ws::open(&server, "/channels/a");
    // The length alone decides: the payload is never sent.
    ws.wire.send(&frame_head(0x80 | BINARY, 0x80, 65537));
    assert_eq!(ws.closed().0, 1009, "too large in one frame");
    assert_eq!(get(&server, "/channels/a").json()["messages"], 1);
}

#[test]
fn a_raw_websocket_knows_only_the_meta_subprotocol() {
    let server = Running::start(&[]);
    for offer in ["holdline.v1.json", "mqtt", "mqtt, holdline.v1.json"] {
        let offered = [("Sec-WebSocket-Protocol", offer)];
        let refused = Ws::handshake(&server, "/channels/a", &offered).err().expect("no 101");
        assert_eq!(refused.status, 400, "for {offer}, came {refused:?}");
    }
    let offered = [("Sec-WebSocket-Protocol", "mqtt, holdline.v1.meta")];
    let ws = Ws::with(&server, "/channels/a", &offered);
    assert_eq!(ws.head.must_header("sec-websocket-protocol"), "holdline.v1.meta");
    let none = Ws::open(&server, "/channels/a");
    assert_eq!(none.head.header("sec-websocket-protocol"), None, "none was offered");
}

#[test]
fn meta_frames_carry_id_event_and_content_type() {
    let server = Running::start(&[]);
    let start = publish(&server, "a", "before");
    let mut ws = Ws::meta(&server, &format!("/channels/a?since={start}"));
    let frame = ws.message();
    let first = (frame.opcode, lossy(&frame.payload));
    assert_eq!(first, (TEXT, format!("cursor: {start}\n\n")), "the first frame");
    post(&server, &[("Event", "e"), ("Content-Type", "text/x")], b"a\n\nb");
    let id = text_of(&kept(&server, "a")[1], "id").to_owned();
    expect_frame(
        &mut ws,
        TEXT,
        format!("id: {id}\nevent: e\ncontent-type: text/x\n\na\n\nb").as_bytes(),
    );
    post(&server, &[], b"\xff");
    let binary = Meta::read(&mut ws);
    assert_eq!((binary.opcode, binary.payload.as_slice()), (BINARY, &b"\xff"[..]), "{binary:?}");
    assert_eq!(binary.lines.len(), 1, "only an id was there to say, came {binary:?}");
    let object = r#"{"channel":"a","data":{"n":1}}"#;
    let sent = call(&server, "POST", "/publish", &[], object.as_bytes()).expect(200).json();
    let data = Meta::read(&mut ws);
    assert_eq!(data.must("id"), text_of(&sent, "id"));
    assert_eq!((data.must("content-type"), data.get("event")), ("application/json", None));
    assert_eq!(lossy(&data.payload), r#"{"n":1}"#);
    ws.say("id: forged\n\nplain");
    let own = Meta::read(&mut ws);
    assert_eq!(lossy(&own.payload), "id: forged\n\nplain", "a frame in is a plain payload");
    seq(own.must("id"));
}

#[test]
fn meta_begins_with_a_cursor_that_resumes() {
    let server = Running::start(&[]);
    let old = publish(&server, "a", "old");
    let mut ws = Ws::meta(&server, "/channels/a");
    let first = Meta::read(&mut ws);
    assert!(first.payload.is_empty(), "no payload in {first:?}");
    let cursor = first.must("cursor").to_owned();
    assert!(seq(&cursor) >= seq(&old), "delivery starts now, came {first:?}");
    publish(&server, "a", "new");
    assert_eq!(lossy(&Meta::read(&mut ws).payload), "new");
    let mut again = Ws::open(&server, &format!("/channels/a?since={cursor}"));
    expect_frame(&mut again, TEXT, b"new");
}

#[test]
fn a_stream_begins_with_retry_and_id_and_names_ids_and_events() {
    let server = Running::start(&[]);
    let old = publish(&server, "a", "old");
    let mut sse = Sse::open(&server, "/channels/a", &[]);
    let first = sse.block().expect("the first block");
    let retry = first.retry.unwrap_or_default();
    assert!((2000..=5000).contains(&retry) && first.data.is_none(), "came {first:?}");
    let start = first.id.expect("an id in the first block");
    assert!(seq(&start) >= seq(&old), "delivery starts now, came {start}");
    let id = publish(&server, "a", "plain");
    let plain = sse.event();
    assert_eq!((plain.id, plain.event.as_str()), (Some(id), ""), "id, and no event");
    assert_eq!(plain.data.as_deref(), Some("plain"));
    post(&server, &[("Event", "tick")], b"named");
    let named = sse.event();
    assert_eq!((named.event.as_str(), named.data.as_deref()), ("tick", Some("named")));
    let mut again = Sse::open(&server, &format!("/channels/a?since={start}"), &[]);
    assert_eq!(again.event().data.as_deref(), Some("plain"));
}

#[test]
fn a_payload_is_split_at_every_line_end() {
    let server = Running::start(&[]);
    let mut sse = Sse::open(&server, "/channels/a", &[]);
    sse.block().expect("the first block");
    let rows = [
        ("a\nb", "a\nb"),
        ("a\rb", "a\nb"),
        ("a\r\nb", "a\nb"),
        ("a\n\rb\r\n\r\n", "a\n\nb\n\n"),
        ("x\nid: 7\r\revent: forged\ndata: y", "x\nid: 7\n\nevent: forged\ndata: y"),
        (" two spaces", " two spaces"),
        ("", ""),
        ("\n", "\n"),
        ("\u{feff}:", "\u{feff}:"),
    ];
    for (payload, data) in rows {
        let id = publish(&server, "a", payload);
        let event = sse.event();
        assert_eq!(event.data.as_deref(), Some(data), "published {payload:?}, came {event:?}");
        assert_eq!((event.id, event.event.as_str()), (Some(id), ""), "published {payload:?}");
    }
    post(&server, &[("Event", "hidden")], b"\xff\n");
    let binary = sse.event();
    assert_eq!((binary.event.as_str(), binary.data.as_deref()), ("binary", Some("/wo=")));
}

#[test]
fn accept_decides_between_stream_and_information() {
    let server = Running::start(&[]);
    let both = "text/html;q=0.9, Text/Event-Stream;q=0.1";
    for accept in ["text/event-stream", "TEXT/EVENT-STREAM", both, "a/b,text/event-stream ; x=y"] {
        let sse = Sse::open(&server, "/channels/a", &[("Accept", accept)]);
        assert_eq!(sse.head.must_header("x-accel-buffering"), "no");
    }
    for accept in ["*/*", "text/*", "text/event-stream;q=0", "text/event-stream; q=0.0", ""] {
        let answer = call(&server, "GET", "/channels/a", &[("Accept", accept)], b"").expect(200);
        assert_eq!(answer.json()["channel"], "a", "for Accept: {accept}");
    }
    let html =
        call(&server, "GET", "/channels/a", &[("Accept", "text/html, */*")], b"").expect(200);
    assert!(html.must_header("content-type").starts_with("text/html"), "came {html:?}");
    let upgrade = [("Upgrade", "h2c"), ("Connection", "Upgrade")];
    let other = call(&server, "GET", "/channels/a", &upgrade, b"").expect(200);
    assert_eq!(other.json()["channel"], "a", "an Upgrade to anything but websocket is ignored");
}

#[track_caller]
fn expect_raw(answer: &Answer, media: &str, payload: &[u8]) {
    assert_eq!(answer.status, 200, "came {answer:?}");
    assert_eq!(answer.must_header("content-type"), media, "came {answer:?}");
    assert_eq!(lossy(&answer.body), lossy(payload), "came {answer:?}");
    assert_eq!(answer.must_header("x-content-type-options"), "nosniff");
    assert_eq!(answer.must_header("content-security-policy"), "sandbox");
    assert!(answer.must_header("cache-control").contains("no-store"), "came {answer:?}");
}

#[test]
fn a_poll_gives_one_message_with_its_type_id_cursor_and_event() {
    let server = Running::start(&[]);
    let rows: [(Headers<'_>, &[u8], &str); 5] = [
        (&[("Content-Type", "text/html"), ("Event", "page")], b"<script>", "text/html"),
        (&[], b"plain", "text/plain; charset=utf-8"),
        (&[], b"\xff", "application/octet-stream"),
        (&[("Content-Type", "image/png")], b"PNG", "image/png"),
        (&[], b"", "text/plain; charset=utf-8"),
    ];
    for (headers, body, _) in rows {
        post(&server, headers, body);
    }
    let ids: Vec<String> = kept(&server, "a").iter().map(|m| text_of(m, "id").to_owned()).collect();
    let mut since = "earliest".to_owned();
    let mut http = Http::open(&server);
    for ((headers, body, media), id) in rows.iter().zip(&ids) {
        let answer = http.call("GET", &format!("/channels/a?since={since}"), &[], b"");
        expect_raw(&answer, media, body);
        assert_eq!(answer.must_header("holdline-id"), id);
        let event = headers.iter().find(|(name, _)| *name == "Event").map(|(_, value)| *value);
        assert_eq!(answer.header("event"), event, "came {answer:?}");
        since = answer.must_header("holdline-cursor").to_owned();
    }
    let end = http.call("GET", &format!("/channels/a?since={since}&wait=0"), &[], b"").expect(204);
    seq(end.must_header("holdline-cursor"));
    let object = br#"{"channel":"a","data":[1]}"#;
    call(&server, "POST", "/publish", &[], object).expect(200);
    let answer = http.call("GET", &format!("/channels/a?since={since}"), &[], b"");
    expect_raw(&answer, "application/json", b"[1]");
}

#[test]
fn a_held_poll_gets_the_next_message_or_204_with_a_cursor() {
    let server = Running::start(&[]);
    let old = publish(&server, "a", "old");
    let targets = [format!("/channels/a?since={old}"), "/channels/a?wait=25".to_owned()];
    for target in targets.iter().map(String::as_str).chain(["/channels/a?since=latest"]) {
        let mut http = Http::open(&server);
        http.ask("GET", target, &[], b"");
        wait_subscribers(&server, "a", 1);
        publish(&server, "a", "next");
        let answer = http.answer("GET");
        expect_raw(&answer, "text/plain; charset=utf-8", b"next");
        wait_subscribers(&server, "a", 0);
    }
    for wait in [0, 1] {
        let empty = get(&server, &format!("/channels/a?since=latest&wait={wait}")).expect(204);
        let cursor = empty.must_header("holdline-cursor");
        assert!(seq(cursor) >= seq(&old), "a fresh cursor, came {empty:?}");
        assert_eq!(empty.header("holdline-gap"), None, "came {empty:?}");
    }
    get(&server, "/channels/a?wait=x").expect_error(400, "bad_query");
}

#[test]
fn a_plain_get_tells_about_the_channel_and_delete_drops_its_history() {
    let server = Running::start(&[]);
    publish_many(&server, "a", 0..3);
    let other = publish(&server, "b", "other");
    let _reader = Sse::open(&server, "/channels/a", &[]);
    wait_subscribers(&server, "a", 1);
    let info = get(&server, "/channels/a").expect(200).json();
    assert_eq!((&info["channel"], &info["messages"]), (&json!("a"), &json!(3)), "came {info}");
    assert!(info["bytes"].as_u64() > Some(2), "came {info}");
    assert!(seq(text_of(&info, "cursor")) >= seq(&other), "came {info}");
    let answer = call(&server, "DELETE", "/channels/a", &[], b"").expect(204);
    assert_eq!(answer.header("content-length"), None, "204 has no length, came {answer:?}");
    let info = get(&server, "/channels/a").expect(200).json();
    assert_eq!((&info["messages"], &info["bytes"]), (&json!(0), &json!(0)), "came {info}");
    assert_eq!(info["subscribers"], 1, "who listens stays, came {info}");
    assert_eq!(kept(&server, "b").len(), 1);
    call(&server, "DELETE", "/channels/unused", &[], b"").expect(204);
}

#[test]
fn head_gives_the_headers_of_get_and_is_never_held() {
    let server = Running::start(&[]);
    publish(&server, "a", "x");
    let stream: Headers<'_> = &[("Accept", "text/event-stream")];
    let rows: [(&str, Headers<'_>, &str); 4] = [
        ("/channels/a", &[], "application/json"),
        ("/channels/a", stream, "text/event-stream"),
        ("/channels/a?since=earliest", &[], ""),
        ("/channels/a?wait=55", &[], ""),
    ];
    // On one connection: a body, or a held answer, would spoil what follows.
    let mut http = Http::open(&server);
    for (target, headers, media) in rows {
        let head = http.call("HEAD", target, headers, b"").expect(200);
        let came = head.header("content-type").unwrap_or_default();
        assert!(came.starts_with(media), "{media} for {target}, came {head:?}");
    }
    http.call("GET", "/channels/a", &[], b"").expect(200);
}

#[test]
fn a_stream_announces_a_gap_before_what_is_still_kept() {
    let server = Running::start(&["--history", "2"]);
    let ids = publish_many(&server, "a", 0..5);
    let mut sse = Sse::open(&server, &format!("/channels/a?since={}", ids[0]), &[]);
    let first = sse.block().expect("the first block");
    assert!(first.retry.is_some() && first.id.is_none(), "only retry, came {first:?}");
    let event = sse.event();
    let gap = event.json();
    assert_eq!(event.event, "holdline-gap", "came {event:?}");
    assert_eq!((&gap["channels"], &gap["reason"]), (&json!(["a"]), &json!("trimmed")), "{gap}");
    assert_eq!(gap["since"], ids[0], "came {gap}");
    assert_eq!(event.id.as_deref(), gap["resumed"].as_str(), "one channel, one position");
    let resumed = seq(text_of(&gap, "resumed"));
    assert!((seq(&ids[2])..seq(&ids[3])).contains(&resumed), "before {}, came {gap}", ids[3]);
    assert!(gap["spread_ms"].as_u64().is_some_and(|ms| ms <= 5000), "came {gap}");
    for n in ["3", "4"] {
        assert_eq!(sse.event().data.as_deref(), Some(n));
    }
}

#[test]
fn a_poll_announces_a_gap_in_a_header() {
    let server = Running::start(&[]);
    let nothing = get(&server, &format!("/channels/empty?since={LOST}&wait=25")).expect(204);
    let gap = GapLine::parse(nothing.must_header("holdline-gap"));
    assert_eq!((gap.reason.as_str(), gap.since.as_str()), ("epoch", LOST));
    seq(&gap.resumed);
    seq(nothing.must_header("holdline-cursor"));
    let ids = publish_many(&server, "a", 0..2);
    let first = get(&server, &format!("/channels/a?since={LOST}"));
    expect_raw(&first, "text/plain; charset=utf-8", b"0");
    let gap = GapLine::parse(first.must_header("holdline-gap"));
    assert!(seq(&gap.resumed) < seq(&ids[0]), "what is kept follows, came {gap:?}");
    let next = get(&server, &format!("/channels/a?since={}", first.must_header("holdline-cursor")));
    expect_raw(&next, "text/plain; charset=utf-8", b"1");
    assert_eq!(next.header("holdline-gap"), None, "a gap is told once, came {next:?}");
    let live = get(&server, &format!("/channels/a?since={LOST}&gap=live")).expect(204);
    let gap = GapLine::parse(live.must_header("holdline-gap"));
    assert!(seq(&gap.resumed) >= seq(&ids[1]), "gap=live skips what is kept, came {gap:?}");
}

#[test]
fn meta_announces_a_gap_then_the_cursor_where_it_goes_on() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    for (query, first) in [("", 0), ("&gap=live", 2)] {
        let mut ws = Ws::meta(&server, &format!("/channels/a?since={LOST}{query}"));
        let told = Meta::read(&mut ws);
        let gap = GapLine::parse(told.must("gap"));
        assert_eq!((gap.reason.as_str(), gap.since.as_str()), ("epoch", LOST), "{told:?}");
        assert_eq!(Meta::read(&mut ws).must("cursor"), gap.resumed, "then cursor: <resumed>");
        for id in &ids[first..] {
            assert_eq!(Meta::read(&mut ws).must("id"), id);
        }
        publish(&server, "a", "live");
        assert_eq!(lossy(&Meta::read(&mut ws).payload), "live", "with {query:?}");
    }
}

#[test]
fn a_plain_websocket_with_a_lost_cursor_is_closed_1013_gap() {
    let server = Running::start(&["--history", "2"]);
    let ids = publish_many(&server, "a", 0..4);
    for since in [LOST, &ids[0]] {
        let mut ws = Ws::open(&server, &format!("/channels/a?since={since}"));
        let frame = ws.message();
        assert_eq!(frame.opcode, CLOSE, "nothing before the Close, came {frame:?}");
        assert_eq!(close_code(&frame), (1013, "gap".to_owned()), "for since={since}");
    }
    let mut ws = Ws::open(&server, "/channels/a?since=1h");
    for n in [b"2", b"3"] {
        expect_frame(&mut ws, TEXT, n);
    }
}

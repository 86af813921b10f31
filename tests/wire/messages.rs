//! Names, positions, and what a message is made of, as publishers and readers see them.

use crate::clients::ws::Ws;
use crate::clients::{Answer, Sse, call, get, kept, messages, poll, publish, publish_many, seq};
use crate::clients::{PATIENCE, text_of, texts};
use crate::support::Running;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[track_caller]
fn post(
    server: &Running,
    target: &str,
    headers: crate::clients::Headers<'_>,
    body: &[u8],
) -> Answer {
    call(server, "POST", target, headers, body)
}

/// One object to `/publish`, with real status codes.
#[track_caller]
fn post_json(server: &Running, object: &str) -> Answer {
    post(server, "/publish", &[("Content-Type", "application/json")], object.as_bytes())
}

/// An envelope without what differs from message to message.
fn content(envelope: &Value) -> Value {
    let mut content = envelope.clone();
    let object = content.as_object_mut().expect("an envelope is an object");
    for name in ["channel", "id", "time"] {
        assert!(object.remove(name).is_some(), "expected {name} in {envelope}");
    }
    content
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn a_name_is_one_segment_of_the_alphabet_percent_decoded_once() {
    let server = Running::start(&[]);
    let long = "n".repeat(255);
    let names = [
        ("a", "a"),
        ("9", "9"),
        ("Z.b_c~d:e-f", "Z.b_c~d:e-f"),
        ("sensors.kitchen.temp", "sensors.kitchen.temp"),
        ("%61bc", "abc"),
        ("a%2Eb%7e", "a.b~"),
        (&long, &long),
    ];
    for (segment, name) in names {
        let answer = post(&server, &format!("/channels/{segment}"), &[], b"x").expect(202).json();
        assert_eq!(answer["channel"], name, "for the segment {segment}");
        let query = segment.replace('~', "%7E");
        let got = poll(&server, &format!("channel={query}&since=earliest&wait=0"));
        assert_eq!(got["messages"][0]["channel"], name, "for channel={query}");
    }
}

#[test]
fn any_other_name_is_bad_channel_and_the_message_shows_the_alphabet() {
    let server = Running::start(&[]);
    let long = "n".repeat(256);
    let bad = ["_x", ".x", "-x", "~x", ":x", "a+b", "a%20b", "a%2Fb", "a%25b", "a%00", "a%0A"];
    let worse = ["%C3%A4", "%2561", &long, "a,b", "a*"];
    let broken = ["", "%", "%zz", "a%4", "a%"];
    for segment in [&bad[..], &worse, &broken].concat() {
        let target = format!("/channels/{segment}");
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let answer = call(&server, method, &target, &[], b"");
            answer.expect_error(400, "bad_channel");
            let message = answer.json()["message"].to_string();
            assert!(broken.contains(&segment) || message.contains('~'), "came {message}");
        }
    }
    for segment in [&bad[5..6], &worse[3..]].concat() {
        for path in ["/poll?since=earliest&wait=0&", "/events?"] {
            // A + in a query is a space: as little a name as the + itself.
            let answer = get(&server, &format!("{path}channel={segment}"));
            answer.expect_error(400, "bad_channel");
        }
    }
    get(&server, "/poll?channel=a%zz").expect_error(400, "bad_query");
    post_json(&server, r#"{"channel":"a b","text":"x"}"#).expect_error(400, "bad_channel");
}

#[test]
fn an_unused_channel_exists_and_is_empty() {
    let server = Running::start(&[]);
    let info = get(&server, "/channels/never.used").expect(200).json();
    for (name, value) in [("subscribers", 0), ("messages", 0), ("bytes", 0)] {
        assert_eq!(info[name], value, "{name} of {info}");
    }
    assert_eq!(info["channel"], "never.used");
    seq(text_of(&info, "cursor"));
    assert!(kept(&server, "never.used").is_empty());
}

#[test]
fn ids_of_all_channels_are_one_order_and_since_is_exclusive() {
    let server = Running::start(&[]);
    let ids: Vec<String> = (0..6).map(|n| publish(&server, ["a", "b"][n % 2], "x")).collect();
    assert!(ids.windows(2).all(|w| seq(&w[0]) < seq(&w[1])), "ascending, came {ids:?}");
    let epoch = |id: &str| id.split('-').next().map(str::to_owned);
    assert!(ids.iter().all(|id| epoch(id) == epoch(&ids[0])), "one epoch, came {ids:?}");
    for (at, id) in ids.iter().enumerate() {
        // The id of a message of `b` is as good a position in `a`.
        let got = poll(&server, &format!("channel=a&channel=b&since={id}&wait=0"));
        let came: Vec<&str> = messages(&got).iter().map(|m| text_of(m, "id")).collect();
        assert_eq!(came, ids[at + 1..], "what follows {id}, came {got}");
    }
}

#[test]
fn every_form_of_since_is_understood() {
    let server = Running::start(&[]);
    let first = publish(&server, "a", "1");
    let second = publish(&server, "a", "2");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (past, future) = (format!("{}", now - 100), format!("{}", now + 10_000));
    let forms = [
        (first.as_str(), 1),
        (&second, 0),
        ("earliest", 2),
        ("latest", 0),
        ("100s", 2),
        ("9m", 2),
        ("1h", 2),
        ("9999d", 2),
        (&past, 2),
        (&future, 0),
        ("9999999999", 0),
    ];
    for (since, count) in forms {
        let got = poll(&server, &format!("channel=a&since={since}&wait=0"));
        let came = messages(&got).len();
        assert_eq!((came, &got["gap"]), (count, &Value::Null), "since={since}, came {got}");
        let cursor = text_of(&got, "cursor");
        assert!(seq(cursor) >= seq(&second), "since={since} leads to the end, came {got}");
    }
}

#[test]
fn a_malformed_since_in_a_query_is_bad_since_everywhere() {
    let server = Running::start(&[]);
    let words =
        "now Latest earliest%20 %2010m 10 10M 1w m 12345s 1.5h -1 -5m 123456789 12345678901";
    let cursors = "abc-1 abcdefghijklm-1 abcdef- abcdef-01 abcdef-%2B1 abcdef-1x abcd_f-1";
    let overflow = ["", "abcdef-18446744073709551616"];
    let bad = words.split(' ').chain(cursors.split(' ')).chain(overflow);
    for since in bad {
        let targets =
            ["/poll?wait=0&channel=a&since=", "/events?channel=a&since=", "/channels/a?since="];
        for target in targets {
            get(&server, &format!("{target}{since}")).expect_error(400, "bad_since");
        }
    }
    for target in ["/channels/a?since=1w", "/ws?channel=a&since=1w", "/ws?channel=a&since="] {
        let refused = Ws::handshake(&server, target, &[]).err().expect("no 101");
        refused.expect_error(400, "bad_since");
    }
    get(&server, "/poll?channel=a&last_event_id=x").expect_error(400, "bad_since");
    let mut ws = Ws::open(&server, "/ws");
    let (_, error) = ws.ask(r#"{"op":"subscribe","ref":1,"channel":"a","since":"1w"}"#);
    assert_eq!((&error["op"], &error["code"]), (&json!("error"), &json!("bad_since")));
}

#[test]
fn since_has_two_aliases_in_a_query() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    for name in ["since", "last_event_id", "lastEventId"] {
        let got = poll(&server, &format!("channel=a&wait=0&{name}={}", ids[0]));
        assert_eq!(got["messages"][0]["id"], ids[1], "with {name}, came {got}");
        let mut sse = Sse::open(&server, &format!("/channels/a?{name}={}", ids[0]), &[]);
        assert_eq!(sse.event().data.as_deref(), Some("1"), "with {name}");
    }
}

#[test]
fn a_header_wins_over_the_same_value_in_the_query() {
    let server = Running::start(&[]);
    let headers = [("Event", "head"), ("TTL", "100"), ("Idempotency-Key", "k1")];
    let id = |headers, query: &str| {
        let answer = post(&server, &format!("/channels/a?{query}"), headers, b"x").expect(202);
        text_of(&answer.json(), "id").to_owned()
    };
    let first = id(&headers, "event=query&ttl=0&idempotency_key=k2");
    let again = id(&headers, "idempotency_key=k3");
    assert_eq!(first, again, "the key of the header counts");
    assert_ne!(first, id(&[], "idempotency_key=k2"), "the key of the query did not count");
    let kept = kept(&server, "a");
    assert_eq!(kept[0]["id"], first, "the TTL of the header counts, kept {kept:?}");
    assert_eq!(kept[0]["event"], "head");
}

#[test]
fn a_payload_has_at_most_64_kib() {
    let server = Running::start(&[]);
    let (full, over) = (vec![b'x'; 65536], vec![b'x'; 65537]);
    post(&server, "/channels/a", &[], &full).expect(202);
    assert_eq!(get(&server, "/channels/a?since=earliest").expect(200).body, full);
    post(&server, "/channels/a", &[], &over).expect_error(413, "too_large");
    post(&server, "/channels/a", &[("Expect", "100-continue")], &over)
        .expect_error(413, "too_large");
}

#[test]
fn values_of_headers_and_queries_have_limits() {
    let server = Running::start(&[]);
    let text = |n| "k".repeat(n);
    let (k64, k65, k128, k129) = (text(64), text(65), text(128), text(129));
    let (t255, t256) = (format!("a/{}", text(253)), format!("a/{}", text(254)));
    let many_digits = "9".repeat(40);
    let good = [
        ("Content-Type", t255.as_str()),
        ("Event", &k64),
        ("Event", "!~"),
        ("Event", "opened"),
        ("TTL", "5"),
        ("TTL", &many_digits),
        ("Idempotency-Key", &k128),
        ("Idempotency-Key", "!~"),
    ];
    for header in good {
        let answer = post(&server, "/channels/a", &[header], b"x");
        assert_eq!(answer.status, 202, "for {header:?}, came {answer:?}");
    }
    let bad = [
        ("Event", k65.as_str()),
        ("Event", "a b"),
        ("Event", "\u{e4}"),
        ("Event", "open"),
        ("Event", "error"),
        ("Event", "binary"),
        ("Event", "holdline-x"),
        ("TTL", "-1"),
        ("TTL", "1.5"),
        ("TTL", "x"),
        ("Idempotency-Key", &k129),
        ("Idempotency-Key", "a b"),
        ("Idempotency-Key", "\u{e4}"),
    ];
    for (name, value) in bad {
        let answer = post(&server, "/channels/a", &[(name, value)], b"x");
        assert_eq!(answer.status, 400, "for {name}: {value}, came {answer:?}");
        answer.expect_error(400, "bad_request");
        let query = name.to_ascii_lowercase().replace('-', "_");
        let value = value.replace(' ', "%20").replace('\u{e4}', "%C3%A4");
        let answer = post(&server, &format!("/channels/a?{query}={value}"), &[], b"x");
        assert_eq!(answer.status, 400, "for ?{query}={value}, came {answer:?}");
        answer.expect_error(400, "bad_query");
    }
    post(&server, "/channels/a", &[("Content-Type", &t256)], b"x").expect_error(400, "bad_request");
    let kept = kept(&server, "a");
    assert_eq!(kept.len(), good.len(), "only the good ones are published, kept {kept:?}");
}

#[test]
fn a_message_with_ttl_zero_reaches_those_who_listen_and_is_never_replayed() {
    let server = Running::start(&[]);
    let before = publish(&server, "a", "before");
    let mut sse = Sse::open(&server, "/channels/a?since=latest", &[]);
    sse.block().expect("the first block");
    post(&server, "/channels/a?ttl=0", &[], b"now").expect(201);
    publish(&server, "a", "after");
    assert_eq!(sse.event().data.as_deref(), Some("now"));
    assert_eq!(sse.event().data.as_deref(), Some("after"));
    let got = poll(&server, &format!("channel=a&since={before}&wait=0"));
    assert_eq!(got["gap"], Value::Null, "what was never kept is no gap, came {got}");
    assert_eq!(texts(&got), ["after"]);
    assert_eq!(get(&server, "/channels/a").json()["messages"], 2, "it is not kept");
}

#[test]
fn a_message_is_kept_as_long_as_its_ttl_and_then_gone_without_a_gap() {
    let server = Running::start(&[]);
    let before = publish(&server, "a", "stays");
    let published = Instant::now();
    post(&server, "/channels/a", &[("TTL", "1")], b"goes").expect(202);
    loop {
        let got = poll(&server, &format!("channel=a&since={before}&wait=0"));
        let age = published.elapsed();
        assert_eq!(got["gap"], Value::Null, "a publisher's own ttl is no loss, came {got}");
        if got["messages"] == json!([]) {
            assert!(age >= Duration::from_secs(1), "kept for its second, gone after {age:?}");
            break;
        }
        assert_eq!(got["messages"][0]["text"], "goes", "came {got}");
        assert!(age < PATIENCE, "expected it to go after a second, came {got}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(kept(&server, "a")[0]["text"], "stays");
}

#[test]
fn the_same_key_on_the_same_channel_is_the_same_publication() {
    let server = Running::start(&[]);
    let key = [("Idempotency-Key", "order-7")];
    let first = post(&server, "/channels/a", &key, b"one").expect(202).json();
    let mut sse = Sse::open(&server, "/channels/a", &[]);
    sse.block().expect("the first block");
    let again = post(&server, "/channels/a", &key, b"another payload").expect(201).json();
    assert_eq!(again["id"], first["id"], "the first id");
    assert_eq!(again["subscribers"], 1, "today's subscribers");
    let by_query = post(&server, "/channels/a?idempotency_key=order-7", &[], b"x").expect(201);
    assert_eq!(by_query.json()["id"], first["id"]);
    let by_json = r#"{"channel":"a","idempotency_key":"order-7","data":1}"#;
    assert_eq!(post_json(&server, by_json).expect(201).json()["id"], first["id"]);
    let other = post(&server, "/channels/b", &key, b"one").expect(202).json();
    assert_ne!(other["id"], first["id"], "a key belongs to its channel");
    publish(&server, "a", "next");
    assert_eq!(sse.event().data.as_deref(), Some("next"), "nothing was delivered again");
}

#[test]
fn a_json_media_type_has_to_parse() {
    let server = Running::start(&[]);
    let send =
        |media: &str, body: &[u8]| post(&server, "/channels/a", &[("Content-Type", media)], body);
    let types = ["application/json", "application/geo+json", "application/json; charset=utf-8"];
    for media in types {
        for body in ["{", "nul", "1 2", "{'a':1}", "\"a\nb\"", "[1,]", &nested(33)] {
            let answer = send(media, body.as_bytes());
            assert_eq!(answer.status, 400, "for {media} {body:?}, came {answer:?}");
            answer.expect_error(400, "bad_json");
        }
        send(media, b"\"\xff\"").expect_error(400, "bad_json");
        for body in ["{}", " null ", "1e400", &nested(32)] {
            let answer = send(media, body.as_bytes());
            assert_eq!(answer.status, 202, "for {media} {body:?}, came {answer:?}");
        }
    }
    send("text/json", b"{").expect(202);
}

#[test]
fn json_is_kept_as_sent_except_for_line_ends_between_tokens() {
    let server = Running::start(&[]);
    let sent =
        "{\"n\":\r\n  1.10e0,\n\"big\":123456789012345678901234567890,\r\"n\":\"\\u00e4\\n\"}";
    let kept = sent.replace(['\r', '\n'], " ");
    let json = [("Content-Type", "application/json")];
    post(&server, "/channels/a", &json, sent.as_bytes()).expect(202);
    assert_eq!(get(&server, "/channels/a?since=earliest").expect(200).text(), kept);
    let body = get(&server, "/poll?channel=a&since=earliest&wait=0").expect(200).text();
    assert!(body.contains(&kept), "expected the bytes {kept:?} in {body:?}");
    let mut sse = Sse::open(&server, "/events?channel=a&since=earliest", &[]);
    let data = sse.event().data.unwrap_or_default();
    assert!(data.contains(&kept) && !data.contains('\n'), "one line with {kept:?}, came {data:?}");
}

#[test]
fn any_media_type_and_an_empty_payload_are_messages_but_no_content_encoding() {
    let server = Running::start(&[]);
    let any = [("Content-Type", "x-strange/type; a=b")];
    post(&server, "/channels/a", &any, b"").expect(202);
    post(&server, "/channels/a", &[], b"").expect(202);
    let kept = kept(&server, "a");
    assert_eq!(content(&kept[0]), json!({"type": "x-strange/type; a=b", "text": ""}));
    assert_eq!(content(&kept[1]), json!({"text": ""}));
    let encoded = [("Content-Encoding", "gzip")];
    post(&server, "/channels/a", &encoded, b"x").expect_error(415, "media_type");
}

#[test]
fn the_envelope_says_what_was_published_over_http() {
    let server = Running::start(&[]);
    let rows: [(&str, &[u8], Value); 14] = [
        ("", b"hi", json!({"text": "hi"})),
        ("", b"{\"a\":1}", json!({"text": "{\"a\":1}"})),
        ("", b"\xff\x00", json!({"b64": "/wA="})),
        ("application/x-www-form-urlencoded", b"a=b&c=%20+", json!({"text": "a=b&c=%20+"})),
        ("application/json", b"{\"a\":[1]}", json!({"data": {"a": [1]}})),
        ("application/json", b"null", json!({"data": null})),
        ("application/ld+json", b"[]", json!({"data": [], "type": "application/ld+json"})),
        ("text/plain", b"hi", json!({"text": "hi", "type": "text/plain"})),
        ("text/plain", b"\xff", json!({"b64": "/w==", "type": "text/plain"})),
        ("text/html; charset=x", b"<b>", json!({"text": "<b>", "type": "text/html; charset=x"})),
        ("image/png", b"\x89PNG\xff", json!({"b64": "iVBOR/8=", "type": "image/png"})),
        ("image/png", b"PNG", json!({"text": "PNG", "type": "image/png"})),
        ("application/octet-stream", b"\xff", json!({"b64": "/w=="})),
        (
            "application/octet-stream",
            b"t",
            json!({"text": "t", "type": "application/octet-stream"}),
        ),
    ];
    for (media, body, _) in &rows {
        let given = [("Content-Type", *media)];
        let headers = if media.is_empty() { &[] } else { &given[..] };
        post(&server, "/channels/a", headers, body).expect(202);
    }
    for (envelope, (media, _, expected)) in kept(&server, "a").iter().zip(&rows) {
        assert_eq!(&content(envelope), expected, "published as {media:?}");
    }
}

#[test]
fn the_envelope_says_where_and_when_and_names_the_event_only_if_given() {
    let server = Running::start(&[]);
    let ms =
        || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let before = ms();
    let answer = post(&server, "/channels/a", &[("Event", "price")], b"1").expect(202).json();
    let kept = kept(&server, "a");
    assert_eq!(kept[0]["id"], answer["id"]);
    assert_eq!((&kept[0]["channel"], &kept[0]["event"]), (&json!("a"), &json!("price")));
    let time = kept[0]["time"].as_u64().unwrap_or_default();
    // A server may read its clock once per turn.
    assert!((before - 1000..=ms() + 1000).contains(&time), "unix ms of now, came {}", kept[0]);
}

#[test]
fn json_objects_say_a_message_in_fields() {
    let server = Running::start(&[]);
    let octets = r#""type":"application/octet-stream""#;
    let rows = [
        (r#""data":{"a":[1,null]}"#, json!({"data": {"a": [1, null]}})),
        (r#""data":null"#, json!({"data": null})),
        (r#""data":1,"type":"application/json""#, json!({"data": 1})),
        (r#""data":1,"type":"a/b+json""#, json!({"data": 1, "type": "a/b+json"})),
        (r#""text":"h\u00e4\n""#, json!({"text": "h\u{e4}\n"})),
        (r#""text":"","event":"tick","ttl":60"#, json!({"text": "", "event": "tick"})),
        (r#""text":"[1]","type":"application/json""#, json!({"data": [1]})),
        (r#""text":"<b>","type":"text/html""#, json!({"text": "<b>", "type": "text/html"})),
        (r#""b64":"/wA=""#, json!({"b64": "/wA="})),
        (r#""b64":"aGk=""#, json!({"text": "hi"})),
        (&format!(r#""b64":"/w==",{octets}"#), json!({"b64": "/w=="})),
        (r#""b64":"","unknown":[{}]"#, json!({"text": ""})),
    ];
    for (fields, _) in &rows {
        let answer = post_json(&server, &format!("{{\"channel\":\"a\",{fields}}}"));
        assert_eq!(answer.status, 202, "for {fields}, came {answer:?}");
    }
    for (envelope, (fields, expected)) in kept(&server, "a").iter().zip(&rows) {
        assert_eq!(&content(envelope), expected, "published as {fields}");
    }
}

#[test]
fn json_objects_with_bad_values_are_bad_request() {
    let server = Running::start(&[]);
    let long = |name: &str, n| format!("\"text\":\"x\",\"{name}\":\"{}\"", "k".repeat(n));
    let rows = [
        r#""event":"no-payload""#,
        r#""text":"x","data":1"#,
        r#""text":"x","b64":"""#,
        r#""text":5"#,
        r#""b64":"aGk""#,
        r#""b64":"_w==""#,
        r#""b64":7"#,
        r#""data":1,"type":"text/plain""#,
        r#""text":"{","type":"application/json""#,
        r#""b64":"/w==","type":"a/b+json""#,
        r#""text":"x","type":"""#,
        r#""text":"x","type":"a/\u00e4""#,
        r#""text":"x","type":1"#,
        r#""text":"x","event":"open""#,
        r#""text":"x","event":"holdline-gap""#,
        r#""text":"x","event":"a\nb""#,
        r#""text":"x","event":3"#,
        r#""text":"x","ttl":-1"#,
        r#""text":"x","ttl":1.5"#,
        r#""text":"x","ttl":"5""#,
        r#""text":"x","idempotency_key":"a b""#,
        r#""text":"x","idempotency_key":5"#,
        &long("event", 65),
        &long("type", 256),
        &long("idempotency_key", 129),
    ];
    for fields in rows {
        let answer = post_json(&server, &format!("{{\"channel\":\"a\",{fields}}}"));
        assert_eq!(answer.status, 400, "for {fields}, came {answer:?}");
        answer.expect_error(400, "bad_request");
    }
    assert!(kept(&server, "a").is_empty(), "none of them was published");
}

#[test]
fn a_publisher_is_told_how_many_listened() {
    let server = Running::start(&[]);
    let alone = post(&server, "/channels/a", &[], b"x").expect(202).json();
    assert_eq!((&alone["channel"], &alone["subscribers"]), (&json!("a"), &json!(0)));
    let mut readers: Vec<Sse> =
        (0..2).map(|_| Sse::open(&server, "/events?channel=a&channel=b", &[])).collect();
    for reader in &mut readers {
        reader.block().expect("the first block");
    }
    let heard = post(&server, "/channels/a", &[], b"y").expect(201).json();
    assert_eq!(heard["subscribers"], 2, "came {heard}");
    assert!(seq(text_of(&heard, "id")) > seq(text_of(&alone, "id")));
    for reader in &mut readers {
        assert_eq!(reader.message()["id"], heard["id"]);
    }
}

//! Protocol mode over HTTP: `/events`, `/poll`, `/publish` and the query options of all.

use crate::clients::ws::Ws;
use crate::clients::{
    Answer, Headers, Http, Sse, Wire, call, get, kept, lossy, messages, poll, publish, request,
};
use crate::clients::{publish_many, seq, text_of, texts, wait_subscribers};
use crate::support::Running;
use serde_json::{Value, json};

/// A cursor that no server gave out.
const LOST: &str = "zzzzzzzz-5";

#[track_caller]
fn ndjson(server: &Running, lines: &str) -> Vec<Value> {
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = call(server, "POST", "/publish", &headers, lines.as_bytes()).expect(200);
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("expected JSON ({e}), came {line:?}"))
    };
    answer.text().lines().map(parse).collect()
}

#[track_caller]
fn post_json(server: &Running, object: &str) -> Answer {
    let headers = [("Content-Type", "application/json")];
    call(server, "POST", "/publish", &headers, object.as_bytes())
}

#[test]
fn a_request_names_at_most_128_channels_and_32_other_pairs() {
    let server = Running::start(&[]);
    let channels = |n: u32| (0..n).map(|i| format!("channel=c{i}&")).collect::<String>();
    let others = |n: u32| (0..n).map(|i| format!("unknown{i}=x&")).collect::<String>();
    let base = "since=earliest&wait=0&";
    get(&server, &format!("/poll?{base}{}", channels(128))).expect(200);
    get(&server, &format!("/poll?{base}{}", channels(129))).expect_error(400, "bad_query");
    get(&server, &format!("/poll?{base}channel=a&{}", others(30))).expect(200);
    let over = format!("{base}channel=a&{}", others(31));
    get(&server, &format!("/poll?{over}")).expect_error(400, "bad_query");
    get(&server, &format!("/events?{over}")).expect_error(400, "bad_query");
    let refused = Ws::handshake(&server, &format!("/ws?{over}"), &[]).err().expect("no 101");
    refused.expect_error(400, "bad_query");
    let long = "n".repeat(100);
    let line: String = (0..100).map(|i| format!("channel={long}{i}&")).collect();
    get(&server, &format!("/poll?{line}")).expect_error(414, "uri_too_long");
}

#[test]
fn bad_query_values_are_bad_query() {
    let server = Running::start(&[]);
    let polls = ["wait=x", "wait=-1", "wait=1.5", "wait=", "wait=0&wait=0", "channel=%zz"];
    for query in polls {
        let answer = get(&server, &format!("/poll?since=earliest&channel=a&{query}"));
        assert_eq!(answer.status, 400, "for {query}, came {answer:?}");
        answer.expect_error(400, "bad_query");
    }
    for query in ["heartbeat=x", "heartbeat=", "heartbeat=1.5", "heartbeat=10&heartbeat=10"] {
        get(&server, &format!("/events?channel=a&{query}")).expect_error(400, "bad_query");
        let refused = Ws::handshake(&server, &format!("/ws?{query}"), &[]).err().expect("no 101");
        refused.expect_error(400, "bad_query");
    }
    get(&server, "/events?channel=a&gap=none").expect_error(400, "bad_query");
    get(&server, "/events?channel=a&since=latest&since=latest").expect_error(400, "bad_query");
    for path in ["/events", "/poll", "/events?since=earliest", "/poll?wait=0"] {
        let answer = get(&server, path);
        answer.expect_error(400, "bad_query");
        let message = answer.json()["message"].to_string();
        assert!(message.contains("channel="), "it shows how to name one, came {message}");
    }
    get(&server, "/poll?channel=a&since=earliest&wait=0&v=1&gap=live&heartbeat=1").expect(200);
}

#[test]
fn events_begin_with_retry_and_id_in_the_same_write_as_the_head() {
    let server = Running::start(&[]);
    let old = publish(&server, "a", "old");
    let mut http = Http::open(&server);
    // Accept says what it likes: the path decides.
    http.ask("GET", "/events?channel=a&channel=b", &[("Accept", "text/html")], b"");
    http.wire.fill("the head of a stream");
    let first = lossy(http.wire.ahead());
    assert!(first.contains("\r\n\r\n") && first.contains("\nid: "), "one write, came {first:?}");
    let mut sse = Sse::over(http.wire);
    assert_eq!(sse.head.must_header("content-type"), "text/event-stream");
    assert_eq!(sse.head.must_header("x-accel-buffering"), "no");
    assert_eq!(sse.head.must_header("x-content-type-options"), "nosniff");
    let cache = sse.head.must_header("cache-control").to_owned();
    assert!(cache.contains("no-store") && cache.contains("no-transform"), "came {cache}");
    let block = sse.block().expect("the first block");
    let retry = block.retry.unwrap_or_default();
    assert!((2000..=5000).contains(&retry) && block.data.is_none(), "came {block:?}");
    let start = block.id.expect("an id in the first block");
    assert!(seq(&start) >= seq(&old), "delivery starts now, came {start}");
    let id = publish(&server, "b", "new");
    let message = sse.message();
    assert_eq!((&message["id"], &message["channel"]), (&json!(id), &json!("b")));
    assert_eq!(texts(&poll(&server, &format!("channel=b&since={start}"))), ["new"]);
}

#[test]
fn each_event_is_one_chunk() {
    let server = Running::start(&[]);
    publish_many(&server, "a", 0..3);
    let mut sse = Sse::open(&server, "/events?channel=a&since=earliest", &[]);
    let mut seen = 0;
    while seen < 4 {
        let chunk = lossy(&sse.chunk().expect("a chunk"));
        seen += chunk.matches("event: message\n").count();
        assert!(chunk.ends_with("\n\n"), "a whole block, came {chunk:?}");
        assert_eq!(chunk.matches("\n\n").count(), 1, "one block a chunk, came {chunk:?}");
        if seen == 3 && chunk.contains("event:") {
            publish(&server, "a", "live");
        }
    }
}

#[test]
fn an_http_1_0_stream_is_not_chunked() {
    let server = Running::start(&[]);
    publish_many(&server, "a", 0..2);
    let mut wire = Wire::new(server.connect());
    wire.send(b"GET /events?channel=a&since=earliest HTTP/1.0\r\n\r\n");
    let mut sse = Sse::over(wire);
    assert_eq!(sse.head.header("transfer-encoding"), None, "came {:?}", sse.head);
    assert_eq!(sse.head.header("content-length"), None, "came {:?}", sse.head);
    assert_eq!(sse.message()["text"], "0");
    assert_eq!(sse.message()["text"], "1");
    publish(&server, "a", "live");
    assert_eq!(sse.message()["text"], "live");
}

#[test]
fn events_announce_a_gap_with_the_id_where_they_go_on() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    for (query, count) in [("", 2), ("&gap=live", 0)] {
        let target = format!("/events?channel=a&channel=b&since={LOST}{query}");
        let mut sse = Sse::open(&server, &target, &[]);
        let first = sse.block().expect("the first block");
        assert!(first.retry.is_some() && first.id.is_none(), "only retry, came {first:?}");
        // One gap for both channels, or one each: both readings are good.
        let (mut named, mut lowest) = (0, u64::MAX);
        while named < 2 {
            let event = sse.event();
            assert_eq!(event.event, "gap", "came {event:?}");
            let gap = event.json();
            assert_eq!((&gap["reason"], &gap["since"]), (&json!("epoch"), &json!(LOST)), "{gap}");
            named += gap["channels"].as_array().map_or(0, Vec::len);
            lowest = lowest.min(seq(text_of(&gap, "resumed")));
            // Of several only the last says it: a cut between them must lose none.
            assert_eq!(event.id.is_some(), named == 2, "came {gap}");
            let Some(id) = event.id else { continue };
            let follow = poll(&server, &format!("channel=a&since={id}&wait=0"));
            assert_eq!(messages(&follow).len(), count, "after the id of {gap}, came {follow}");
        }
        assert_eq!(lowest < seq(&ids[0]), count > 0, "resumed with {query:?}, came {lowest}");
    }
}

#[test]
fn events_tell_the_position_as_soon_as_a_replay_is_over() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..300); // more than one pull
    let newest = publish(&server, "other", "0");
    let same = format!("since={newest}");
    let lost = format!("since={LOST}");
    let lost_live = format!("since={LOST}&gap=live");
    for (query, count, gaps) in [
        ("since=earliest", 300, 0),
        (&*format!("since={}", ids[297]), 2, 0),
        (&*same, 0, 0),
        ("since=latest", 0, 0),
        (&*lost, 300, 1),
        (&*lost_live, 0, 1),
    ] {
        let mut sse = Sse::open(&server, &format!("/events?v=1&channel=a&{query}"), &[]);
        let first = sse.block().expect("the first block");
        assert!(first.retry.is_some() && first.data.is_none(), "{query}: came {first:?}");
        let (mut messages, mut told_gaps) = (0, 0);
        let end = loop {
            let block = sse.block().expect("a block");
            match block.name() {
                _ if block.data.is_none() => break block,
                "gap" => told_gaps += 1,
                _ => messages += 1,
            }
        };
        assert_eq!((messages, told_gaps), (count, gaps), "{query}");
        assert_eq!((end.retry, end.id.as_deref()), (None, Some(&*newest)), "{query}");
    }
    // Who begins now has nothing to catch up with, and who does not say v=1 is told nothing of it.
    for target in ["/events?v=1&channel=a", "/events?channel=a&since=latest"] {
        let mut sse = Sse::open(&server, target, &[]);
        sse.block().expect("the first block");
        let live = publish(&server, "a", "live");
        assert_eq!(sse.block().expect("a block").id, Some(live));
    }
}

#[test]
fn a_first_poll_answers_at_once_with_where_to_go_on() {
    let server = Running::start(&[]);
    publish(&server, "a", "old");
    let answer = get(&server, "/poll?channel=a&channel=b&wait=55").expect(200);
    let body = answer.json();
    assert_eq!(body["messages"], json!([]), "came {body}");
    assert_eq!((&body["more"], &body["gap"]), (&json!(false), &Value::Null), "came {body}");
    let cursor = text_of(&body, "cursor");
    assert_eq!(answer.must_header("holdline-cursor"), cursor);
    let next = text_of(&body, "next");
    assert!(next.starts_with('?') && next.contains(&format!("since={cursor}")), "came {next}");
    let link = answer.must_header("link");
    assert!(link.starts_with("<?") && link.contains("rel=\"next\""), "came {link}");
    publish(&server, "b", "new");
    let followed = get(&server, &format!("/poll{next}")).expect(200).json();
    assert_eq!(texts(&followed), ["new"], "next leads on, came {followed}");
    let linked = link[1..].split('>').next().unwrap_or_default();
    assert_eq!(texts(&get(&server, &format!("/poll{linked}")).expect(200).json()), ["new"]);
}

#[test]
fn a_poll_is_held_until_a_message_comes() {
    let server = Running::start(&[]);
    let mut since = publish(&server, "a", "old");
    for query in ["wait=25", "wait=999", ""] {
        let mut http = Http::open(&server);
        http.ask("GET", &format!("/poll?channel=a&channel=b&since={since}&{query}"), &[], b"");
        wait_subscribers(&server, "b", 1);
        let id = publish(&server, "b", "new");
        let body = http.answer("GET").expect(200).json();
        assert_eq!(texts(&body), ["new"], "with {query:?}, came {body}");
        assert_eq!(messages(&body)[0]["id"], id);
        assert_eq!((&body["more"], &body["gap"]), (&json!(false), &Value::Null), "came {body}");
        since = text_of(&body, "cursor").to_owned();
        assert!(seq(&since) >= seq(&id), "the cursor is after the message, came {body}");
        wait_subscribers(&server, "b", 0);
    }
}

#[test]
fn a_poll_that_ends_without_messages_carries_a_fresh_cursor() {
    let server = Running::start(&[]);
    let start = publish(&server, "a", "old");
    let noise = publish(&server, "other", "noise");
    for wait in [0, 1] {
        let answer = get(&server, &format!("/poll?channel=a&since={start}&wait={wait}"));
        let media = answer.must_header("content-type");
        assert!(media.starts_with("application/json"), "came {answer:?}");
        assert!(answer.must_header("cache-control").contains("no-store"), "came {answer:?}");
        let body = answer.expect(200).json();
        assert_eq!((&body["messages"], &body["more"]), (&json!([]), &json!(false)), "{body}");
        assert!(seq(text_of(&body, "cursor")) >= seq(&noise), "a fresh cursor, came {body}");
    }
}

#[test]
fn a_poll_gives_at_most_100_messages_or_256_kib_and_says_more() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..250);
    let (mut since, mut came) = ("earliest".to_owned(), Vec::new());
    loop {
        let body = poll(&server, &format!("channel=a&since={since}&wait=0"));
        assert!(messages(&body).len() <= 100, "at most 100, came {}", messages(&body).len());
        came.extend(messages(&body).iter().map(|m| text_of(m, "id").to_owned()));
        since = text_of(&body, "cursor").to_owned();
        assert_eq!(body["more"], came.len() < 250, "after {} of 250", came.len());
        if body["more"] == false {
            break;
        }
    }
    assert_eq!(came, ids);
    for _ in 0..8 {
        publish(&server, "big", vec![b'x'; 60_000]);
    }
    let answer = get(&server, "/poll?channel=big&since=earliest&wait=0").expect(200);
    assert!(answer.body.len() <= 256 * 1024 + 66_000, "came {} bytes", answer.body.len());
    let body = answer.json();
    let first = messages(&body).len();
    assert!((1..8).contains(&first) && body["more"] == true, "cut, came {first} messages");
    let rest = poll(&server, &format!("channel=big&since={}&wait=0", text_of(&body, "cursor")));
    assert_eq!((messages(&rest).len(), &rest["more"]), (8 - first, &json!(false)));
}

#[test]
fn a_poll_announces_gaps_at_once() {
    let server = Running::start(&[]);
    let body = poll(&server, &format!("channel=a&channel=b&since={LOST}&wait=55"));
    let gaps = body["gap"].as_array().unwrap_or_else(|| panic!("an array of gaps, came {body}"));
    let mut named: Vec<&str> = gaps
        .iter()
        .flat_map(|g| g["channels"].as_array().expect("channels"))
        .filter_map(Value::as_str)
        .collect();
    named.sort_unstable();
    assert_eq!(named, ["a", "b"], "every channel once, came {body}");
    for gap in gaps {
        assert_eq!((&gap["reason"], &gap["since"]), (&json!("epoch"), &json!(LOST)), "{body}");
        seq(text_of(gap, "resumed"));
        assert!(gap["spread_ms"].as_u64().is_some_and(|ms| ms <= 5000), "came {gap}");
    }
    let again = poll(&server, &format!("channel=a&since={}&wait=0", text_of(&body, "cursor")));
    assert_eq!(again["gap"], Value::Null, "a gap is told once, came {again}");
    publish(&server, "a", "kept");
    let whole = poll(&server, &format!("channel=a&since={LOST}&wait=25"));
    assert_eq!(texts(&whole), ["kept"], "what is kept follows, came {whole}");
    let live = poll(&server, &format!("channel=a&since={LOST}&wait=25&gap=live"));
    assert_eq!(messages(&live).len(), 0, "gap=live skips it, came {live}");
    assert!(live["gap"].is_array(), "and is no less a gap, came {live}");
}

#[test]
fn head_of_streams_and_polls_is_never_held() {
    let server = Running::start(&[]);
    let mut http = Http::open(&server);
    for target in ["/events?channel=a", "/poll?channel=a&since=latest&wait=55", "/stats"] {
        http.call("HEAD", target, &[], b"").expect(200);
    }
    http.call("GET", "/health", &[], b"").expect(200);
}

#[test]
fn publish_takes_one_message_a_line_and_answers_each_in_order() {
    let server = Running::start(&[]);
    let mut reader = Sse::open(&server, "/events?channel=b", &[]);
    reader.block().expect("the first block");
    let deep = format!("{{\"channel\":\"a\",\"data\":{}{}}}", "[".repeat(32), "]".repeat(32));
    let lines = [
        r#"{"channel":"a","data":{"n":1}}"#,
        "",
        r#"{"channels":["a","b"],"event":"tick","text":"hi"}"#,
        r#"{"channel":"_bad","text":"x"}"#,
        "{broken",
        "  ",
        "5",
        r#"{"channel":"a"}"#,
        r#"{"channels":["a","a b"],"text":"half"}"#,
        r#"{"text":"nowhere"}"#,
        r#"{"channel":"a","channels":["a"],"text":"x"}"#,
        r#"{"channels":[],"text":"x"}"#,
        &deep,
        r#"{"channel":"b","text":"last"}"#,
    ];
    let answers = ndjson(&server, &lines.join("\n"));
    assert_eq!(answers.len(), 12, "one answer a line but none for blank ones, came {answers:?}");
    assert_eq!((&answers[0]["channel"], &answers[0]["subscribers"]), (&json!("a"), &json!(0)));
    let results = answers[1]["results"].as_array().expect("results for channels");
    let pairs: Vec<_> = results.iter().map(|r| (&r["channel"], &r["subscribers"])).collect();
    assert_eq!(pairs, [(&json!("a"), &json!(0)), (&json!("b"), &json!(1))]);
    let (bad, json, name) = ("bad_request", "bad_json", "bad_channel");
    // The pages leave open what a line is that is no object, or that names no channel.
    let (no_object, nowhere) = ("bad_request bad_json", "bad_request bad_channel");
    let expected = ["", "", name, json, no_object, bad, "", nowhere, bad, bad, json, ""];
    let told = lines.iter().filter(|line| !line.trim().is_empty());
    for ((answer, codes), line) in answers.iter().zip(expected).zip(told) {
        let code = answer["error"].as_str().unwrap_or("");
        let known = codes.split(' ').any(|c| c == code);
        assert!(known, "expected {codes:?} about {line}, came {answer} in {answers:?}");
    }
    assert!(answers[2]["message"].is_string(), "an error says what to do, came {}", answers[2]);
    let half = &answers[6]["results"];
    assert_eq!((&half[1]["error"], half[0].get("error")), (&json!("bad_channel"), None));
    let texts: Vec<_> = kept(&server, "a").iter().map(|m| m["text"].clone()).collect();
    assert_eq!(texts, [Value::Null, json!("hi"), json!("half")]);
    let tick = reader.message();
    assert_eq!((&tick["event"], &tick["id"]), (&json!("tick"), &results[1]["id"]));
    assert_eq!(reader.message()["id"], answers[11]["id"]);
}

#[test]
fn publish_counts_the_payload_of_each_line() {
    let server = Running::start(&[]);
    let line =
        |field: &str, value: &str| format!("{{\"channel\":\"a\",\"{field}\":\"{value}\"}}\n");
    let (escaped, base64) = ("\\u0041".repeat(65536), format!("{}QQ==", "QUFB".repeat(21845)));
    let lines = [
        line("text", &"x".repeat(65536)),
        line("text", &"x".repeat(65537)),
        line("data", &"x".repeat(65534)),
        line("data", &"x".repeat(65535)),
        line("b64", &base64),
        line("b64", &"QUFB".repeat(21846)),
    ];
    let mut answers = ndjson(&server, &lines.concat());
    answers.extend(ndjson(&server, &line("text", &escaped)));
    let codes: Vec<_> = answers.iter().map(|a| a["error"].as_str().unwrap_or("")).collect();
    assert_eq!(codes, ["", "too_large", "", "too_large", "", "too_large", ""]);
}

#[test]
fn publish_takes_1_mib_and_1000_lines() {
    let server = Running::start(&[]);
    let post = |body: String| call(&server, "POST", "/publish", &[], body.as_bytes());
    let line = "{\"channel\":\"a\",\"text\":\"x\"}\n";
    assert_eq!(post(line.repeat(1000)).expect(200).text().lines().count(), 1000);
    post(line.repeat(1001)).expect_error(413, "too_large");
    let full = format!("{line}{}", " ".repeat((1 << 20) - line.len()));
    post(full.clone()).expect(200);
    post(full + " ").expect_error(413, "too_large");
}

#[test]
fn publish_of_one_json_object_answers_with_real_statuses() {
    let server = Running::start(&[]);
    let alone = post_json(&server, "{\"channel\":\"a\",\n\"text\":\"x\"}").expect(202).json();
    assert_eq!((&alone["channel"], &alone["subscribers"]), (&json!("a"), &json!(0)));
    let mut reader = Sse::open(&server, "/events?channel=b", &[]);
    reader.block().expect("the first block");
    post_json(&server, r#"{"channel":"b","text":"x"}"#).expect(201);
    let some = post_json(&server, r#"{"channels":["a","b"],"text":"x"}"#).expect(201).json();
    assert_eq!(some["results"].as_array().map(Vec::len), Some(2), "came {some}");
    post_json(&server, r#"{"channels":["a","c"],"text":"x"}"#).expect(202);
    let names = |n| (0..n).map(|i| format!("\"c{i}\"")).collect::<Vec<_>>().join(",");
    let many = |n| post_json(&server, &format!("{{\"channels\":[{}],\"text\":\"\"}}", names(n)));
    assert_eq!(many(128).expect(202).json()["results"].as_array().map(Vec::len), Some(128));
    many(129).expect_error(400, "bad_request");
    let large = format!("{{\"channel\":\"a\",\"text\":\"{}\"}}", "x".repeat(65537));
    post_json(&server, &large).expect_error(413, "too_large");
    let deep = format!("{{\"channel\":\"a\",\"data\":{}{}}}", "[".repeat(32), "]".repeat(32));
    let rows = [
        ("{", "bad_json"),
        (&deep, "bad_json"),
        (r#"{"channel":5,"text":"x"}"#, "bad_request"),
        (r#"{"channels":"a","text":"x"}"#, "bad_request"),
        (r#"{"channel":"","text":"x"}"#, "bad_channel"),
    ];
    for (object, code) in rows {
        let answer = post_json(&server, object);
        assert_eq!(answer.status, 400, "for {object}, came {answer:?}");
        answer.expect_error(400, code);
    }
    let deepest = format!("{{\"channel\":\"a\",\"data\":{}{}}}", "[".repeat(31), "]".repeat(31));
    post_json(&server, &deepest).expect(202);
}

#[test]
fn publish_takes_no_other_media_type() {
    let server = Running::start(&[]);
    let line = br#"{"channel":"a","text":"x"}"#;
    for media in ["text/plain", "application/xml", "multipart/form-data; boundary=x"] {
        let headers: Headers<'_> = &[("Content-Type", media)];
        let answer = call(&server, "POST", "/publish", headers, line);
        answer.expect_error(415, "media_type");
        assert!(answer.header("accept").is_some(), "415 says what is taken, came {answer:?}");
    }
    let types = ["Application/X-NDJSON; charset=utf-8", "application/json;charset=utf-8"];
    for media in types {
        let answer = call(&server, "POST", "/publish", &[("Content-Type", media)], line);
        assert!(matches!(answer.status, 200 | 202), "for {media}, came {answer:?}");
    }
    call(&server, "POST", "/publish", &[], line).expect(200);
}

#[test]
fn polls_that_need_not_wait_hold_up_nothing_that_is_pipelined_behind_them() {
    let server = Running::start(&[]);
    publish(&server, "m", "m");
    let poll = |target: &str| request(server.addr, "GET", target, &[], b"");
    let big = vec![b'z'; 60_000];
    let raw = poll("/channels/m?since=earliest");
    let short = poll("/poll?channel=m&since=latest&wait=0");
    let health = poll("/health").repeat(200);
    for (before, count) in [
        ([&raw[..], &raw].concat(), 2),
        ([&short[..], &raw, &short].concat(), 3),
        ([&health[..], &raw].concat(), 201),
        ([&raw[..]; 40].concat(), 40),
    ] {
        let mut http = Http::open(&server);
        let last = request(server.addr, "POST", "/channels/big", &[], &big);
        http.wire.send(&[&before[..], &last, &big].concat());
        for number in 0..count {
            assert_eq!(http.answer("GET").status, 200, "number {number} of {count}");
        }
        assert_eq!(http.answer("POST").status, 202, "behind {count}");
    }
}

#[test]
fn who_is_held_may_send_one_head_ahead_and_no_more() {
    let server = Running::start(&[]);
    for (ahead, goes_on) in [(16_384, true), (16_385, false)] {
        let mut http = Http::open(&server);
        http.ask("GET", "/poll?channel=a&since=latest", &[], b"");
        wait_subscribers(&server, "a", 1);
        let small = request(server.addr, "GET", "/health", &[], b"");
        let mut bytes = small.repeat(ahead / small.len());
        bytes.resize(ahead, b'\n'); // empty lines in front of a request are none
        http.wire.send(&bytes);
        let seen = publish(&server, "a", "now");
        let answer = http.answer("GET").expect(200);
        assert_eq!(text_of(&answer.json(), "cursor"), seen);
        assert_eq!(answer.closes(), !goes_on, "{ahead} bytes ahead");
    }
}

#[test]
fn a_good_header_makes_up_for_a_bad_query() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..3);
    for query in ["since=zzz", "since=", "last_event_id=%20", "since=zzz&last_event_id=zzz"] {
        let target = format!("/events?channel=a&{query}");
        call(&server, "GET", &target, &[], b"").expect_error(400, "bad_since");
        call(&server, "GET", &target, &[("Last-Event-ID", "")], b"").expect_error(400, "bad_since");
        let mut sse = Sse::open(&server, &target, &[("Last-Event-ID", &ids[1])]);
        assert_eq!(sse.event().id.as_deref(), Some(&*ids[2]), "{query}");
    }
    let headers = [("TTL", "5"), ("Event", "ok")];
    let answer = call(&server, "POST", "/channels/a?ttl=x&event=open", &headers, b"x");
    assert_eq!(answer.status, 201 + u16::from(answer.status == 202), "came {answer:?}");
    call(&server, "POST", "/channels/a?ttl=x", &[], b"x").expect_error(400, "bad_query");
}

#[test]
fn a_poll_that_skips_and_has_more_says_where_all_of_its_channels_go_on() {
    let server = Running::start(&["--history", "120"]);
    let before = publish(&server, "else", "0");
    publish(&server, "t", "gone");
    publish_many(&server, "u", 0..110);
    publish_many(&server, "t", 0..120);
    let query = "channel=t&channel=u&wait=0&gap=live";
    let first = poll(&server, &format!("{query}&since={before}"));
    let cursor = text_of(&first, "cursor");
    assert_eq!((messages(&first).len(), &first["more"]), (100, &json!(true)));
    assert_eq!(first["gap"][0]["channels"], json!(["t"]));
    assert_eq!(first["gap"][0]["resumed"], cursor, "the next one delivers what follows it");
    let second = poll(&server, &format!("{query}&since={cursor}"));
    assert_eq!(second["gap"], Value::Null);
    assert_eq!(messages(&second).iter().filter(|m| m["channel"] == "t").count(), 90);
}

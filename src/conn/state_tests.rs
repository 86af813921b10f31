//! Steps of a connection's states: what is taken off the input, what is reported, what waits.

use super::*;
use crate::wire::http::{Framing, Head, Method, Version};

fn limits() -> ConnLimits {
    let (message_bytes_max, ws_frame_bytes_max, ws_message_bytes_max) = (8, 8, 9);
    let config =
        Config { message_bytes_max, ws_frame_bytes_max, ws_message_bytes_max, ..Config::default() };
    let mut limits = ConnLimits::from(&config);
    limits.app_ws.frame_bytes_max = 9;
    limits
}

fn head() -> State {
    State::Head(HeadScan::default())
}

fn websocket(mode: WsMode) -> Ws {
    Ws::new(mode, 0)
}

/// A POST with what frames its body, and what of the body is there.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /publish HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}").into_bytes()
}

/// What a step over `bytes` comes to, in a word, and the bytes it leaves.
fn step(state: &mut State, mut bytes: Vec<u8>) -> (String, String) {
    let mut input = &mut bytes[..];
    let word = match state.step(&mut input, &limits(), &mut LastHead::default()) {
        Step::Event(event) => describe(event),
        Step::Progress => "progress".into(),
        Step::NeedMore => "more".into(),
    };
    (word, String::from_utf8_lossy(input).into_owned())
}

fn describe(event: Event<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event {
        Event::Request(request) => match request.body {
            Some(body) => format!("request with {}", text(body)),
            None => "request".into(),
        },
        Event::Body(body) => format!("body {}", text(&body.bytes)),
        Event::Frame(Frame::Message { payload, .. }) => format!("message {}", text(&payload)),
        Event::Frame(_) => "frame".into(),
        Event::BadHead { head_only, .. } => format!("bad head, only a head: {head_only}"),
        Event::BadBody => "bad body".into(),
        Event::BodyTooLarge => "body too large".into(),
        Event::BadFrame(error) => format!("bad frame {error:?}"),
    }
}

#[test]
fn a_body_that_is_here_is_lent_with_its_head() {
    for (fields, body, word, left) in [
        ("Content-Length: 4", "abcdnext", "request with abcd", "next"),
        ("Content-Length: 4", "abcd", "request with abcd", ""),
        ("Content-Length: 4", "abc", "request", "abc"),
        ("Content-Length: 0", "next", "request", "next"),
        ("Transfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n", "request", "1\r\na\r\n0\r\n\r\n"),
    ] {
        let expected = (word.to_owned(), left.to_owned());
        assert_eq!(step(&mut head(), post(fields, body)), expected, "{fields} {body:?}");
    }
}

#[test]
fn a_head_that_is_refused_says_whether_it_asked_for_a_head_only() {
    for (text, head_only) in [
        ("HEAD / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("HEAD /\n", true),
        ("GET /\n", false),
    ] {
        let (word, _) = step(&mut head(), text.as_bytes().to_vec());
        assert_eq!(word, format!("bad head, only a head: {head_only}"), "{text:?}");
    }
}

#[test]
fn a_scan_starts_anew_behind_each_head() {
    let mut state = head();
    let one = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let (word, left) = step(&mut state, one.repeat(2).into_bytes());
    assert_eq!((&*word, &*left), ("request", one));
    assert_eq!(step(&mut state, left.into_bytes()), ("request".into(), String::new()));
    assert_eq!(step(&mut state, b"GET".to_vec()), ("more".into(), "GET".into()));
}

fn body(framing: Framing, bytes_max: usize) -> Option<Body> {
    let parsed = Head { framing, ..Head::default() };
    Body::begin(b"head", parsed, bytes_max, Stamp::default())
}

#[test]
fn a_body_is_collected_up_to_its_limit() {
    let length = Framing::Length;
    for (framing, pieces, expected) in [
        (length(4), &["ab", "cdnext"][..], &["more", "body abcd"][..]),
        (length(5), &["ab"], &["body too large"]),
        (
            Framing::Chunked,
            &["2\r\nab\r\n", "2\r\ncd\r\n", "0\r\n\r\n"],
            &["more", "more", "body abcd"],
        ),
        (Framing::Chunked, &["2\r\nab\r\n", "2\r\n", "cd"], &["more", "more", "more"]),
        (Framing::Chunked, &["2\r\nab\r\n", "3\r\n"], &["more", "body too large"]),
        (Framing::Chunked, &["2\r\nabc"], &["bad body"]),
    ] {
        let mut state = State::Body(Box::new(body(framing, 4).expect("there is one")));
        let seen = pieces.iter().map(|piece| step(&mut state, piece.as_bytes().to_vec()));
        let seen: Vec<_> = seen.collect();
        let words: Vec<_> = seen.iter().map(|(word, _)| word.as_str()).collect();
        assert_eq!(words, expected, "{framing:?} {pieces:?}");
        if words.last() == Some(&"body abcd") {
            assert!(matches!(state, State::Head(_)), "the next request follows");
            let left = if framing == length(4) { "next" } else { "" };
            assert_eq!(seen[seen.len() - 1].1, left, "{framing:?}");
        }
    }
    assert!(body(Framing::None, 4).is_none());
}

#[test]
fn frames_are_limited_by_the_route_or_by_the_application() {
    // A text of nine bytes under a mask of zeros.
    let wire = || [&b"\x81\x89\0\0\0\0"[..], b"123456789"].concat();
    for mode in [WsMode::Raw, WsMode::Meta, WsMode::Json] {
        let (word, _) = step(&mut State::Ws(websocket(mode)), wire());
        assert_eq!(word, "bad frame TooLarge", "{mode:?}");
    }
    let mut state = State::Ws(websocket(WsMode::App));
    assert_eq!(step(&mut state, wire()), ("message 123456789".into(), String::new()));
    assert_eq!(step(&mut state, wire()[..5].to_vec()).0, "more");
    assert_eq!(step(&mut state, b"\x01\x81\0\0\0\0a".to_vec()).0, "progress");
}

#[test]
fn limits_are_those_of_the_configuration() {
    let config = Config {
        message_bytes_max: 1,
        ws_frame_bytes_max: 2,
        ws_message_bytes_max: 3,
        ws_fragments_max: 4,
        ..Config::default()
    };
    let limits = ConnLimits::from(&config);
    assert_eq!(limits.head, HeadLimits::from(&config));
    // A command may be longer than a payload.
    let built_in =
        |bytes| WsLimits { frame_bytes_max: bytes, message_bytes_max: bytes, fragments_max: 128 };
    assert_eq!(limits.ws, built_in(2));
    let of = |message_bytes_max, ws_frame_bytes_max| {
        ConnLimits::from(&Config { message_bytes_max, ws_frame_bytes_max, ..Config::default() }).ws
    };
    assert_eq!(of(3, 2), built_in(3));
    assert_eq!(of(1, usize::MAX), built_in(64 * 1024));
    assert_eq!(of(100_000, usize::MAX), built_in(100_000));
    let own = WsLimits { frame_bytes_max: 2, message_bytes_max: 3, fragments_max: 4 };
    assert_eq!(limits.app_ws, own);
}

#[test]
fn input_waits_is_thrown_away_or_goes_on_by_state() {
    let until = Stamp::default();
    let hold = || Hold { until, is_raw: false, answering: Answering::default() };
    let closing = Closing { lingering: true, until, left: 6 };
    for (mut state, is_paused, left) in [
        (State::Wait { until }, true, "1234"),
        (State::Hold(hold()), true, "1234"),
        (State::Sse { dialect: Dialect::Poll }, false, ""),
        (State::Closing(closing), false, ""),
        (head(), false, "1234"),
    ] {
        assert_eq!(state.is_paused(), is_paused, "{state:?}");
        assert_eq!(step(&mut state, b"1234".to_vec()), ("more".into(), left.into()), "{state:?}");
    }
    // What is thrown away is counted, down to nothing.
    let mut state = State::Closing(closing);
    for expected in [2, 0, 0] {
        step(&mut state, b"1234".to_vec());
        assert!(matches!(&state, State::Closing(closing) if closing.left == expected));
    }
}

#[test]
fn publications_are_written_where_somebody_can_still_read_them() {
    let until = Stamp::default();
    let sse = Dialect::SseRaw(crate::wire::dialect::Framing::Bare);
    let hold = Hold { until, is_raw: false, answering: Answering::default() };
    let closed = Ws { close_sent: true, ..websocket(WsMode::Json) };
    for (state, dialect) in [
        (State::Ws(websocket(WsMode::Raw)), Some(Dialect::WsRaw)),
        (State::Ws(websocket(WsMode::App)), Some(Dialect::WsRaw)),
        (State::Ws(websocket(WsMode::Meta)), Some(Dialect::WsMeta)),
        (State::Ws(websocket(WsMode::Json)), Some(Dialect::WsJson)),
        (State::Ws(closed), None),
        (State::Sse { dialect: sse }, Some(sse)),
        (State::Hold(hold), Some(Dialect::Poll)),
        (State::Wait { until }, None),
        (State::Closing(Closing { lingering: false, until, left: 0 }), None),
        (head(), None),
    ] {
        assert_eq!(state.dialect(), dialect, "{state:?}");
    }
}

#[test]
fn an_answer_is_written_as_its_request_asks() {
    for (method, head_only) in [(Method::Head, true), (Method::Get, false), (Method::Post, false)] {
        for (version, is_http10) in [(Version::Http10, true), (Version::Http11, false)] {
            for keep_alive in [true, false] {
                let parsed = Head { method, version, keep_alive, ..Head::default() };
                let answering = Answering::to(&parsed);
                let seen = (answering.head_only, answering.is_http10, answering.keep_alive);
                assert_eq!(seen, (head_only, is_http10, keep_alive), "{parsed:?}");
                assert_eq!(answering.origin, None, "who may read it is decided later");
            }
        }
    }
}

#[test]
fn a_head_that_comes_once_more_says_what_it_says_alone() {
    let get = b"GET /publish HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    let wire = [
        post("Content-Length: 4", "abcd"),
        post("Content-Length: 4", "efgh"),
        get.clone(),
        get,
        post("Content-Length: 3", "ijk"),
        post("Content-Length: 4", "lmno"),
        post("Content-Length: 4", "pqrs"),
        post("Content-Length: 4", "tuv"),
    ];
    let mut bytes = wire.concat();
    let (mut input, mut last, mut words) = (&mut bytes[..], LastHead::default(), Vec::new());
    while let Step::Event(event) = head().step(&mut input, &limits(), &mut last) {
        let Event::Request(Request { head, parsed, .. }) = &event else { panic!("{event:?}") };
        let start = parsed.method.name();
        assert!(head.starts_with(start.as_bytes()) && head.ends_with(b"\r\n\r\n"), "{head:?}");
        words.push(describe(event));
    }
    let expected = ["with abcd", "with efgh", "", "", "with ijk", "with lmno", "with pqrs", ""];
    assert_eq!(words, expected.map(|word| format!("request {word}").trim_end().to_owned()));
    assert_eq!(input, b"tuv");
}

#[test]
fn a_head_means_the_same_on_the_next_connection_whatever_its_length() {
    let long = format!("Content-Length: 2\r\nX: {}", "y".repeat(1_500));
    let wire = [
        post("Content-Length: 2", "ab"),
        post("Content-Length: 2", "cd"),
        post(&long, "ef"),
        post(&long, "gh"),
        post("Content-Length: 2", "ij"),
        post("Content-Length: 3", "klm"),
    ];
    let (mut last, mut words) = (LastHead::default(), Vec::new());
    for mut bytes in wire {
        let mut input = &mut bytes[..];
        let Step::Event(event) = head().step(&mut input, &limits(), &mut last) else { panic!() };
        words.push(describe(event));
        assert!(input.is_empty());
    }
    let expected = ["ab", "cd", "ef", "gh", "ij", "klm"];
    assert_eq!(words, expected.map(|body| format!("request with {body}")));
}

//! Tables for `wire::command`: what every object has, subscribe and ping, the six traps of reading
//! JSON raw, and a fuzz smoke.

use std::borrow::Cow;

use super::*;
use crate::cursor::Cursor;
use crate::message::BAD_CHANNEL;

#[path = "command_publish_tests.rs"]
mod publish;

const BYTES_MAX: usize = 64;
const CHANNELS_MAX: usize = 3;

fn parse(frame: &str) -> Parsed<'_> {
    parse_command(frame, BYTES_MAX, CHANNELS_MAX)
}

#[track_caller]
fn accepted(frame: &str) -> Command<'_> {
    parse(frame).command.unwrap_or_else(|fault| panic!("{frame}: {fault:?}"))
}

#[track_caller]
fn refusal(frame: &str) -> Refusal {
    match parse(frame).command {
        Err(Fault::Refused(refusal)) => refusal,
        other => panic!("{frame}: {other:?}"),
    }
}

/// The message of a publish command with these fields, and the same of a line.
#[track_caller]
fn message(fields: &str) -> Message {
    let frame = format!(r#"{{"op":"publish","channel":"a",{fields}}}"#);
    let Command::Publish { channel, message } = accepted(&frame) else { panic!("{frame}") };
    assert_eq!(channel, "a");
    let line = parse_line(frame.as_bytes(), BYTES_MAX).expect("a line");
    assert_eq!(line.targets, Targets::One("a".into()));
    assert_eq!(line.message, message);
    message
}

#[track_caller]
fn message_refusal(fields: &str) -> Refusal {
    let frame = format!(r#"{{"op":"publish","channel":"a",{fields}}}"#);
    let refusal = refusal(&frame);
    assert_eq!(parse_line(frame.as_bytes(), BYTES_MAX), Err(Fault::Refused(refusal.clone())));
    refusal
}

fn channels(command: Command<'_>) -> Vec<Cow<'_, str>> {
    match command {
        Command::Subscribe { channels, .. } | Command::Unsubscribe { channels } => channels,
        other => panic!("{other:?}"),
    }
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

// What is JSON, and what is an object.

#[test]
fn what_is_not_json_is_told_from_what_is_no_object() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{}}",
        "{} {}",
        "{},",
        "hello",
        "\u{feff}{}",
        "\u{a0}{}",
        "{\"op\"}",
        "{\"op\":\"ping\",}",
        "{op:\"ping\"}",
        "{'op':'ping'}",
        "{\"op\":\"ping\"} x",
        "[1,]",
        "{\"op\":\"pi\nng\"}",
        "{\"o\np\":1}",
        "{\"a\":01}",
        "{\"a\":\"\\x\"}",
        "{\"a\":tru}",
        "{\"op\":\"ping\",\"t\":+1}",
        "{1:2}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":[1,2}",
        "/**/{}",
    ] {
        assert_eq!(parse(text), Parsed { reference: None, command: Err(Fault::NotJson) }, "{text}");
        assert_eq!(parse_line(text.as_bytes(), BYTES_MAX), Err(Fault::NotJson), "{text}");
    }
    for text in ["1", " null ", "[]", "[{\"op\":\"ping\"}]", "\"{}\"", "true", "\"\\ud800\"", "-0"]
    {
        assert_eq!(parse(text).command, Err(Fault::NotObject), "{text}");
        assert_eq!(parse_line(text.as_bytes(), BYTES_MAX), Err(Fault::NotObject), "{text}");
    }
    for line in
        [&b"\xff"[..], b"{\"channel\":\"a\",\"text\":\"\xff\"}", b"{\"text\":\"\xed\xa0\x80\"}"]
    {
        assert_eq!(parse_line(line, BYTES_MAX), Err(Fault::NotJson), "{line:?}");
    }
    assert_eq!(accepted("\r\n\t {\"op\" : \"ping\"\n} \r\n"), Command::Ping { t: None });
}

#[test]
fn a_syntax_error_wins_over_a_refusal_before_it() {
    for start in [r#""op":5"#, r#""op":"x""#, r#""ref":-1"#, r#""op":"ping","op":"ping""#] {
        assert_eq!(refusal(&format!("{{{start}}}")).code, Code::BadRequest);
        for end in [r#","x":}"#, "", "}}", r#","x":nul}"#, r#","\x":1}"#] {
            let frame = format!("{{{start}{end}");
            assert_eq!(parse(&frame).command, Err(Fault::NotJson), "{frame}");
        }
    }
}

#[test]
fn no_beginning_of_a_command_is_json() {
    let frame = r#"{"op":"publish","ref":4,"channel":"a","data":{"a":[1,-2.5e3,"é\u00e9",null]}}"#;
    assert!(parse(frame).command.is_ok());
    for (end, _) in frame.char_indices() {
        assert_eq!(parse(&frame[..end]).command, Err(Fault::NotJson), "{end}");
    }
    for end in 0..frame.len() {
        assert_eq!(parse_line(&frame.as_bytes()[..end], BYTES_MAX), Err(Fault::NotJson), "{end}");
    }
}

#[test]
fn depth_counts_the_command_itself() {
    for name in [r#""data""#, r#""text":"","unknown""#] {
        let frame =
            |levels| format!(r#"{{"op":"publish","channel":"a",{name}:{}}}"#, nested(levels));
        let deepest = frame(31);
        assert!(parse_command(&deepest, 1000, 1).command.is_ok());
        assert!(parse_line(deepest.as_bytes(), 1000).is_ok());
        for levels in [32, 33, 1000, 100_000] {
            let frame = frame(levels);
            assert_eq!(parse_command(&frame, usize::MAX, 1).command, Err(Fault::NotJson));
            assert_eq!(parse_line(frame.as_bytes(), usize::MAX), Err(Fault::NotJson));
        }
    }
    assert_eq!(parse(&nested(32)).command, Err(Fault::NotObject));
    assert_eq!(parse(&nested(33)).command, Err(Fault::NotJson));
    assert_eq!(parse(&"{\"a\":".repeat(100_000)).command, Err(Fault::NotJson));
    let in_text = format!(r#"{{"op":"ping","t":"{}"}}"#, "[".repeat(100));
    assert!(parse(&in_text).command.is_ok());
}

// What every object has.

#[test]
fn op_is_one_of_four() {
    for frame in [
        "{}",
        r#"{"op":"Ping"}"#,
        r#"{"op":""}"#,
        r#"{"op":5}"#,
        r#"{"op":null}"#,
        r#"{"op":["ping"]}"#,
        r#"{"op":"auth"}"#,
        r#"{"op":"\ud800"}"#,
        r#"{"Op":"ping"}"#,
    ] {
        assert_eq!(refusal(frame), BAD_OP, "{frame}");
    }
    assert!(BAD_OP.message.contains("subscribe, unsubscribe, publish, ping"));
    assert_eq!(accepted(r#"{"\u006fp":"p\u0069ng"}"#), Command::Ping { t: None });
}

#[test]
fn a_ref_is_a_u32() {
    for (text, reference) in [("0", 0), ("7", 7), ("4294967295", u32::MAX)] {
        let frame = format!(r#"{{"op":"ping","ref":{text}}}"#);
        assert_eq!(parse(&frame).reference, Some(reference));
        assert!(parse(&frame).command.is_ok());
    }
    for text in [
        "-1",
        "-0",
        "1.0",
        "1e2",
        "4294967296",
        "99999999999999999999999",
        "\"7\"",
        "null",
        "true",
        "[7]",
        "{}",
    ] {
        let frame = format!(r#"{{"op":"ping","ref":{text}}}"#);
        assert_eq!(parse(&frame).reference, None, "{text}");
        assert_eq!(refusal(&frame), BAD_REF, "{text}");
    }
    assert_eq!(parse(r#"{"op":"ping"}"#).reference, None);
}

#[test]
fn a_refused_command_keeps_its_ref_wherever_it_stands() {
    for frame in [
        r#"{"ref":7,"op":5}"#,
        r#"{"op":5,"ref":7}"#,
        r#"{"op":"subscribe","channel":{"ref":8},"since":1,"ref":7}"#,
        r#"{"op":"publish","channel":"a","channel":"a","text":"\ud800","ref":7}"#,
        r#"{"op":"subscribe","channels":[],"r\u0065f":7}"#,
    ] {
        assert!(matches!(parse(frame).command, Err(Fault::Refused(_))), "{frame}");
        assert_eq!(parse(frame).reference, Some(7), "{frame}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let deep = nested(31);
    for value in ["null", "1e999", "\"\\ud800\"", "{\"op\":1,\"op\":2}", "[[],{}]", &deep] {
        let frame = format!(r#"{{"x":{value},"op":"ping","y":{value},"\ud800":{value}}}"#);
        assert_eq!(accepted(&frame), Command::Ping { t: None }, "{frame}");
    }
    // Unknown is also what another command has.
    let frame = r#"{"op":"ping","channel":5,"channels":[],"since":0,"data":1,"text":2,"ttl":"x"}"#;
    assert_eq!(accepted(frame), Command::Ping { t: None });
    let frame = r#"{"op":"unsubscribe","channel":"a","since":0,"gap":1,"presence":2,"t":null}"#;
    assert_eq!(channels(accepted(frame)), ["a"]);
    let line = br#"{"op":5,"ref":-1,"since":0,"gap":1,"t":null,"channel":"a","text":"x"}"#;
    assert_eq!(parse_line(line, BYTES_MAX).expect("a line").message, Message::from("x"));
}

#[test]
fn many_unknown_fields_are_ignored() {
    let fields: String = (0..10_000).map(|n| format!("\"x{n}\":{n},")).collect();
    let frame = format!("{{{fields}\"op\":\"ping\",\"ref\":1}}");
    assert_eq!(
        parse(&frame),
        Parsed { reference: Some(1), command: Ok(Command::Ping { t: None }) }
    );
}

#[test]
fn null_is_a_value_of_the_wrong_type() {
    for name in ["channel", "channels", "since", "gap", "presence", "ref"] {
        let channel = if name.starts_with("channel") { "" } else { r#""channel":"a","# };
        let frame = format!(r#"{{"op":"subscribe",{channel}"{name}":null}}"#);
        assert_eq!(refusal(&frame).code, Code::BadRequest, "{frame}");
    }
    for name in ["text", "b64"] {
        assert_eq!(message_refusal(&format!(r#""{name}":null"#)).code, Code::BadRequest);
    }
    for name in ["type", "event", "ttl", "idempotency_key"] {
        let fields = format!(r#""text":"","{name}":null"#);
        assert_eq!(message_refusal(&fields).code, Code::BadRequest, "{name}");
    }
    assert_eq!(refusal(r#"{"op":"ping","t":null}"#), BAD_T);
}

// Subscribe, unsubscribe, ping.

#[test]
fn a_subscribe_has_its_parts() {
    let cursor = Cursor::parse(b"k3J9xQ-42").expect("a cursor");
    let frame = r#"{"op":"subscribe","ref":2,"channels":["a","b.c"],"since":"k3J9xQ-42",
        "gap":"live","presence":true}"#;
    let command = Command::Subscribe {
        channels: vec!["a".into(), "b.c".into()],
        since: Some(Since::Cursor(cursor)),
        since_text: Some("k3J9xQ-42".into()),
        gap_live: true,
        presence: true,
    };
    assert_eq!(parse(frame), Parsed { reference: Some(2), command: Ok(command) });
    let plain = Command::Subscribe {
        channels: vec!["a".into()],
        since: None,
        since_text: None,
        gap_live: false,
        presence: false,
    };
    assert_eq!(accepted(r#"{"op":"subscribe","channel":"a"}"#), plain);
    for more in [r#""gap":"retained""#, r#""presence":false"#] {
        let frame = format!(r#"{{"op":"subscribe","channel":"a",{more}}}"#);
        assert_eq!(accepted(&frame), plain, "{frame}");
    }
}

#[test]
fn channels_are_named_one_way_and_not_too_many() {
    for op in ["subscribe", "unsubscribe"] {
        for (fields, names) in [
            (r#""channel":"a""#, &["a"][..]),
            (r#""channels":["a"]"#, &["a"]),
            (r#""channels":[ "c" , "\u0062", "a" ]"#, &["c", "b", "a"]),
            (r#""channels":["a","a"]"#, &["a", "a"]),
        ] {
            let frame = format!(r#"{{"op":"{op}",{fields}}}"#);
            assert_eq!(channels(accepted(&frame)), names, "{frame}");
        }
        for (fields, code) in [
            (r#""x":1"#, Code::BadRequest),
            (r#""channel":"a","channels":["b"]"#, Code::BadRequest),
            (r#""channel":"a","channels":[]"#, Code::BadRequest),
            (r#""channels":[]"#, Code::BadRequest),
            (r#""channels":["a","b","c","d"]"#, Code::BadRequest),
            (r#""channels":["a",1]"#, Code::BadRequest),
            (r#""channels":["a",["b"]]"#, Code::BadRequest),
            (r#""channels":[null]"#, Code::BadRequest),
            (r#""channels":"a""#, Code::BadRequest),
            (r#""channels":{"a":"b"}"#, Code::BadRequest),
            (r#""channel":["a"]"#, Code::BadRequest),
            (r#""channel":1"#, Code::BadRequest),
            (r#""channel":"""#, Code::BadChannel),
            (r#""channel":"_a""#, Code::BadChannel),
            (r#""channel":"a/b""#, Code::BadChannel),
            (r#""channel":"a\u0000""#, Code::BadChannel),
            (r#""channel":"\ud800""#, Code::BadChannel),
            (r#""channels":["a","ä"]"#, Code::BadChannel),
            (r#""channels":["\udc00","a"]"#, Code::BadChannel),
        ] {
            let frame = format!(r#"{{"op":"{op}",{fields}}}"#);
            assert_eq!(refusal(&frame).code, code, "{frame}");
        }
    }
    let frame = r#"{"op":"subscribe","channels":["a","b","c","d"]}"#;
    assert_eq!(refusal(frame).message, "channels is a list of 1 to 3 strings");
    let longest = format!(r#"{{"op":"subscribe","channel":"{}"}}"#, "x".repeat(255));
    assert!(parse(&longest).command.is_ok());
    let longer = format!(r#"{{"op":"subscribe","channel":"{}"}}"#, "x".repeat(256));
    assert_eq!(refusal(&longer), BAD_CHANNEL);
}

#[test]
fn since_is_a_string_of_its_forms() {
    for (text, since) in [
        ("earliest", Since::Earliest),
        ("latest", Since::Latest),
        ("10m", Since::Ago { ms: 600_000 }),
        ("1764000000", Since::At { unix_ms: 1_764_000_000_000 }),
    ] {
        let frame = format!(r#"{{"op":"subscribe","channel":"a","since":"{text}"}}"#);
        let Command::Subscribe { since: read, since_text, .. } = accepted(&frame) else { panic!() };
        assert_eq!((read, since_text.as_deref()), (Some(since), Some(text)));
    }
    for (value, code) in [
        (r#""""#, Code::BadSince),
        (r#""Latest""#, Code::BadSince),
        (r#""k3J9xQ-042""#, Code::BadSince),
        (r#""\ud800""#, Code::BadSince),
        ("1764000000", Code::BadRequest),
        ("true", Code::BadRequest),
        (r#"["latest"]"#, Code::BadRequest),
    ] {
        let frame = format!(r#"{{"op":"subscribe","channel":"a","since":{value}}}"#);
        assert_eq!(refusal(&frame).code, code, "{frame}");
    }
    // The names are checked first.
    assert_eq!(refusal(r#"{"op":"subscribe","channel":"_","since":""}"#), BAD_CHANNEL);
}

#[test]
fn gap_and_presence_have_values() {
    for field in
        [r#""gap":1"#, r#""gap":true"#, r#""gap":["live"]"#, r#""gap":"all""#, r#""gap":"\ud800""#]
    {
        let frame = format!(r#"{{"op":"subscribe","channel":"a",{field}}}"#);
        assert_eq!(refusal(&frame), BAD_GAP, "{frame}");
    }
    for field in [r#""presence":1"#, r#""presence":"true""#, r#""presence":{}"#] {
        let frame = format!(r#"{{"op":"subscribe","channel":"a",{field}}}"#);
        assert_eq!(refusal(&frame), BAD_PRESENCE, "{frame}");
    }
}

#[test]
fn a_ping_echoes_the_text_of_its_t() {
    for t in ["1", "-0.5e-7", "99999999999999999999999", r#""""#, r#""a\n\ud800é""#] {
        let frame = format!(r#"{{"op":"ping","t": {t} }}"#);
        assert_eq!(accepted(&frame), Command::Ping { t: Some(t) });
    }
    for t in ["null", "true", "false", "[1]", "{}"] {
        assert_eq!(refusal(&format!(r#"{{"op":"ping","t":{t}}}"#)), BAD_T, "{t}");
    }
}

// The six traps of reading JSON raw.

#[test]
fn trap_1_a_published_null_does_not_vanish() {
    assert_eq!(message(r#""data":null"#), Message::json("null").expect("JSON"));
    assert_eq!(message(r#""data" : null "#).payload, b"null");
}

#[test]
fn trap_2_op_may_come_last_and_the_payload_stays_raw() {
    let data = r#"{"b":1.0,"a":10000000000000000000001,"c":1e400}"#;
    for frame in [
        format!(r#"{{"op":"publish","channel":"a","data":{data}}}"#),
        format!(r#"{{"data":{data},"channel":"a","op":"publish"}}"#),
        format!(r#"{{"channel":"a","data":{data},"op":"publish"}}"#),
    ] {
        let Command::Publish { message, .. } = accepted(&frame) else { panic!("{frame}") };
        assert_eq!(message.payload, data.as_bytes());
    }
}

#[test]
fn trap_3_white_space_in_a_payload_stays_on_one_line() {
    let read = message("\"data\":\r\n {\"a\":\r\n[1,\n\t2],\"b\":\"\\r\\n\"}\n");
    assert_eq!(read.payload, b"{\"a\":  [1, \t2],\"b\":\"\\r\\n\"}");
    assert!(json::is_valid(&read.payload));
}

#[test]
fn trap_4_plain_strings_are_borrowed_and_escapes_are_read() {
    for (name, is_borrowed) in [("news", true), (r"n\u0065ws", false)] {
        let frame = format!(r#"{{"op":"subscribe","channels":["{name}"],"since":"latest"}}"#);
        let Command::Subscribe { channels, since_text, .. } = accepted(&frame) else { panic!() };
        assert_eq!(channels, ["news"]);
        assert_eq!(matches!(channels[0], Cow::Borrowed(_)), is_borrowed);
        assert!(matches!(since_text, Some(Cow::Borrowed("latest"))));
        let frame =
            format!(r#"{{"op":"publish","channel":"{name}","text":"\"\\\/\b\f\t\ud83d\ude00"}}"#);
        let Command::Publish { channel, message } = accepted(&frame) else { panic!() };
        assert_eq!(channel, "news");
        assert_eq!(matches!(channel, Cow::Borrowed(_)), is_borrowed);
        assert_eq!(message, Message::from("\"\\/\u{8}\u{c}\t😀"));
    }
}

#[test]
fn trap_5_a_lone_surrogate_passes_as_data_and_not_as_text() {
    for surrogate in [r"\ud800", r"\udc00", r"a\uD834b", r"\ud800\ud800"] {
        let data = message(&format!(r#""data":"{surrogate}""#));
        assert_eq!(data.payload, format!("\"{surrogate}\"").as_bytes());
        assert_eq!(message_refusal(&format!(r#""text":"{surrogate}""#)), BAD_TEXT);
    }
}

#[test]
fn trap_6_repeated_names_are_refused_at_the_top_only() {
    let data = r#"{"a":1,"a":2}"#;
    assert_eq!(message(&format!(r#""data":{data}"#)).payload, data.as_bytes());
    for fields in [
        r#""op":"publish","data":1"#,
        r#""data":1,"data":1"#,
        r#""text":"a","t\u0065xt":"a""#,
        r#""data":1,"channel":"a""#,
        r#""data":1,"ttl":1,"ttl":1"#,
        r#""data":1,"x":1,"x":2"#,
        r#""data":1,"x":1,"\u0078":2"#,
        r#""data":1,"since":"","since":"""#,
    ] {
        assert_eq!(message_refusal(fields), REPEATED, "{fields}");
    }
    for name in ["op", "ref", "channels", "gap", "presence", "b64", "type", "event", "t"] {
        let frame = format!(r#"{{"{name}":1,"ref":7,"{name}":1}}"#);
        assert_eq!(refusal(&frame), REPEATED, "{frame}");
        let reference = if name == "ref" { None } else { Some(7) };
        assert_eq!(parse(&frame).reference, reference, "{frame}");
    }
}

// Any bytes.

#[test]
fn mutated_commands_never_panic() {
    let seeds: [&[u8]; 7] = [
        br#"{"op":"subscribe","ref":2,"channels":["a","b"],"since":"k3J9xQ-42","gap":"live"}"#,
        br#"{"op":"publish","ref":4,"channel":"a","data":{"a":[1,-2.5e3,"\u00e9\n",null,true]}}"#,
        br#"{"channels":["a","_"],"text":"[1,\n2]","type":"application/json","ttl":1e30}"#,
        br#"{"op":"publish","channel":"a","b64":"AP8=","event":"e","idempotency_key":"k","ttl":9}"#,
        b"{\"op\":\"publish\",\r\n\"channel\":\"a\",\"data\":[[[[[[{\"\\ud800\":\r\n1}]]]]]]}",
        br#"{"op":"ping","t":1,"x":{"y":[]},"x":2}"#,
        br#"["{\"op\":\"unsubscribe\"}"]"#,
    ];
    let seed = 0x5eed;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..40_000 {
        let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = *random.choice(br#"{}[]",:\0e-u "#).expect("some"),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, *random.choice(b"{}[]\",:\\\n\r1").expect("some")),
                _ => bytes.extend_from_within(at..),
            }
        }
        let outcome = std::panic::catch_unwind(|| fuzz_command(&bytes));
        assert!(
            outcome.is_ok(),
            "seed {seed}, round {round}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

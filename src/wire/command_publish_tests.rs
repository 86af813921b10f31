//! Tables for `wire::command`: messages, and the lines of `POST /publish`.

use super::*;
use crate::message::TOO_LARGE;

#[test]
fn a_message_has_its_parts() {
    let fields = r#""data":{"a": 1.0},"type":"application/ld+json","event":"tick","ttl":5,
        "idempotency_key":"k-1""#;
    let expected = Message::json(r#"{"a": 1.0}"#)
        .expect("JSON")
        .media_type("application/ld+json")
        .event("tick")
        .ttl(std::time::Duration::from_secs(5))
        .idempotency_key("k-1");
    assert_eq!(message(fields), expected);
}

#[test]
fn there_is_exactly_one_payload() {
    assert_eq!(message(r#""data":1.50"#), Message::json("1.50").expect("JSON"));
    assert_eq!(message(r#""text":"h\u00e9\n""#), Message::from("hé\n"));
    assert_eq!(message(r#""text":"""#), Message::from(""));
    assert_eq!(message(r#""b64":"AP8=""#), Message::bytes([0, 255]));
    assert_eq!(message(r#""b64":"""#), Message::from(""));
    assert_eq!(message(r#""b64":"\/\u002b8=""#), Message::bytes([0xff, 0xef]));
    for fields in [
        r#""x":1"#,
        r#""data":1,"text":"a""#,
        r#""data":null,"text":"a""#,
        r#""text":"a","b64":"""#,
        r#""data":1,"b64":"""#,
        r#""data":1,"text":"","b64":"""#,
    ] {
        assert_eq!(message_refusal(fields), ONE_PAYLOAD, "{fields}");
    }
    for value in ["1", "true", "[]", r#"{"a":1}"#] {
        assert_eq!(message_refusal(&format!(r#""text":{value}"#)), BAD_TEXT);
        assert_eq!(message_refusal(&format!(r#""b64":{value}"#)), BAD_B64);
    }
}

#[test]
fn base64_is_standard_padded_and_strict() {
    for coded in [
        "AP8", "AP8==", "A", "A===", "AP-_", "AP 8=", "AP8=\\n", "AP9=", "=", "AP8=AP8=", "é",
        "\\ud800",
    ] {
        assert_eq!(message_refusal(&format!(r#""b64":"{coded}""#)), BAD_B64, "{coded}");
    }
}

#[test]
fn a_payload_counts_decoded_or_as_it_stands() {
    let (full, over) = ("x".repeat(BYTES_MAX), "x".repeat(BYTES_MAX + 1));
    assert_eq!(message(&format!(r#""text":"{full}""#)), Message::from(full.as_str()));
    assert_eq!(message_refusal(&format!(r#""text":"{over}""#)), TOO_LARGE);
    let escaped = r"\u0078".repeat(BYTES_MAX);
    assert_eq!(message(&format!(r#""text":"{escaped}""#)), Message::from(full.as_str()));
    let coded = STANDARD.encode(&full);
    assert_eq!(message(&format!(r#""b64":"{coded}""#)), Message::from(full.as_str()));
    assert_eq!(message_refusal(&format!(r#""b64":"{}""#, STANDARD.encode(&over))), TOO_LARGE);
    for (spaces, fits) in [(BYTES_MAX - 3, true), (BYTES_MAX - 2, false)] {
        let fields = format!(r#""data": [1{}] "#, " ".repeat(spaces));
        if fits {
            assert_eq!(message(&fields).payload.len(), BYTES_MAX);
        } else {
            assert_eq!(message_refusal(&fields), TOO_LARGE);
        }
    }
    let line = br#"{"channel":"a","text":"x"}"#;
    assert_eq!(parse_line(line, 0), Err(Fault::Refused(TOO_LARGE)));
}

#[test]
fn a_ttl_is_a_whole_number_that_saturates() {
    for (ttl, seconds) in [
        ("0", 0),
        ("300", 300),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551616", u64::MAX),
        ("99999999999999999999999", u64::MAX),
        // As JavaScript writes whole numbers that are this large.
        ("1e300", u64::MAX),
        ("1e+21", u64::MAX),
        ("1.7976931348623157e+308", u64::MAX),
        ("1E999", u64::MAX),
        ("1e99999999999999999999", u64::MAX),
        ("100e19", u64::MAX),
        ("0.001e24", u64::MAX),
    ] {
        assert_eq!(message(&format!(r#""text":"","ttl":{ttl}"#)).ttl_s, Some(seconds), "{ttl}");
    }
    let digits = "9".repeat(5000);
    assert_eq!(message(&format!(r#""text":"","ttl":{digits}"#)).ttl_s, Some(u64::MAX));
    for ttl in [
        "-1",
        "-0",
        "1.0",
        "1.5",
        "99999999999999999999999.5",
        "1e3",
        "1e20",
        "1e-3",
        "-1e300",
        "0e300",
        "1e-999",
        "1e-99999999999999999999",
        "99e19",
        "0.0001e24",
        "\"5\"",
        "true",
        "null",
        "[5]",
        "{}",
        "\"1e300\"",
    ] {
        assert_eq!(message_refusal(&format!(r#""text":"","ttl":{ttl}"#)), BAD_TTL, "{ttl}");
    }
}

#[test]
fn event_key_and_type_follow_their_rules() {
    for (name, refusal, bad) in [
        ("event", BAD_EVENT, &["", "open", "error", "binary", "holdline-x", "a b", "é"][..]),
        ("idempotency_key", BAD_KEY, &["", "a b", "é", "a\\n"]),
        ("type", BAD_TYPE, &["", "a\\nb", "é", "\\u0000"]),
    ] {
        for value in bad {
            let fields = format!(r#""text":"","{name}":"{value}""#);
            assert_eq!(message_refusal(&fields), refusal, "{fields}");
        }
        for value in ["1", "true", "[]", "{}", r#""\ud800""#] {
            let fields = format!(r#""text":"","{name}":{value}"#);
            assert_eq!(message_refusal(&fields), refusal, "{fields}");
        }
    }
    let long = |name: &str, len| format!(r#""text":"","{name}":"{}""#, "x".repeat(len));
    for (name, max) in [("event", 64), ("idempotency_key", 128), ("type", 255)] {
        message(&long(name, max));
        assert_eq!(message_refusal(&long(name, max + 1)).code, Code::BadRequest, "{name}");
    }
}

#[test]
fn a_type_and_its_payload_agree() {
    assert_eq!(message_refusal(r#""data":1,"type":"text/plain""#), DATA_TYPE);
    assert_eq!(message_refusal(r#""data":1,"type":"image/png""#), DATA_TYPE);
    for json in ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"] {
        assert!(message(&format!(r#""data":1,"type":"{json}""#)).is_json);
        let text = message(&format!(r#""text":"[1,\r\n2]","type":"{json}""#));
        assert_eq!((text.is_json, &text.payload[..]), (true, &b"[1,  2]"[..]));
        assert!(message(&format!(r#""b64":"MQ==","type":"{json}""#)).is_json);
        for fields in [r#""text":"""#, r#""text":"[1,""#, r#""b64":"/w==""#] {
            assert_eq!(message_refusal(&format!(r#"{fields},"type":"{json}""#)), TEXT_TYPE);
        }
    }
    let deep = |levels| format!(r#""text":"{}","type":"application/json""#, nested(levels));
    assert!(message(&deep(32)).is_json);
    let frame = format!(r#"{{"op":"publish","channel":"a",{}}}"#, deep(33));
    assert_eq!(parse_command(&frame, 1000, 1).command, Err(Fault::Refused(TEXT_TYPE)));
    // Never sniffed.
    assert!(!message(r#""text":"[1]""#).is_json);
    assert!(!message(r#""text":"[1]","type":"text/plain""#).is_json);
}

#[test]
fn publish_takes_one_channel_only() {
    for fields in [
        r#""data":1"#,
        r#""channels":["a"],"data":1"#,
        r#""channel":"a","channels":["b"],"data":1"#,
    ] {
        assert_eq!(refusal(&format!(r#"{{"op":"publish",{fields}}}"#)), ONE_CHANNEL, "{fields}");
    }
    for (channel, code) in
        [("1", Code::BadRequest), (r#""_a""#, Code::BadChannel), (r#""\ud800""#, Code::BadChannel)]
    {
        let frame = format!(r#"{{"op":"publish","channel":{channel},"data":1}}"#);
        assert_eq!(refusal(&frame).code, code, "{frame}");
    }
    // The channel first, then the message.
    assert_eq!(refusal(r#"{"op":"publish","channel":"_a"}"#), BAD_CHANNEL);
}

#[test]
fn a_line_leaves_bad_names_to_its_answer() {
    let line = br#"{"channels":["a","_b","","\ud800","a"],"event":"tick","text":"hi"}"#;
    let Line { targets, message } = parse_line(line, BYTES_MAX).expect("a line");
    let names = ["a", "_b", "", "\u{fffd}", "a"].map(Cow::Borrowed);
    assert_eq!(targets, Targets::Many(names.to_vec()));
    assert_eq!(message, Message::from("hi").event("tick"));
    let Targets::Many(names) = targets else { panic!() };
    assert_eq!(names.iter().filter(|n| message::is_channel(n.as_bytes())).count(), 2);
}

#[test]
fn a_line_has_one_to_128_channels() {
    let line = |names: usize| {
        let list = vec!["\"a\""; names].join(",");
        format!(r#"{{"channels":[{list}],"text":"hi"}}"#)
    };
    for count in [1, 2, 128] {
        let text = line(count);
        let Targets::Many(names) = parse_line(text.as_bytes(), BYTES_MAX).expect("a line").targets
        else {
            panic!("{count}");
        };
        assert_eq!(names.len(), count);
    }
    for count in [0, 129, 10_000] {
        let Err(Fault::Refused(refusal)) = parse_line(line(count).as_bytes(), BYTES_MAX) else {
            panic!("{count}");
        };
        assert_eq!(refusal.message, "channels is a list of 1 to 128 strings");
    }
    for (fields, code) in [
        (r#""text":"a""#, Code::BadRequest),
        (r#""channel":"a","channels":["a"],"text":"a""#, Code::BadRequest),
        (r#""channels":["a",1],"text":"a""#, Code::BadRequest),
        (r#""channels":"a","text":"a""#, Code::BadRequest),
        (r#""channel":null,"text":"a""#, Code::BadRequest),
        (r#""channel":"_a","text":"a""#, Code::BadChannel),
        (r#""channels":["a"]"#, Code::BadRequest),
    ] {
        let line = format!("{{{fields}}}");
        let Err(Fault::Refused(refusal)) = parse_line(line.as_bytes(), BYTES_MAX) else {
            panic!("{line}");
        };
        assert_eq!(refusal.code, code, "{line}");
    }
}

#[test]
fn a_repeated_name_is_noticed_among_the_first_of_those_unknown() {
    for (before, is_noticed) in [(UNKNOWN_MAX - 2, true), (UNKNOWN_MAX - 1, false)] {
        let others: String = (0..before).map(|n| format!("\"x{n}\":{n},")).collect();
        let frame = format!(r#"{{"op":"ping",{others}"twice":1,"twice":2}}"#);
        let parsed = parse(&frame).command;
        assert_eq!(parsed.is_err(), is_noticed, "{before} before it: {parsed:?}");
    }
}

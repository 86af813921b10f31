//! The tests' own reader of event streams, by the standard's examples and its corners, so that it may
//! judge a server. Each stream is read whole, byte by byte, and cut at every place.

#[path = "support/event_stream.rs"]
mod event_stream;

use event_stream::{Block, Parser};

/// What a page would see: type, data and last event id of each event.
type Event = (&'static str, &'static str, &'static str);

fn blocks(stream: &[u8]) -> Vec<Block> {
    let whole = Parser::new().read(stream);
    let mut parser = Parser::new();
    let bytes: Vec<Block> = stream.chunks(1).flat_map(|byte| parser.read(byte)).collect();
    assert_eq!(bytes, whole, "byte by byte");
    for at in 0..=stream.len() {
        let mut parser = Parser::new();
        let (one, two) = stream.split_at(at);
        assert_eq!([parser.read(one), parser.read(two)].concat(), whole, "cut at {at}");
    }
    whole
}

#[track_caller]
fn check(stream: impl AsRef<[u8]>, events: &[Event]) {
    let stream = stream.as_ref();
    let blocks = blocks(stream);
    let seen: Vec<(&str, &str, &str)> = blocks
        .iter()
        .filter_map(|block| Some((block.name(), block.data.as_deref()?, &block.last_id[..])))
        .collect();
    assert_eq!(seen, events, "{}", stream.escape_ascii());
}

#[test]
fn the_examples_of_the_standard() {
    check("data: YHOO\ndata: +2\ndata: 10\n\n", &[("message", "YHOO\n+2\n10", "")]);
    check(
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        &[
            ("message", "first event", "1"),
            ("message", "second event", ""),
            ("message", " third event", ""),
        ],
    );
    check("data\n\ndata\ndata\n\ndata:", &[("message", "", ""), ("message", "\n", "")]);
    check("data:test\n\ndata: test\n\n", &[("message", "test", ""), ("message", "test", "")]);
    check(
        "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        &[("add", "73857293", ""), ("remove", "2153", ""), ("add", "113411", "")],
    );
    check(
        "data: This is the first message.\n\ndata: This is the second message, it\n\
         data: has two lines.\n\ndata: This is the third message.\n\n",
        &[
            ("message", "This is the first message.", ""),
            ("message", "This is the second message, it\nhas two lines.", ""),
            ("message", "This is the third message.", ""),
        ],
    );
}

#[test]
fn lines_end_in_three_ways() {
    let ends = ["\n", "\r", "\r\n"];
    for one in ends {
        for two in ends {
            for three in ends {
                let stream = format!("data: a{one}data: b{two}{three}");
                // CR and LF in a row are one end, not two.
                let is_one_end = two == "\r" && three == "\n";
                let events = [("message", "a\nb", "")];
                check(stream, if is_one_end { &[] } else { &events });
            }
        }
    }
    check("data: a\n\rdata: b\r\r", &[("message", "a", ""), ("message", "b", "")]);
    check("data: a\r\n\r\n\r\n\n\rdata: b\r\n\n", &[("message", "a", ""), ("message", "b", "")]);
    // Nothing else ends a line.
    for other in ["\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\0", "\u{1c}", "\u{1e}"] {
        let data: &str = Box::leak(format!("a{other}b").into_boxed_str());
        check(format!("data: {data}\n\n"), &[("message", data, "")]);
    }
}

#[test]
fn one_byte_order_mark_may_come_first() {
    check("\u{feff}data: a\n\n", &[("message", "a", "")]);
    check("\u{feff}\u{feff}data: a\n\n", &[]);
    check("data: a\n\n\u{feff}data: b\n\n", &[("message", "a", "")]);
    check("\n\u{feff}data: a\n\n", &[]);
    check("\u{feff}\n\ndata: a\n\n", &[("message", "a", "")]);
    check("\u{feff}: comment\ndata: \u{feff}a\n\n", &[("message", "\u{feff}a", "")]);
    check(b"\xfe\xffdata: a\n\n", &[]);
}

#[test]
fn one_space_behind_the_colon_is_not_part_of_the_value() {
    for (line, value) in [
        ("data:a", "a"),
        ("data: a", "a"),
        ("data:  a", " a"),
        ("data:\ta", "\ta"),
        ("data: \ta", "\ta"),
        ("data:a ", "a "),
        ("data::a", ":a"),
        ("data: :a", ":a"),
        ("data:a:b: c", "a:b: c"),
        ("data:", ""),
        ("data: ", ""),
        ("data:  ", " "),
        ("data", ""),
        ("data:\u{a0}a", "\u{a0}a"),
    ] {
        check(format!("{line}\n\n"), &[("message", value, "")]);
    }
}

#[test]
fn names_of_fields_are_compared_exactly() {
    for line in [
        "Data: a",
        "DATA: a",
        " data: a",
        "data : a",
        "\tdata: a",
        "dat: a",
        "datas: a",
        "data\0: a",
        "data\u{200b}: a",
        "message: a",
        "dаta: a",
        "{\"data\": 1}",
        "HTTP/1.1 200 OK",
    ] {
        let stream = format!("{line}\n\n");
        check(&stream, &[]);
        assert_eq!(blocks(stream.as_bytes())[0].ignored, [line]);
    }
    check("foo\ndata: a\nbar: b\n\n", &[("message", "a", "")]);
}

#[test]
fn comments_are_passed_over() {
    check(":\n\n", &[]);
    check(": a\n:b\ndata: c\n:data: d\n\n", &[("message", "c", "")]);
    check("data: a\n: between\ndata: b\n\n", &[("message", "a\nb", "")]);
    assert_eq!(blocks(b": a\n:b\n:  c\n\n")[0].comments, ["a", "b", " c"]);
}

#[test]
fn an_event_without_data_is_not_dispatched_and_one_with_empty_data_is() {
    check("event: a\n\ndata: b\n\n", &[("message", "b", "")]);
    check("event: a\n\nevent\ndata: b\n\n", &[("message", "b", "")]);
    check("event: a\nevent: b\ndata\n\n", &[("b", "", "")]);
    check("data: a\nevent: \n\n", &[("message", "a", "")]);
    check("event: a b:c\ndata\n\n", &[("a b:c", "", "")]);
    check("data\ndata:\ndata: \n\n", &[("message", "\n\n", "")]);
}

#[test]
fn an_id_lasts_until_the_next_and_holds_no_nul() {
    check("id: 1\ndata: a\n\ndata: b\n\n", &[("message", "a", "1"), ("message", "b", "1")]);
    // Also from a block that is not dispatched.
    check("id: 1\n\ndata: a\n\n", &[("message", "a", "1")]);
    check(
        "id: 1\nid: 2\ndata: a\n\nid\ndata: b\n\n",
        &[("message", "a", "2"), ("message", "b", "")],
    );
    check("id: 1\ndata: a\nid: 2\0\n\n", &[("message", "a", "1")]);
    check("id: 1\n\nid: \0\ndata: a\n\n", &[("message", "a", "1")]);
    check("id:  1 \ndata: a\n\n", &[("message", "a", " 1 ")]);
    // An id of a block that was cut is not taken.
    let blocks = blocks(b"id: 1\ndata: a\n\nid: 2\ndata: b\n");
    assert_eq!((blocks.len(), &blocks[0].last_id[..]), (1, "1"));
}

#[test]
fn reconnection_times_are_digits_alone() {
    for (line, retry) in [
        ("retry: 1000", Some(1000)),
        ("retry:1000", Some(1000)),
        ("retry: 0", Some(0)),
        ("retry: 007", Some(7)),
        ("retry: 99999999999999999999999", Some(u64::MAX)),
        ("retry", None),
        ("retry:", None),
        ("retry:  1000", None),
        ("retry: 1000 ", None),
        ("retry: -1", None),
        ("retry: +1", None),
        ("retry: 1.5", None),
        ("retry: 1e3", None),
        ("retry: 0x10", None),
        ("retry: 1000x", None),
        ("retry: \u{661}", None),
        ("Retry: 1000", None),
    ] {
        let blocks = blocks(format!("{line}\n\n").as_bytes());
        assert_eq!(blocks[0].retry, retry, "{line}");
        assert_eq!(blocks[0].ignored.is_empty(), retry.is_some(), "{line}");
    }
}

#[test]
fn what_no_empty_line_ended_is_dropped() {
    for rest in ["data: b", "data: b\n", "data: b\r", "data: b\nid: 2\n", ": c\n", "\u{feff}"] {
        check(format!("data: a\n\n{rest}"), &[("message", "a", "")]);
        let mut parser = Parser::new();
        parser.read(rest.as_bytes());
        assert!(!parser.is_between());
    }
    check("", &[]);
    check("\n\n\r\r\n\n", &[]);
}

#[test]
fn what_is_not_utf8_is_replaced() {
    check(b"data: a\xffb\n\n", &[("message", "a\u{fffd}b", "")]);
    check(b"data: \xe2\x82\n\n", &[("message", "\u{fffd}", "")]);
    check(b"data: \xe2\x82\r\ndata: \xac\n\n", &[("message", "\u{fffd}\n\u{fffd}", "")]);
    check(b"data: \xed\xa0\x80\n\n", &[("message", "\u{fffd}\u{fffd}\u{fffd}", "")]);
    assert!(blocks(b"data: a\xffb\n\n")[0].is_mended);
    assert!(blocks(b"data\xff: a\n\n")[0].is_mended);
    assert!(!blocks("data: ä\u{fffd}\n\n".as_bytes())[0].is_mended);
}

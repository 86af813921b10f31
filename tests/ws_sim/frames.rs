//! Headers and the order of fragments (RFC 6455 §5.2, §5.4).

use crate::run::{End, Path, Row, check, check_with_error, frame, header};

/// A text in one frame.
fn text(path: Path, word: &str) -> Vec<u8> {
    frame(0x81, path.say(word).as_bytes())
}

/// A text in as many fragments as there are pieces of this size.
fn fragments(path: Path, word: &str, size: usize) -> Vec<Vec<u8>> {
    let said = path.say(word).into_bytes();
    let pieces: Vec<&[u8]> = said.chunks(size).collect();
    let last = pieces.len() - 1;
    let first = |i: usize| u8::from(i == 0) | if i == last { 0x80 } else { 0 };
    pieces.iter().enumerate().map(|(i, piece)| frame(first(i), piece)).collect()
}

#[test]
fn every_form_of_length_carries_a_message() {
    let mut rows = Vec::new();
    // What `/ws` says around the word is the same 21 bytes.
    for length in [1, 50, 104, 105, 106, 125, 126, 127, 128, 300, 65_535 - 21, 65_536 - 21] {
        let word = "*".repeat(length);
        let said = word.clone();
        rows.push(Row::new(format!("{length}"), move |path| text(path, &said)).word(word));
    }
    check(&rows);
}

#[test]
fn lengths_have_one_form() {
    let mut rows = Vec::new();
    for (name, length) in [
        ("7 bits would do for 0", vec![0xfe, 0, 0]),
        ("7 bits would do for 1", vec![0xfe, 0, 1]),
        ("7 bits would do for 125", vec![0xfe, 0, 125]),
        ("7 bits would do, of 64", vec![0xff, 0, 0, 0, 0, 0, 0, 0, 5]),
        ("16 bits would do for 126", vec![0xff, 0, 0, 0, 0, 0, 0, 0, 126]),
        ("16 bits would do for 65535", vec![0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("the highest bit", vec![0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("all bits", vec![0xff; 9]),
    ] {
        for first in [0x81, 0x82, 0x01] {
            let bytes = header(first, &length);
            rows.push(Row::bytes(format!("{name} of {first:x}"), bytes).failed(1002));
        }
    }
    check(&rows);
}

/// Refused by its length alone: nothing of it need come.
#[test]
fn what_is_too_large_is_known_from_its_length() {
    let long = |length: u64| [&[0xff][..], &length.to_be_bytes()].concat();
    let mut rows = Vec::new();
    for length in [65_537, 1 << 20, 1 << 32, (1 << 53) + 1, u64::MAX >> 1] {
        for first in [0x81, 0x82, 0x01, 0x02] {
            let bytes = header(first, &long(length));
            rows.push(Row::bytes(format!("{length} of {first:x}"), bytes).failed(1009));
        }
        // What was said before is not lost.
        let row = Row::new(format!("{length} behind a word"), move |path| {
            [text(path, "before"), header(0x82, &long(length))].concat()
        });
        rows.push(row.word("before").failed(1009));
    }
    let sum = [frame(0x02, &[b' '; 40_000]), header(0x80, &[0xfe, 0xff, 0xff])].concat();
    rows.push(Row::bytes("a sum over the limit", sum).failed(1009));
    check(&rows);
}

#[test]
fn a_frame_without_a_mask_is_refused() {
    let mut rows = Vec::new();
    for first in [0x81, 0x82, 0x88, 0x89, 0x8a, 0x01] {
        rows.push(Row::bytes(format!("{first:x}, empty"), [first, 0]).failed(1002));
        rows.push(Row::bytes(format!("{first:x}"), [first, 2, b'h', b'i']).failed(1002));
    }
    rows.push(
        Row::new("behind a word", |path| [text(path, "w"), vec![0x81, 2, b'h', b'i']].concat())
            .word("w")
            .failed(1002),
    );
    check(&rows);
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    let mut rows = Vec::new();
    for bits in 1..8_u8 {
        for opcode in [0x81, 0x82, 0x88, 0x89, 0x8a, 0x01] {
            let wrong = opcode | bits << 4;
            rows.push(Row::bytes(format!("bits {wrong:x}"), frame(wrong, b"x")).failed(1002));
        }
        let row = Row::new(format!("bits {bits:x} in a message"), move |path| {
            let all = fragments(path, "word", 2);
            [all[0].clone(), frame(0x80 | bits << 4, b"x")].concat()
        });
        rows.push(row.failed(1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for first in [opcode, 0x80 | opcode] {
            rows.push(Row::bytes(format!("opcode {first:x}"), frame(first, b"")).failed(1002));
        }
        let row = Row::new(format!("opcode {opcode:x} behind a word"), move |path| {
            [text(path, "w"), frame(0x80 | opcode, b"x"), frame(0x89, b"")].concat()
        });
        rows.push(row.word("w").failed(1002));
    }
    check(&rows);
}

#[test]
fn fragments_make_one_message() {
    let mut rows = Vec::new();
    for size in [1, 2, 3, 7, 20] {
        let row = Row::new(format!("fragments of {size}"), move |path| {
            fragments(path, "fragments", size).concat()
        });
        rows.push(row.word("fragments"));
    }
    let row = Row::new("two messages in fragments", |path| {
        [fragments(path, "one", 2), fragments(path, "two", 2)].concat().concat()
    });
    rows.push(row.word("one").word("two"));
    let row = Row::new("empty fragments around", |path| {
        let said = path.say("word");
        let around = [frame(0x01, b""), frame(0, b""), frame(0, said.as_bytes()), frame(0, b"")];
        [around.concat(), frame(0x80, b"")].concat()
    });
    rows.push(row.word("word"));
    let row = Row::new("as many as there may be", |path| {
        let said = path.say("word");
        [frame(0x01, b""), frame(0, b"").repeat(126), frame(0x80, said.as_bytes())].concat()
    });
    rows.push(row.word("word"));
    let row = Row::bytes(
        "one more than there may be",
        [frame(0x01, b""), frame(0, b"").repeat(127), frame(0x80, b"x")].concat(),
    );
    rows.push(row.failed(1008));
    check(&rows);
}

#[test]
fn fragments_out_of_order_are_refused() {
    let mut rows = Vec::new();
    let begin = |path| fragments(path, "word", 2)[0].clone();
    for first in [0x00, 0x80] {
        for payload in [&b""[..], b"x"] {
            let name = format!("a continuation of nothing, {first:x} {}", payload.len());
            rows.push(Row::bytes(name, frame(first, payload)).failed(1002));
        }
        let row = Row::new(format!("a continuation behind a word, {first:x}"), move |path| {
            [text(path, "w"), frame(first, b"x")].concat()
        });
        rows.push(row.word("w").failed(1002));
        let row = Row::new(format!("a continuation behind fragments, {first:x}"), move |path| {
            [fragments(path, "w", 2).concat(), frame(first, b"x")].concat()
        });
        rows.push(row.word("w").failed(1002));
    }
    for first in [0x81, 0x82, 0x01, 0x02] {
        let row = Row::new(format!("{first:x} in a message"), move |path| {
            [begin(path), frame(first, b"x")].concat()
        });
        rows.push(row.failed(1002));
        let row = Row::new(format!("{first:x} in a message, behind a ping"), move |path| {
            [begin(path), frame(0x89, b"p"), frame(first, b"x")].concat()
        });
        rows.push(row.pong("p").failed(1002));
    }
    check(&rows);
}

/// The two paths take different payloads: bytes are messages there, and no commands here.
#[test]
fn binary_messages_are_payloads_on_a_channel_and_no_commands() {
    let mut rows = Vec::new();
    for (name, payload) in [
        ("nothing", &b""[..]),
        ("text", b"text"),
        ("bytes", b"\xff\x00\xfe"),
        ("an object", b"{\"op\":\"ping\",\"t\":\"x\"}"),
    ] {
        rows.push(Row::bytes(format!("binary: {name}"), frame(0x82, payload)).word(payload));
        let halves = [
            frame(0x02, &payload[..payload.len() / 2]),
            frame(0x80, &payload[payload.len() / 2..]),
        ];
        rows.push(Row::bytes(format!("binary halves: {name}"), halves.concat()).word(payload));
    }
    for row in &rows {
        crate::run::check_on_channels(row);
        let on_ws = Row::bytes(row.name.clone(), (row.frames)(Path::Json)).end(End::Asked(4400));
        check_with_error(&on_ws, Path::Json, "bad_request");
    }
}

#[test]
fn text_that_is_no_command_closes_4400() {
    for (code, text) in [
        ("bad_json", String::new()),
        ("bad_json", "hello".to_owned()),
        ("bad_json", "{\"op\":\"ping\"".to_owned()),
        ("bad_json", "{\"op\":\"ping\"}x".to_owned()),
        ("bad_json", "\u{feff}{\"op\":\"ping\"}".to_owned()),
        ("bad_json", "{\"op\":\"ping\",\"x\":\"\\ud800\"".to_owned()),
        ("bad_json", format!("{{\"op\":\"ping\",\"x\":{}{}}}", "[".repeat(40), "]".repeat(40))),
        ("bad_request", "[]".to_owned()),
        ("bad_request", "null".to_owned()),
        ("bad_request", "1".to_owned()),
        ("bad_request", "\"ping\"".to_owned()),
    ] {
        let row = Row::bytes(text.clone(), frame(0x81, text.as_bytes())).end(End::Asked(4400));
        check_with_error(&row, Path::Json, code);
    }
}

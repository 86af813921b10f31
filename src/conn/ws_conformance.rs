//! The ground that the Autobahn fuzzing client covers in its sections 1 to 7, as tables; each
//! case is read whole, byte by byte and cut at every place. What the engine makes of it, and who ends
//! the stream, is `tests/ws_sim.rs`.

use super::{BINARY, CLOSE, END, LIMITS, PING, TEXT, frame, header, read, text};
use crate::conn::ws::fuzz::Seen;
use crate::wire::ws::WsError;

const PONG: u8 = 0x8a;
const PROTOCOL: Seen = Seen::Error(WsError::Protocol);
const UTF8: Seen = Seen::Error(WsError::Utf8);

type Case<'a> = (&'a str, Vec<Vec<u8>>, Vec<Seen>);

fn check(cases: Vec<Case<'_>>) {
    for (name, frames, expected) in cases {
        assert_eq!(read(&frames.concat(), &LIMITS), expected, "{name}");
    }
}

fn ping(payload: &[u8]) -> Seen {
    Seen::Ping(payload.to_vec())
}

fn pong(payload: &[u8]) -> Seen {
    Seen::Pong(payload.to_vec())
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).expect("hex") as u8;
    let digits: Vec<u8> = hex.bytes().filter(|b| *b != b' ').map(digit).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn messages_of_every_form_of_length() {
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        let letters = "*".repeat(len);
        let bytes = vec![0xfe; len];
        check(vec![
            ("text", vec![frame(TEXT, letters.as_bytes())], vec![text(&letters)]),
            ("binary", vec![frame(BINARY, &bytes)], vec![Seen::Binary(bytes.clone())]),
            (
                "two",
                vec![frame(TEXT, letters.as_bytes()), frame(BINARY, &bytes)],
                vec![text(&letters), Seen::Binary(bytes)],
            ),
        ]);
    }
}

/// RFC 6455 §5.2: "the minimal number of bytes MUST be used", and the highest bit is 0.
#[test]
fn lengths_in_a_form_that_cannot_be() {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let long = |length: u64| [&[0xff][..], &length.to_be_bytes(), &KEY].concat();
    let short = |length: u16| [&[0xfe][..], &length.to_be_bytes(), &KEY].concat();
    for first in [TEXT, BINARY, 0x01, 0x02] {
        for length in [0, 1, 5, 124, 125] {
            let bytes = [vec![first], short(length), vec![0; length.into()]].concat();
            check(vec![("16 bits where 7 do", vec![bytes], vec![PROTOCOL])]);
        }
        for length in [0, 5, 125, 126, 300, 65_534, 65_535] {
            check(vec![("64 bits", vec![vec![first], long(length)], vec![PROTOCOL])]);
        }
        for length in [1 << 63, (1 << 63) + 5, u64::MAX] {
            check(vec![("the highest bit", vec![vec![first], long(length)], vec![PROTOCOL])]);
        }
        let too_large = Seen::Error(WsError::TooLarge);
        for length in [(1 << 20) + 1, 1 << 32, (1 << 32) + 5, (1 << 53) + 1, u64::MAX >> 1] {
            check(vec![("large", vec![vec![first], long(length)], vec![too_large.clone()])]);
        }
    }
}

#[test]
fn pings_and_pongs() {
    let long = [0xfe; 125];
    let binary = [0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff];
    check(vec![
        ("empty ping", vec![frame(PING, b"")], vec![ping(b"")]),
        ("text ping", vec![frame(PING, b"Hello")], vec![ping(b"Hello")]),
        ("binary ping", vec![frame(PING, &binary)], vec![ping(&binary)]),
        ("long ping", vec![frame(PING, &long)], vec![ping(&long)]),
        ("too long ping", vec![frame(PING, &[0xfe; 126])], vec![PROTOCOL]),
        ("too long pong", vec![header(PONG, 126)], vec![PROTOCOL]),
        ("huge ping", vec![header(PING, 65_536)], vec![PROTOCOL]),
        ("pong", vec![frame(PONG, b"")], vec![pong(b"")]),
        ("pong with payload", vec![frame(PONG, b"unasked")], vec![pong(b"unasked")]),
        (
            "pong and ping",
            vec![frame(PONG, b"unasked"), frame(PING, b"ping")],
            vec![pong(b"unasked"), ping(b"ping")],
        ),
        (
            "ten pings",
            (0..10).map(|i| frame(PING, &[b'0' + i])).collect(),
            (0..10).map(|i| ping(&[b'0' + i])).collect(),
        ),
    ]);
}

#[test]
fn reserved_bits() {
    for bits in 1..8u8 {
        for first in [TEXT, BINARY, PING, CLOSE, END] {
            let wrong = first | bits << 4;
            check(vec![
                ("first", vec![frame(wrong, b"Hello")], vec![PROTOCOL]),
                (
                    "second, then a ping",
                    vec![frame(TEXT, b"Hi"), frame(wrong, b"Hello"), frame(PING, b"")],
                    vec![text("Hi"), PROTOCOL],
                ),
            ]);
        }
        // On a continuation, and on a frame between fragments.
        for wrong in [END | bits << 4, PING | bits << 4] {
            let frames = vec![frame(0x01, b"Hi"), frame(wrong, b"")];
            check(vec![("in a message", frames, vec![PROTOCOL])]);
        }
    }
}

#[test]
fn reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(vec![
            ("empty", vec![frame(0x80 | opcode, b"")], vec![PROTOCOL]),
            ("with payload", vec![frame(0x80 | opcode, b"reserved")], vec![PROTOCOL]),
            ("not final", vec![frame(opcode, b"reserved")], vec![PROTOCOL]),
            (
                "after a text, before a ping",
                vec![frame(TEXT, b"Hi"), frame(0x80 | opcode, b"x"), frame(PING, b"")],
                vec![text("Hi"), PROTOCOL],
            ),
        ]);
    }
}

#[test]
fn frames_without_a_mask() {
    check(vec![
        ("text", vec![vec![TEXT, 2, b'h', b'i']], vec![PROTOCOL]),
        ("ping", vec![vec![PING, 0]], vec![PROTOCOL]),
        ("later", vec![frame(TEXT, b"Hi"), vec![CLOSE, 0]], vec![text("Hi"), PROTOCOL]),
    ]);
}

#[test]
fn fragments_in_order() {
    let mut pinged = Vec::new();
    let mut expected = Vec::new();
    for i in 1..=5 {
        let first = if i == 1 { 0x01 } else { 0 };
        pinged.push(frame(first, format!("fragment{i}").as_bytes()));
        pinged.push(frame(PING, &[b'0' + i]));
        expected.push(ping(&[b'0' + i]));
    }
    pinged.push(frame(END, b""));
    expected.push(text("fragment1fragment2fragment3fragment4fragment5"));

    let one = || frame(0x01, b"fragment1");
    let two = || frame(END, b"fragment2");
    let whole = || text("fragment1fragment2");
    check(vec![
        ("two", vec![one(), two()], vec![whole()]),
        ("a ping between", vec![one(), frame(PING, b"p"), two()], vec![ping(b"p"), whole()]),
        ("a pong between", vec![one(), frame(PONG, b"p"), two()], vec![pong(b"p"), whole()]),
        ("many pings between", pinged, expected),
        (
            "binary, then text",
            vec![frame(0x02, b"\xff"), frame(END, b"\xfe"), frame(TEXT, b"Hi")],
            vec![Seen::Binary(vec![0xff, 0xfe]), text("Hi")],
        ),
        ("empty ones", vec![frame(0x01, b""), frame(0x00, b""), frame(END, b"")], vec![text("")]),
        (
            "an empty one in the middle",
            vec![frame(0x01, b"a"), frame(0x00, b""), frame(END, b"b")],
            vec![text("ab")],
        ),
        ("no end", vec![one()], vec![]),
    ]);
}

#[test]
fn fragments_in_an_order_that_cannot_be() {
    let one = || frame(0x01, b"fragment1");
    let two = || frame(END, b"fragment2");
    let whole = || text("fragment1fragment2");
    check(vec![
        ("a ping in two", vec![frame(0x09, b"a"), frame(END, b"b")], vec![PROTOCOL]),
        ("a pong in two", vec![frame(0x0a, b"a"), frame(END, b"b")], vec![PROTOCOL]),
        ("a close in two", vec![frame(0x08, b"\x03"), frame(END, b"\xe8")], vec![PROTOCOL]),
        ("a stray end", vec![frame(END, b"x"), frame(TEXT, b"Hi")], vec![PROTOCOL]),
        ("a stray middle", vec![frame(0x00, b"x"), frame(TEXT, b"Hi")], vec![PROTOCOL]),
        ("a stray empty end", vec![frame(END, b"")], vec![PROTOCOL]),
        ("an end after the end", vec![one(), two(), two()], vec![whole(), PROTOCOL]),
        ("a middle after a text", vec![frame(TEXT, b"a"), frame(0x00, b"b")], {
            vec![text("a"), PROTOCOL]
        }),
        ("a text in a message", vec![one(), frame(TEXT, b"Hi")], vec![PROTOCOL]),
        ("a binary in a message", vec![one(), frame(BINARY, b"Hi")], vec![PROTOCOL]),
        ("a beginning in a message", vec![one(), one(), two()], vec![PROTOCOL]),
        ("a text behind a ping", vec![one(), frame(PING, b"p"), frame(TEXT, b"Hi")], {
            vec![ping(b"p"), PROTOCOL]
        }),
    ]);
}

/// A text as one frame, in two fragments, in fragments of one byte, and of three.
fn check_text(bytes: &[u8], expected: &Seen) {
    let in_fragments = |size: usize| {
        let mut frames = vec![frame(0x01, b"")];
        frames.extend(bytes.chunks(size).map(|piece| frame(0x00, piece)));
        frames.push(frame(END, b""));
        frames
    };
    for at in 0..=bytes.len() {
        let (one, two) = bytes.split_at(at);
        let frames = vec![frame(0x01, one), frame(END, two)];
        check(vec![("in two fragments", frames, vec![expected.clone()])]);
        let frames = [frame(0x01, one), frame(PONG, b"\xff"), frame(END, two)];
        let seen = read(&frames.concat(), &LIMITS);
        assert_eq!(seen.last(), Some(expected), "around a pong");
    }
    check(vec![
        ("whole", vec![frame(TEXT, bytes)], vec![expected.clone()]),
        ("in fragments of 1", in_fragments(1), vec![expected.clone()]),
        ("in fragments of 3", in_fragments(3), vec![expected.clone()]),
    ]);
}

#[test]
fn texts_that_are_utf8() {
    for hex in [
        "",
        "48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121",
        "cebae1bdb9cf83cebcceb5",
        "ceba",
        "cebae1bdb9",
        // First and last of each length, and beside the surrogates.
        "00 c280 e0a080 f0908080",
        "7f dfbf efbfbf f48fbfbf",
        "ed9fbf ee8080 efbfbd f48fbfbf",
        // No characters, but valid.
        "efbfbe f09fbfbe f09fbfbf f0afbfbe f0bfbfbf f18fbfbe f48fbfbe",
        "efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf",
    ] {
        let bytes = unhex(hex);
        let expected = Seen::Text(String::from_utf8(bytes.clone()).expect("valid"));
        check_text(&bytes, &expected);
    }
}

#[test]
fn texts_that_are_not_utf8() {
    // Each word is a text.
    for texts in [
        "cebae1bdb9cf83cebcceb5eda080656469746564 cebae1bdb9cf83cebcceb5f4908080656469746564",
        // Cut within a character.
        "ce cebae1 cebae1bd cebae1bdb9cf cebae1bdb9cf83cebcce",
        // Five and six bytes, and past the last character.
        "f888808080 fc8480808080 f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf f4908080",
        // Continuation bytes alone.
        "80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf",
        // First bytes alone.
        "c020c120c220 e020e120 f020f120f720 f820fb20 fc20fd20",
        // The last byte missing.
        "c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf",
        "c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf",
        // Never to be seen.
        "fe ff fefeffff",
        // Too long for what they say.
        "c0af e080af f08080af f8808080af fc80808080af",
        "c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf",
        "c080 e08080 f0808080 f880808080 fc8080808080",
        // Surrogates, alone and in pairs.
        "eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf",
        "eda080edb080 eda080edbfbf edadbfedb080 edafbfedb080 edafbfedbfbf",
    ] {
        for hex in texts.split(' ') {
            check_text(&unhex(hex), &UTF8);
        }
    }
}

#[test]
fn every_continuation_byte_alone_is_refused() {
    for byte in 0x80..=0xbf {
        check(vec![("alone", vec![frame(TEXT, &[b'a', byte])], vec![UTF8])]);
    }
}

#[test]
fn a_character_may_be_cut_by_fragments_and_by_pings() {
    check(vec![
        ("by fragments", vec![frame(0x01, b"\xce"), frame(END, b"\xba")], vec![text("\u{3ba}")]),
        (
            "by a ping",
            vec![frame(0x01, b"\xf0\x9f"), frame(PING, b"\xff"), frame(END, b"\x98\x80")],
            vec![ping(b"\xff"), text("\u{1f600}")],
        ),
        (
            "the next text begins anew",
            vec![frame(0x01, b"\xce"), frame(END, b"\xba"), frame(TEXT, b"\xba")],
            vec![text("\u{3ba}"), UTF8],
        ),
    ]);
}

#[test]
fn closes() {
    let close = |code: u16, reason: &[u8]| frame(CLOSE, &[&code.to_be_bytes(), reason].concat());
    let closed = |code, reason: &str| Seen::Close(Some((code, reason.to_owned())));
    let long = "x".repeat(123);
    check(vec![
        ("empty", vec![frame(CLOSE, b"")], vec![Seen::Close(None)]),
        ("half a code", vec![frame(CLOSE, b"\x03")], vec![PROTOCOL]),
        ("a code", vec![close(1000, b"")], vec![closed(1000, "")]),
        ("a reason", vec![close(1000, b"Hello")], vec![closed(1000, "Hello")]),
        ("a long reason", vec![close(1000, long.as_bytes())], vec![closed(1000, &long)]),
        ("too long", vec![close(1000, &[b'x'; 124])], vec![PROTOCOL]),
        ("no UTF-8", vec![close(1000, b"\xce\xba\xed\xa0\x80")], vec![UTF8]),
        ("a cut reason", vec![close(1000, b"\xce")], vec![UTF8]),
        (
            "behind a text",
            vec![frame(TEXT, b"Hi"), close(1001, b"")],
            vec![text("Hi"), closed(1001, "")],
        ),
        (
            "in a message",
            vec![frame(0x01, b"Hi"), close(1000, b""), frame(END, b"")],
            vec![closed(1000, "")],
        ),
        ("nothing is read behind it", vec![close(1000, b""), vec![0xff; 9]], {
            vec![closed(1000, "")]
        }),
        ("two", vec![close(1000, b""), close(1001, b"")], vec![closed(1000, "")]),
    ]);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
        check(vec![("valid", vec![close(code, b"why")], vec![closed(code, "why")])]);
    }
    for code in [3000, 3999, 4000, 4401, 4999] {
        check(vec![("private", vec![close(code, b"")], vec![closed(code, "")])]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check(vec![("invalid", vec![close(code, b"")], vec![PROTOCOL])]);
        check(vec![("invalid", vec![close(code, b"why")], vec![PROTOCOL])]);
    }
}

/// RFC 6455 §7.4.2, and the registry that it began.
#[test]
fn every_close_code() {
    for code in 0..=u16::MAX {
        let is_valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let seen = if is_valid { Seen::Close(Some((code, String::new()))) } else { PROTOCOL };
        let frames = vec![frame(CLOSE, &code.to_be_bytes())];
        check(vec![("close", frames, vec![seen])]);
    }
}

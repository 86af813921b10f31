//! Pings and pongs (RFC 6455 §5.5).

use crate::run::{Path, Row, check, frame, header};

fn text(path: Path, word: &str) -> Vec<u8> {
    frame(0x81, path.say(word).as_bytes())
}

#[test]
fn pings_are_answered_with_what_they_carry() {
    let mut rows = Vec::new();
    for payload in [&b""[..], b"p", b"Hello", b"\x00\xff\xfe\r\n", &[0xfe; 125]] {
        let name = format!("a ping of {}", payload.len());
        rows.push(Row::bytes(name, frame(0x89, payload)).pong(payload));
    }
    let burst: Vec<Vec<u8>> = (0..19).map(|i| vec![b'a' + i]).collect();
    let pings = burst.iter().map(|payload| frame(0x89, payload)).collect::<Vec<_>>().concat();
    let row = burst.iter().fold(Row::bytes("pings in order", pings), |row, p| row.pong(p));
    rows.push(row);
    let row = Row::new("pings between words", |path| {
        [text(path, "a"), frame(0x89, b"1"), text(path, "b"), frame(0x89, b"2")].concat()
    });
    rows.push(row.word("a").word("b").pong("1").pong("2"));
    check(&rows);
}

#[test]
fn pongs_are_taken_and_not_answered() {
    let mut rows = Vec::new();
    for payload in [&b""[..], b"unasked", &[0xfe; 125]] {
        rows.push(Row::bytes(format!("a pong of {}", payload.len()), frame(0x8a, payload)));
    }
    let row = Row::new("pongs around a word", |path| {
        [frame(0x8a, b"x"), text(path, "w"), frame(0x8a, b"y"), frame(0x89, b"p")].concat()
    });
    rows.push(row.word("w").pong("p"));
    check(&rows);
}

#[test]
fn control_frames_stand_between_fragments() {
    let mut rows = Vec::new();
    for control in [0x89, 0x8a] {
        let row = Row::new(format!("{control:x} between fragments"), move |path| {
            let said = path.say("fragments").into_bytes();
            let (one, rest) = said.split_at(3);
            let (two, three) = rest.split_at(3);
            [
                frame(0x01, one),
                frame(control, b"1"),
                frame(0x00, two),
                frame(control, b""),
                frame(control, b"3"),
                frame(0x80, three),
            ]
            .concat()
        });
        let row = row.word("fragments");
        rows.push(if control == 0x89 { row.pong("1").pong("").pong("3") } else { row });
    }
    check(&rows);
}

#[test]
fn control_frames_are_short_and_whole() {
    let mut rows = Vec::new();
    for opcode in [0x8, 0x9, 0xa] {
        let first = 0x80 | opcode;
        let rows_of = [
            ("126 bytes", header(first, &[0xfe, 0, 126])),
            ("65536 bytes", header(first, &[0xff, 0, 0, 0, 0, 0, 1, 0, 0])),
            ("2^63 bytes", header(first, &[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0])),
            ("5 bytes in a long form", header(first, &[0xfe, 0, 5])),
            ("not final", frame(opcode, b"")),
            ("not final, with a payload", frame(opcode, b"\x03\xe8")),
            ("not final, continued", [frame(opcode, b"a"), frame(0x80, b"b")].concat()),
        ];
        for (name, bytes) in rows_of {
            rows.push(Row::bytes(format!("{first:x}: {name}"), bytes).failed(1002));
        }
        let row = Row::new(format!("{first:x}: not final, in a message"), move |path| {
            let said = path.say("word").into_bytes();
            [frame(0x01, &said[..2]), frame(opcode, b"")].concat()
        });
        rows.push(row.failed(1002));
    }
    check(&rows);
}

/// Pings cost two writes each: twenty at once, then ten a second.
#[test]
fn floods_of_control_frames_end_in_1008() {
    for control in [0x89, 0x8a] {
        let row = Row::bytes(format!("60 of {control:x}"), frame(control, b"p").repeat(60));
        let answered = if control == 0x89 { 20 } else { 0 };
        let row = (0..answered).fold(row, |row, _| row.pong("p"));
        check(&[row.failed(1008)]);
    }
}

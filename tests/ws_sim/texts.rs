//! Text is UTF-8 (RFC 6455 §8.1), wherever it is cut: by reads, by fragments, by pings.

use crate::run::{Path, Row, check, frame};

/// Characters of one to four bytes, and the ends of each range.
const VALID: [&str; 7] = [
    "κόσμε",
    "a\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}",
    "\u{d7ff}\u{e000}\u{fffd}",
    "\u{fffe}\u{ffff}\u{1fffe}",
    "\u{feff}bom",
    "😀😀",
    "e\u{301}\u{2028}\u{2029}",
];

/// Each is wrong at its end or before it, whatever follows.
const INVALID: [&[u8]; 24] = [
    b"\x80",
    b"\xbf",
    b"a\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xc3(",
    b"\xe2\x82(",
    b"\xf0\x9f\x98(",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
    b"good, then \xc3",
];

/// A text in two fragments, cut at `at`, with something between them.
fn halves(bytes: &[u8], at: usize, between: &[u8]) -> Vec<u8> {
    [frame(0x01, &bytes[..at]), between.to_vec(), frame(0x80, &bytes[at..])].concat()
}

#[test]
fn text_may_be_cut_anywhere() {
    let mut rows = Vec::new();
    for word in VALID {
        rows.push(Row::new(word, move |path| frame(0x81, path.say(word).as_bytes())).word(word));
        for at in 0..=word.len() {
            // The last `at` bytes: on `/ws`, too, the cut lies within the word.
            let place = move |path: Path| {
                let around = path.say(word).find(word).expect("the word as it is");
                around + at
            };
            let row = Row::new(format!("{word} cut at {at}"), move |path| {
                halves(path.say(word).as_bytes(), place(path), b"")
            });
            rows.push(row.word(word));
            let row = Row::new(format!("{word} cut at {at} by a ping"), move |path| {
                halves(path.say(word).as_bytes(), place(path), &frame(0x89, b"\xff"))
            });
            rows.push(row.word(word).pong(b"\xff"));
        }
        let row = Row::new(format!("{word} byte by byte"), move |path| {
            let said = path.say(word).into_bytes();
            let bytes = said.iter().map(|byte| frame(0x00, &[*byte]));
            let fragments = bytes.collect::<Vec<_>>().concat();
            [frame(0x01, b""), fragments, frame(0x80, b"")].concat()
        });
        rows.push(row.word(word));
    }
    check(&rows);
}

#[test]
fn what_is_not_utf8_is_refused_wherever_it_is_cut() {
    let mut rows = Vec::new();
    for bytes in INVALID {
        let name = bytes.escape_ascii().to_string();
        rows.push(Row::bytes(name.clone(), frame(0x81, bytes)).failed(1007));
        for at in 0..=bytes.len() {
            let row = Row::bytes(format!("{name} cut at {at}"), halves(bytes, at, b""));
            rows.push(row.failed(1007));
        }
        let behind = Row::new(format!("{name} behind a word"), move |path| {
            [frame(0x81, path.say("w").as_bytes()), frame(0x81, bytes)].concat()
        });
        rows.push(behind.word("w").failed(1007));
    }
    check(&rows);
}

/// What cannot become UTF-8 any more is refused there, though its frame or message is not over.
#[test]
fn the_first_impossible_byte_is_enough() {
    let mut rows = Vec::new();
    for bytes in &INVALID[..21] {
        let name = bytes.escape_ascii();
        let open = frame(0x01, bytes);
        rows.push(Row::bytes(format!("{name}, no end of the message"), open).failed(1007));
        let mut longer = frame(0x81, &[bytes, &[b'x'; 50][..]].concat());
        longer.truncate(6 + bytes.len());
        rows.push(Row::bytes(format!("{name}, no end of the frame"), longer).failed(1007));
    }
    // What is only not finished yet is waited for.
    let half = Row::bytes("half a character", frame(0x01, b"\xf0\x9f"));
    rows.push(half);
    let begun = Row::new("half a character in a message, then a ping", |_| {
        [frame(0x01, b"\xe2\x82"), frame(0x89, b"p")].concat()
    });
    rows.push(begun.pong("p"));
    check(&rows);
}

#[test]
fn pings_and_binaries_need_not_be_utf8() {
    let rows: Vec<Row> = INVALID
        .iter()
        .map(|bytes| {
            let name = bytes.escape_ascii().to_string();
            Row::bytes(name, frame(0x89, bytes)).pong(bytes)
        })
        .collect();
    check(&rows);
    for bytes in INVALID {
        let row = Row::bytes(bytes.escape_ascii().to_string(), frame(0x82, bytes)).word(bytes);
        crate::run::check_on_channels(&row);
    }
}

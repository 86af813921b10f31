//! Close (RFC 6455 §5.5.1, §7.1, §7.4): codes, reasons, what stands behind it, who ends the stream.

use crate::run::{End, Path, Row, check, frame};
use crate::sim::clients::Ws;
use crate::sim::{Pace, Sim};

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

fn text(path: Path, word: &str) -> Vec<u8> {
    frame(0x81, path.say(word).as_bytes())
}

const VALID: [u16; 17] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401,
    4999,
];
const INVALID: [u16; 16] =
    [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999, 32_768, 65_535];

#[test]
fn a_close_comes_back_with_its_code() {
    let mut rows = vec![Row::bytes("empty", frame(0x88, b"")).end(End::Echoed(None))];
    for code in VALID {
        for reason in [&b""[..], b"bye", "Grüße".as_bytes(), &[b'x'; 123]] {
            let row = Row::bytes(format!("{code} and {}", reason.len()), close(code, reason));
            rows.push(row.end(End::Echoed(Some(code))));
        }
    }
    check(&rows);
}

#[test]
fn codes_that_nobody_may_send_are_refused() {
    let mut rows = Vec::new();
    for code in INVALID {
        for reason in [&b""[..], b"bye"] {
            let row = Row::bytes(format!("{code} and {}", reason.len()), close(code, reason));
            rows.push(row.failed(1002));
        }
    }
    rows.push(Row::bytes("half a code", frame(0x88, b"\x03")).failed(1002));
    rows.push(Row::bytes("half a code, zero", frame(0x88, b"\0")).failed(1002));
    rows.push(Row::bytes("124 bytes of reason", close(1000, &[b'x'; 124])).failed(1002));
    for reason in [&b"\xff"[..], b"\xce", b"\xed\xa0\x80", b"good \xf4\x90\x80\x80"] {
        let name = format!("the reason {}", reason.escape_ascii());
        rows.push(Row::bytes(name, close(1000, reason)).failed(1007));
    }
    check(&rows);
}

#[test]
fn nothing_means_anything_behind_a_close() {
    let bye = || End::Echoed(Some(1000));
    let mut rows = vec![
        Row::new("a word behind it", |path| [close(1000, b""), text(path, "x")].concat()),
        Row::bytes("a ping behind it", [close(1000, b""), frame(0x89, b"x")].concat()),
        Row::bytes("another behind it", [close(1000, b""), close(1001, b"")].concat()),
        Row::bytes("garbage behind it", [close(1000, b""), vec![0xff; 40]].concat()),
        Row::bytes("an unmasked frame behind it", [close(1000, b""), vec![0x81, 1, 65]].concat()),
        Row::bytes(
            "HTTP behind it",
            [close(1000, b""), b"GET / HTTP/1.1\r\n\r\n".to_vec()].concat(),
        ),
        Row::bytes("half a frame behind it", [close(1000, b""), vec![0x81]].concat()),
    ];
    let row = Row::new("a message open around it", |path| {
        let said = path.say("word").into_bytes();
        [frame(0x01, &said[..2]), close(1000, b""), frame(0x80, &said[2..])].concat()
    });
    rows.push(row);
    let rows: Vec<Row> = rows.into_iter().map(|row| row.end(bye())).collect();
    check(&rows);
    let row = Row::new("a word before it", |path| [text(path, "w"), close(1000, b"")].concat());
    let pinged = Row::bytes("a ping before it", [frame(0x89, b"p"), close(1000, b"")].concat());
    check(&[row.word("w").end(bye()), pinged.pong("p").end(bye())]);
}

/// Behind our own Close only the client's counts, and it is not answered again.
#[test]
fn the_answer_to_our_close_ends_it() {
    for pace in [Pace::Whole, Pace::Bytes] {
        for answer in [close(4400, b""), close(1000, b"other"), frame(0x88, b"")] {
            let mut sim = Sim::open(pace);
            let socket = Ws::open(&mut sim, 0, "/ws");
            sim.settle();
            socket.frames(&mut sim);
            socket.text(&mut sim, "[");
            sim.settle();
            assert_eq!(socket.frames(&mut sim).last().and_then(|f| f.code()), Some(4400));
            assert!(!sim.lines[socket.line].is_finished);
            // What was on its way, bad frames too, does not matter before the answer to come.
            sim.send(socket.line, &[frame(0x89, b"p"), text(Path::Json, "x"), answer].concat());
            sim.settle();
            assert_eq!(socket.frames(&mut sim), [], "no second Close, no pong");
            assert!(sim.lines[socket.line].is_finished, "both have closed: the server ends");
            sim.finish(socket.line);
            sim.settle();
            assert!(sim.is_closed(socket.line));
            sim.assert_deserted();
        }
    }
}

/// A bad frame behind our Close ends the waiting for theirs.
#[test]
fn a_bad_frame_behind_our_close_ends_it() {
    let mut sim = Sim::open(Pace::Whole);
    let socket = Ws::open(&mut sim, 0, "/ws");
    socket.frames(&mut sim);
    socket.text(&mut sim, "[");
    sim.settle();
    assert_eq!(socket.frames(&mut sim).last().and_then(|f| f.code()), Some(4400));
    sim.send(socket.line, &[0x81, 0]);
    sim.settle();
    assert_eq!(socket.frames(&mut sim), [], "one Close is enough");
    assert!(sim.lines[socket.line].is_finished);
    sim.close(socket.line);
    sim.assert_deserted();
}

/// RFC 6455 §7.1.1: a client that never ends its side is not waited for.
#[test]
fn a_client_that_does_not_end_is_dropped_in_time() {
    for (bytes, what) in
        [(close(1000, b""), "echoed"), (frame(0xf1, b"x"), "failed"), (frame(0x81, b"["), "asked")]
    {
        let mut sim = Sim::open(Pace::Whole);
        let socket = Ws::open(&mut sim, 0, "/ws");
        sim.send(socket.line, &bytes);
        sim.settle();
        let since = sim.now.mono_ms;
        let is_closed = sim.pass_until(since + 20_000, |sim| sim.is_closed(socket.line));
        let took = sim.now.mono_ms - since;
        // Idle for 2 s behind the end; our own Close is given 5 s before that.
        let expected = if what == "asked" { 7_000..7_600 } else { 2_000..2_600 };
        assert!(is_closed && expected.contains(&took), "{what}: {took} ms");
        sim.assert_deserted();
    }
}

/// An end without a Close, anywhere in a frame: nothing is sent, nothing kept.
#[test]
fn an_end_of_the_stream_needs_no_close() {
    for path in Path::ALL {
        let bytes = [text(path, "w"), frame(0x01, b"{"), frame(0x89, b"p"), frame(0x82, b"b")];
        let bytes = bytes.concat();
        for at in 0..bytes.len() - 7 {
            for is_reset in [false, true] {
                let mut sim = Sim::open(Pace::Whole);
                let (target, protocol) = match path {
                    Path::Json => ("/ws", None),
                    Path::Raw => ("/channels/x", None),
                    Path::Meta => ("/channels/x", Some("holdline.v1.meta")),
                };
                let socket = Ws::open_as(&mut sim, 0, target, protocol);
                sim.send(socket.line, &bytes[..at]);
                sim.settle();
                if is_reset {
                    sim.reset(socket.line)
                } else {
                    sim.finish(socket.line)
                }
                sim.settle();
                assert!(sim.is_closed(socket.line), "{path:?} at {at}");
                assert!(socket.frames(&mut sim).iter().all(|f| f.code().is_none()));
                sim.assert_deserted();
            }
        }
    }
}

//! Tables of bodies, a slow second reading of RFC 9112 §7.1, and the promise that splits do not
//! matter.

use super::*;
use crate::wire::http::{fuzz::receive, fuzz_chunk, seeded};

/// The payload and the length of a chunked body, or that it is malformed.
fn read(input: &[u8]) -> Result<(Vec<u8>, Option<usize>), BodyError> {
    fuzz_chunk(&[&[0], input].concat());
    let (payload, end) = receive(Framing::Chunked, input, input.len().max(1));
    end.map(|end| (payload, end))
}

#[test]
fn lengths_are_digits_only() {
    for (value, framing) in [
        ("0", Framing::None),
        ("000", Framing::None),
        ("1", Framing::Length(1)),
        ("007", Framing::Length(7)),
        ("9999999999999999999", Framing::Length(9_999_999_999_999_999_999)),
    ] {
        assert_eq!(Framing::of(Some(value.as_bytes()), None, true), Ok(framing));
        assert_eq!(Framing::of(Some(value.as_bytes()), None, false), Ok(framing));
    }
    for value in [
        "",
        "+5",
        "-0",
        "0x5",
        "5,",
        "5, 5",
        "5;",
        "5 5",
        "1_0",
        "5.0",
        "\u{b2}",
        "five",
        ",5",
        "00000000000000000001",
        "18446744073709551616",
    ] {
        let found = Framing::of(Some(value.as_bytes()), None, true);
        assert_eq!(found, Err(FramingError::Ambiguous), "{value:?}");
    }
}

#[test]
fn codings_are_chunked_or_refused() {
    for (value, framing) in [
        ("chunked", Ok(Framing::Chunked)),
        ("Chunked", Ok(Framing::Chunked)),
        ("CHUNKED", Ok(Framing::Chunked)),
        ("", Err(FramingError::Ambiguous)),
        ("chunked, gzip", Err(FramingError::Ambiguous)),
        ("chunked, chunked", Err(FramingError::Ambiguous)),
        ("gzip, chunked, identity", Err(FramingError::Ambiguous)),
        ("chunked,", Err(FramingError::Ambiguous)),
        (", chunked", Err(FramingError::Ambiguous)),
        ("chunked;a=b", Err(FramingError::Ambiguous)),
        ("\"chunked\"", Err(FramingError::Ambiguous)),
        ("chunked gzip", Err(FramingError::Ambiguous)),
        ("chun\u{212a}ed", Err(FramingError::Ambiguous)),
        ("gzip", Err(FramingError::UnknownCoding)),
        ("identity", Err(FramingError::UnknownCoding)),
        ("xchunked", Err(FramingError::UnknownCoding)),
        ("gzip, chunked", Err(FramingError::UnknownCoding)),
        ("gzip;q=1, chunked", Err(FramingError::UnknownCoding)),
    ] {
        assert_eq!(Framing::of(None, Some(value.as_bytes()), true), framing, "{value:?}");
        let old = Framing::of(None, Some(value.as_bytes()), false);
        assert_eq!(old, Err(FramingError::Ambiguous), "{value:?}");
        let both = Framing::of(Some(b"0"), Some(value.as_bytes()), true);
        assert_eq!(both, Err(FramingError::Ambiguous), "{value:?}");
    }
}

#[test]
fn good_chunks_are_joined() {
    for (input, payload) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n000\r\n\r\n", "hello world"),
        ("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
        ("0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a"),
        ("1;a\r\nb\r\n0;c=\"d e\"\t;\r\n\r\n", "b"),
        ("1;\r\nb\r\n0\r\n\r\n", "b"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("0\r\nA: b\r\nContent-Length:\t7 \r\n\r\n", ""),
        ("0\r\nA:\r\n\r\n", ""),
    ] {
        let end = input.len();
        let next = format!("{input}GET / HTTP/1.1\r\n");
        let expected = Ok((payload.as_bytes().to_vec(), Some(end)));
        assert_eq!(read(next.as_bytes()), expected, "{input:?}");
        for cut in 0..end {
            let (_, unfinished) = read(&input.as_bytes()[..cut]).expect("no error yet");
            assert_eq!(unfinished, None, "{input:?} cut at {cut}");
        }
    }
    assert_eq!(read(b"0\r\nA: \xff\r\n\r\n"), Ok((Vec::new(), Some(11))));
}

#[test]
fn chunks_may_be_split_anywhere() {
    let input = b"5;x\r\nhello\r\n06\r\n world\r\n0\r\nA: b\r\n\r\nrest";
    for first in 0..input.len() {
        for second in first..input.len() {
            let mut body = Body::new(Framing::Chunked).expect("a body");
            let mut payload = Vec::new();
            let mut end = 0;
            for piece in [&input[..first], &input[first..second], &input[second..]] {
                let mut at = 0;
                while let Ok((consumed, step)) = body.step(&piece[at..]) {
                    match step {
                        BodyStep::Data { start, end } => {
                            payload.extend(&piece[at + start..at + end])
                        }
                        BodyStep::NeedMore | BodyStep::Done => {
                            end += at + consumed;
                            break;
                        }
                    }
                    at += consumed;
                }
            }
            let found = (&payload[..], end);
            assert_eq!(found, (&b"hello world"[..], input.len() - 4), "{first} {second}");
        }
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let inputs: &[&[u8]] = &[
        // Sizes.
        b"\r\n",
        b";a\r\n",
        b"0x1\r\n",
        b"+1\r\n",
        b"-1\r\n",
        b"1_0\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1 ;a\r\n",
        b"1\t;a\r\n",
        b"g\r\n",
        b"00000000000000000\r\n",
        b"10000000000000000\r\n",
        b"\t0\r\n",
        b"\"1\"\r\n",
        b"0,\r\n",
        b"1\x00\r\n",
        b"\xef\xbc\x91\r\n",
        // Line ends.
        b"1\n",
        b"1\r1",
        b"1\ra",
        b"1;a\nb\r\n",
        b"1;a\rb\r\n",
        b"\n1\r\n",
        b"1\r\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0",
        b"1\r\na\rb",
        b"1\r\naXX0\r\n",
        b"1\r\na0\r\n",
        b"1\r\na\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n\ra",
        b"0\n\r\n",
        b"0\r\n\r\r",
        // Extensions.
        b"1;a\x00\r\n",
        b"1;\x7f\r\n",
        b"1;\x80\r\n",
        b"1;a\x0b\r\n",
        // Trailers.
        b"0\r\n a: b\r\n",
        b"0\r\nA: b\r\n c\r\n",
        b"0\r\nA : b\r\n",
        b"0\r\n: b\r\n",
        b"0\r\nA\r\n",
        b"0\r\nA: b\n",
        b"0\r\nA: b\rc",
        b"0\r\nA: \x00\r\n",
        b"0\r\nA: \x7f\r\n",
        b"0\r\n\xc3\xa4: b\r\n",
        b"0\r\nGET / HTTP/1.1\r\n",
        b"0\r\nA(: b\r\n",
    ];
    for input in inputs {
        assert_eq!(read(input), Err(BodyError), "{}", input.escape_ascii());
        let mut body = Body::new(Framing::Chunked).expect("a body");
        let mut rest = *input;
        while let Ok((consumed, BodyStep::Data { .. })) = body.step(rest) {
            rest = &rest[consumed..];
        }
        assert_eq!(body.step(b"0\r\n\r\n"), Err(BodyError), "{}", input.escape_ascii());
        assert_eq!(body.step(b""), Err(BodyError));
    }
}

#[test]
fn sizes_may_not_overflow() {
    let mut body = Body::new(Framing::Chunked).expect("a body");
    assert_eq!(body.step(b"1\r\na\r\n"), Ok((4, BodyStep::Data { start: 3, end: 4 })));
    assert_eq!(body.step(b"\r\nffffffffffffffff\r\n"), Err(BodyError));
    let mut body = Body::new(Framing::Chunked).expect("a body");
    let size = b"ffffffffffffffff\r\nab";
    assert_eq!(body.step(size), Ok((20, BodyStep::Data { start: 18, end: 20 })));
    assert_eq!(body.left, u64::MAX - 2);
}

#[test]
fn extensions_and_trailers_are_limited() {
    let chunk = |bytes: usize| format!("1;{}\r\na\r\n", "x".repeat(bytes - 1));
    let body = |chunks: String| read(format!("{chunks}0\r\n\r\n").as_bytes());
    assert!(body(chunk(256)).is_ok());
    assert_eq!(body(chunk(257)), Err(BodyError));
    assert!(body(chunk(256).repeat(16)).is_ok());
    assert_eq!(body(chunk(256).repeat(16) + &chunk(1)), Err(BodyError));
    let trailer = |bytes: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(bytes - 4));
    assert!(read(trailer(4096).as_bytes()).is_ok());
    assert_eq!(read(trailer(4097).as_bytes()), Err(BodyError));
    let many = |lines: usize| format!("0\r\n{}\r\n", "A:b\r\n".repeat(lines));
    assert!(read(many(819).as_bytes()).is_ok());
    assert_eq!(read(many(820).as_bytes()), Err(BodyError));
}

#[test]
fn lengths_are_counted() {
    assert!(Body::new(Framing::None).is_none());
    let mut body = Body::new(Framing::Length(5)).expect("a body");
    assert_eq!(body.declared(), Some(5));
    assert_eq!(body.step(b""), Ok((0, BodyStep::NeedMore)));
    assert_eq!(body.step(b"he"), Ok((2, BodyStep::Data { start: 0, end: 2 })));
    assert_eq!(body.step(b"lloGET"), Ok((3, BodyStep::Data { start: 0, end: 3 })));
    assert_eq!(body.step(b"GET"), Ok((0, BodyStep::Done)));
    assert_eq!(body.step(b""), Ok((0, BodyStep::Done)));
    assert_eq!(body.declared(), Some(5));
    let mut empty = Body::new(Framing::Length(0)).expect("a body");
    assert_eq!(empty.step(b"GET"), Ok((0, BodyStep::Done)));
    let mut chunked = Body::new(Framing::Chunked).expect("a body");
    assert_eq!(chunked.step(b"5\r\n"), Ok((3, BodyStep::NeedMore)));
    assert_eq!(chunked.declared(), None);
}

#[test]
fn bodies_stay_small() {
    assert!(size_of::<Body>() <= 40, "{}", size_of::<Body>());
    assert_eq!(BodyError.code().status(), 400);
}

/// Chunked bodies read all at once, from the grammar; `Err(true)` if it is only cut short.
fn read_slowly(input: &[u8]) -> Result<(Vec<u8>, usize), bool> {
    let mut payload = Vec::new();
    let mut rest = input;
    let mut extensions = 0;
    let line = |rest: &mut &[u8]| {
        let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else { return Err(true) };
        let line = rest[..at].to_vec();
        *rest = &rest[at + 2..];
        Ok(line)
    };
    loop {
        let size = String::from_utf8(line(&mut rest)?).map_err(|_| false)?;
        let (digits, extension) = size.split_at(size.find(';').unwrap_or(size.len()));
        extensions += extension.len();
        let is_good = (1..=16).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_hexdigit())
            && extension.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~'))
            && extension.len() <= 256
            && extensions <= 4096;
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_good).ok_or(false)?;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if rest.len() < size.saturating_add(2) {
            return Err(true);
        }
        payload.extend(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err(false);
        }
        rest = &rest[size + 2..];
    }
    loop {
        let field = line(&mut rest)?;
        if field.is_empty() {
            return Ok((payload, input.len() - rest.len()));
        }
        let colon = field.iter().position(|b| *b == b':').ok_or(false)?;
        let is_name = colon > 0 && field[..colon].iter().all(|b| is_tchar(*b));
        let is_value = field[colon + 1..].iter().all(|b| matches!(b, b'\t' | b' '..=b'~' | 0x80..));
        if !is_name || !is_value {
            return Err(false);
        }
    }
}

/// Seeded: the seed is printed with a failure.
#[test]
fn random_bodies_are_read_as_the_grammar_reads_them() {
    const PARTS: [&str; 16] = [
        "0\r\n",
        "1\r\na\r\n",
        "5;x=y\r\nhello\r\n",
        "\r\n",
        "\r",
        "\n",
        "3\r\n",
        "abc",
        ";",
        " ",
        "A: b",
        "ffffffffffffffff\r\n",
        "\t",
        "\u{e4}",
        "0\r\n\r\n",
        "2",
    ];
    let mut random = seeded();
    for _ in 0..100_000 {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..10) {
            bytes.extend(random.choice(PARTS).unwrap_or("").bytes());
        }
        if random.u8(..4) == 0 {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        fuzz_chunk(&[&[random.u8(..)], &bytes[..]].concat());
        match (read(&bytes), read_slowly(&bytes)) {
            (Ok((payload, Some(end))), slow) => assert_eq!(slow, Ok((payload, end))),
            // Errors may be seen before the line that they are in is complete, not after.
            (Ok((_, None)), slow) => assert_eq!(slow, Err(true), "{}", bytes.escape_ascii()),
            (Err(BodyError), slow) => assert!(slow.is_err(), "{}", bytes.escape_ascii()),
        }
    }
}

#[test]
fn what_is_announced_is_what_is_still_missing() {
    let mut body = Body::new(Framing::Length(5)).expect("a body");
    let mut chunked = Body::new(Framing::Chunked).expect("a body");
    let announced = |body: &mut Body, input: &[u8]| {
        body.step(input).expect("well-formed");
        body.announced()
    };
    assert_eq!([&b""[..], b"he", b"llo"].map(|input| announced(&mut body, input)), [5, 3, 0]);
    let pieces = [&b"1"[..], b"0", b"\r", b"\n", b"0123456", b"789abcdef", b"\r\n", b"3\r\n"];
    let expected = [0, 0, 0, 16, 9, 0, 0, 3];
    assert_eq!(pieces.map(|input| announced(&mut chunked, input)), expected);
    assert!(BodyError.message().contains("chunks"));
}

//! Tests of the reader: what it lends, keeps, refuses and when. Conformance has its own file.

use super::fuzz::{Seen, replay};
use super::*;

#[path = "ws_conformance.rs"]
mod conformance;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;
const END: u8 = 0x80;

const LIMITS: WsLimits =
    WsLimits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragments_max: 128 };

/// A client's frame whose first byte is `first`.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = header(first, payload.len() as u64);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The header of [`frame`] alone.
fn header(first: u8, len: u64) -> Vec<u8> {
    let mut out = vec![first];
    match len {
        0..=125 => out.push(0x80 | len as u8),
        126..=0xffff => {
            out.push(0xfe);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(&[0x37, 0xfa, 0x21, 0x3d]);
    out
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// What `wire` comes to, however it is cut.
fn read(wire: &[u8], limits: &WsLimits) -> Vec<Seen> {
    let whole = replay(wire, limits, || usize::MAX);
    for size in [1, 2, 7, 997] {
        assert_eq!(whole, replay(wire, limits, || size), "in pieces of {size}");
    }
    if wire.len() <= 300 {
        for split in 1..wire.len() {
            let mut next = split;
            let mut next_read = || mem::replace(&mut next, usize::MAX);
            assert_eq!(whole, replay(wire, limits, &mut next_read), "cut at {split}");
        }
    }
    whole
}

/// One step over `bytes`: what it came to and how many bytes it left.
fn step(reader: &mut Reader, bytes: &[u8]) -> (Result<Option<Seen>, WsError>, usize) {
    let mut bytes = bytes.to_vec();
    let mut input = &mut bytes[..];
    let result = match reader.step(&mut input, &LIMITS) {
        Ok(Step::Frame(frame)) => Ok(Some(Seen::new(frame))),
        Ok(Step::Progress | Step::NeedMore) => Ok(None),
        Err(error) => Err(error),
    };
    (result, input.len())
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Reader>() <= 16);
    assert!(size_of::<Partial>() <= 88);
    let reader = Reader::new();
    assert!(reader.is_idle() && reader.heap() == 0 && reader.want() == 0);
}

#[test]
fn whole_frames_are_lent_where_they_lie() {
    let mut wire =
        [frame(TEXT, b"one"), frame(PING, b"p"), frame(BINARY, b"two"), frame(0x8a, b"")].concat();
    let range = wire.as_ptr_range();
    let mut input = &mut wire[..];
    let mut reader = Reader::new();
    let mut seen = 0;
    while let Step::Frame(frame) = reader.step(&mut input, &LIMITS).expect("valid") {
        let (Frame::Message { payload, .. } | Frame::Ping(payload) | Frame::Pong(payload)) = frame
        else {
            panic!("nobody closes");
        };
        assert!(matches!(payload, Payload::Borrowed(_)));
        assert!(range.contains(&payload.as_ptr()) || payload.is_empty());
        assert!(reader.is_idle());
        seen += 1;
    }
    assert_eq!((seen, input.len()), (4, 0));
}

#[test]
fn a_message_after_a_gathered_one_is_lent_again() {
    let wire = [frame(0x01, b"a"), frame(END, b"b"), frame(TEXT, b"c")].concat();
    assert_eq!(read(&wire, &LIMITS), [text("ab"), text("c")]);
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &wire).0, Ok(None));
    assert!(!reader.is_idle());
    assert_eq!(step(&mut reader, &wire[7..]).0, Ok(Some(text("ab"))));
    assert!(reader.is_idle() && reader.heap() == 0);
}

#[test]
fn an_unfinished_header_stays_in_the_input() {
    for wire in [frame(TEXT, b"hi"), frame(BINARY, &[7; 200]), frame(BINARY, &[7; 70_000])] {
        let size = wire.len() - if wire.len() > 70_000 { 70_000 } else { wire.len().min(200) };
        for end in 0..size {
            let mut reader = Reader::new();
            assert_eq!(step(&mut reader, &wire[..end]), (Ok(None), end));
            assert!(reader.is_idle());
        }
    }
}

#[test]
fn what_is_missing_of_a_frame_is_wanted() {
    let mut reader = Reader::new();
    let wire = frame(BINARY, &[1; 1000]);
    assert_eq!(step(&mut reader, &wire[..8]), (Ok(None), 0));
    assert_eq!(reader.want(), 1000);
    assert_eq!(step(&mut reader, &wire[8..408]), (Ok(None), 0));
    assert_eq!(reader.want(), 600);
    let (last, left) = step(&mut reader, &wire[408..]);
    assert_eq!((last, left), (Ok(Some(Seen::Binary(vec![1; 1000]))), 0));
    assert_eq!((reader.want(), reader.heap()), (0, 0));
    // A control frame in the middle of a message is wanted, too.
    assert_eq!(step(&mut reader, &frame(0x01, b"x")).0, Ok(None));
    assert_eq!(reader.want(), 0);
    assert_eq!(step(&mut reader, &frame(PING, b"1234")[..7]).0, Ok(None));
    assert_eq!(reader.want(), 3);
}

#[test]
fn memory_follows_what_came_and_not_what_was_declared() {
    let limits =
        WsLimits { frame_bytes_max: u64::MAX, message_bytes_max: u64::MAX, fragments_max: 0 };
    for first in [BINARY, 0x02] {
        let mut wire = header(first, u64::MAX >> 1);
        wire.extend_from_slice(&[0; 10]);
        let mut input = &mut wire[..];
        let mut reader = Reader::new();
        assert!(matches!(reader.step(&mut input, &limits), Ok(Step::NeedMore)));
        assert!(reader.heap() <= size_of::<Partial>() + BUFFER_BYTES_MIN);
        let want = usize::try_from((u64::MAX >> 1) - 10).unwrap_or(usize::MAX);
        assert_eq!(reader.want(), want);
    }
}

#[test]
fn the_room_of_a_last_frame_ends_where_its_message_ends() {
    let wire = frame(BINARY, &[5; 100_000]);
    let mut reader = Reader::new();
    let (last, first) = wire.split_last().expect("bytes");
    for piece in first.chunks(1_000) {
        assert_eq!(step(&mut reader, piece), (Ok(None), 0));
    }
    assert!(reader.heap() <= size_of::<Partial>() + 100_000);
    assert!(step(&mut reader, &[*last]).0.is_ok_and(|frame| frame.is_some()));
}

#[test]
fn frames_and_messages_are_limited_before_they_are_kept() {
    let limits = WsLimits { frame_bytes_max: 200, message_bytes_max: 300, fragments_max: 0 };
    let too_large = &[Seen::Error(WsError::TooLarge)][..];
    let cut = |first, len| header(first, len);

    assert_eq!(read(&frame(BINARY, &[1; 200]), &limits), [Seen::Binary(vec![1; 200])]);
    assert_eq!(read(&cut(BINARY, 201), &limits), too_large);
    assert_eq!(read(&cut(BINARY, u64::MAX >> 1), &limits), too_large);

    let half = frame(0x02, &[1; 200]);
    let rest = frame(END, &[1; 100]);
    let both = [&half[..], &rest].concat();
    assert_eq!(read(&both, &limits), [Seen::Binary(vec![1; 300])]);
    let over = [half, cut(END, 101)].concat();
    assert_eq!(read(&over, &limits), too_large);

    // A total that does not fit 64 bits is one that is too large.
    let limits = WsLimits { frame_bytes_max: u64::MAX, message_bytes_max: 1 << 62, ..limits };
    let over = [frame(0x02, b"1"), cut(END, u64::MAX >> 1)].concat();
    assert_eq!(read(&over, &limits), too_large);

    // RFC 6455 §5.5: control frames have a limit of their own.
    let limits = WsLimits { frame_bytes_max: 1, message_bytes_max: 1, fragments_max: 1 };
    assert_eq!(read(&frame(PING, b"ping"), &limits), [Seen::Ping(b"ping".to_vec())]);
}

#[test]
fn fragments_are_counted_empty_ones_too() {
    let limits = WsLimits { fragments_max: 4, ..LIMITS };
    let begin = [frame(0x01, b"a"), frame(0x00, b""), frame(0x00, b"")].concat();
    let four = [&begin[..], &frame(END, b"b")].concat();
    assert_eq!(read(&four.repeat(2), &limits), [text("ab"), text("ab")]);
    let five = [&begin[..], &frame(0x00, b""), &frame(END, b"b")].concat();
    assert_eq!(read(&five, &limits), [Seen::Error(WsError::Policy)]);
    // Pings between them do not count.
    let pinged = [&begin[..], &frame(PING, b"").repeat(9), &frame(END, b"b")].concat();
    assert_eq!(read(&pinged, &limits).last(), Some(&text("ab")));
    let unlimited = WsLimits { fragments_max: 0, ..LIMITS };
    let many = [frame(0x01, b""), frame(0x00, b"").repeat(5_000), frame(END, b"z")].concat();
    assert_eq!(read(&many, &unlimited), [text("z")]);
}

#[test]
fn many_small_fragments_are_not_copied_again_and_again() {
    let limits = WsLimits { fragments_max: 0, ..LIMITS };
    let mut reader = Reader::new();
    let (mut growths, mut heap) = (0, 0);
    for i in 0..10_000 {
        let mut bytes = frame(if i == 0 { 0x02 } else { 0 }, b"x");
        let step = reader.step(&mut &mut bytes[..], &limits);
        assert!(matches!(step, Ok(Step::Progress)));
        growths += usize::from(mem::replace(&mut heap, reader.heap()) != heap);
    }
    assert!(growths < 12, "{growths} growths");
}

#[test]
fn a_wrong_order_is_told_by_the_first_byte() {
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &[0x80]).0, Err(WsError::Protocol));
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &frame(0x01, b"a")).0, Ok(None));
    assert_eq!(step(&mut reader, &[0x00]), (Ok(None), 1));
    assert_eq!(step(&mut reader, &[0x89]), (Ok(None), 1));
    assert_eq!(step(&mut reader, &[0x81]).0, Err(WsError::Protocol));
    assert!(reader.is_idle());
}

#[test]
fn a_text_fails_at_its_first_impossible_byte() {
    // κόσμε, the first byte of a character past the last, and one that cannot follow it.
    let bytes = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";
    for wire in [frame(TEXT, bytes), frame(0x01, bytes)] {
        let mut reader = Reader::new();
        assert_eq!(step(&mut reader, &wire[..18]), (Ok(None), 0));
        assert_eq!(step(&mut reader, &wire[18..19]).0, Err(WsError::Utf8));
        assert!(reader.is_idle());
        let mut reader = Reader::new();
        assert_eq!(step(&mut reader, &wire[..19]).0, Err(WsError::Utf8));
        assert!(reader.is_idle());
    }
    // The same between two fragments.
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &frame(0x01, &bytes[..12])), (Ok(None), 0));
    assert_eq!(step(&mut reader, &frame(0x00, &bytes[12..13])).0, Err(WsError::Utf8));
}

#[test]
fn a_close_frees_the_message_that_it_cuts() {
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &frame(0x01, b"abc")).0, Ok(None));
    let close = frame(CLOSE, b"\x03\xe8bye");
    let expected = Seen::Close(Some((1000, "bye".to_owned())));
    assert_eq!(step(&mut reader, &close).0, Ok(Some(expected)));
    assert!(reader.is_idle());
}

/// Frames that are mostly valid, in an order that mostly is.
fn random_wire(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut is_open = false;
    for _ in 0..random.usize(1..12) {
        let len = match random.u8(..10) {
            0 => 0,
            1 => random.usize(120..135),
            2 => random.usize(..2_000),
            _ => random.usize(..20),
        };
        let mut payload: Vec<u8> = random_text(random).into_bytes();
        payload.resize(len.max(payload.len()), b'x');
        let (fin, kind) = (random.bool(), random.u8(..10));
        let first = match kind {
            0 => PING,
            1 => 0x8a,
            2 if random.u8(..8) == 0 => CLOSE,
            _ if is_open => u8::from(fin) << 7,
            _ => u8::from(fin) << 7 | random.u8(1..=2),
        };
        if first & 8 == 0 {
            is_open = !fin;
        } else {
            payload.truncate(125);
        }
        wire.extend(frame(first, &payload));
    }
    for _ in 0..random.usize(..3) {
        let at = random.usize(..wire.len());
        wire[at] = random.u8(..);
    }
    if random.bool() {
        wire.truncate(random.usize(..=wire.len()));
    }
    wire
}

fn random_text(random: &mut fastrand::Rng) -> String {
    let n = random.usize(..8);
    (0..n).map(|_| random.char(..)).collect()
}

#[test]
fn any_split_of_random_frames_equals_the_whole() {
    let seed = 0xf4a6e5;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..4_000 {
        let mut data = vec![random.u8(8..16), random.u8(8..20), random.u8(..), random.u8(..)];
        data.extend(random_wire(&mut random));
        fuzz_frames(&data);
    }
}

#[test]
fn random_bytes_never_panic() {
    let seed = 0xba5e;
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut data: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
        // A first byte and a mask bit that let the rest be looked at.
        if let Some([first, second]) = data.get_mut(4..6) {
            *first &= 0x8b;
            *second |= 0x80;
        }
        fuzz_frames(&data);
    }
}

#[test]
fn a_length_over_its_limit_is_refused_before_its_key() {
    let limits = WsLimits { frame_bytes_max: 200, message_bytes_max: 300, fragments_max: 0 };
    for (first, len, refused) in [
        (BINARY, 201, true),
        (TEXT, 70_000, true),
        (0x01, 201, true),
        (0x02, 201, true),
        (BINARY, 200, false),
        (BINARY, 126, false),
        (PING, 125, false),
    ] {
        let mut bytes = header(first, len);
        bytes.truncate(bytes.len() - 4);
        let step = Reader::new().step(&mut &mut bytes[..], &limits).map(|_| ());
        let expected = if refused { Err(WsError::TooLarge) } else { Ok(()) };
        assert_eq!(step, expected, "{first:x} {len}");
    }
    // A control frame has a limit of its own, and it is not this one.
    let limits = WsLimits { frame_bytes_max: 1, ..limits };
    assert_eq!(Reader::new().step(&mut &mut [PING, 0xfd][..], &limits).map(|_| ()), Ok(()));
}

#[test]
fn memory_that_is_held_is_told() {
    let held = |reader: &Reader| reader.heap().saturating_sub(size_of::<Partial>());
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &frame(0x02, &[1; 500])), (Ok(None), 0));
    assert!(held(&reader) >= 500, "a fragment");
    assert_eq!(step(&mut reader, &frame(PING, &[1; 125])[..106]), (Ok(None), 0));
    assert!(held(&reader) >= 600, "and a ping that is cut");
    let mut reader = Reader::new();
    assert_eq!(step(&mut reader, &frame(BINARY, &[1; 1_000])[..908]), (Ok(None), 0));
    assert!(held(&reader) >= 900, "a frame that is cut");
}

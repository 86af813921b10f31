//! Tests of the frame codec: RFC vectors, every form of length, every split of a mask.

use super::*;

fn header(buf: &[u8]) -> Result<Option<FrameHeader>, WsError> {
    parse_header(buf)
}

/// The mask, one byte at a time (RFC 6455 §5.3).
fn unmask_by_bytes(bytes: &mut [u8], key: [u8; 4], phase: usize) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[(i + phase) % 4];
    }
}

#[test]
fn the_masked_hello_of_the_rfc_is_read() {
    // RFC 6455 §5.7: a single-frame masked text message.
    let mut wire = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let expected = FrameHeader {
        fin: true,
        opcode: Opcode::Text,
        key: [0x37, 0xfa, 0x21, 0x3d],
        len: 5,
        size: 6,
    };
    assert_eq!(header(&wire), Ok(Some(expected)));
    unmask(&mut wire[6..], expected.key, 0);
    assert_eq!(&wire[6..], b"Hello");
}

#[test]
fn the_other_frames_of_the_rfc_are_written() {
    let mut out = Vec::new();
    // RFC 6455 §5.7: unmasked text, ping, and binary messages of 256 bytes and of 64 KiB.
    emit(&mut out, Opcode::Text, b"Hello");
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    emit(&mut out, Opcode::Ping, b"Hello");
    assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    emit_header(&mut out, Opcode::Binary, 256);
    assert_eq!(out, [0x82, 0x7e, 0x01, 0x00]);
    out.clear();
    emit_header(&mut out, Opcode::Binary, 65_536);
    assert_eq!(out, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn the_fragments_and_the_pong_of_the_rfc_are_read_once_masked() {
    // RFC 6455 §5.7: "Hel", "lo", and a masked pong.
    for (wire, fin, opcode, len) in [
        ([0x01, 0x83, 1, 2, 3, 4], false, Opcode::Text, 3),
        ([0x80, 0x82, 1, 2, 3, 4], true, Opcode::Continuation, 2),
        ([0x8a, 0x85, 1, 2, 3, 4], true, Opcode::Pong, 5),
    ] {
        let key = [1, 2, 3, 4];
        let expected = FrameHeader { fin, opcode, key, len, size: 6 };
        assert_eq!(header(&wire), Ok(Some(expected)));
    }
    // RFC 6455 §5.1: the same unmasked is an error.
    assert_eq!(header(&[0x01, 0x03]), Err(WsError::Protocol));
}

#[test]
fn first_bytes_that_cannot_be_are_refused_alone() {
    for first in 0..=u8::MAX {
        let is_reserved = first & 0x70 != 0;
        let is_known = matches!(first & 0x0f, 0 | 1 | 2 | 8 | 9 | 10);
        let is_cut_control = first & 0x0f >= 8 && first & 0x80 == 0;
        let expected = if is_reserved || !is_known || is_cut_control {
            Err(WsError::Protocol)
        } else {
            Ok(None)
        };
        assert_eq!(header(&[first]), expected, "{first:x}");
    }
    assert_eq!(header(&[]), Ok(None));
}

#[test]
fn second_bytes_that_cannot_be_are_refused_with_nothing_behind_them() {
    for second in 0..=u8::MAX {
        let is_masked = second & 0x80 != 0;
        let is_short = second & 0x7f <= 125;
        let data = if is_masked { Ok(None) } else { Err(WsError::Protocol) };
        assert_eq!(header(&[0x82, second]), data, "{second:x}");
        let ping = if is_short { data } else { Err(WsError::Protocol) };
        assert_eq!(header(&[0x89, second]), ping, "{second:x}");
    }
}

#[test]
fn lengths_have_one_form() {
    let key = [9, 8, 7, 6];
    let with_key = |head: &[u8]| [head, &key].concat();
    let cases: &[(&[u8], Option<u64>)] = &[
        (&[0x82, 0x80], Some(0)),
        (&[0x82, 0x80 | 125], Some(125)),
        (&[0x82, 0xfe, 0, 126], Some(126)),
        (&[0x82, 0xfe, 0, 127], Some(127)),
        (&[0x82, 0xfe, 0, 128], Some(128)),
        (&[0x82, 0xfe, 0xff, 0xff], Some(65_535)),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], Some(65_536)),
        (&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(u64::MAX >> 1)),
        (&[0x82, 0xfe, 0, 0], None),
        (&[0x82, 0xfe, 0, 125], None),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1], None),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], None),
        (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], None),
        (&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
    ];
    for (head, expected) in cases {
        let wire = with_key(head);
        let Some(len) = *expected else {
            assert_eq!(header(&wire), Err(WsError::Protocol), "{head:x?}");
            continue;
        };
        let found = header(&wire).expect("a header").expect("a whole one");
        assert_eq!((found.len, found.size as usize), (len, wire.len()));
        assert_eq!(found.key, key);
        for end in 0..wire.len() {
            assert_eq!(header(&wire[..end]), Ok(None), "{head:x?} {end}");
        }
    }
}

#[test]
fn long_lengths_are_refused_at_the_first_impossible_byte() {
    assert_eq!(header(&[0x82, 0xff, 0x80]), Err(WsError::Protocol));
    assert_eq!(header(&[0x82, 0xff, 0, 0, 0, 0, 0]), Ok(None));
    assert_eq!(header(&[0x82, 0xff, 0, 0, 0, 0, 0, 0]), Err(WsError::Protocol));
    assert_eq!(header(&[0x82, 0xfe, 0]), Ok(None));
    assert_eq!(header(&[0x82, 0xfe, 0, 125]), Err(WsError::Protocol));
}

#[test]
fn masks_agree_with_the_naive_one_at_every_alignment_and_phase() {
    let key = [0xa1, 0x5e, 0x00, 0xff];
    let plain: Vec<u8> = (0..=u8::MAX).collect();
    for start in 0..16 {
        for len in (0..80).chain([127, 128, 200]) {
            for phase in 0..8 {
                let mut fast = plain.clone();
                unmask(&mut fast[start..start + len], key, phase);
                let mut naive = plain.clone();
                unmask_by_bytes(&mut naive[start..start + len], key, phase);
                assert_eq!(fast, naive, "{start} {len} {phase}");
            }
        }
    }
}

#[test]
fn masks_in_pieces_agree_with_the_whole_at_every_split() {
    let key = [1, 20, 255, 128];
    let plain: Vec<u8> = (0..90u8).map(|i| i.wrapping_mul(37)).collect();
    for start in 0..8 {
        let mut whole = plain[start..].to_vec();
        unmask_by_bytes(&mut whole, key, 0);
        for split in 0..=whole.len() {
            let mut pieces = plain.clone();
            let (front, back) = pieces[start..].split_at_mut(split);
            unmask(front, key, 0);
            unmask(back, key, split);
            assert_eq!(pieces[start..], whole, "{start} {split}");
        }
    }
}

#[test]
fn written_headers_have_the_shortest_form() {
    for (len, size) in [(0, 2), (125, 2), (126, 4), (127, 4), (128, 4), (65_535, 4), (65_536, 10)] {
        let mut out = Vec::new();
        emit_header(&mut out, Opcode::Text, len);
        assert_eq!((out.len(), out[0], out[1] & 0x80), (size, 0x81, 0));
        // The same with a mask is what a client would send.
        out[1] |= 0x80;
        out.extend_from_slice(&[0; 4]);
        let read = header(&out).expect("valid").expect("whole");
        assert_eq!((read.len, read.fin), (len as u64, true));
    }
}

#[test]
fn closes_are_written_with_a_reason_that_fits() {
    let mut out = Vec::new();
    emit_close(&mut out, 1000, "");
    assert_eq!(out, [0x88, 2, 0x03, 0xe8]);
    out.clear();
    emit_close(&mut out, 4401, "token");
    assert_eq!(out, b"\x88\x07\x11\x31token");
    out.clear();
    emit_close(&mut out, 1001, &"x".repeat(200));
    assert_eq!((out.len(), out[1]), (127, 125));
    out.clear();
    // 122 bytes and a character of four: the cut goes before it.
    emit_close(&mut out, 1001, &format!("{}\u{1f600}", "x".repeat(122)));
    assert_eq!((out.len(), out[1]), (126, 124));
    assert!(parse_close(&out[2..]).is_ok());
    out.clear();
    emit_close(&mut out, 1001, &format!("{}\u{e9}", "x".repeat(121)));
    assert_eq!(out[1], 125);
}

#[test]
fn closes_are_read() {
    assert_eq!(parse_close(b""), Ok(None));
    assert_eq!(parse_close(b"\x03\xe8"), Ok(Some((1000, ""))));
    assert_eq!(parse_close(b"\x0f\xa0bye"), Ok(Some((4000, "bye"))));
    assert_eq!(parse_close(b"\x03"), Err(WsError::Protocol));
    assert_eq!(parse_close(b"\x03\xed"), Err(WsError::Protocol));
    assert_eq!(parse_close(b"\x03\xe8\xff"), Err(WsError::Utf8));
    assert_eq!(parse_close(b"\x03\xe8\xce"), Err(WsError::Utf8));
    // A code that must not be sent is told before a reason that is none.
    assert_eq!(parse_close(b"\0\0\xff"), Err(WsError::Protocol));
}

#[test]
fn close_codes_are_those_of_the_rfc_and_the_registry() {
    let valid = (0..=u16::MAX).filter(|code| is_close_code(*code)).count();
    assert_eq!(valid, 4 + 8 + 2000);
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        assert!(is_close_code(code), "{code}");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert!(!is_close_code(code), "{code}");
    }
}

#[test]
fn errors_have_the_codes_of_the_rfc() {
    let errors = [WsError::Protocol, WsError::Utf8, WsError::Policy, WsError::TooLarge];
    assert_eq!(errors.map(WsError::close_code), [1002, 1007, 1008, 1009]);
    assert!(errors.iter().all(|error| is_close_code(error.close_code())));
}

#[test]
fn a_length_is_known_before_the_key_is_there() {
    let cases: &[(&[u8], Option<u64>)] = &[
        (&[], None),
        (&[0x82], None),
        (&[0x82, 0x80], Some(0)),
        (&[0x82, 0x80 | 125], Some(125)),
        (&[0x82, 0xfe], None),
        (&[0x82, 0xfe, 0], None),
        (&[0x82, 0xfe, 0, 125], None),
        (&[0x82, 0xfe, 0, 126], Some(126)),
        (&[0x82, 0xfe, 0xff, 0xff, 9, 9, 9], Some(65_535)),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0], None),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], Some(65_536)),
        (&[0x82, 0xff, 0x80], None),
    ];
    for (bytes, expected) in cases {
        assert_eq!(stated_length(bytes), *expected, "{bytes:x?}");
    }
}

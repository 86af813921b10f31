//! UTF-8 that arrives in pieces, refused at the first byte that cannot be (RFC 6455 §8.1).
//!
//! Knows nothing of frames or messages. Holds at most the three bytes of an unfinished character.

use std::{fmt, str};

/// A byte came that no UTF-8 text can have there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not UTF-8")
    }
}

impl std::error::Error for InvalidUtf8 {}

/// The state between two pieces of a text. After an error it must not be used on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Utf8 {
    /// Invariant: the first `len` bytes begin a character and do not end it.
    head: [u8; 4],
    /// Invariant: at most 3.
    len: u8,
}

impl Utf8 {
    /// Takes the next piece of the text.
    ///
    /// # Errors
    ///
    /// Fails as soon as no further byte could make the text valid.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let bytes = self.finish_head(bytes)?;
        if bytes.is_ascii() {
            return Ok(());
        }
        let Err(error) = str::from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let tail = &bytes[error.valid_up_to()..];
        self.head[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// Whether the text so far ends with a whole character.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// Feeds the unfinished character byte by byte; returns what follows it.
    fn finish_head<'b>(&mut self, mut bytes: &'b [u8]) -> Result<&'b [u8], InvalidUtf8> {
        while self.len > 0 {
            let Some((next, rest)) = bytes.split_first() else {
                break;
            };
            bytes = rest;
            self.head[usize::from(self.len)] = *next;
            self.len += 1;
            match str::from_utf8(&self.head[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                // The standard library tells a wrong byte (`Some`) from a missing one (`None`).
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        Ok(bytes)
    }
}

/// Compares any split of `data` with the whole; for fuzzing. The first byte chooses the split.
///
/// # Panics
///
/// If they differ, which would be a bug.
#[doc(hidden)]
pub fn fuzz_utf8(data: &[u8]) {
    let Some((piece, text)) = data.split_first() else {
        return;
    };
    for piece_bytes in [1, usize::from(piece % 7) + 1, text.len().max(1)] {
        check_split(text, piece_bytes);
    }
}

fn check_split(text: &[u8], piece_bytes: usize) {
    let mut split = Utf8::default();
    let mut taken = 0;
    for bytes in text.chunks(piece_bytes) {
        if split.push(bytes).is_err() {
            let end = taken + bytes.len();
            assert!(impossible(&text[..end]), "a possible text was refused");
            assert!(!impossible(&text[..taken]), "an impossible byte was taken");
            return;
        }
        taken += bytes.len();
        assert_eq!(split.is_complete(), str::from_utf8(&text[..taken]).is_ok());
    }
    assert!(!impossible(text), "an impossible byte was taken");
}

/// Whether nothing that follows could make `text` valid.
fn impossible(text: &[u8]) -> bool {
    str::from_utf8(text).is_err_and(|error| error.error_len().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| {
            let pair = str::from_utf8(pair).expect("hex");
            u8::from_str_radix(pair, 16).expect("hex")
        };
        digits.chunks(2).map(byte).collect()
    }

    /// Texts, and the index of the byte at which they must fail (`None`: never).
    const CASES: &[(&str, Option<usize>)] = &[
        ("", None),
        ("ce ba e1 bd b9 cf 83 ce bc ce b5", None),
        // After κόσμε: a surrogate, and a character past U+10FFFF.
        ("ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64 69 74 65 64", Some(12)),
        ("ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90 80 80 65 64", Some(12)),
        // First and last character of each length.
        ("00", None),
        ("c2 80", None),
        ("e0 a0 80", None),
        ("f0 90 80 80", None),
        ("7f", None),
        ("df bf", None),
        ("ef bf bf", None),
        ("f4 8f bf bf", None),
        ("ed 9f bf ee 80 80 ef bf bd", None),
        // Five and six bytes, and what lies past the last character.
        ("f7 bf bf bf", Some(0)),
        ("f8 88 80 80 80", Some(0)),
        ("fb bf bf bf bf", Some(0)),
        ("fc 84 80 80 80 80", Some(0)),
        ("fd bf bf bf bf bf", Some(0)),
        ("f4 90 80 80", Some(1)),
        ("fe", Some(0)),
        ("ff", Some(0)),
        // Stray continuation bytes.
        ("80", Some(0)),
        ("bf", Some(0)),
        ("41 80 bf", Some(1)),
        // Start bytes that nothing continues.
        ("c2 20", Some(1)),
        ("e1 20", Some(1)),
        ("e1 80 20", Some(2)),
        ("f1 80 80 20", Some(3)),
        // Too long for what they say.
        ("c0 af", Some(0)),
        ("c1 bf", Some(0)),
        ("e0 80 af", Some(1)),
        ("e0 9f bf", Some(1)),
        ("f0 80 80 af", Some(1)),
        ("f0 8f bf bf", Some(1)),
        // Surrogates, alone and in pairs.
        ("ed a0 80", Some(1)),
        ("ed ad bf", Some(1)),
        ("ed bf bf", Some(1)),
        ("ed a0 80 ed b0 80", Some(1)),
        // Characters that are none, and still valid.
        ("ef bf be ef b7 90 f0 9f bf be f4 8f bf bf", None),
    ];

    #[test]
    fn fails_at_the_first_impossible_byte_and_not_before() {
        for (hex, expected) in CASES {
            let text = unhex(hex);
            let mut utf8 = Utf8::default();
            let failed = text.iter().position(|b| utf8.push(&[*b]).is_err());
            assert_eq!(failed, *expected, "{hex}");
        }
    }

    #[test]
    fn every_split_agrees_with_the_whole() {
        for (hex, failure) in CASES {
            let text = unhex(hex);
            assert_eq!(Utf8::default().push(&text).is_err(), failure.is_some());
            for a in 0..=text.len() {
                for b in a..=text.len() {
                    let mut utf8 = Utf8::default();
                    let result = utf8
                        .push(&text[..a])
                        .and_then(|()| utf8.push(&text[a..b]))
                        .and_then(|()| utf8.push(&text[b..]));
                    assert_eq!(result.is_err(), failure.is_some(), "{hex} {a} {b}");
                    assert!(failure.is_some() || utf8.is_complete());
                }
            }
        }
    }

    #[test]
    fn a_cut_character_is_incomplete_and_no_error() {
        for (text, is_complete) in [
            (&b"\xce"[..], false),
            (b"\xce\xba", true),
            (b"\xe1\xbd", false),
            (b"\xf0\x9f\x98", false),
            (b"\xf0\x9f\x98\x80", true),
        ] {
            let mut utf8 = Utf8::default();
            assert_eq!(utf8.push(text), Ok(()));
            assert_eq!(utf8.is_complete(), is_complete, "{text:x?}");
        }
    }

    #[test]
    fn three_bytes_are_carried_in_five() {
        assert!(size_of::<Utf8>() <= 8);
    }

    #[test]
    fn random_texts_in_random_pieces() {
        let seed = 0x5eed;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut data = vec![random.u8(..)];
            for _ in 0..random.usize(..12) {
                let any = random.char(..);
                let mut bytes = [0; 4];
                data.extend_from_slice(any.encode_utf8(&mut bytes).as_bytes());
            }
            if random.bool() {
                let at = random.usize(..data.len());
                data[at] = random.u8(..);
            }
            data.truncate(random.usize(..=data.len()));
            fuzz_utf8(&data);
        }
    }
}

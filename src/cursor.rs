//! Positions in the one order: what a client keeps, and what it may ask to start from.

use std::fmt;
use std::str;

/// Names one run of the sequence: 6 to 12 of `A-Z a-z 0-9`. A new one wherever numbers could repeat.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    len: u8,
    bytes: [u8; 12],
}

impl Epoch {
    /// Reads an epoch; `None` if it has not the form of one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if !(6..=12).contains(&text.len()) || !text.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut bytes = [0; 12];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { len: text.len() as u8, bytes })
    }

    /// An epoch of eight characters (47 bits) from a random number.
    #[must_use]
    pub fn from_random(mut random: u64) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut bytes = [0; 12];
        for byte in &mut bytes[..8] {
            *byte = ALPHABET[(random % 62) as usize];
            random /= 62;
        }
        Self { len: 8, bytes }
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // ASCII by construction.
        str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or("")
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A position: everything up to and including `seq` has been seen. Printed as `epoch-seq`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Which sequence.
    pub epoch: Epoch,
    /// How far in it.
    pub seq: u64,
}

impl Cursor {
    /// Reads `epoch-seq`: at most 33 bytes, no leading zeros, no sign.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|b| *b == b'-')?;
        let epoch = Epoch::parse(&text[..dash])?;
        Some(Self { epoch, seq: parse_seq(&text[dash + 1..])? })
    }

    /// Appends `epoch-seq`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.bytes[..usize::from(self.epoch.len)]);
        out.push(b'-');
        out.extend_from_slice(itoa::Buffer::new().format(self.seq).as_bytes());
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.as_str(), self.seq)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_seq(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    parse_digits(digits)
}

/// Decimal digits only, checked against overflow.
pub(crate) fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// From where a reader wants the order; what follows it is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// After this position.
    Cursor(Cursor),
    /// Everything that is kept.
    Earliest,
    /// From now on.
    Latest,
    /// Everything accepted in the last so many milliseconds.
    Ago {
        /// How long ago.
        ms: u64,
    },
    /// Everything accepted at or after this unix time.
    At {
        /// Milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// A `Last-Event-ID` that is no cursor of ours: as an epoch that nobody knows.
    Unknown,
}

impl Since {
    /// Reads a cursor, `earliest`, `latest`, `10m` or ten digits of unix seconds; `None` is `bad_since`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"earliest" => return Some(Self::Earliest),
            b"latest" => return Some(Self::Latest),
            _ => {}
        }
        if text.len() == 10 && text.iter().all(u8::is_ascii_digit) {
            return parse_digits(text).map(|s| Self::At { unix_ms: s * 1000 });
        }
        if let Some(ago) = parse_duration(text) {
            return Some(ago);
        }
        Cursor::parse(text).map(Self::Cursor)
    }

    /// Reads the `Last-Event-ID` header, which is never refused: a native `EventSource` that gets
    /// an error status never comes back (WHATWG HTML §9.2.2 "fail the connection").
    #[must_use]
    pub fn from_last_event_id(text: &[u8]) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        Some(Cursor::parse(text).map_or(Self::Unknown, Self::Cursor))
    }
}

fn parse_duration(text: &[u8]) -> Option<Since> {
    let (unit, digits) = text.split_last()?;
    if !(1..=4).contains(&digits.len()) {
        return None;
    }
    let unit_ms = match unit {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        _ => return None,
    };
    Some(Since::Ago { ms: parse_digits(digits)? * unit_ms })
}

/// Checks the positions on any bytes: each is read in exactly one form, which writes it again.
///
/// # Panics
///
/// If one is not, which would be a bug.
#[doc(hidden)]
pub fn fuzz_since(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let cursor = Cursor::parse(data);
    if let Some(cursor) = cursor {
        let mut written = Vec::new();
        cursor.write(&mut written);
        assert!(written == data && cursor.to_string() == text && data.len() <= 33);
        assert_eq!(Epoch::parse(cursor.epoch.as_str().as_bytes()), Some(cursor.epoch));
    }
    let expected = match data.len() {
        0 => None,
        _ => Some(cursor.map_or(Since::Unknown, Since::Cursor)),
    };
    assert_eq!(Since::from_last_event_id(data), expected);
    let since = Since::parse(data);
    match since {
        Some(Since::Cursor(read)) => assert_eq!(Some(read), cursor),
        Some(Since::Earliest) => assert_eq!(text, "earliest"),
        Some(Since::Latest) => assert_eq!(text, "latest"),
        Some(Since::At { unix_ms }) => assert_eq!(format!("{:010}", unix_ms / 1000), text),
        Some(Since::Ago { ms }) => {
            let (digits, unit) = text.split_at(text.len() - 1);
            let seconds = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 60 * 60,
                "d" => 24 * 60 * 60,
                _ => 0,
            };
            assert_eq!(digits.parse().ok().map(|n: u64| n * seconds * 1000), Some(ms));
            assert!((1..=4).contains(&digits.len()));
        }
        Some(Since::Unknown) => panic!("only a header is never refused"),
        None => assert_eq!(cursor, None),
    }
    for (before, behind) in [("", " "), (" ", ""), ("", "\n"), ("", "\0"), ("+", "")] {
        let more = [before.as_bytes(), data, behind.as_bytes()].concat();
        assert_eq!(Since::parse(&more), None, "{more:?}");
    }
    check_any_cursor(data);
}

/// Every position that can be has a text, and the text is that position.
fn check_any_cursor(data: &[u8]) {
    let number = |from: usize| {
        data.iter().skip(from).take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let cursor = Cursor { epoch: Epoch::from_random(number(8)), seq: number(0) };
    let text = cursor.to_string();
    assert_eq!(Cursor::parse(text.as_bytes()), Some(cursor));
    assert_eq!(Since::parse(text.as_bytes()), Some(Since::Cursor(cursor)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        for text in ["k3J9xQ-42", "abcdef-0", "A1b2C3d4E5f6-18446744073709551615"] {
            let cursor = Cursor::parse(text.as_bytes()).expect(text);
            assert_eq!(cursor.to_string(), text);
            let mut out = Vec::new();
            cursor.write(&mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "-",
            "k3J9xQ",
            "k3J9xQ-",
            "k3J9xQ-042",
            "k3J9xQ-+4",
            "k3J9xQ--4",
            "short-1",
            "toolongepoch1-1",
            "k3J9x_-1",
            "k3J9xQ-18446744073709551616",
            "k3J9xQ-1 ",
            "k3J9xQ-1-2",
        ] {
            assert_eq!(Cursor::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn since_takes_exactly_its_forms() {
        let cases: &[(&str, Option<Since>)] = &[
            ("earliest", Some(Since::Earliest)),
            ("latest", Some(Since::Latest)),
            ("10m", Some(Since::Ago { ms: 600_000 })),
            ("0s", Some(Since::Ago { ms: 0 })),
            ("9999d", Some(Since::Ago { ms: 9999 * 86_400_000 })),
            ("1764000000", Some(Since::At { unix_ms: 1_764_000_000_000 })),
            ("", None),
            ("Latest", None),
            ("m", None),
            ("10000s", None),
            ("10w", None),
            ("-1s", None),
            ("176400000", None),
            ("17640000000", None),
            ("latest ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Since::parse(text.as_bytes()), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_last_event_id_is_never_refused() {
        assert_eq!(Since::from_last_event_id(b""), None);
        for text in [&b"earliest"[..], b"10m", b"7", b"\xff\xfe", b"k3J9xQ-042"] {
            assert_eq!(Since::from_last_event_id(text), Some(Since::Unknown));
        }
    }

    #[test]
    fn random_epochs_have_the_form_of_one() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let epoch = Epoch::from_random(random);
            assert_eq!(Epoch::parse(epoch.as_str().as_bytes()), Some(epoch));
        }
    }
}

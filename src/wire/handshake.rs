//! The values of a WebSocket handshake (RFC 6455 §4): key, subprotocols, extensions.
//!
//! Knows header values, not requests: which fields must be there, and how often, is the
//! connection's business. Every list is read in one pass and is limited in bytes and items.

use std::{fmt, str};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

/// Bytes of all lines of a list together.
pub const LIST_BYTES_MAX: usize = 1024;
/// Items of a list.
pub const LIST_ITEMS_MAX: usize = 16;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2); `None` unless
/// the key is the base64 form of 16 bytes.
#[must_use]
pub fn accept_key(key: &[u8]) -> Option<[u8; 28]> {
    // RFC 6455 §4.2.1: "base64-encoded … 16 bytes in length", which is 24 characters.
    if key.len() != 24 {
        return None;
    }
    let mut nonce = [0; 18];
    if STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
        return None;
    }
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    let mut accept = [0; 28];
    let written = STANDARD.encode_slice(sha1.digest().bytes(), &mut accept);
    (written == Ok(accept.len())).then_some(accept)
}

/// A list in the handshake that is malformed, too long, or names something twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOffer;

impl fmt::Display for BadOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of the handshake is malformed, too long, or names something twice")
    }
}

impl std::error::Error for BadOffer {}

/// The subprotocols that a client offers, in its order of preference.
#[derive(Clone, Copy, Debug)]
pub struct Offers<'b> {
    /// Invariant: the first `len` are tokens, all different.
    tokens: [&'b str; LIST_ITEMS_MAX],
    len: usize,
}

impl<'b> IntoIterator for Offers<'b> {
    type Item = &'b str;
    type IntoIter = std::iter::Take<std::array::IntoIter<&'b str, LIST_ITEMS_MAX>>;

    /// The offers, most wanted first.
    fn into_iter(self) -> Self::IntoIter {
        self.tokens.into_iter().take(self.len)
    }
}

impl<'b> Offers<'b> {
    /// Whether no subprotocol was offered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this one was offered; upper and lower case differ.
    #[must_use]
    pub fn contains(&self, protocol: &str) -> bool {
        self.iter().any(|token| token == protocol)
    }

    /// The offers, most wanted first.
    pub fn iter(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.tokens[..self.len].iter().copied()
    }

    fn push(&mut self, token: &'b [u8]) -> Result<(), BadOffer> {
        let token = str::from_utf8(token).map_err(|_| BadOffer)?;
        // RFC 6455 §4.1: the elements "MUST all be unique strings".
        if self.len == LIST_ITEMS_MAX || self.contains(token) {
            return Err(BadOffer);
        }
        self.tokens[self.len] = token;
        self.len += 1;
        Ok(())
    }
}

/// Reads the lines of `Sec-WebSocket-Protocol`, which are one list (RFC 6455 §11.3.4).
///
/// # Errors
///
/// Lines that are no list of different tokens, name none, or pass a limit.
pub fn offers<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Result<Offers<'b>, BadOffer> {
    let mut offers = Offers { tokens: [""; LIST_ITEMS_MAX], len: 0 };
    let mut bytes = 0usize;
    let mut has_line = false;
    for line in lines {
        has_line = true;
        bytes = bytes.saturating_add(line.len());
        if bytes > LIST_BYTES_MAX {
            return Err(BadOffer);
        }
        let mut list = List { rest: line };
        while let Some(token) = list.next_item()? {
            offers.push(token)?;
            list.end_of_item()?;
        }
    }
    // RFC 9110 §5.6.1.2: empty elements do not count, and there must be one that does.
    if has_line && offers.is_empty() {
        return Err(BadOffer);
    }
    Ok(offers)
}

/// Checks a line of `Sec-WebSocket-Extensions` (RFC 6455 §9.1). None is ever selected.
///
/// # Errors
///
/// A line that is no list of extensions, names none, or passes a limit.
pub fn check_extensions(line: &[u8]) -> Result<(), BadOffer> {
    if line.len() > LIST_BYTES_MAX {
        return Err(BadOffer);
    }
    let mut list = List { rest: line };
    let mut items = 0;
    while list.next_item()?.is_some() {
        items += 1;
        if items > LIST_ITEMS_MAX {
            return Err(BadOffer);
        }
        while list.take(b';') {
            list.parameter()?;
        }
        list.end_of_item()?;
    }
    if items == 0 { Err(BadOffer) } else { Ok(()) }
}

/// What is left of a comma-separated list.
struct List<'b> {
    rest: &'b [u8],
}

impl<'b> List<'b> {
    /// The token that the next element begins with, past empty elements; `None` at the end.
    fn next_item(&mut self) -> Result<Option<&'b [u8]>, BadOffer> {
        // RFC 9110 §5.6.1.2: empty elements are ignored; the length of the line limits them.
        while self.take(b',') {}
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.token().map(Some)
    }

    /// Expects a comma or the end.
    fn end_of_item(&mut self) -> Result<(), BadOffer> {
        self.skip_space();
        match self.rest.first() {
            None | Some(b',') => Ok(()),
            Some(_) => Err(BadOffer),
        }
    }

    /// `token [ "=" ( token / quoted-string ) ]`.
    fn parameter(&mut self) -> Result<(), BadOffer> {
        self.skip_space();
        self.token()?;
        if !self.take(b'=') {
            return Ok(());
        }
        if self.take(b'"') {
            return self.quoted_token();
        }
        self.token().map(|_| ())
    }

    fn token(&mut self) -> Result<&'b [u8], BadOffer> {
        let end = self.rest.iter().position(|b| !is_tchar(*b));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        if token.is_empty() { Err(BadOffer) } else { Ok(token) }
    }

    /// The rest of a quoted string. RFC 6455 §9.1: what it stands for must be a token.
    fn quoted_token(&mut self) -> Result<(), BadOffer> {
        let mut is_empty = true;
        loop {
            let (byte, rest) = match self.rest {
                [b'\\', escaped, rest @ ..] => (escaped, rest),
                [b'"', rest @ ..] if !is_empty => {
                    self.rest = rest;
                    return Ok(());
                }
                [byte, rest @ ..] => (byte, rest),
                [] => return Err(BadOffer),
            };
            if !is_tchar(*byte) {
                return Err(BadOffer);
            }
            self.rest = rest;
            is_empty = false;
        }
    }

    /// Skips space and then, if it is there, `wanted` and the space behind it.
    fn take(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let [first, rest @ ..] = self.rest else {
            return false;
        };
        let is_there = *first == wanted;
        if is_there {
            self.rest = rest;
            if wanted != b'"' {
                self.skip_space();
            }
        }
        is_there
    }

    /// RFC 9110 §5.6.3: spaces and tabs.
    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

/// RFC 9110 §5.6.2: what tokens are made of.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[doc(hidden)]
pub use fuzz::fuzz_handshake;

#[path = "handshake_fuzz.rs"]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn accept(key: &str) -> Option<String> {
        accept_key(key.as_bytes()).map(|accept| String::from_utf8_lossy(&accept).into_owned())
    }

    #[test]
    fn the_key_of_the_rfc_is_answered() {
        // RFC 6455 §1.3.
        let accept = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn keys_that_are_not_sixteen_bytes_are_refused() {
        assert!(accept("AAAAAAAAAAAAAAAAAAAAAA==").is_some());
        assert!(accept("//////////////////////////==").is_none());
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZQ= ",
            " GhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZ===",
            "dGhlIHNhbXBsZSBub25jZWE=",
            "dGhlIHNhbXBsZSBub25jZWFh",
            // Bits that belong to no byte must be 0.
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25j_Q==",
            "dGhlIHNhbXBsZSBub25j\u{e9}==",
            "dGhl=HNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(accept(key), None, "{key:?}");
        }
    }

    fn offered(lines: &[&str]) -> Option<Vec<String>> {
        let offers = offers(lines.iter().map(|line| line.as_bytes())).ok()?;
        Some(offers.iter().map(str::to_owned).collect())
    }

    #[test]
    fn offers_are_tokens_in_order() {
        let cases: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["chat"], &["chat"]),
            (&["chat, superchat"], &["chat", "superchat"]),
            (&["chat,superchat"], &["chat", "superchat"]),
            (&[" \tchat \t,\t superchat\t "], &["chat", "superchat"]),
            (&["chat", "superchat, third"], &["chat", "superchat", "third"]),
            (&[",chat,, ,superchat,"], &["chat", "superchat"]),
            (&["", "chat"], &["chat"]),
            (&["Chat, chat"], &["Chat", "chat"]),
            (
                &["holdline.v1.json, holdline.bearer.abc-_9.x"],
                &["holdline.v1.json", "holdline.bearer.abc-_9.x"],
            ),
            (&["!#$%&'*+-.^_`|~09azAZ"], &["!#$%&'*+-.^_`|~09azAZ"]),
        ];
        for (lines, expected) in cases {
            assert_eq!(offered(lines).as_deref(), Some(&expected.map_owned()[..]));
        }
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn offers_that_are_none_are_refused() {
        for lines in [
            &[""][..],
            &[" "],
            &[","],
            &["", ""],
            &["chat chat2"],
            &["chat, chat"],
            &["chat", "chat"],
            &["chat;q=1"],
            &["\"chat\""],
            &["ch/at"],
            &["ch@t"],
            &["ch\u{e9}t"],
            &["chat\r"],
            &["chat\0"],
            &["chat\x0b"],
        ] {
            assert_eq!(offered(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn offers_are_limited_in_number_and_bytes() {
        let many = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(",");
        assert_eq!(offered(&[&many(16)]).map(|all| all.len()), Some(16));
        assert_eq!(offered(&[&many(17)]), None);
        assert_eq!(offered(&[&many(16), "q"]), None);

        assert!(offered(&[&"p".repeat(1024)]).is_some());
        assert_eq!(offered(&[&"p".repeat(1025)]), None);
        assert_eq!(offered(&[&"p".repeat(600), &"q".repeat(425)]), None);
        assert_eq!(offered(&[&format!("p{}", ",".repeat(1024))]), None);
    }

    #[test]
    fn offers_know_what_they_contain() {
        let lines = [&b"one, two"[..]];
        let offers = offers(lines.into_iter()).expect("two tokens");
        assert!(offers.contains("one") && offers.contains("two") && !offers.is_empty());
        assert!(!offers.contains("One") && !offers.contains("three") && !offers.contains(""));
    }

    #[test]
    fn extensions_of_browsers_and_of_the_rfc_pass() {
        for line in [
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=15, x-webkit-deflate-frame",
            "deflate-stream",
            "mux; max-channels=4; flow-control, deflate-stream",
            "private-extension",
            "foo;bar=\"baz\"",
            "foo; bar=\"b\\az\" ; q",
            "foo ; bar = baz",
            ",foo,,bar,",
        ] {
            assert_eq!(check_extensions(line.as_bytes()), Ok(()), "{line:?}");
        }
    }

    #[test]
    fn extensions_that_are_none_are_refused() {
        for line in [
            "",
            " ",
            ",",
            ";",
            "foo;",
            "foo; ",
            "foo;;bar",
            "foo;=bar",
            "foo;bar=",
            "foo;bar=,",
            "foo bar",
            "foo=bar",
            "foo;bar=\"\"",
            "foo;bar=\"",
            "foo;bar=\"b",
            "foo;bar=\"b\\",
            "foo;bar=\"b\\\"",
            "foo;bar=\"b c\"",
            "foo;bar=\" b\"",
            "foo;bar=\"b\"c",
            "foo;bar=\"b,c\"",
            "foo;b\u{e9}r",
            "foo\0",
            "foo;bar baz",
            "\"foo\"",
        ] {
            assert_eq!(check_extensions(line.as_bytes()), Err(BadOffer), "{line:?}");
        }
    }

    #[test]
    fn extensions_are_limited_in_number_and_bytes() {
        let check = |line: String| check_extensions(line.as_bytes());
        assert_eq!(check("x,".repeat(16)), Ok(()));
        assert_eq!(check("x,".repeat(17)), Err(BadOffer));
        assert_eq!(check("x".repeat(1024)), Ok(()));
        assert_eq!(check("x".repeat(1025)), Err(BadOffer));
    }

    #[test]
    fn random_lists_never_panic() {
        let seed = 0xface;
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let alphabet = b"ab=;,\"\\ \t\n\x00\xff@";
        for _ in 0..50_000 {
            let pick = |_| alphabet[random.usize(..alphabet.len())];
            let data: Vec<u8> = (0..20).map(pick).collect();
            fuzz_handshake(&data[..data.len().min(usize::from(data[0]) % 21)]);
        }
    }
}

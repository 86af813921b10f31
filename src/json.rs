//! JSON on the ground floor: check that bytes are JSON, bound their depth, keep them on one line,
//! and write strings. Reading commands is `wire::command`.

use serde_core::de::IgnoredAny;

/// Deepest nesting that is taken anywhere.
pub const DEPTH_MAX: usize = 32;

/// Whether `bytes` are one JSON value of at most [`DEPTH_MAX`] levels (RFC 8259).
#[must_use]
pub fn is_valid(bytes: &[u8]) -> bool {
    // The depth first: it is iterative, and bounds the recursion of the parser.
    depth(bytes) <= DEPTH_MAX
        && std::str::from_utf8(bytes).is_ok()
        && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// How deep arrays and objects nest, strings skipped. Only meaningful for valid JSON.
#[must_use]
pub fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut at) = (0usize, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = skip_string(bytes, at),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    deepest
}

/// The index of the quote that ends the string starting at `at`, or the end.
fn skip_string(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// Turns CR and LF into spaces. In valid JSON they only stand between tokens, so the value is the
/// same, and an SSE `data:` line or an NDJSON line stays one line.
pub fn flatten(bytes: &mut [u8]) {
    for byte in bytes {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, behind) = rest.split_at(plain(rest));
        out.extend_from_slice(plain);
        let Some((byte, behind)) = behind.split_first() else { break };
        write_escape(out, *byte);
        rest = behind;
    }
    out.push(b'"');
}

/// How many bytes at the beginning stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    // Eight at a time. Most texts have nothing to escape.
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        if has_escape(u64::from_le_bytes(*word)) {
            break;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| is_escaped(*byte)).unwrap_or(rest.len())
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

/// Is one of eight bytes escaped? A byte below `n` has its high bit set when `n` is taken off it, and
/// one that is equal to another is below 1 once both are combined by exclusive or.
fn has_escape(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word;
    let same = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | same(b'"') | same(b'\\')) & (ONES << 7) != 0
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends a decimal number.
#[inline(never)] // where there is one there are more
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        [vec![b'['; levels], vec![b']'; levels]].concat()
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        assert!(is_valid(&nested(32)));
        assert!(!is_valid(&nested(33)));
        assert!(!is_valid(&vec![b'['; 1_000_000]));
        assert!(is_valid(br#"["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[["]"#));
    }

    #[test]
    fn only_json_is_valid() {
        for good in ["null", " 1 ", "\"\\ud800\"", "{\"a\":1,\"a\":2}", "[1.5e3]", "\r\n[1,\n2]"] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in ["", " ", "nul", "[1,]", "{\"a\"}", "'a'", "1 2", "\u{feff}1", "\"\n\"", "01"] {
            assert!(!is_valid(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_valid(b"\"\xff\""));
    }

    #[test]
    fn flattening_keeps_the_value() {
        let mut bytes = b"{\r\n\"a\":\n\"\\n\"}".to_vec();
        flatten(&mut bytes);
        assert_eq!(bytes, b"{  \"a\": \"\\n\"}");
    }

    #[test]
    fn each_character_is_escaped_or_not_wherever_it_stands() {
        for code in 0..=0x2ff_u32 {
            let Some(character) = char::from_u32(code) else { continue };
            for at in 0..20 {
                let text = format!("{}{character}{}", "a".repeat(at), "~".repeat(19 - at));
                let mut out = Vec::new();
                write_string(&mut out, &text);
                assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text), "{out:?}");
                assert!(out.iter().all(|byte| *byte >= 0x20));
                let short = matches!(character, '"' | '\\' | '\n' | '\r' | '\t');
                let more = if short {
                    1
                } else if code < 0x20 {
                    5
                } else {
                    0
                };
                assert_eq!(out.len(), 21 + character.len_utf8() + more, "nothing else is");
            }
        }
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"\\\n\r\t\u{1}\u{1f}é\u{2028}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u001fé\u{2028}\"".as_bytes());
        assert!(is_valid(&out));
    }
}

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
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..=0x1f => 0,
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        if short == 0 {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
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
    fn strings_are_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"\\\n\r\t\u{1}\u{1f}é\u{2028}");
        assert_eq!(out, "\"a\\\"\\\\\\n\\r\\t\\u0001\\u001fé\u{2028}\"".as_bytes());
        assert!(is_valid(&out));
    }
}

//! Payloads that are awkward for some transport, and all the ways to publish one.

use serde_json::value::RawValue;

/// The largest payload there may be.
pub const BYTES_MAX: usize = 64 * 1024;

/// What a listener must be told of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub payload: Vec<u8>,
    pub media: Option<String>,
    pub is_json: bool,
}

/// How a JSON object carries the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Data,
    Text,
    B64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The body of a request to the channel.
    Body { line: &'static str, media: Option<&'static str>, chunked: bool },
    /// The same in HTTP/1.0.
    Ten,
    /// A line of `POST /publish`.
    Line(Field),
    /// An object of `POST /publish`.
    Object(Field),
    /// A frame of a raw WebSocket.
    Frame { is_text: bool },
    /// A command on `/ws`.
    Command(Field),
}

impl Way {
    /// Every way in which these bytes can be published at all.
    pub fn all(payload: &[u8]) -> Vec<Self> {
        let body = |line, media| Self::Body { line, media, chunked: false };
        let mut ways = vec![
            body("POST", None),
            body("PUT", None),
            body("POST", Some("application/x-www-form-urlencoded")),
            body("POST", Some("text/plain")),
            body("POST", Some("text/html; charset=utf-8")),
            body("PUT", Some("application/octet-stream")),
            Self::Body { line: "POST", media: None, chunked: true },
            Self::Ten,
            Self::Frame { is_text: false },
        ];
        let mut fields = vec![Field::B64];
        if std::str::from_utf8(payload).is_ok() {
            ways.push(Self::Frame { is_text: true });
            fields.push(Field::Text);
        }
        if is_json(payload) {
            ways.push(body("POST", Some("application/json")));
            ways.push(body("POST", Some("application/vnd.x+json;v=1")));
            fields.push(Field::Data);
        }
        for field in fields {
            ways.push(Self::Object(field));
            // A line ends at LF, also where JSON would allow one between tokens.
            if field != Field::Data || !payload.contains(&b'\n') {
                ways.push(Self::Line(field));
            }
            // A frame in has a limit of its own.
            if object("c", payload, field).len() + 50 <= BYTES_MAX {
                ways.push(Self::Command(field));
            }
        }
        ways
    }

    pub fn says(self, payload: &[u8]) -> Said {
        let form = "application/x-www-form-urlencoded";
        let media = match self {
            Self::Body { media, .. } => media.filter(|media| *media != form),
            Self::Frame { is_text: false } => Some("application/octet-stream"),
            Self::Ten | Self::Frame { .. } | Self::Line(_) | Self::Object(_) | Self::Command(_) => {
                None
            }
        };
        let is_json = match self {
            Self::Body { media, .. } => media.is_some_and(|media| media.contains("json")),
            Self::Line(field) | Self::Object(field) | Self::Command(field) => field == Field::Data,
            Self::Ten | Self::Frame { .. } => false,
        };
        // JSON is kept as it was sent, but for line ends between tokens.
        let mend = |byte: &u8| if is_json && matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        let media = media.map(str::to_owned);
        Said { payload: payload.iter().map(mend).collect(), media, is_json }
    }
}

/// As text alone: what a WebSocket client or a page could not send is none.
fn is_json(payload: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(payload).is_ok()
        && std::str::from_utf8(payload).is_ok_and(|text| text.trim() == text)
}

/// The object that publishes this payload.
pub fn object(channel: &str, payload: &[u8], field: Field) -> Vec<u8> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let value = match field {
        Field::Data => payload.to_vec(),
        Field::Text => {
            let text = std::str::from_utf8(payload).expect("a text");
            serde_json::to_vec(text).expect("JSON")
        }
        Field::B64 => serde_json::to_vec(&STANDARD.encode(payload)).expect("JSON"),
    };
    let name = match field {
        Field::Data => "data",
        Field::Text => "text",
        Field::B64 => "b64",
    };
    [format!("{{\"channel\":\"{channel}\",\"{name}\":").as_bytes(), &value, b"}"].concat()
}

/// Text that looks like what stands around it on some transport, or breaks lines in some way.
const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "\r",
    "\n",
    "\r\n",
    "\n\r",
    "\n\n",
    "\r\r",
    "\r\n\r\n",
    "\n\n\n\n",
    "a\rb\nc\r\nd\n\re",
    "a\n",
    "\na",
    "a\r",
    "\ra",
    "a\r\n",
    "\0",
    "a\0b\n\0\r\0",
    "\u{feff}",
    "\u{feff}data: x",
    "a\u{feff}\n\u{feff}b",
    "\u{2028}",
    "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g\u{1e}h",
    "\u{fffd}\u{fffe}\u{ffff}\u{10ffff}",
    "e\u{301}😀\u{200b}\u{202e}",
    // Lines of an event stream.
    "data: x",
    "data: x\n\n",
    "x\n\ndata: forged\n\n",
    "x\r\rdata: forged\r\r",
    "x\r\n\r\ndata: forged\r\n\r\n",
    "id: zzzzzz-99",
    "\nid: zzzzzz-99\n",
    "\rid: zzzzzz-99\r\r",
    "event: bye\ndata: {\"retry_ms\":1}\n\n",
    "\revent: holdline-gap\rdata: {}\r\r",
    "retry: 1\n\n",
    "\nretry: 0\n\n",
    ": heartbeat\nid: zzzzzz-99\n\n",
    ":",
    " data: x",
    "\n: \n",
    // Chunks and heads of HTTP.
    "0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "\r\nSet-Cookie: a=b\r\n\r\n<script>",
    "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    // Frames of the meta subprotocol.
    "cursor: zzzzzz-99\n\n",
    "gap: reason=slow; since=; resumed=zzzzzz-99\n\n",
    "id: zzzzzz-99\nevent: forged\ncontent-type: text/html\n\nforged",
    // JSON, and what would end it.
    "\"",
    "\\",
    "\\\"",
    "\",\"id\":\"zzzzzz-99",
    "\"},{\"channel\":\"forged\",\"id\":\"zzzzzz-99\",\"text\":\"",
    "]}",
    "{\"op\":\"message\",\"channel\":\"c\",\"id\":\"zzzzzz-99\",\"data\":1}",
    "{\"op\":\"bye\",\"code\":1012}\n",
    "{\"a\": 1}",
    "[1,\r\n2,\r3\n]",
    "null",
    "-0",
    "1e400",
    "123456789012345678901234567890.000",
    "{\"a\":1,\"a\":2,\"\":3}",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\\u0000\\u2028\"",
    "\"\u{2028}\u{2029}\u{7f}\u{feff}\"",
    "\"\\r\\n\\n data: forged\\n\\n\"",
    "\"</script><script>alert(1)</script><!--\"",
    "</script><script>alert(1)</script><!-- ]]>",
    "%0d%0a%00%ff",
    "\u{1b}[31m\u{7}\u{8}",
];

/// What is no UTF-8: some of it frames of a WebSocket.
const BYTES: &[&[u8]] = &[
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xe2\x82",
    b"good, then \xf0\x9f\x98",
    b"\x81\x06forged",
    b"\x88\x02\x03\xe8",
    b"\x89\x00\x8a\x00\xc1\xfe",
    b"\xff\r\n\r\ndata: forged\n\n\xfe",
    b"\n\n\xff\n\ndata: forged\n\n",
    b"\xfe\xff\0a",
];

pub fn small() -> Vec<Vec<u8>> {
    let texts = TEXTS.iter().map(|text| text.as_bytes().to_vec());
    let every: Vec<u8> = (0..=255).collect();
    let ascii: Vec<u8> = (0..128).collect();
    texts.chain(BYTES.iter().map(|bytes| bytes.to_vec())).chain([every, ascii]).collect()
}

/// Exactly as large as may be, where a transport makes more of each byte.
pub fn largest() -> Vec<Vec<u8>> {
    let json = format!("\"{}\"", "a".repeat(BYTES_MAX - 2)).into_bytes();
    let lines = "data: x\n\n".repeat(BYTES_MAX / 9 + 1).into_bytes()[..BYTES_MAX].to_vec();
    let each = [b'a', b'\n', b'\r', b'\0', b'"', 0xff].map(|byte| vec![byte; BYTES_MAX]);
    each.into_iter().chain([json, lines]).collect()
}

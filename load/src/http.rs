//! HTTP/1.1 as a client of this program needs it: requests as bytes, answers with a length, in
//! chunks, or without end.

use crate::Fault;
use crate::profile::Headers;

/// Appends a request.
pub fn request(
    method: &str,
    target: &str,
    host: &str,
    headers: &Headers,
    body: Option<&[u8]>,
    to: &mut Vec<u8>,
) {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    to.extend_from_slice(head.as_bytes());
    for header in headers {
        to.extend_from_slice(header.as_bytes());
        to.extend_from_slice(b"\r\n");
    }
    if let Some(body) = body {
        to.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    to.extend_from_slice(b"\r\n");
    to.extend_from_slice(body.unwrap_or_default());
}

/// Appends the request that makes a WebSocket (RFC 6455 §4.1).
pub fn upgrade(target: &str, host: &str, protocol: &str, to: &mut Vec<u8>) {
    let mut headers = vec![
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
    ];
    if !protocol.is_empty() {
        headers.push(format!("Sec-WebSocket-Protocol: {protocol}"));
    }
    request("GET", target, host, &headers, None, to);
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head<'a> {
    pub status: u16,
    lines: &'a [u8],
    /// Bytes of the head with its empty line.
    pub len: usize,
}

/// The head at the beginning, if all of it is there.
pub fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, Fault> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return match bytes.len() {
            0..65_536 => Ok(None),
            _ => Err(Fault::wrong("an answer with a head of more than 64 KiB")),
        };
    };
    let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    let Some(status) = status else {
        let start = String::from_utf8_lossy(&bytes[..end.min(60)]).into_owned();
        return Err(Fault::wrong(format!("no answer of HTTP/1.1: {start:?}")));
    };
    Ok(Some(Head { status, lines: &bytes[..end + 2], len: end + 4 }))
}

impl<'a> Head<'a> {
    /// The value of the first field of that name.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.lines;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let (field, value) = match line.get(name.len()) {
                Some(b':') => line.split_at(name.len()),
                _ => continue,
            };
            if field.eq_ignore_ascii_case(name.as_bytes()) {
                return std::str::from_utf8(&value[1..]).ok().map(str::trim);
            }
        }
        None
    }
}

impl Head<'_> {
    /// The connection ends with this answer (RFC 9112 §9.6): what was asked behind it was not heard.
    pub fn is_last(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer<'a> {
    pub head: Head<'a>,
    pub body: Body<'a>,
    /// Bytes of all of it.
    pub len: usize,
}

/// What stands in an answer, still in its chunks if it came in such.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Plain(&'a [u8]),
    Chunked(&'a [u8]),
}

impl Body<'_> {
    /// What it says.
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            Self::Plain(bytes) => bytes.to_vec(),
            Self::Chunked(mut rest) => {
                let mut all = Vec::with_capacity(rest.len());
                while let Ok(Some((size, head))) = chunk(rest) {
                    all.extend_from_slice(&rest[head..head + size]);
                    rest = &rest[head + size + 2..];
                    if size == 0 {
                        break;
                    }
                }
                all
            }
        }
    }
}

/// The answer at the beginning, if all of it is there.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer<'_>>, Fault> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let rest = &bytes[head.len..];
    if matches!(head.status, 100..200 | 204 | 304) {
        return Ok(Some(Answer { body: Body::Plain(&[]), len: head.len, head }));
    }
    if let Some(length) = head.field("content-length") {
        let length: usize =
            length.parse().map_err(|_| Fault::wrong("a Content-Length that is no number"))?;
        let body = rest.get(..length);
        return Ok(body.map(|body| Answer {
            body: Body::Plain(body),
            len: head.len + length,
            head,
        }));
    }
    if head.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
    {
        let length = chunks(rest)?;
        return Ok(length.map(|length| Answer {
            body: Body::Chunked(&rest[..length]),
            len: head.len + length,
            head,
        }));
    }
    Err(Fault::wrong(format!("an answer of status {} without a length", head.status)))
}

/// Bytes of all chunks with the last one, if they are there. Trailers do not occur here.
fn chunks(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let mut at = 0;
    loop {
        let Some((size, head)) = chunk(&bytes[at..])? else { return Ok(None) };
        at += head + size + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

/// Size of the chunk at the beginning, and bytes of the line that says so.
fn chunk(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = u32::from_str_radix(size, 16).map_err(|_| Fault::wrong("a chunk without a size"))?;
    Ok(Some((size as usize, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there() {
        let bytes = b"HTTP/1.1 201 Created\r\nX: y\r\ncontent-length: 3\r\n\r\nabcHTTP";
        for end in 0..bytes.len() - 4 {
            assert!(answer(&bytes[..end]).expect("it is no fault").is_none(), "{end}");
        }
        let answer = answer(bytes).expect("an answer").expect("a whole one");
        assert_eq!((answer.head.status, answer.len), (201, bytes.len() - 4));
        assert_eq!(answer.head.field("x"), Some("y"));
        assert_eq!(answer.body.to_vec(), b"abc");
    }

    #[test]
    fn chunks_are_joined() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nH";
        for end in 0..bytes.len() - 1 {
            assert!(answer(&bytes[..end]).expect("it is no fault").is_none(), "{end}");
        }
        let answer = answer(bytes).expect("an answer").expect("a whole one");
        assert_eq!(answer.len, bytes.len() - 1);
        assert_eq!(answer.body.to_vec(), b"abcde");
    }

    #[test]
    fn what_is_no_answer_is_told() {
        assert!(answer(b"SSH-2.0\r\n\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "it has no length");
    }
}

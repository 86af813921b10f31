//! What an HTTP client makes of the bytes that arrive.

use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| &**value)
    }

    pub fn is_closing(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Takes a head off the front, if all of it is there.
pub fn take_head(bytes: &mut Vec<u8>) -> Option<Answer> {
    let (answer, len) = parse_head(bytes)?;
    bytes.drain(..len);
    Some(answer)
}

/// Takes an answer with its body off the front, if all of it is there.
pub fn take_answer(bytes: &mut Vec<u8>) -> Option<Answer> {
    let (mut answer, len) = parse_head(bytes)?;
    let has_body = answer.status >= 200 && answer.status != 204;
    let length = match answer.header("content-length") {
        Some(value) if has_body => value.parse().expect("a length"),
        None if has_body => panic!("an answer without a length: {answer:?}"),
        _ => 0,
    };
    if bytes.len() < len + length {
        return None;
    }
    answer.body = bytes[len..len + length].to_vec();
    bytes.drain(..len + length);
    Some(answer)
}

fn parse_head(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("heads are ASCII");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or("");
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_owned(), value.trim().to_owned())
    });
    let answer = Answer { status, headers: headers.collect(), body: Vec::new() };
    Some((answer, end + 4))
}

/// Takes the chunks that are there off the front; whether the last was among them.
pub fn take_chunks(bytes: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    loop {
        let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") else { return false };
        let size = std::str::from_utf8(&bytes[..line]).expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("size {size:?}"));
        let end = line + 2 + size;
        if bytes.len() < end + 2 {
            return false;
        }
        assert_eq!(&bytes[end..end + 2], b"\r\n", "the end of a chunk");
        out.extend_from_slice(&bytes[line + 2..end]);
        bytes.drain(..end + 2);
        if size == 0 {
            return true;
        }
    }
}

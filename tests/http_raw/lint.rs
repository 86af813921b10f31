//! What every answer must be, whatever it answers.

use super::http::{Answer, Shape};

/// The methods that the server knows.
pub const METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];

/// Statuses after which a connection never goes on: errors of framing, time and size.
pub const CLOSING: [u16; 8] = [408, 411, 413, 414, 417, 431, 501, 505];

/// The `error` of a JSON error body.
pub fn error_code(answer: &Answer) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    Some(value.get("error")?.as_str()?.to_owned())
}

/// All that is wrong with `answer` on its own. `ten`: the request was HTTP/1.0.
pub fn lint(answer: &Answer, shape: Shape, ten: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    lint_framing(answer, shape, ten, &mut wrong);
    lint_date(answer, &mut wrong);
    lint_fields(answer, &mut wrong);
    if answer.status >= 400 {
        lint_error(answer, shape, &mut wrong);
    }
    wrong
}

fn lint_framing(answer: &Answer, shape: Shape, ten: bool, wrong: &mut Vec<String>) {
    let length = answer.field("content-length").is_some();
    let coding = answer.field("transfer-encoding").is_some();
    if length && coding {
        wrong.push("both Content-Length and Transfer-Encoding (RFC 9112 §6.2)".to_owned());
    }
    // RFC 9110 §8.6, RFC 9112 §6.1: no framing field where no content can be.
    if matches!(answer.status, 101 | 204) && (length || coding) {
        wrong.push(format!("a framing field in a {}", answer.status));
    }
    if ten && coding {
        wrong.push("Transfer-Encoding to an HTTP/1.0 client (RFC 9112 §6.1)".to_owned());
    }
    let bare = matches!(answer.status, 101 | 204 | 304);
    let close = answer.lists("connection", "close");
    if shape == Shape::Full && !bare && !length && !coding && !close {
        wrong.push("a body without length on a connection that goes on".to_owned());
    }
}

fn lint_fields(answer: &Answer, wrong: &mut Vec<String>) {
    for name in ["content-length", "content-type", "transfer-encoding", "date", "retry-after"] {
        if answer.all(name).count() > 1 {
            wrong.push(format!("{name} occurs twice"));
        }
    }
    // What injection cases try to add.
    for name in ["set-cookie", "x-injected", "access-control-allow-credentials"] {
        if answer.field(name).is_some() {
            wrong.push(format!("{name} must not be there"));
        }
    }
    if answer.field("server").is_some_and(|v| v.bytes().any(|b| b.is_ascii_digit())) {
        wrong.push("Server names a version (RFC 9110 §17.12)".to_owned());
    }
    // The client's text is anybody's: the only answers with a tag.
    let is_public = answer.field("etag").is_some();
    if let Some(origin) = answer.field("access-control-allow-origin").filter(|_| !is_public) {
        if origin == "*" || !answer.lists("vary", "origin") {
            wrong.push("an allowed Origin is echoed, and Vary says so".to_owned());
        }
    }
    let json = answer.field("content-type").is_some_and(|v| v.starts_with("application/json"));
    if json && !no_store(answer) {
        wrong.push("a dynamic answer without Cache-Control: no-store".to_owned());
    }
    // RFC 9110 §15.5.16: Accept for a type, Accept-Encoding for a coding; Accept does
    // for both.
    let accepts = ["accept", "accept-encoding"].iter().any(|name| answer.field(name).is_some());
    if answer.status == 415 && !accepts {
        wrong.push("a 415 carries accept".to_owned());
    }
    let wants: &[&str] = match answer.status {
        405 => &["allow"],
        426 => &["upgrade", "sec-websocket-version"],
        429 | 503 => &["retry-after"],
        _ => &[],
    };
    for name in wants.iter().filter(|name| answer.field(name).is_none()) {
        wrong.push(format!("a {} carries {name}", answer.status));
    }
}

/// The statuses 404, 405, 410, 414 and 501 are cacheable by heuristics (RFC 9110 §15.1), so every
/// error forbids it.
fn lint_error(answer: &Answer, shape: Shape, wrong: &mut Vec<String>) {
    if !no_store(answer) {
        wrong.push("an error without Cache-Control: no-store".to_owned());
    }
    if shape != Shape::Full {
        return;
    }
    if !answer.field("content-type").is_some_and(|v| v.starts_with("application/json")) {
        wrong.push("an error that is not application/json".to_owned());
    }
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(|v| v.as_str()).is_some_and(|t| !t.is_empty());
    if !text("error") || !text("message") {
        wrong.push("the body is not {\"error\":…,\"message\":…}".to_owned());
    }
}

fn no_store(answer: &Answer) -> bool {
    answer.lists("cache-control", "no-store")
}

fn lint_date(answer: &Answer, wrong: &mut Vec<String>) {
    match answer.field("date") {
        // RFC 9110 §6.6.1: MUST in 2xx, 3xx, 4xx; MAY in 1xx and 5xx.
        None if (200..500).contains(&answer.status) => wrong.push("no Date".to_owned()),
        Some(date) if parse_date(date).is_none_or(|d| d.abs_diff(answer.read_at) > 120) => {
            wrong.push(format!("Date {date:?} is not now, or no IMF-fixdate"));
        }
        None | Some(_) => {}
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` to unix seconds (RFC 9110 §5.6.7).
fn parse_date(date: &str) -> Option<u64> {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let shape = "aaa, 00 aaa 0000 00:00:00 aaa";
    let fits = |(b, s): (u8, u8)| match s {
        b'a' => b.is_ascii_alphabetic(),
        b'0' => b.is_ascii_digit(),
        other => b == other,
    };
    if date.len() != shape.len() || !date.bytes().zip(shape.bytes()).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| date[from..to].parse::<u64>().ok();
    let (year, day) = (number(12, 16)?, number(5, 7)?);
    let month = MONTHS.find(&date[8..11]).filter(|i| i % 3 == 0)? as u64 / 3 + 1;
    // Days since the epoch, counting years from March so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let named = DAYS[(days % 7) as usize] == &date[..3] && date.ends_with("GMT");
    let seconds = number(17, 19)? * 3600 + number(20, 22)? * 60 + number(23, 25)?;
    named.then_some(days * 86_400 + seconds)
}

#[test]
fn dates_are_read() {
    assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(parse_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
    assert_eq!(parse_date("Sun, 06 Nov 1994 8:49:37 GMT"), None);
    assert_eq!(parse_date("Mon, 06 Nov 1994 08:49:37 GMT"), None);
}

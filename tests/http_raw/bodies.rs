//! Bodies as they should be, too large, where none belong, and such as are never read.

use super::case::{After, Case, Want, bad_request, error, status};
use super::heads::{NEXT, refused};
use super::http::Req;

const BODY_MAX: usize = 64 * 1024;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    accepted(&mut table);
    too_large(&mut table);
    bodies_not_wanted(&mut table);
    not_drained(&mut table);
    cut_short(&mut table);
    table
}

fn post() -> Req {
    Req::new("POST /channels/bodies")
}

/// RFC 9110 §9.3.1, §9.3.2: content in a request that has no use for it is refused.
fn bodies_not_wanted(table: &mut Vec<Case>) {
    for line in [
        "GET /health",
        "GET /",
        "GET /channels/bodies",
        "GET /poll?channel=bodies",
        "GET /events?channel=bodies",
        "HEAD /health",
        "HEAD /channels/bodies",
        "DELETE /channels/bodies",
        "OPTIONS /health",
        "OPTIONS /channels/bodies",
        "OPTIONS *",
    ] {
        let head = line.starts_with("HEAD");
        let want = || {
            if head { bad_request().head() } else { bad_request() }
        };
        let length = Req::new(line).body("hello");
        table.push(refused(&format!("{line} with a length"), length, want()));
        let smuggled = Req::new(line).body(NEXT);
        table.push(refused(&format!("{line} with a request as body"), smuggled, want()));
        // RFC 9112 §6: the field announces a body, whatever its chunks will be.
        let chunked = Req::new(line).chunked("0\r\n\r\n");
        table.push(refused(&format!("{line} with a coding"), chunked, want()));
    }
    let rows: [(&str, &str, Want); 4] = [
        ("GET with a length of 0", "GET /health", status(200)),
        ("HEAD with a length of 0", "HEAD /health", status(200).head()),
        ("DELETE with a length of 0", "DELETE /channels/bodies-none", status(204)),
        ("OPTIONS with a length of 0", "OPTIONS /health", status(204)),
    ];
    for (name, line, want) in rows {
        let case = Case::new(name, Req::new(line).body("")).and(NEXT);
        table.push(case.want(want).want(status(200)).kept());
    }
    // Not our routes or no known use: the body may be named first, or what is asked for.
    let rows: [(&str, &str, Want); 3] = [
        ("GET with a body, no such route", "GET /nope", error(404, "not_found")),
        ("TRACE with a body", "TRACE /health", error(405, "method")),
        ("PATCH with a body", "PATCH /health", error(405, "method")),
    ];
    for (name, line, want) in rows {
        let case = Case::new(name, Req::new(line).body(NEXT));
        table.push(case.want(want.or(400, "bad_request")).either());
    }
}

/// RFC 9112 §9.3: a body that is not read to its end closes; in no case is it a request.
fn not_drained(table: &mut Vec<Case>) {
    let evil = "Origin: http://evil.example";
    let rows: [(&str, Req, Want); 10] = [
        ("404", Req::new("POST /nope"), error(404, "not_found")),
        ("405", Req::new("POST /health"), error(405, "method")),
        ("405 by PUT", Req::new("PUT /poll?channel=a"), error(405, "method")),
        ("421", post().host("evil.example"), error(421, "host")),
        ("403", post().field(evil), error(403, "origin")),
        ("bad channel", Req::new("POST /channels/_x"), error(400, "bad_channel")),
        ("bad query", Req::new("POST /channels/a?ttl=x"), error(400, "bad_query")),
        ("415", post().field("Content-Encoding: gzip"), error(415, "media_type")),
        (
            "415 for /publish",
            Req::new("POST /publish").field("Content-Type: text/plain"),
            error(415, "media_type"),
        ),
        ("417", post().field("Expect: the-unexpected"), error(417, "expectation")),
    ];
    for (name, request, want) in rows {
        let whole = request.clone().body(NEXT);
        let name = format!("{name} with a request as its body");
        table.push(Case::new(&name, whole).want(want.clone()).either());
        let chunks = format!("{:x}\r\n{NEXT}\r\n0\r\n\r\n", NEXT.len());
        let case = Case::new(format!("{name}, chunked"), request.chunked(chunks));
        table.push(case.want(want).either());
    }
}

/// RFC 9112 §8: an incomplete message is never acted on.
fn cut_short(table: &mut Vec<Case>) {
    let rows: [(&str, Req); 6] = [
        ("end within a body", post().field("Content-Length: 5").raw("hel")),
        ("end before a body", post().field("Content-Length: 5")),
        ("end within a chunk", post().chunked("5\r\nhel")),
        ("end after a chunk", post().chunked("5\r\nhello\r\n")),
        ("end within the last chunk", post().chunked("5\r\nhello\r\n0\r\n")),
        ("end within a trailer", post().chunked("5\r\nhello\r\n0\r\nX: y\r\n")),
    ];
    for (name, request) in rows {
        let case = Case::new(name, request).finish().want(bad_request().or(408, "timeout"));
        table.push(case.may_be_silent().after(After::Ends));
    }
}

fn accepted(table: &mut Vec<Case>) {
    let last = "0\r\n\r\n";
    let rows: [(&str, Req); 22] = [
        ("a body", post().body("hello")),
        ("a body by PUT", Req::new("PUT /channels/bodies").body("hello")),
        ("a body of NULs and CRLFs", post().body("\0\0\r\n\r\n\0")),
        ("a body that looks like a request", post().body(NEXT)),
        ("Content-Length: 0", post().body("")),
        // RFC 9112 §6.3: a request without framing fields has no body; nothing asks for 411.
        ("neither length nor coding", post()),
        ("length with spaces before", post().field("Content-Length:    5").raw("hello")),
        ("length with HTAB before", post().field("Content-Length:\t5").raw("hello")),
        ("length with spaces after", post().field("Content-Length: 5 \t ").raw("hello")),
        ("length without a space", post().field("Content-Length:5").raw("hello")),
        ("length with leading zeros", post().field("Content-Length: 0005").raw("hello")),
        ("length 010 is ten", post().field("Content-Length: 010").raw("0123456789")),
        ("length 00", post().field("Content-Length: 00")),
        ("length in capitals", post().field("CONTENT-LENGTH: 5").raw("hello")),
        ("chunked", post().chunked("5\r\nhello\r\n0\r\n\r\n")),
        ("chunked, empty", post().chunked(last)),
        ("Chunked", post().field("Transfer-Encoding: Chunked").raw(last)),
        ("CHUNKED in capitals", post().field("TRANSFER-ENCODING: CHUNKED").raw(last)),
        ("chunked with OWS", post().field("Transfer-Encoding: \t chunked \t ").raw(last)),
        ("chunked without a space", post().field("Transfer-Encoding:chunked").raw(last)),
        // Underscores make other names, which mean nothing: no body follows.
        ("Content_Length is unknown", post().field("Content_Length: 5")),
        ("Transfer_Encoding is unknown", post().field("Transfer_Encoding: chunked")),
    ];
    for (name, request) in rows {
        let case = Case::new(name, request).and(NEXT);
        table.push(case.want(status(202)).want(status(200)).kept());
    }
    let largest = post().body(vec![b'a'; BODY_MAX]);
    table.push(Case::new("a body of exactly 64 KiB", largest).want(status(202)).kept());
    let sized = format!("{BODY_MAX:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(BODY_MAX));
    let largest = Case::new("exactly 64 KiB in one chunk", post().chunked(sized));
    table.push(largest.want(status(202)).kept());
    let bits = format!("{}0\r\n\r\n", format!("400\r\n{}\r\n", "a".repeat(1024)).repeat(64));
    let largest = Case::new("exactly 64 KiB in 64 chunks", post().chunked(bits));
    table.push(largest.want(status(202)).kept());
}

fn too_large(table: &mut Vec<Case>) {
    let want = || error(413, "too_large");
    // Known from the head: nothing of the body need come.
    for length in [
        "65537",
        "100000",
        "4294967296",
        "4294967301",
        "9223372036854775807",
        "9999999999999999999",
    ] {
        let request = post().field(format!("Content-Length: {length}"));
        let name = format!("413 at once for {length}");
        table.push(Case::new(name, request).want(want()).closed());
    }
    let sent = post().body(vec![b'a'; BODY_MAX + 1]);
    table.push(refused("413 although the body came", sent, want()));
    let smuggled = post().field("Content-Length: 65537").raw(NEXT);
    table.push(refused("413 with a request as its body", smuggled, want()));
    let one = format!("10001\r\n{}\r\n0\r\n\r\n", "a".repeat(BODY_MAX + 1));
    table.push(refused("413 for one chunk", post().chunked(one), want()));
    let many =
        format!("{}1\r\na\r\n0\r\n\r\n", format!("1000\r\n{}\r\n", "a".repeat(4096)).repeat(16));
    table.push(refused("413 when the last chunk crosses", post().chunked(many), want()));
    // Open: whether the announced size is refused, or only what comes of it, and whether a sum that
    // overflows is bad or large. Never a 202, and never an answer to what follows.
    let rows: [(&str, &str); 7] = [
        ("a chunk of 10001", "10001\r\n"),
        ("a chunk of ffffffff", "ffffffff\r\n"),
        ("a chunk of 100000000", "100000000\r\n"),
        ("a chunk of 7fffffffffffffff", "7fffffffffffffff\r\n"),
        ("a chunk of 8000000000000000", "8000000000000000\r\n"),
        ("a chunk of ffffffffffffffff", "ffffffffffffffff\r\n"),
        // 5 + (2^64 - 2) wraps to 3.
        ("a sum of chunks that wraps", "5\r\nhello\r\nfffffffffffffffe\r\nabc\r\n0\r\n\r\n"),
    ];
    for (name, chunks) in rows {
        let case = Case::new(name, post().chunked(chunks)).and(NEXT).finish();
        let want = want().or(400, "bad_request").or(408, "timeout");
        table.push(case.want(want).may_be_silent().after(After::Ends));
    }
}

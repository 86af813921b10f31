//! Where a body ends: Content-Length, Transfer-Encoding, bodies where none belong. Every wrong one
//! is followed by bytes that look like a request and must never be answered as one.

use crate::case::{After, Case, Want, bad_request, error, status};
use crate::heads::{NEXT, refused};
use crate::http::Req;

const BODY_MAX: usize = 64 * 1024;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    accepted(&mut table);
    lengths(&mut table);
    too_large(&mut table);
    codings(&mut table);
    both(&mut table);
    bodies_not_wanted(&mut table);
    not_drained(&mut table);
    cut_short(&mut table);
    table
}

fn post() -> Req {
    Req::new("POST /channels/framing")
}

fn accepted(table: &mut Vec<Case>) {
    let last = "0\r\n\r\n";
    let rows: [(&str, Req); 22] = [
        ("a body", post().body("hello")),
        ("a body by PUT", Req::new("PUT /channels/framing").body("hello")),
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

/// RFC 9110 §8.6: `1*DIGIT`. Signs, lists and overflows are what front ends read differently.
fn lengths(table: &mut Vec<Case>) {
    for value in [
        "+5", "-5", "-0", "+0", "-48", "0x5", "0X5", "0o5", "5_0", "+1_0", "5 5", "5,5", "5, 5", "5, 5, 5",
        "5, 6", "5,", ",5", "5.0", "5e0", "5;a=b", "5a", "1Z", "a", "\"5\"", "\u{665}", "", ",",
        "00000000000000000005", "18446744073709551616", "18446744073709551621", "99999999999999999999",
        "340282366920938463463374607431768211461",
    ] {
        let request = post().field(format!("Content-Length: {value}")).raw("hello");
        table.push(refused(&format!("Content-Length: {value}"), request, bad_request()));
    }
    let rows: [(&str, &[u8]); 12] = [
        ("length after VT", b"Content-Length: \x0b5"),
        ("length after FF", b"Content-Length: \x0c5"),
        ("length before NUL", b"Content-Length: 5\0"),
        ("length before 0xa0", b"Content-Length: 5\xa0"),
        ("length after 0x85", b"Content-Length: \x855"),
        ("SP before the colon of a length", b"Content-Length : 5"),
        ("0x85 before the colon of a length", b"Content-Length\x85: 5"),
        ("a length without colon", b"Content-Length 5"),
        ("a folded length", b"Content-Length:\r\n 5"),
        ("two lengths, equal", b"Content-Length: 5\r\nContent-Length: 5"),
        ("two lengths, different", b"Content-Length: 5\r\nContent-Length: 0"),
        ("two lengths, the first empty", b"Content-Length:\r\nContent-Length: 5"),
    ];
    for (name, line) in rows {
        table.push(refused(name, post().field(line).raw("hello"), bad_request()));
    }
    let apart = post().field("Content-Length: 0").field("X: y").field("content-length: 5").raw("hello");
    table.push(refused("two lengths in other letters, apart", apart, bad_request()));
}

fn too_large(table: &mut Vec<Case>) {
    let want = || error(413, "too_large");
    // Known from the head: nothing of the body need come.
    for length in ["65537", "100000", "4294967296", "4294967301", "9223372036854775807", "9999999999999999999"] {
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
    let many = format!("{}1\r\na\r\n0\r\n\r\n", format!("1000\r\n{}\r\n", "a".repeat(4096)).repeat(16));
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

/// RFC 9112 §6.1, §6.3: one field line that says `chunked`; anything else has no agreed end.
fn codings(table: &mut Vec<Case>) {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let unknown = || error(501, "not_implemented");
    let either = || bad_request().or(501, "not_implemented");
    let rows: [(&str, Want); 26] = [
        ("identity", unknown()),
        ("gzip", unknown()),
        ("deflate", unknown()),
        ("compress", unknown()),
        ("br", unknown()),
        ("xchunked", unknown()),
        ("chunkedx", unknown()),
        ("chunke", unknown()),
        ("gzip, chunked", unknown()),
        ("identity, chunked", unknown()),
        // Here both rules match: `chunked` is not last, and another coding is named.
        ("chunked, identity", either()),
        ("chunked, gzip", either()),
        ("chunked, chunked", either()),
        ("chunked,", either()),
        (",chunked", either()),
        (", chunked", either()),
        ("chunked;q=1", either()),
        ("chunked ;a=b", either()),
        ("\"chunked\"", either()),
        ("'chunked'", either()),
        ("chunked chunked", either()),
        ("chunked\u{a0}", either()),
        ("\u{85}chunked", either()),
        ("chunked:", either()),
        ("chunked/1", either()),
        ("", bad_request()),
    ];
    for (value, want) in rows {
        let request = post().field(format!("Transfer-Encoding: {value}")).raw(body);
        table.push(refused(&format!("Transfer-Encoding: {value}"), request, want));
    }
    let rows: [(&str, &[u8], Want); 15] = [
        ("coding after VT", b"Transfer-Encoding: \x0bchunked", bad_request()),
        ("coding after FF", b"Transfer-Encoding: \x0cchunked", bad_request()),
        ("coding before VT", b"Transfer-Encoding: chunked\x0b", bad_request()),
        ("coding before NUL", b"Transfer-Encoding: chunked\0", bad_request()),
        ("coding before CR", b"Transfer-Encoding: chunked\r", bad_request()),
        ("coding between 0xff", b"Transfer-Encoding: \xffchunked\xff", either()),
        ("coding after 0xa0", b"Transfer-Encoding: \xa0chunked", either()),
        ("SP before the colon of a coding", b"Transfer-Encoding : chunked", bad_request()),
        ("HTAB before the colon of a coding", b"Transfer-Encoding\t: chunked", bad_request()),
        ("a folded coding", b"Transfer-Encoding:\r\n chunked", bad_request()),
        ("a folded coding with a comma", b"Transfer-Encoding: chunked,\r\n identity", bad_request()),
        ("two codings, equal", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", bad_request()),
        ("two codings", b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity", either()),
        ("two codings, chunked last", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", either()),
        ("two codings, the first empty", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", bad_request()),
    ];
    for (name, line, want) in rows {
        table.push(refused(name, post().field(line).raw(body), want));
    }
    let ten = post().ten().chunked(body);
    table.push(refused("chunked in HTTP/1.0", ten, bad_request()));
    let ten = post().ten().field("Connection: keep-alive").chunked(body);
    table.push(refused("chunked in HTTP/1.0 that persists", ten, bad_request()));
}

/// RFC 9112 §6.1: both fields at once are an attempt at smuggling, never a client's habit.
fn both(table: &mut Vec<Case>) {
    let two = |a: &str, b: &str| post().field(a).field(b);
    let length = |n: usize| format!("Content-Length: {n}");
    let chunked = "Transfer-Encoding: chunked";
    let rows: [(&str, Req); 9] = [
        ("CL then TE, CL.TE", two(&length(6), chunked).raw("0\r\n\r\nG")),
        ("TE then CL, TE.CL", two(chunked, &length(4)).raw("5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n")),
        ("CL of the very chunks", two(&length(15), chunked).raw("5\r\nhello\r\n0\r\n\r\n")),
        ("CL 0 and TE", two(&length(0), chunked).raw("0\r\n\r\n")),
        ("CL and TE, closing", two(&length(5), chunked).field("Connection: close").raw("0\r\n\r\n")),
        ("CL and TE in HTTP/1.0", two(&length(5), chunked).ten().raw("0\r\n\r\n")),
        ("a bad CL and TE", two("Content-Length: +5", chunked).raw("0\r\n\r\n")),
        ("TE, CL far apart", two(chunked, "X: y").field(length(5)).raw("0\r\n\r\n")),
        ("a request within CL.TE", two(&length(5 + NEXT.len()), chunked).raw("0\r\n\r\n").raw(NEXT)),
    ];
    table.extend(rows.map(|(name, request)| refused(name, request, bad_request())));
    for coding in ["identity", "xchunked", ",chunked", "chunked, identity"] {
        let request = two(&length(5), &format!("Transfer-Encoding: {coding}")).raw("0\r\n\r\n");
        // Which of the two errors is named is open.
        let want = bad_request().or(501, "not_implemented");
        table.push(refused(&format!("CL and TE: {coding}"), request, want));
    }
}

/// RFC 9110 §9.3.1, §9.3.2: content in a request that has no use for it is refused.
fn bodies_not_wanted(table: &mut Vec<Case>) {
    for line in [
        "GET /health", "GET /", "GET /channels/framing", "GET /poll?channel=framing",
        "GET /events?channel=framing", "HEAD /health", "HEAD /channels/framing", "DELETE /channels/framing",
        "OPTIONS /health", "OPTIONS /channels/framing", "OPTIONS *",
    ] {
        let head = line.starts_with("HEAD");
        let want = || if head { bad_request().head() } else { bad_request() };
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
        ("DELETE with a length of 0", "DELETE /channels/framing-none", status(204)),
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

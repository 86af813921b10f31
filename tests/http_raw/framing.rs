//! Where a body ends: Content-Length and Transfer-Encoding that no two servers read alike. Each is
//! followed by bytes that look like a request and must never be answered as one.

use super::case::{Case, Want, bad_request, error};
use super::heads::{NEXT, refused};
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    lengths(&mut table);
    codings(&mut table);
    coding_lines(&mut table);
    both(&mut table);
    table
}

fn post() -> Req {
    Req::new("POST /channels/framing")
}

/// RFC 9110 §8.6: `1*DIGIT`. Signs, lists and overflows are what front ends read differently.
fn lengths(table: &mut Vec<Case>) {
    for value in [
        "+5",
        "-5",
        "-0",
        "+0",
        "-48",
        "0x5",
        "0X5",
        "0o5",
        "5_0",
        "+1_0",
        "5 5",
        "5,5",
        "5, 5",
        "5, 5, 5",
        "5, 6",
        "5,",
        ",5",
        "5.0",
        "5e0",
        "5;a=b",
        "5a",
        "1Z",
        "a",
        "\"5\"",
        "\u{665}",
        "",
        ",",
        "00000000000000000005",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999",
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
    let apart =
        post().field("Content-Length: 0").field("X: y").field("content-length: 5").raw("hello");
    table.push(refused("two lengths in other letters, apart", apart, bad_request()));
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
}

/// The same rule, where the bytes of the line are wrong or there are two lines.
fn coding_lines(table: &mut Vec<Case>) {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let either = || bad_request().or(501, "not_implemented");
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
        (
            "a folded coding with a comma",
            b"Transfer-Encoding: chunked,\r\n identity",
            bad_request(),
        ),
        (
            "two codings, equal",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            bad_request(),
        ),
        ("two codings", b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity", either()),
        (
            "two codings, chunked last",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            either(),
        ),
        (
            "two codings, the first empty",
            b"Transfer-Encoding:\r\nTransfer-Encoding: chunked",
            bad_request(),
        ),
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
        (
            "TE then CL, TE.CL",
            two(chunked, &length(4)).raw("5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n"),
        ),
        ("CL of the very chunks", two(&length(15), chunked).raw("5\r\nhello\r\n0\r\n\r\n")),
        ("CL 0 and TE", two(&length(0), chunked).raw("0\r\n\r\n")),
        (
            "CL and TE, closing",
            two(&length(5), chunked).field("Connection: close").raw("0\r\n\r\n"),
        ),
        ("CL and TE in HTTP/1.0", two(&length(5), chunked).ten().raw("0\r\n\r\n")),
        ("a bad CL and TE", two("Content-Length: +5", chunked).raw("0\r\n\r\n")),
        ("TE, CL far apart", two(chunked, "X: y").field(length(5)).raw("0\r\n\r\n")),
        (
            "a request within CL.TE",
            two(&length(5 + NEXT.len()), chunked).raw("0\r\n\r\n").raw(NEXT),
        ),
    ];
    table.extend(rows.map(|(name, request)| refused(name, request, bad_request())));
    for coding in ["identity", "xchunked", ",chunked", "chunked, identity"] {
        let request = two(&length(5), &format!("Transfer-Encoding: {coding}")).raw("0\r\n\r\n");
        // Which of the two errors is named is open.
        let want = bad_request().or(501, "not_implemented");
        table.push(refused(&format!("CL and TE: {coding}"), request, want));
    }
}

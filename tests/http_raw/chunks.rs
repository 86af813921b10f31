//! The chunk decoder: what it takes must be decoded exactly, what it refuses must end there.

use super::case::{After, Case, Want, bad_request, error, status};
use super::heads::{NEXT, refused};
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    decoded(&mut table);
    sizes(&mut table);
    line_ends(&mut table);
    extensions(&mut table);
    trailers(&mut table);
    trailers_discarded(&mut table);
    table
}

fn post(chunks: impl AsRef<[u8]>) -> Req {
    Req::new("POST /channels/chunks").chunked(chunks)
}

/// Publishes chunks and reads the decoded message back on the same connection.
fn read_back(name: &str, channel: &str, chunks: impl AsRef<[u8]>, message: &str) -> Case {
    let publish = Req::new(&format!("POST /channels/{channel}")).chunked(chunks);
    let fetch = Req::new(&format!("GET /channels/{channel}?since=earliest"));
    Case::new(name, publish)
        .and(fetch)
        // The row runs several ways at a time: another's fetch may be held at that moment.
        .want(status(202).or(201, ""))
        .want(status(200).body(message).has("content-type", "text/plain").lacks("event"))
        .kept()
}

fn decoded(table: &mut Vec<Case>) {
    let rows: [(&str, &str, &str); 16] = [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("five chunks", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n", "hello"),
        ("no chunks", "0\r\n\r\n", ""),
        ("upper-case hex", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("lower-case hex", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("leading zeros", "0005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("sixteen digits", "0000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
        ("a last chunk of many zeros", "5\r\nhello\r\n0000\r\n\r\n", "hello"),
        ("data that looks like a last chunk", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        ("data of CRLFs", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n", "hello"),
        ("an extension without a value", "5;a\r\nhello\r\n0\r\n\r\n", "hello"),
        ("a quoted extension", "5;a=\"q; \t=x\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("two extensions", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "hello"),
        ("an extension of the last chunk", "5\r\nhello\r\n0;a=b\r\n\r\n", "hello"),
        (
            "a chunk that is a request",
            "29\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n",
            NEXT,
        ),
    ];
    for (i, (name, chunks, message)) in rows.into_iter().enumerate() {
        table.push(read_back(name, &format!("chunks-ok-{i}"), chunks, message));
    }
    let thousand = format!("{}0\r\n\r\n", "1\r\na\r\n".repeat(1000));
    table.push(read_back("a thousand chunks", "chunks-1000", thousand, &"a".repeat(1000)));
    let late = Case::new("the last chunk comes later", post("5\r\nhello\r\n"));
    let late = late.then("0\r\n").then("\r\n").then(NEXT);
    table.push(late.want(status(202)).want(status(200)).kept());
}

/// RFC 9112 §7.1: `1*HEXDIG`, and nothing that a number parser of some language also takes.
fn sizes(table: &mut Vec<Case>) {
    for size in [
        "",
        " ",
        "0x5",
        "0X5",
        "+5",
        "-5",
        "-0",
        "+0",
        "_5",
        "5_0",
        "5_",
        "0_5",
        "g",
        "5g",
        "5 0",
        " 5",
        "\t5",
        "5 ",
        "5\t",
        "\u{b}5",
        "5\u{b}",
        "5,",
        "5.",
        "5h;a",
        "$5",
        "0x",
        "\"5\"",
        "\u{665}",
        "five",
        "00000000000000005",
        "10000000000000005",
        "5these-bytes",
        "5=a",
        "5:a",
        "5/",
    ] {
        let chunks = format!("{size}\r\nhello\r\n0\r\n\r\n");
        table.push(refused(&format!("chunk size {size:?}"), post(chunks), bad_request()));
    }
    // The size of a later chunk, and one where the last chunk should be.
    for (name, chunks) in [
        ("an empty second size", "5\r\nhello\r\n\r\n\r\n"),
        ("an empty size for the last chunk", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("an extra CRLF between chunks", "5\r\nhello\r\n\r\n5\r\nworld\r\n0\r\n\r\n"),
        ("a signed last chunk", "5\r\nhello\r\n-0\r\n\r\n"),
        ("0x0 as the last chunk", "5\r\nhello\r\n0x0\r\n\r\n"),
        ("a space before the last chunk", "5\r\nhello\r\n 0\r\n\r\n"),
        ("a last chunk of 17 zeros", "5\r\nhello\r\n00000000000000000\r\n\r\n"),
        ("chunks that are none", "INVALID!!!\r\n"),
        ("a body without chunks", "hello world\r\n\r\n"),
        ("a request as the first chunk", "GET / HTTP/1.1\r\n\r\n"),
    ] {
        table.push(refused(name, post(chunks), bad_request()));
    }
}

/// RFC 9112 §7.1: every line and every chunk ends in CRLF; two skipped bytes are not checked.
fn line_ends(table: &mut Vec<Case>) {
    for (name, chunks) in [
        ("LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("CR CR after the size", "5\r\rhello\r\n0\r\n\r\n"),
        ("CR X after the size", "5\rXhello\r\n0\r\n\r\n"),
        ("LF CR after the size", "5\n\rhello\r\n0\r\n\r\n"),
        ("LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("LF alone after the data of many", "a\r\n0123456789\n0\r\n\r\n"),
        ("CR after the data", "5\r\nhello\r0\r\n\r\n"),
        ("CR X after the data", "5\r\nhello\rX0\r\n\r\n"),
        ("two other bytes after the data", "5\r\nhelloXX0\r\n\r\n"),
        ("X LF after the data", "5\r\nhelloX\n0\r\n\r\n"),
        ("LF LF after the data", "5\r\nhello\n\n0\r\n\r\n"),
        ("NUL LF after the data", "5\r\nhello\0\n0\r\n\r\n"),
        ("X LF after the second data", "1\r\na\r\n5\r\nhelloX\n0\r\n\r\n"),
        ("X LF after the size", "5X\nhello\r\n0\r\n\r\n"),
        ("X LF after the last size", "5\r\nhello\r\n0X\n\r\n"),
        ("X LF ends the body", "5\r\nhello\r\n0\r\nX\n"),
        ("nothing after the data", "5\r\nhello0\r\n\r\n"),
        ("LF CR after the data", "5\r\nhello\n\r0\r\n\r\n"),
        ("data one longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        ("data much longer than its size", "5\r\nhello world\r\n0\r\n\r\n"),
        ("data one shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("LF after the last chunk", "5\r\nhello\r\n0\n\r\n"),
        ("CR after the last chunk", "5\r\nhello\r\n0\r\r\n"),
        ("LF ends the body", "5\r\nhello\r\n0\r\n\n"),
        ("LF LF ends the body", "5\r\nhello\r\n0\n\n"),
        ("CR X ends the body", "5\r\nhello\r\n0\r\n\rX"),
        ("other bytes end the body", "5\r\nhello\r\n0\r\nXX"),
        ("a space ends the body", "5\r\nhello\r\n0\r\n \r\n"),
    ] {
        table.push(refused(name, post(chunks), bad_request()));
    }
    // A byte too many after a complete body belongs to the next request, and spoils that one.
    let extra = Case::new("a NUL after the body", post("5\r\nhello\r\n0\r\n\r\n\0")).and(NEXT);
    table.push(extra.want(status(202)).want(bad_request()).closed());
}

/// RFC 9112 §7.1.1: extensions are ignored, so they are bounded and hold no line end.
fn extensions(table: &mut Vec<Case>) {
    for (name, chunks) in [
        ("LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("LF ends an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("LF ends an empty extension", "5;\nhello\r\n0\r\n\r\n"),
        ("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("CR CR in an extension", "5;a=b\r\rhello\r\n0\r\n\r\n"),
        ("CR before an extension", "5\r;a\r\nhello\r\n0\r\n\r\n"),
        ("CR CR before an extension", "2\r\r;a\r\n02\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
        ("SOH in an extension", "5;a\x01\r\nhello\r\n0\r\n\r\n"),
        ("DEL in an extension", "5;a\x7f\r\nhello\r\n0\r\n\r\n"),
        ("obs-text in an extension", "5;a=é\r\nhello\r\n0\r\n\r\n"),
        ("LF in a quoted extension", "5;a=\"b\nc\"\r\nhello\r\n0\r\n\r\n"),
        ("LF in the last extension", "5\r\nhello\r\n0;a\n\r\n"),
    ] {
        table.push(refused(name, post(chunks), bad_request()));
    }
    // Open: whether what follows `;` must be a name, and the whitespace that RFC 9112 §7.1.1 lets
    // stand before it.
    for (name, chunks) in [
        ("an empty extension", "5;\r\nhello\r\n0\r\n\r\n"),
        ("a space before an extension", "5 ;a\r\nhello\r\n0\r\n\r\n"),
        ("HTAB before an extension", "5\t;a\r\nhello\r\n0\r\n\r\n"),
        ("a space within an extension", "5; a = b\r\nhello\r\n0\r\n\r\n"),
        ("an extension that is no token", "5;[=@]\r\nhello\r\n0\r\n\r\n"),
        ("an extension of equal signs", "5;==\r\nhello\r\n0\r\n\r\n"),
    ] {
        let want = status(202).or(400, "bad_request");
        table.push(Case::new(name, post(chunks)).want(want).either());
    }
    // Whether the semicolon counts is open, and which of the three errors it is.
    let too_long = || bad_request().or(413, "too_large").or(431, "headers_too_large");
    let one = |n: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(n));
    let fits = Case::new("an extension of 255", post(one(255)));
    table.push(fits.want(status(202)).kept());
    for n in [257, 1000, 5000, 70_000] {
        table.push(refused(&format!("an extension of {n}"), post(one(n)), too_long()));
    }
    let endless =
        Case::new("an extension that does not end", post(format!("5;{}", "a".repeat(5000))));
    table.push(endless.want(too_long()).closed());
    let many = |n: usize| {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(199));
        format!("{}0\r\n\r\n", chunk.repeat(n))
    };
    let fits = Case::new("extensions of 4000 in all", post(many(20)));
    table.push(fits.want(status(202)).kept());
    table.push(refused("extensions of 4400 in all", post(many(22)), too_long()));
    table.push(refused("extensions of 40000 in all", post(many(200)), too_long()));
}

/// RFC 9112 §7.1.2: trailers follow the rules of the head.
fn trailers(table: &mut Vec<Case>) {
    for (name, trailer) in [
        ("LF ends a trailer", "X: y\n"),
        ("LF in a trailer", "X: a\nb\r\n"),
        ("CR in a trailer", "X: a\rb\r\n"),
        ("CR CR LF ends a trailer", "X: a\r\r\n"),
        ("NUL in a trailer", "X: a\0\r\n"),
        ("a folded trailer", "X: a\r\n b\r\n"),
        ("SP before the first trailer", " X: a\r\n"),
        ("SP before the colon of a trailer", "X : a\r\n"),
        ("a trailer without name", ": a\r\n"),
        ("a trailer without colon", "X\r\n"),
        ("( in the name of a trailer", "X(: a\r\n"),
        ("a request as a trailer", "GET /health HTTP/1.1\r\n"),
        ("0x80 in the name of a trailer", "é: a\r\n"),
    ] {
        let chunks = format!("5\r\nhello\r\n0\r\n{trailer}\r\n");
        table.push(refused(name, post(chunks), bad_request()));
    }
    let too_long = || bad_request().or(413, "too_large").or(431, "headers_too_large");
    let sized = |n: usize| {
        let line = format!("X: {}\r\n", "a".repeat(995));
        format!("5\r\nhello\r\n0\r\n{}\r\n", line.repeat(n))
    };
    let fits = Case::new("trailers of 3000", post(sized(3)));
    table.push(fits.want(status(202)).kept());
    for n in [5, 20, 70] {
        table.push(refused(&format!("trailers of {n}000"), post(sized(n)), too_long()));
    }
    let endless = format!("0\r\nX: {}", "a".repeat(9000));
    table.push(Case::new("a trailer that does not end", post(endless)).want(too_long()).closed());
}

/// RFC 9110 §6.5.1: merged trailers would override what the head said. They are dropped; refusing
/// those that never may be trailers is as safe, so both readings pass.
fn trailers_discarded(table: &mut Vec<Case>) {
    let harmless = [("X", "y"), ("Event", "forged"), ("TTL", "0"), ("Idempotency-Key", "k")];
    for (i, (field, value)) in harmless.into_iter().enumerate() {
        let chunks = format!("5\r\nhello\r\n0\r\n{field}: {value}\r\n\r\n");
        let name = format!("a trailer {field} is dropped");
        table.push(read_back(&name, &format!("chunks-trailer-{i}"), chunks, "hello"));
    }
    for trailer in [
        "Content-Length: 100",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Host: evil.example",
        "Authorization: Bearer x",
        "Content-Type: application/json",
        "Connection: close",
        "Origin: http://evil.example",
        "Content-Encoding: gzip",
        "Expect: foo",
    ] {
        let chunks = format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n");
        let case = Case::new(format!("a trailer {trailer}"), post(chunks));
        table.push(case.want(status(202).or(400, "bad_request")).either());
    }
    // Two trailer lines of one singleton are no two fields of the head.
    let chunks = "5\r\nhello\r\n0\r\nX: a\r\nX: b\r\n\r\n";
    table
        .push(Case::new("two trailers", post(chunks)).and(NEXT).want(accepted()).want(status(200)));
    let half =
        Case::new("end instead of the next request", post("5\r\nhello\r\n0\r\n\r\n")).finish();
    table.push(half.want(accepted()).after(After::Ends));
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let pipelined =
        Case::new("three chunked bodies", post(chunks)).and(post(chunks)).and(post(chunks));
    table.push(pipelined.want(accepted()).want(accepted()).want(accepted()).kept());
    let wrong =
        Case::new("a chunked body, then a bad one", post(chunks)).and(post("x\r\n\r\n")).and(NEXT);
    table.push(wrong.want(accepted()).want(bad_request()).closed());
    let large = Case::new(
        "a large chunk, then a 404",
        post(format!("800\r\n{}\r\n0\r\n\r\n", "a".repeat(2048))),
    );
    let large = large.and(Req::new("GET /nope")).want(accepted()).want(error(404, "not_found"));
    table.push(large.kept());
}

fn accepted() -> Want {
    status(202)
}

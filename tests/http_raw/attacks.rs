//! Flaws that were published in other servers and clients, each as the bytes that used them.
//!
//! Rows are named by the advisory and the flaw. Most of the rules behind them have whole tables of
//! their own; here the known attempts stand side by side, with what they tried to smuggle behind them.

use super::case::{After, Case, Want, bad_request, error, status};
use super::heads::{NEXT, refused};
use super::http::Req;
use super::ws::{switching, upgrade};

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    codings(&mut table);
    lengths(&mut table);
    chunks(&mut table);
    undrained(&mut table);
    upgrades(&mut table);
    floods(&mut table);
    injections(&mut table);
    frames(&mut table);
    declared_counts(&mut table);
    positions(&mut table);
    table
}

fn post() -> Req {
    Req::new("POST /channels/attacks")
}

/// A request that must never be answered, because it is somebody's body.
fn smuggled() -> String {
    "GET /channels/attacks-smuggled?since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()
}

fn not_a_coding() -> Want {
    bad_request().or(501, "not_implemented")
}

fn codings(table: &mut Vec<Case>) {
    let last = "0\r\n\r\n";
    let rows: [(&str, &str); 9] = [
        ("CVE-2020-35884: not chunked but near", "Transfer-Encoding: xchunked"),
        ("CVE-2020-35884: a space before the colon", "Transfer-Encoding : chunked"),
        ("CVE-2020-35884: in quotes", "Transfer-Encoding: \"chunked\""),
        ("CVE-2020-35884: another coding behind it", "Transfer-Encoding: chunked, cow"),
        ("CVE-2021-21299: a list that ends otherwise", "Transfer-Encoding: chunked, identity"),
        (
            "CVE-2021-21299: two lines, the last otherwise",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ),
        (
            "CVE-2021-21299: two lines, the first otherwise",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        ),
        ("bun 40505: chunked twice in a list", "Transfer-Encoding: chunked, chunked"),
        ("bun 35295: an empty coding before it", "Transfer-Encoding: , chunked"),
    ];
    for (name, line) in rows {
        let request = post().field(line).raw(last).raw(smuggled());
        table.push(refused(name, request, not_a_coding()));
        let both = post().field("Content-Length: 5").field(line).raw(last).raw(smuggled());
        table.push(refused(&format!("{name}, and a length"), both, not_a_coding()));
    }
    // The gateway forwards by one of the two framings, the server reads by the other.
    for (name, first, second) in [
        ("CVE-2026-73257: length, then coding", "Content-Length: 4", "Transfer-Encoding: chunked"),
        ("GHSA-xrr9: coding, then length", "Transfer-Encoding: chunked", "Content-Length: 4"),
    ] {
        let request = post().field(first).field(second).raw(last).raw(smuggled());
        table.push(refused(name, request, bad_request()));
    }
    for id in ["CVE-2026-2835", "CVE-2026-73256"] {
        for line in ["Connection: close", "Connection: keep-alive"] {
            let request = post().ten().field(line).chunked(last).raw(smuggled());
            let name = format!("{id}: HTTP/1.0 with a coding, {line}");
            table.push(refused(&name, request, bad_request()));
        }
    }
    // CVE-2020-35863, CVE-2021-38512: no framing is no body, whatever the version.
    for (name, request, after) in [
        ("CVE-2020-35863: no framing, no body", post(), After::Kept),
        ("CVE-2021-38512: no framing in HTTP/1.0", post().ten(), After::Closed),
    ] {
        let case = Case::new(name, request).and(NEXT).want(status(202));
        let case = if after == After::Kept { case.want(status(200)) } else { case };
        table.push(case.after(after));
    }
    let get = Req::new("GET /health").chunked(last).raw(smuggled());
    table.push(refused("CVE-2020-35863: GET with a coding", get, bad_request()));
    let ten = Req::new("GET /health").ten().body(smuggled());
    table.push(refused("CVE-2021-38512: GET with a length in HTTP/1.0", ten, bad_request()));
}

fn lengths(table: &mut Vec<Case>) {
    for (name, line) in [
        ("CVE-2021-32715: a plus", "Content-Length: +5"),
        ("CVE-2021-32715: a plus and zeros", "Content-Length: +05"),
        ("uWebSockets 1497: a minus", "Content-Length: -5"),
        ("uWebSockets 1497: letters behind", "Content-Length: 5abc"),
        ("uWebSockets 1497: another base", "Content-Length: 0x5"),
        ("uWebSockets 601a100: two that differ", "Content-Length: 5\r\nContent-Length: 500"),
        ("uWebSockets 601a100: a list that differs", "Content-Length: 5, 500"),
        ("past 64 bits, to 5", "Content-Length: 18446744073709551621"),
    ] {
        let request = post().field(line).raw("hello").raw(smuggled());
        table.push(refused(name, request, bad_request()));
    }
}

fn chunks(table: &mut Vec<Case>) {
    for (name, chunks) in [
        ("CVE-2021-32714: a size past 64 bits", "f0000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("CVE-2021-32714: to 3 in 64 bits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("Mongoose 2552: an empty size", "5\r\nhello\r\n\r\n"),
        ("actix 4239: an empty size first", "\r\n"),
        ("actix 4239: an extension without a size", ";a\r\nhello\r\n0\r\n\r\n"),
        ("bun 29732: any two bytes behind the data", "5\r\nhelloXY0\r\n\r\n"),
        ("bun 29732: any two bytes behind the last", "5\r\nhello\r\n0\r\nXY"),
        ("fasthttp 1899: LF ends the size", "5\nhello\r\n0\r\n\r\n"),
        ("CVE-2025-43859: LF and a byte behind the data", "5\r\nhello\nX0\r\n\r\n"),
        ("LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with an underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ] {
        table.push(refused(name, post().chunked(chunks).raw(smuggled()), bad_request()));
    }
}

/// A body that nobody read becomes the next request of a server that is too quick to go on.
fn undrained(table: &mut Vec<Case>) {
    let rows: [(&str, Req, Want); 7] = [
        ("CVE-2020-26281: no such route", Req::new("POST /nope"), error(404, "not_found")),
        ("CVE-2020-36202: a bad name", Req::new("POST /channels/_x"), error(400, "bad_channel")),
        ("CVE-2020-26281: a method refused", Req::new("PUT /health"), error(405, "method")),
        (
            "CVE-2020-26281: an origin refused",
            post().field("Origin: http://evil.example"),
            error(403, "origin"),
        ),
        (
            "CVE-2020-26281: a coding refused",
            post().field("Content-Encoding: gzip"),
            error(415, "media_type"),
        ),
        ("CVE-2025-4366: a GET", Req::new("GET /health"), bad_request()),
        ("CVE-2025-4366: a HEAD", Req::new("HEAD /health"), bad_request().head()),
    ];
    for (name, request, want) in rows {
        let case = Case::new(name, request.body(smuggled())).and(NEXT);
        table.push(case.want(want).closed());
    }
    let forwarded = post().field("X-Forwarded-For: 192.0.2.1").body("hello");
    let case =
        Case::new("CVE-2020-26281: a forged address", forwarded).and("GET /stats HTTP/1.1\r\n");
    let case = case.and("Host: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
    table.push(case.want(status(202)).want(status(200)).kept());
}

/// What follows an upgrade that was not granted is HTTP, and what follows one that was is not.
fn upgrades(table: &mut Vec<Case>) {
    let premature =
        Req::new("GET /health").field("Connection: Upgrade").field("Upgrade: websocket");
    let case = Case::new("CVE-2026-2833: bytes behind a premature upgrade", premature).and(NEXT);
    table.push(case.want(status(200)).want(status(200)).kept());
    let with_body = upgrade("/channels/attacks").body(smuggled());
    table.push(refused("CVE-2026-2833: a body of an upgrade", with_body, bad_request()));
    let h2c = Req::new("GET /health").field("Connection: Upgrade, HTTP2-Settings");
    let h2c = h2c.field("Upgrade: h2c").field("HTTP2-Settings: AAMAAABkAAQAAP__");
    let case = Case::new("an upgrade to h2c", h2c).and(NEXT);
    table.push(case.want(status(200).lacks("upgrade")).want(status(200)).kept());
    // NN-2025-0102, CVE-2025-11677: refused in each of the ways there are, then used again.
    let refusals: [(&str, Req, Want); 5] = [
        ("an origin", upgrade("/ws").field("Origin: http://evil.example"), error(403, "origin")),
        ("a host", upgrade("/ws").host("evil.example"), error(421, "host")),
        ("a name", upgrade("/channels/_x"), error(400, "bad_channel")),
        ("a query", upgrade("/ws?heartbeat=x"), error(400, "bad_query")),
        ("a position", upgrade("/ws?channel=a&since=x"), error(400, "bad_since")),
    ];
    for (name, request, want) in refusals {
        let name = format!("CVE-2025-11677: an upgrade refused for {name}");
        let case = Case::new(&name, request.clone()).and(request).and(NEXT).and(upgrade("/ws"));
        let case = case.want(want.clone()).want(want).want(status(200));
        table.push(case.want(switching()).after(After::Open));
    }
}

/// What costs more than it weighs.
fn floods(table: &mut Vec<Case>) {
    let many = (0..2000).fold(upgrade("/ws"), |request, i| request.field(format!("X{i}: y")));
    let want = || error(431, "headers_too_large");
    table.push(refused("CVE-2024-37890: an upgrade with 2000 fields", many, want()));
    let fields = (0..58).fold(upgrade("/ws"), |request, i| request.field(format!("X{i}: y")));
    let case = Case::new("an upgrade with 63 fields", fields).want(switching());
    table.push(case.after(After::Open));
    let protocol = |value: String| upgrade("/ws").field(format!("Sec-WebSocket-Protocol: {value}"));
    let spaces = protocol(format!("a{}b", " ".repeat(7000)));
    let case = Case::new("CVE-2021-32640: a protocol of spaces", spaces);
    table.push(case.want(bad_request()).either());
    let commas = protocol(",".repeat(7000));
    let case = Case::new("CVE-2021-32640: a protocol of commas", commas);
    table.push(case.want(bad_request()).either());
    let extension =
        |value: String| upgrade("/ws").field(format!("Sec-WebSocket-Extensions: {value}"));
    for (name, value) in [
        ("ws 2017: an extension named as a property", "constructor".to_owned()),
        ("ws 2017: a parameter named as a property", "x; __proto__=1; hasOwnProperty".to_owned()),
        ("CVE-2026-2229: a window of 64 bits", window("64")),
        ("CVE-2026-2229: a window of nothing", window("")),
        ("CVE-2026-2229: a window of a word", window("x")),
        ("zlib 171: a window of 8", window("8")),
        ("nchan: a window that is not finished", "permessage-deflate; client_max_w".to_owned()),
        ("nchan: an extension of semicolons", ";".repeat(900)),
        ("an extension that does not end its quotes", "x; a=\"b".to_owned()),
    ] {
        // Extensions are off: an offer is declined, or refused if it is no list at all.
        let case = Case::new(name, extension(value)).want(switching().or(400, "bad_request"));
        table.push(case.after(After::Open));
    }
    // CVE-2023-43669: a head that comes byte by byte is read once; over the limit it is refused.
    let large = |n: usize| Req::new("GET /health").field(format!("X: {}", "a".repeat(n)));
    let case = Case::new("CVE-2023-43669: a head of 8000", large(7900)).want(status(200));
    table.push(case.kept());
    table.push(refused("CVE-2023-43669: a head of 20000", large(20_000), want()));
}

fn window(bits: &str) -> String {
    format!("permessage-deflate; client_max_window_bits={bits}; server_max_window_bits={bits}")
}

/// CVE-2024-23644: what a client names must not become a field of an answer.
fn injections(table: &mut Vec<Case>) {
    let split = "%0d%0aX-Injected:%20y%0d%0a%0d%0a<script>";
    for (name, target, code) in [
        ("a name", format!("/channels/a{split}"), "bad_channel"),
        ("a channel of a query", format!("/poll?channel=a{split}"), "bad_channel"),
        ("a position", format!("/poll?channel=a&since=abcdef-1{split}"), "bad_since"),
        ("a wait", format!("/poll?channel=a&wait=1{split}"), "bad_query"),
    ] {
        let request = Req::new(&format!("GET {}", target.replace(['<', '>'], "")));
        let case = Case::new(format!("CVE-2024-23644: {name}"), request);
        table.push(case.want(error(400, code).lacks("x-injected")).kept());
    }
    // What was published comes back in fields: its event and its type.
    for (i, line) in ["Content-Type: text/x; a=\"b, c\"; X-Injected: y", "Event: X-Injected:y"]
        .into_iter()
        .enumerate()
    {
        let channel = format!("/channels/attacks-field-{i}");
        let publish = Req::new(&format!("POST {channel}")).field(line).body("hello");
        let fetch = Req::new(&format!("GET {channel}?since=earliest&wait=0"));
        let case = Case::new(format!("CVE-2024-23644: {line}"), publish).and(fetch);
        let want = status(200).body("hello").lacks("x-injected");
        // 201: the poll of another cut of the same row still listens.
        table.push(case.want(status(202).or(201, "")).want(want).kept());
    }
    let origin = Req::new("OPTIONS /publish").field("Origin: http://localhost:1\tX-Injected: y");
    let origin = origin.field("Access-Control-Request-Method: POST");
    let case = Case::new("CVE-2024-23644: an origin", origin);
    let want = status(204).or(400, "bad_request").lacks("access-control-allow-origin");
    table.push(case.want(want).either());
}

/// A client's frame: its first byte, the bytes of its length with the mask bit, key and payload.
fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    [&[first], length, &key].concat().into_iter().chain(masked).collect()
}

/// Sent directly behind the handshake, before anybody has shown a right to anything.
fn frames(table: &mut Vec<Case>) {
    let large = |length: u64| frame(0x82, &[&[0xff][..], &length.to_be_bytes()].concat(), b"");
    let text = |first: u8, payload: &[u8]| frame(first, &[0x80 | payload.len() as u8], payload);
    let fragments = |n: usize| {
        let mut frames = text(0x01, b"");
        frames.extend(text(0x00, b"").repeat(n));
        frames
    };
    let rows: [(&str, Vec<u8>, u16); 14] = [
        ("CVE-2026-27889: the largest length", large(u64::MAX), 1002),
        ("CVE-2026-27889: the sign bit", large(1 << 63), 1002),
        ("CVE-2020-27813: the largest positive length", large(i64::MAX as u64), 1009),
        ("CVE-2022-35922: a length of a terabyte", large(1 << 40), 1009),
        ("CVE-2026-54466: a length past a double", large((1 << 53) + 1), 1009),
        ("CVE-2026-1528: a length past 32 bits", large((1 << 32) + 5), 1009),
        ("CVE-2018-1000518: compressed, not agreed", text(0xc1, b"x"), 1002),
        ("CVE-2026-48779: many empty fragments", fragments(1000), 1008),
        ("CVE-2025-51495: a beginning in a message", text(0x01, b"a").repeat(2), 1002),
        ("CVE-2025-51495: a stray continuation", text(0x00, b"a"), 1002),
        ("CVE-2026-45736: a close of one byte", text(0x88, b"\x03"), 1002),
        ("CVE-2026-45736: a close of 126 bytes", frame(0x88, &[0xfe, 0, 126], &[0; 126]), 1002),
        ("an unmasked frame", vec![0x81, 2, b'h', b'i'], 1002),
        ("a close that is answered", text(0x88, b"\x03\xe8"), 1000),
    ];
    for (name, frames, code) in rows {
        for target in ["/ws", "/channels/attacks-ws"] {
            let case =
                Case::new(format!("{name}, on {target}"), upgrade(target)).and(frames.clone());
            table.push(case.want(switching()).after(After::WsClosed(code)));
        }
    }
}

/// Nothing is made by a number that a peer declares, and no body crashes a route that takes none.
fn declared_counts(table: &mut Vec<Case>) {
    for (name, body) in [
        ("CVE-2020-36049: many attachments", "51-99999999999999999999[]"),
        ("CVE-2026-33151: attachments that never come", "5100-[\"a\"]"),
        ("CVE-2026-69185: a reconstructed placeholder", "[{\"_placeholder\":true,\"num\":-1}]"),
        ("CVE-2022-41940: a payload of a polling client", "1:40\u{1e}2:41"),
        ("CVE-2026-59725: an empty packet", "\u{1e}\u{1e}\u{1e}"),
    ] {
        let poll = Req::new("POST /poll?channel=attacks").body(body);
        table.push(Case::new(name, poll).want(error(405, "method")).closed());
        let publish = Req::new("POST /publish").body(body);
        table.push(Case::new(format!("{name}, to /publish"), publish).want(status(200)).kept());
        let message = post().body(body);
        table.push(Case::new(format!("{name}, as a message"), message).want(status(202)).kept());
    }
}

/// nchan was crashed three times by ids that it had not made, and by polls whose client had gone.
fn positions(table: &mut Vec<Case>) {
    for id in
        ["1:2", "-1:-1", "0:0,[0],0", "1700000000:[1,2,3", "99999999999999999999:9", "::", "-"]
    {
        let poll = |field: &str| Req::new("GET /poll?channel=attacks-none&wait=0").field(field);
        let lost = status(200).says("\"reason\":\"epoch\"").says("\"since\":\"\"");
        let request = poll(&format!("Last-Event-ID: {id}"));
        table.push(Case::new(format!("nchan: the id {id}"), request).want(lost).kept());
        let validators = poll(&format!("If-None-Match: {id}")).field(format!("ETag: {id}"));
        let case = Case::new(format!("nchan: the validator {id}"), validators);
        table.push(case.want(status(200).says("\"gap\":null")).kept());
    }
    let gone = Req::new("GET /poll?channel=attacks-gone&since=latest&wait=55");
    table.push(Case::new("nchan: a poll whose client goes", gone).finish().after(After::Ends));
}

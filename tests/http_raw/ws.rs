//! The WebSocket handshake as HTTP (RFC 6455 §4.2): what is switched, what is refused and how the
//! connection goes on then. Frames are judged elsewhere.

use super::case::{After, Case, Want, bad_request, error, status};
use super::heads::{NEXT, refused};
use super::http::Req;

/// The key of RFC 6455 §1.3 and what must come of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    switched(&mut table);
    versions(&mut table);
    keys(&mut table);
    no_upgrades(&mut table);
    bodies(&mut table);
    afterwards(&mut table);
    table
}

/// A handshake without version and key.
fn bare(target: &str) -> Req {
    Req::new(&format!("GET {target}")).field("Connection: Upgrade").field("Upgrade: websocket")
}

/// A handshake of a version that was never an RFC; complete otherwise.
fn old(target: &str) -> Req {
    bare(target).field("Sec-WebSocket-Version: 8").field(format!("Sec-WebSocket-Key: {KEY}"))
}

pub fn upgrade(target: &str) -> Req {
    bare(target).field("Sec-WebSocket-Version: 13").field(format!("Sec-WebSocket-Key: {KEY}"))
}

fn with(connection: &str, upgrade: &str) -> Req {
    Req::new("GET /ws")
        .field(format!("Connection: {connection}"))
        .field(format!("Upgrade: {upgrade}"))
        .field("Sec-WebSocket-Version: 13")
        .field(format!("Sec-WebSocket-Key: {KEY}"))
}

pub fn switching() -> Want {
    status(101)
        .open()
        .has("sec-websocket-accept", ACCEPT)
        .has("upgrade", "websocket")
        .has("connection", "upgrade")
        .lacks("sec-websocket-extensions")
}

fn required() -> Want {
    error(426, "upgrade").has("upgrade", "websocket").has("sec-websocket-version", "13")
}

pub fn ok(name: &str, request: Req, want: Want) -> Case {
    Case::new(name, request).want(want).after(After::Open)
}

fn switched(table: &mut Vec<Case>) {
    let none = || switching().lacks("sec-websocket-protocol");
    let rows: [(&str, Req); 15] = [
        ("a handshake", upgrade("/ws")),
        ("a raw handshake", upgrade("/channels/ws")),
        ("a handshake with channels", upgrade("/ws?channel=ws&channel=ws-2&since=latest")),
        ("a raw handshake since", upgrade("/channels/ws?since=latest")),
        ("websocket in capitals", with("Upgrade", "WebSocket")),
        ("upgrade in capitals", with("UPGRADE", "websocket")),
        ("Connection as Firefox has it", with("keep-alive, Upgrade", "websocket")),
        ("Connection over two lines", with("keep-alive", "websocket").field("Connection: Upgrade")),
        ("Connection, tight", with("keep-alive,upgrade", "websocket")),
        ("Upgrade is a list", with("Upgrade", "h2c, websocket")),
        ("a length of 0", upgrade("/ws").field("Content-Length: 0")),
        (
            "an extension that is off",
            upgrade("/ws").field("Sec-WebSocket-Extensions: permessage-deflate"),
        ),
        ("an unknown extension", upgrade("/ws").field("Sec-WebSocket-Extensions: x; a=1, y")),
        ("absolute-form", upgrade("http://localhost/ws")),
        (
            "another key",
            bare("/ws")
                .field("Sec-WebSocket-Version: 13")
                .field("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        ),
    ];
    for (name, request) in rows {
        let want = match name {
            "another key" => {
                status(101).open().has("sec-websocket-accept", "ICX+Yqv66kxgM0FcWaLWlFLwTAI=")
            }
            _ => none(),
        };
        table.push(ok(name, request, want));
    }
    // Open: one value over two lines of Upgrade, a version of the protocol's name.
    let open = || switching().or(400, "bad_request").or(426, "upgrade");
    table.push(ok(
        "Upgrade over two lines",
        with("Upgrade", "h2c").field("Upgrade: websocket"),
        open(),
    ));
    table.push(ok("Upgrade with a version", with("Upgrade", "websocket/13"), open()));
}

fn versions(table: &mut Vec<Case>) {
    for version in
        ["8", "0", "7", "12", "14", "25", "255", "1", "013", "13.0", "+13", "x", "", "13x"]
    {
        let request = bare("/ws").field(format!("Sec-WebSocket-Version: {version}"));
        let request = request.field(format!("Sec-WebSocket-Key: {KEY}"));
        table.push(Case::new(format!("version {version:?}"), request).want(required()).kept());
    }
    let none = bare("/ws").field(format!("Sec-WebSocket-Key: {KEY}"));
    table.push(Case::new("no version", none.clone()).want(required()).kept());
    let list = none.clone().field("Sec-WebSocket-Version: 13, 8");
    table.push(
        Case::new("a list of versions", list).want(required().or(400, "bad_request")).either(),
    );
    let raw = old("/channels/ws");
    table.push(Case::new("version 8, raw", raw).want(required()).kept());
    for second in ["13", "8"] {
        let two = none
            .clone()
            .field("Sec-WebSocket-Version: 13")
            .field(format!("Sec-WebSocket-Version: {second}"));
        table.push(refused(&format!("versions 13 and {second} on two lines"), two, bad_request()));
    }
}

/// RFC 6455 §4.2.1: sixteen bytes in base64.
fn keys(table: &mut Vec<Case>) {
    let keyed = |key: &str| {
        bare("/ws").field("Sec-WebSocket-Version: 13").field(format!("Sec-WebSocket-Key: {key}"))
    };
    for key in [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAA====",
        "dGhlIHNhbXBsZSBub25j!Q==",
        "dGhlIHNhbXBsZSBub25j-_==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        "=GhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==AAAA",
        "dGhlIHNhbXBsZSBub25jZQ==,x",
    ] {
        // Whether a bad handshake counts as an error of the head, which closes, is open.
        let case = Case::new(format!("key {key:?}"), keyed(key));
        table.push(case.want(bad_request()).either());
    }
    let none = bare("/ws").field("Sec-WebSocket-Version: 13");
    table.push(Case::new("no key", none).want(bad_request()).either());
    let raw = bare("/channels/ws").field("Sec-WebSocket-Version: 13");
    table.push(Case::new("no key, raw", raw).want(bad_request()).either());
    // Bits that no byte uses: not canonical, yet sixteen bytes.
    table.push(ok(
        "a key that is not canonical",
        keyed("dGhlIHNhbXBsZSBub25jZR=="),
        status(101).open().or(400, ""),
    ));
    for second in [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="] {
        let two = upgrade("/ws").field(format!("Sec-WebSocket-Key: {second}"));
        table.push(refused(&format!("two keys, the second {second}"), two, bad_request()));
    }
}

/// RFC 9110 §7.8: what asks for another protocol, or does not ask, is a plain GET.
fn no_upgrades(table: &mut Vec<Case>) {
    let rows: [(&str, Req); 7] = [
        ("a plain GET", Req::new("GET /ws")),
        ("Upgrade to h2c", with("Upgrade", "h2c")),
        ("Upgrade to another name", with("Upgrade", "websocketx")),
        ("an empty Upgrade", with("Upgrade", "")),
        ("no Upgrade", Req::new("GET /ws").field("Connection: Upgrade")),
        ("keys without Upgrade", Req::new("GET /ws").field(format!("Sec-WebSocket-Key: {KEY}"))),
        ("a poll's query", Req::new("GET /ws?channel=a&since=latest&wait=5")),
    ];
    for (name, request) in rows {
        // What is sent after a refused upgrade is HTTP again.
        let case = Case::new(name, request).and(NEXT);
        table.push(case.want(required()).want(status(200)).kept());
    }
    // Open: Upgrade that Connection does not name is none, or a bad handshake.
    for connection in ["keep-alive", "", "upgrades", "x-upgrade", "close"] {
        let case = Case::new(format!("Connection: {connection}"), with(connection, "websocket"));
        table.push(case.want(required().or(400, "bad_request")).either());
    }
    let ten = upgrade("/ws").ten();
    table.push(Case::new("a handshake in HTTP/1.0", ten).want(required()).closed());
    let ten = upgrade("/channels/ws").ten();
    table.push(Case::new("a raw handshake in HTTP/1.0", ten).want(required()).closed());
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = Req::new(&format!("{method} /ws"))
            .field("Connection: Upgrade")
            .field("Upgrade: websocket")
            .field("Sec-WebSocket-Version: 13")
            .field(format!("Sec-WebSocket-Key: {KEY}"));
        let case = Case::new(format!("a handshake by {method}"), request);
        table.push(case.want(error(405, "method")).kept());
    }
    // A route that has no WebSocket ignores the wish, or says that it cannot.
    let health = Case::new("a handshake with /health", upgrade("/health"));
    table.push(health.want(status(200).or(426, "upgrade").or(400, "bad_request")).either());
    let nope = Case::new("a handshake with no route", upgrade("/nope"));
    table.push(nope.want(error(404, "not_found")).kept());
}

/// Bytes behind a premature upgrade are what smuggling through proxies is made of.
fn bodies(table: &mut Vec<Case>) {
    for target in ["/ws", "/channels/ws"] {
        let rows: [(&str, Req); 5] = [
            ("a length", upgrade(target).body("hello")),
            ("a request as its body", upgrade(target).body(NEXT)),
            ("chunks", upgrade(target).chunked("5\r\nhello\r\n0\r\n\r\n")),
            ("no chunks", upgrade(target).chunked("0\r\n\r\n")),
            ("a length and Expect", upgrade(target).field("Expect: 100-continue").body("hello")),
        ];
        for (name, request) in rows {
            let name = format!("a handshake with {target} and {name}");
            table.push(refused(&name, request, bad_request()));
        }
    }
    // Open: without a body there is nothing to expect.
    let expect = upgrade("/ws").field("Expect: 100-continue");
    let case = Case::new("a handshake with Expect alone", expect);
    let want = status(101).open().or(400, "bad_request").or(417, "expectation");
    table.push(case.want(want).after(After::Open));
}

/// A connection whose upgrade was refused is still HTTP; one that was switched never is again.
fn afterwards(table: &mut Vec<Case>) {
    let old = || old("/ws");
    let again = Case::new("refused, then switched", old()).and(upgrade("/ws"));
    table.push(again.want(required()).want(switching()).after(After::Open));
    let again = Case::new("refused five times, then switched", old())
        .and(old())
        .and(old())
        .and(old())
        .and(old());
    let again = again.and(upgrade("/channels/ws"));
    let again = (0..5).fold(again, |case, _| case.want(required()));
    table.push(again.want(switching()).after(After::Open));
    let again = Case::new("HTTP, then switched", NEXT).and(upgrade("/ws")).want(status(200));
    table.push(again.want(switching()).after(After::Open));
    for target in ["/ws", "/channels/ws-behind"] {
        // These bytes are frames now, and bad ones: not masked, or with reserved bits.
        let case =
            Case::new(format!("a request behind {target}"), upgrade(target)).and(NEXT).and(NEXT);
        table.push(case.want(switching()).after(After::Upgraded));
        let case = Case::new(format!("a late request behind {target}"), upgrade(target));
        let case = case.await_answer().then(NEXT);
        table.push(case.want(switching()).after(After::Upgraded));
    }
    let gone = Case::new("refused, then the end", old()).finish().want(required());
    table.push(gone.after(After::Ends));
    let gone = Case::new("switched, then the end", upgrade("/ws")).want(switching());
    table.push(gone.await_answer().finish().after(After::Upgraded));
}

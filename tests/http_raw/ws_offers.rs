//! What a WebSocket handshake offers and where it comes from: subprotocols, Origin, targets.

use super::case::{Case, bad_request, error, status};
use super::heads::{NEXT, refused};
use super::http::Req;
use super::ws::{ok, switching, upgrade};

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    protocols(&mut table);
    origins(&mut table);
    targets(&mut table);
    table
}

fn offering(target: &str, protocols: &str) -> Req {
    upgrade(target).field(format!("Sec-WebSocket-Protocol: {protocols}"))
}

fn protocols(table: &mut Vec<Case>) {
    let json = || switching().has("sec-websocket-protocol", "holdline.v1.json");
    let meta = || switching().has("sec-websocket-protocol", "holdline.v1.meta");
    for offer in [
        "holdline.v1.json",
        "foo, holdline.v1.json",
        "holdline.v1.json, foo",
        "foo,holdline.v1.json,bar",
        "holdline.v1.json, holdline.bearer.abc-_9.x",
        "a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, holdline.v1.json",
    ] {
        table.push(ok(&format!("/ws offered {offer}"), offering("/ws", offer), json()));
    }
    let lines = offering("/ws", "foo").field("Sec-WebSocket-Protocol: holdline.v1.json");
    table.push(ok("/ws offered on two lines", lines, json()));
    for offer in ["holdline.v1.meta", "foo, holdline.v1.meta"] {
        let request = offering("/channels/ws", offer);
        table.push(ok(&format!("/channels/ws offered {offer}"), request, meta()));
    }
    for (target, offer) in [
        ("/ws", "foo"),
        ("/ws", "foo, bar"),
        ("/ws", "holdline.v1.meta"),
        ("/ws", "holdline.v2.json"),
        ("/ws", "holdline.bearer.abc"),
        ("/ws", "holdline.v1.json, holdline.v1.json"),
        ("/ws", "foo, foo, holdline.v1.json"),
        ("/ws", "holdline.v1.jsonx"),
        ("/ws", "holdline.v1"),
        ("/ws", "holdline.v1.json;a=b"),
        ("/channels/ws", "foo"),
        ("/channels/ws", "holdline.v1.json"),
        ("/channels/ws", "holdline.v1.meta, holdline.v1.meta"),
    ] {
        let case = Case::new(format!("{target} refuses {offer}"), offering(target, offer));
        table.push(case.want(bad_request()).either());
    }
    let twice =
        offering("/ws", "holdline.v1.json").field("Sec-WebSocket-Protocol: holdline.v1.json");
    table.push(Case::new("/ws offered twice on two lines", twice).want(bad_request()).either());
    let many = (0..16).map(|i| format!("p{i}")).collect::<Vec<_>>().join(", ");
    let many = offering("/ws", &format!("{many}, holdline.v1.json"));
    table.push(Case::new("/ws offered seventeen", many).want(bad_request()).either());
    let long = offering("/ws", &format!("holdline.v1.json, {}", "x".repeat(1100)));
    table.push(Case::new("/ws offered more than 1 KiB", long).want(bad_request()).either());
    // Open: empty elements and letters of another case.
    for offer in [
        "",
        ",",
        "holdline.v1.json,",
        ",holdline.v1.json",
        "HOLDLINE.V1.JSON",
        "holdline.v1.json, a b",
    ] {
        let want = status(101).open().or(400, "");
        table.push(ok(&format!("/ws offered {offer:?}"), offering("/ws", offer), want));
    }
}

/// RFC 6455 §10.2: browsers send cookies across sites here, and no CORS stands between.
fn origins(table: &mut Vec<Case>) {
    for target in ["/ws", "/channels/ws"] {
        let from = |origin: &str| upgrade(target).field(format!("Origin: {origin}"));
        for origin in
            ["http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://{addr}"]
        {
            table.push(ok(&format!("{target} from {origin}"), from(origin), switching()));
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost.evil.example",
            "https://evil.example:443",
        ] {
            let case = Case::new(format!("{target} from {origin}"), from(origin)).and(NEXT);
            let want = error(403, "origin").says("--origin");
            table.push(case.want(want).want(status(200)).kept());
        }
        let two = from("http://localhost").field("Origin: http://localhost");
        table.push(refused(&format!("{target} from two origins"), two, bad_request()));
    }
    let evil = upgrade("/ws").host("evil.example").field("Origin: http://evil.example");
    table.push(Case::new("/ws by DNS rebinding", evil).want(error(421, "host")).kept());
}

fn targets(table: &mut Vec<Case>) {
    for (target, code) in [
        ("/channels/_x", "bad_channel"),
        ("/channels/a%2Fb", "bad_channel"),
        ("/channels/", "bad_channel"),
        ("/channels/ws?since=x", "bad_since"),
        ("/ws?channel=_x", "bad_channel"),
        ("/ws?channel=", "bad_query"),
        ("/ws?channel=ws&since=x", "bad_since"),
        ("/ws?channel=ws&x=%zz", "bad_query"),
        ("/ws?channel=ws&heartbeat=x", "bad_query"),
    ] {
        let case = Case::new(format!("a handshake with {target}"), upgrade(target)).and(NEXT);
        table.push(case.want(error(400, code)).want(status(200)).kept());
    }
    let many = (0..129).map(|i| format!("channel=c{i}")).collect::<Vec<_>>().join("&");
    let case = Case::new("a handshake with 129 channels", upgrade(&format!("/ws?{many}")));
    table.push(case.want(error(400, "bad_query")).kept());
}

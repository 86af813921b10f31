//! Positions in the order: which are read, which refused, and that none is echoed raw.

use super::case::{Case, bad, error, get, ok, status};
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    positions(&mut table);
    positions_refused(&mut table);
    injections(&mut table);
    table
}

fn positions(table: &mut Vec<Case>) {
    let none = "channel=names-none&wait=0";
    for since in [
        "earliest",
        "latest",
        "1s",
        "10m",
        "24h",
        "7d",
        "9999d",
        "0s",
        "0010m",
        "1764000000",
        "9999999999",
        "0000000000",
        "%6catest",
    ] {
        let want = status(200).says("\"gap\":null").says("\"messages\":[]");
        table.push(ok(&format!("/poll?{none}&since={since}"), want));
    }
    for since in ["k3J9xQ-42", "abcdef-0", "ABCDEF012345-18446744073709551615", "000000-1"] {
        let gap = status(200).says("\"reason\":\"epoch\"").says(&format!("\"since\":\"{since}\""));
        table.push(ok(&format!("/poll?{none}&since={since}"), gap));
    }
    for name in ["last_event_id", "lastEventId"] {
        table.push(ok(&format!("/poll?{none}&{name}=latest"), status(200).says("\"gap\":null")));
        table.push(bad(&format!("/poll?{none}&{name}=x"), "bad_since"));
    }
    // Where a value is given as header and as query, the header wins, and an empty one is none.
    for (header, since, want) in [
        ("abcdef-7", "latest", status(200).says("\"since\":\"abcdef-7\"")),
        ("", "latest", status(200).says("\"gap\":null")),
        ("", "x", error(400, "bad_since")),
    ] {
        let request =
            get(&format!("/poll?{none}&since={since}")).field(format!("Last-Event-ID: {header}"));
        let case = Case::new(format!("Last-Event-ID {header:?} before since={since}"), request);
        table.push(case.want(want).kept());
    }
}

/// The parser of positions is attack surface: total, without allocation by a given length.
fn positions_refused(table: &mut Vec<Case>) {
    let long = "9".repeat(300);
    let long_epoch = format!("{}-1", "a".repeat(300));
    for since in [
        "",
        "x",
        "latest%20",
        "%20latest",
        "now",
        "0",
        "42",
        "-",
        "-1",
        "--",
        "abcdef",
        "abcdef-",
        "-42",
        "abcde-1",
        "abcdefghijklm-1",
        "abcdef-01",
        "abcdef-00",
        "abcdef--1",
        "abcdef-+1",
        "abcdef-1%20",
        "abcdef-1x",
        "abcdef-0x1",
        "abcdef-1-1",
        "abcdef-1.0",
        "abc_ef-1",
        "abc.ef-1",
        "ab%20def-1",
        "caf%C3%A9xx-1",
        "abcdef-18446744073709551616",
        "abcdef-99999999999999999999",
        "abcdef-184467440737095516150",
        "abcdef-%D9%A1",
        "12345s",
        "s",
        "m",
        "10",
        "10x",
        "10ms",
        "-10m",
        "+10m",
        "1.5h",
        "10m%20",
        "10%20m",
        "123456789",
        "12345678901",
        "1764000000.5",
        "-764000000",
        "0x64000000",
        "%00",
        "abcdef-1%00",
        "%0d%0a",
        "1:2",
        "0,%5B0%5D,0",
        "$",
        "0-0",
        "*",
        &long,
        &long_epoch,
    ] {
        table.push(bad(&format!("/poll?channel=a&since={since}"), "bad_since"));
    }
    // Open: whether the words and units are compared with regard to case.
    for since in ["Latest", "EARLIEST", "10M"] {
        let want = error(400, "bad_since").or(200, "");
        table.push(ok(&format!("/poll?channel=names-none&wait=0&since={since}"), want));
    }
    for target in [
        "/events?channel=a&since=x",
        "/channels/a?since=x",
        "/channels/a?since=",
        "/events?channel=a&since=",
    ] {
        table.push(bad(target, "bad_since"));
    }
    let stream = get("/channels/a?since=x").field("Accept: text/event-stream");
    table.push(Case::new("raw stream since x", stream).want(error(400, "bad_since")).kept());
}

/// RFC 9110 §5.5: nothing that a client names reaches a field line undecoded and unchecked.
fn injections(table: &mut Vec<Case>) {
    for target in [
        "/poll?channel=a%0d%0aX-Injected:%20y",
        "/channels/a%0d%0aSet-Cookie:%20a=b?since=latest&wait=0",
    ] {
        table.push(bad(target, "bad_channel"));
    }
    table.push(bad("/poll?channel=a&since=%0d%0aX-Injected:%20y", "bad_since"));
    table.push(bad("/channels/a?since=%0d%0aX-Injected:%20y", "bad_since"));
    // A gap repeats what was asked for only if it has the form of a cursor.
    let request = get("/channels/names-none?wait=0").field("Last-Event-ID: x; X-Injected: y\t\"");
    let want = status(204).has("holdline-gap", "reason=epoch").lacks("x-injected");
    table.push(Case::new("an id that looks like a field", request).want(want).kept());
    let event = Req::new("POST /channels/names?event=a%0aX-Injected:%20y").body("");
    table.push(Case::new("an event with a line end", event).want(error(400, "bad_query")).kept());
    let media = Req::new("POST /channels/names").field(b"Content-Type: text/plain\x80x").body("");
    let want = error(400, "bad_request");
    table.push(Case::new("a media type beyond ASCII", media).want(want).either());
    let media = format!("Content-Type: a/{}", "b".repeat(254));
    let media = Req::new("POST /channels/names").field(media).body("");
    let want = error(400, "bad_request");
    table.push(Case::new("a media type of 256", media).want(want).either());
}

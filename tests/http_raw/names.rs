//! Channel names and the query: decoded once, bounded, never repaired.

use super::case::{Case, Want, bad, error, get, ok, status};
use super::http::Req;

pub fn table() -> Vec<Case> {
    let mut table = Vec::new();
    channels(&mut table);
    channels_refused(&mut table);
    queries(&mut table);
    queries_refused(&mut table);
    query_limits(&mut table);
    table
}

fn channels(table: &mut Vec<Case>) {
    let longest = "a".repeat(255);
    for name in
        ["a", "A", "0", "a.b_c~d:e-f", "a..b", "a.", "a~", "0-1", "sensors.kitchen.temp", &longest]
    {
        let want = status(200).says(&format!("\"channel\":\"{name}\""));
        table.push(ok(&format!("/channels/{name}"), want));
    }
    for (path, name) in [
        ("%61", "a"),
        ("a%2Eb", "a.b"),
        ("a%2eb", "a.b"),
        ("a%3Ab", "a:b"),
        ("%41%42", "AB"),
        ("a%7Eb", "a~b"),
    ] {
        let want = status(200).says(&format!("\"channel\":\"{name}\""));
        table.push(ok(&format!("/channels/{path}"), want));
    }
}

fn channels_refused(table: &mut Vec<Case>) {
    let too_long = "a".repeat(256);
    for name in [
        "", "_", "_x", ".a", "-a", "~a", ":a", "a+b", "a,b", "a*", "a!b", "a@b", "a$b", "a&b",
        "a=b", "a;b", "a'b", "(a)", &too_long,
    ] {
        table.push(bad(&format!("/channels/{name}"), "bad_channel"));
    }
    // Decoded once, after the path was split: an encoded slash is a bad name, no separator.
    for name in [
        "a%2Fb",
        "a%2fpresence",
        "%2F",
        "%2e%2e",
        "a%5Cb",
        "%2561",
        "%25",
        "a%252Fb",
        "a%20b",
        "caf%C3%A9",
        "caf%e9",
        "%C0%AF",
        "%F0%9F%98%80",
        "a%3Fb",
        "a%23b",
        "%EF%BB%BFa",
    ] {
        table.push(bad(&format!("/channels/{name}"), "bad_channel"));
    }
    for name in [
        "%00",
        "a%00",
        "a%00b",
        "a%0a",
        "a%0D%0A",
        "a%1b",
        "a%7f",
        "a%09b",
        "%0d%0aX-Injected:%20y",
    ] {
        table.push(bad(&format!("/channels/{name}"), "bad_channel"));
    }
    for name in ["%", "%6", "a%", "a%6", "%zz", "a%g1", "%%61", "%u0061", "%+61", "%6%31", "%-1"] {
        table.push(bad(&format!("/channels/{name}"), "bad_channel"));
    }
    for method in ["POST", "PUT", "DELETE"] {
        let case = Case::new(
            format!("{method} to a bad name"),
            Req::new(&format!("{method} /channels/_x")),
        );
        table.push(case.want(error(400, "bad_channel")).kept());
    }
    let head = Req::new("HEAD /channels/_x");
    table.push(Case::new("HEAD of a bad name", head).want(error(400, "bad_channel").head()).kept());
    for name in ["_x", "a%2Fb", "a+b", "a%20b", "%2561", "a,b", ".a"] {
        table.push(bad(&format!("/poll?channel={name}"), "bad_channel"));
        table.push(bad(&format!("/events?channel=a&channel={name}"), "bad_channel"));
    }
    // An empty name in a query is none, and an error of the query.
    for target in [
        "/poll?channel=",
        "/poll?channel",
        "/events?channel=&channel=a",
        "/events?channel=a&channel=",
        "/channels/a?since=latest&wait=0&channel=",
    ] {
        table.push(bad(target, "bad_query"));
    }
    table.push(bad("/poll?channel=a%00", "bad_channel"));
}

fn queries(table: &mut Vec<Case>) {
    for query in [
        "channel=a&channel=b",
        "channel=a&channel=a",
        "channel=%61",
        "ch%61nnel=a",
        "channel=a&x=y",
        "channel=a&x",
        "channel=a&x=",
        "channel=a&wait=0",
        "channel=a&wait=55",
        "channel=a&wait=007",
        "channel=a&wait=99999999999999999999999",
        "channel=a&gap=live",
        "channel=a&heartbeat=10",
        "channel=a&heartbeat=1",
        "channel=a&heartbeat=100000",
        "channel=a&v=1",
        "channel=a&x=%41%20+%2B",
        "x=y&channel=a",
        "channel=a&x=/?:@",
        "channel=a&token=x",
    ] {
        table.push(ok(&format!("/poll?{query}"), status(200)));
    }
    // Open: empty pairs, unknown names twice or not UTF-8, other values of `v`.
    for query in [
        "channel=a&",
        "&channel=a",
        "channel=a&&x=y",
        "channel=a&=y",
        "channel=a&x=1&x=2",
        "channel=a&x=%ff",
        "channel=a&v=2",
    ] {
        table.push(ok(&format!("/poll?{query}"), status(200).or(400, "bad_query")));
    }
}

fn queries_refused(table: &mut Vec<Case>) {
    for target in [
        "/poll",
        "/poll?",
        "/poll?x=y",
        "/poll?CHANNEL=a",
        "/poll?since=latest",
        "/events",
        "/events?",
        "/events?since=latest",
        "/events?Channel=a",
    ] {
        table.push(bad(target, "bad_query"));
    }
    for query in [
        "x=%",
        "x=%4",
        "x=%zz",
        "x=a%",
        "%zz=x",
        "x=%%41",
        "wait=%zz",
        "wait=",
        "wait",
        "wait=abc",
        "wait=-1",
        "wait=+1",
        "wait=1.5",
        "wait=1e1",
        "wait=0x1",
        "wait=1s",
        "wait=%201",
        "wait=1+",
        "wait=%D9%A5",
        "wait=1&wait=2",
        "wait=1&wait=1",
        "gap=x",
        "gap=",
        "gap=live&gap=live",
        "heartbeat=x",
        "heartbeat=",
        "heartbeat=-1",
        "heartbeat=10.5",
        "heartbeat=%00",
        "heartbeat=20&heartbeat=20",
        "since=latest&since=latest",
    ] {
        table.push(bad(&format!("/poll?channel=a&{query}"), "bad_query"));
    }
    table.push(bad("/events?channel=a&heartbeat=x", "bad_query"));
    table.push(bad("/channels/a?wait=x", "bad_query"));
    table.push(bad("/channels/a?since=latest&wait=", "bad_query"));
    // The separator is `&` alone.
    table.push(bad("/poll?channel=a;channel=b", "bad_channel"));
    // Open: whether a query that nobody needs is looked at.
    table.push(ok("/health?x=%zz", status(200).or(400, "bad_query")));
}

fn query_limits(table: &mut Vec<Case>) {
    let channels = |n: usize| (0..n).map(|i| format!("channel=c{i}")).collect::<Vec<_>>().join("&");
    let others = |n: usize| (0..n).map(|i| format!("x{i}=y")).collect::<Vec<_>>().join("&");
    let rows: [(&str, String, Want); 8] = [
        ("128 channels", channels(128), status(200)),
        ("129 channels", channels(129), error(400, "bad_query")),
        ("500 channels", channels(500), error(400, "bad_query")),
        ("a channel 129 times", vec!["channel=a"; 129].join("&"), error(400, "bad_query")),
        ("32 other pairs", format!("channel=a&{}", others(32)), status(200)),
        ("33 other pairs", format!("channel=a&{}", others(33)), error(400, "bad_query")),
        ("128 channels and 32 others", format!("{}&{}", channels(128), others(32)), status(200)),
        ("200 other pairs", format!("channel=a&{}", others(200)), error(400, "bad_query")),
    ];
    for (name, query, want) in rows {
        table.push(Case::new(name, get(&format!("/poll?{query}"))).want(want).kept());
    }
    // A longer list is too long a line.
    let many = get(&format!("/poll?{}", channels(1000)));
    table.push(Case::new("1000 channels", many).want(error(414, "uri_too_long")).closed());
}

//! Black-box tests of HTTP/1.1: raw bytes to the real binary, every answer judged to the last byte.
//!
//! The tables know the published protocol only. A row says what is sent, in which pieces, and the
//! one outcome that is right; where the protocol leaves something open, the row says so and takes
//! every reading. Short requests are sent three ways: whole, byte by byte, and cut in the middle of
//! each CRLFCRLF. After each row the connection is either asked once more or read to its end, so
//! that exactly the wanted answers came.
#![cfg(feature = "cli")]
#![allow(unreachable_pub)]

mod support;

#[path = "http_raw/bodies.rs"]
mod bodies;
#[path = "http_raw/case.rs"]
mod case;
#[path = "http_raw/chunks.rs"]
mod chunks;
#[path = "http_raw/connection.rs"]
mod connection;
#[path = "http_raw/expect.rs"]
mod expect;
#[path = "http_raw/framing.rs"]
mod framing;
#[path = "http_raw/heads.rs"]
mod heads;
#[path = "http_raw/hosts.rs"]
mod hosts;
#[path = "support/http.rs"]
mod http;
#[path = "http_raw/limits.rs"]
mod limits;
#[path = "http_raw/lint.rs"]
mod lint;
#[path = "http_raw/live.rs"]
mod live;
#[path = "http_raw/names.rs"]
mod names;
#[path = "http_raw/order.rs"]
mod order;
#[path = "http_raw/origins.rs"]
mod origins;
#[path = "http_raw/positions.rs"]
mod positions;
#[path = "http_raw/publishing.rs"]
mod publishing;
#[path = "http_raw/routes.rs"]
mod routes;
#[path = "http_raw/run.rs"]
mod run;
#[path = "http_raw/slow.rs"]
mod slow;
#[path = "http_raw/ws.rs"]
mod ws;
#[path = "http_raw/ws_offers.rs"]
mod ws_offers;

use case::Case;
use support::Running;

fn check(tables: &[Vec<Case>]) {
    let server = Running::start(&[]);
    run::run_table(server.addr, &tables.concat());
}

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn heads_are_read_one_way() {
    check(&[heads::table()]);
}

#[test]
fn limits_are_where_they_are_said_to_be() {
    check(&[limits::table()]);
}

#[test]
fn bodies_end_where_they_must() {
    check(&[framing::table(), bodies::table()]);
}

#[test]
fn chunks_are_decoded_or_refused() {
    check(&[chunks::table()]);
}

#[test]
fn hosts_and_origins_are_checked() {
    check(&[hosts::table(), origins::table()]);
}

#[test]
fn routes_answer_every_method() {
    check(&[routes::table(), publishing::table()]);
}

#[test]
fn names_and_queries_are_decoded_once() {
    check(&[names::table(), positions::table()]);
}

#[test]
fn the_first_error_wins() {
    check(&[order::table()]);
}

#[test]
fn connections_persist_and_pipeline() {
    check(&[connection::table(), expect::table()]);
}

#[test]
fn upgrades_are_switched_or_refused() {
    check(&[ws::table(), ws_offers::table()]);
}

#[test]
fn many_connections_and_many_bytes() {
    let server = Running::start(&[]);
    report(&live::failures(server.addr));
}

#[test]
fn slow_clients_are_ended() {
    let server = Running::start(&[]);
    report(&slow::failures(server.addr));
}

/// A name finds its row; a table that was emptied by mistake would pass for ever.
#[test]
fn rows_are_many_and_named_once() {
    let tables = [
        ("heads", heads::table()),
        ("limits", limits::table()),
        ("framing", framing::table()),
        ("bodies", bodies::table()),
        ("chunks", chunks::table()),
        ("hosts", hosts::table()),
        ("origins", origins::table()),
        ("routes", routes::table()),
        ("publishing", publishing::table()),
        ("names", names::table()),
        ("positions", positions::table()),
        ("order", order::table()),
        ("connection", connection::table()),
        ("expect", expect::table()),
        ("ws", ws::table()),
        ("ws_offers", ws_offers::table()),
    ];
    let mut all = 0;
    for (name, table) in tables {
        let mut names: Vec<&str> = table.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        println!("{name}: {count} rows");
        assert_eq!(names.len(), count, "a name occurs twice in {name}");
        all += count;
    }
    println!("{all} rows in all");
    assert!(all >= 1500, "{all} rows");
}

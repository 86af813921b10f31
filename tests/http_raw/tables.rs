//! All tables of raw HTTP/1.1, and what runs and judges a row over any transport.
//!
//! Where a subject is held, besides the order of errors (`order`) that touches all of them:
//!
//! | subject | table |
//! |---|---|
//! | line ends, field lines, request line, version, method, target, foreign protocols | `heads` |
//! | sizes and counts of the head, fields that may occur once | `limits` |
//! | `Content-Length`, `Transfer-Encoding`, both at once, bodies where none belongs, unread bodies | `framing`, `bodies` |
//! | chunk sizes, line ends, extensions, trailers | `chunks` |
//! | `Host`, absolute-form, DNS rebinding; `Origin`, CORS, preflights | `hosts`, `origins` |
//! | routes, methods, `Allow`, `OPTIONS`, HEAD, stream and poll heads | `routes` |
//! | percent-decoding, the query and its bounds, positions, injection by names | `names`, `positions` |
//! | what publishes: sizes, types, codings, values | `publishing` |
//! | persistence of 1.1 and 1.0, pipelines, held answers, half-closing | `connection` |
//! | `Expect` | `expect` |
//! | the WebSocket handshake, refused and granted, offers, bytes behind it | `ws`, `ws_offers` |
//! | attacks that have been published against other servers, by the flaw | `attacks` |
//! | what every answer carries: `Date`, `no-store`, `Allow`, `Upgrade`, `Retry-After`, no version | `lint` |
//! | slow clients | `slow` |
//! | lingering, floods behind a held poll, several connections | `live` |
#![allow(unreachable_pub)]

#[path = "attacks.rs"]
pub mod attacks;
#[path = "bodies.rs"]
pub mod bodies;
#[path = "case.rs"]
pub mod case;
#[path = "chunks.rs"]
pub mod chunks;
#[path = "connection.rs"]
pub mod connection;
#[path = "expect.rs"]
pub mod expect;
#[path = "framing.rs"]
pub mod framing;
#[path = "heads.rs"]
pub mod heads;
#[path = "hosts.rs"]
pub mod hosts;
#[path = "../support/http.rs"]
pub mod http;
#[path = "limits.rs"]
pub mod limits;
#[path = "lint.rs"]
pub mod lint;
#[path = "live.rs"]
pub mod live;
#[path = "names.rs"]
pub mod names;
#[path = "../support/net.rs"]
pub mod net;
#[path = "order.rs"]
pub mod order;
#[path = "origins.rs"]
pub mod origins;
#[path = "positions.rs"]
pub mod positions;
#[path = "publishing.rs"]
pub mod publishing;
#[path = "routes.rs"]
pub mod routes;
#[path = "run.rs"]
pub mod run;
#[path = "slow.rs"]
pub mod slow;
#[path = "ws.rs"]
pub mod ws;
#[path = "ws_offers.rs"]
pub mod ws_offers;

use case::Case;

/// Makes a test of every table, or of those that belong together, by one function.
macro_rules! each_table {
    ($check:path) => {
        $crate::tables::each_table! { $check:
            heads_are_read_one_way: heads;
            limits_are_where_they_are_said_to_be: limits;
            bodies_end_where_they_must: framing, bodies;
            chunks_are_decoded_or_refused: chunks;
            hosts_and_origins_are_checked: hosts, origins;
            routes_answer_every_method: routes, publishing;
            names_and_queries_are_decoded_once: names, positions;
            the_first_error_wins: order;
            connections_persist_and_pipeline: connection, expect;
            upgrades_are_switched_or_refused: ws, ws_offers;
            published_attacks_do_not_work: attacks;
        }

        /// A name finds its row; a table that was emptied by mistake would pass for ever.
        #[test]
        fn rows_are_many_and_named_once() {
            $crate::tables::assert_many_and_named_once();
        }
    };
    ($check:path: $($name:ident: $($table:ident),*;)*) => { $(
        #[test]
        fn $name() {
            $check(&[$($crate::tables::$table::table()),*].concat());
        }
    )* };
}
pub(crate) use each_table;

pub fn assert_many_and_named_once() {
    let tables: [(&str, Vec<Case>); 17] = [
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
        ("attacks", attacks::table()),
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

/// How many failures are shown: one fault may break every cut of many rows.
const SHOWN_MAX: usize = 30;

/// Fails with what went wrong.
pub fn report(failures: &[String]) {
    let shown = failures[..failures.len().min(SHOWN_MAX)].join("\n");
    assert!(failures.is_empty(), "{} failures:\n\n{shown}", failures.len());
}

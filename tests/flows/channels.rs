//! `/stats/channels`: which channels there are, for those who look after the server.

use holdline::Config;
use serde_json::{Value, json};

use crate::limits::{HERE, ip};
use crate::sim::Sim;
use crate::sim::clients::{Sse, Ws};

/// What a loop says.
#[track_caller]
fn list(sim: &mut Sim, number: usize, query: &str) -> Value {
    let line = sim.connect(number);
    let answer = sim.get(line, &format!("/stats/channels{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    sim.close(line);
    answer.json()
}

fn channel(name: &str, subscribers: u32, messages: u32, bytes: u32) -> Value {
    json!({"channel": name, "subscribers": subscribers, "messages": messages, "bytes": bytes})
}

#[test]
fn channels_are_listed_with_their_subscribers_on_all_loops() {
    for loops in [1, 3] {
        let mut sim = Sim::new(Config::default().open(), loops, 3);
        assert_eq!(list(&mut sim, 0, ""), json!({"total": 0, "channels": []}));
        sim.publish("kept", "12345");
        let _sockets = [0, 1, 2].map(|n| Ws::open(&mut sim, n % loops, "/ws?channel=busy"));
        let stream = Sse::open(&mut sim, loops - 1, "/events?channel=busy&channel=calm");
        sim.publish("busy", "ab");
        sim.settle();
        let [busy, calm, kept] =
            &[channel("busy", 4, 1, 2), channel("calm", 1, 0, 0), channel("kept", 0, 1, 5)];
        for number in 0..loops {
            for (query, total, wanted) in [
                ("", 3, json!([busy, calm, kept])),
                ("?match=&unknown=1", 3, json!([busy, calm, kept])),
                ("?limit=0", 3, json!([])),
                ("?limit=2", 3, json!([busy, calm])),
                ("?match=k&limit=99999999999999999999", 1, json!([kept])),
                ("?limit=1&match=%61l", 1, json!([calm])),
                ("?match=b.usy", 0, json!([])),
            ] {
                let said = list(&mut sim, number, query);
                assert_eq!(said, json!({"total": total, "channels": wanted}), "{query}");
            }
        }
        sim.close(stream.line);
        sim.settle();
        assert_eq!(list(&mut sim, 0, "?limit=1")["channels"], json!([channel("busy", 3, 1, 2)]));
    }
}

#[test]
fn no_more_than_a_thousand_are_listed_and_a_hundred_unless_asked_for() {
    let mut sim = Sim::new(Config::default().open(), 1, 3);
    for number in 0..1_200 {
        sim.publish(&format!("c{number}"), "x");
    }
    for (query, count) in [("", 100), ("?limit=1000", 1_000), ("?limit=1001", 1_000)] {
        let said = list(&mut sim, 0, query);
        let listed = said["channels"].as_array().expect("a list");
        assert_eq!((said["total"].as_u64(), listed.len()), (Some(1_200), count), "{query}");
        assert_eq!(listed[0]["channel"], "c1199", "of equals who was published to last");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mut sim = Sim::new(Config::default().open(), 1, 3);
    let line = sim.connect(0);
    let (long, many) = ("x".repeat(256), "a=b&".repeat(33));
    for query in [
        "limit=",
        "limit=-1",
        "limit=1.5",
        "limit=+1",
        "limit=ten",
        "limit=1&limit=1",
        "match=a&match=a",
        "match=a/b",
        "match=%20",
        "match=*",
        "match=%ff",
        "match=%zz",
        "match=%01",
        &format!("match={long}"),
        &many,
    ] {
        let answer = sim.get(line, &format!("/stats/channels?{query}"));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"bad_query".into()), "{query}");
    }
    assert_eq!(sim.get(line, &format!("/stats/channels?match={}", &long[1..])).status, 200);
}

#[test]
fn others_than_clients_of_this_machine_see_no_list() {
    for (config, status) in [(Config::default(), 403), (Config::default().open(), 200)] {
        let mut sim = Sim::new(config, 1, 3);
        sim.publish("secret", "x");
        for (peer, status) in [(ip(HERE), status), (ip("127.0.0.1"), 200)] {
            let line = sim.connect_from(0, peer);
            let answer = sim.get(line, "/stats/channels");
            assert_eq!((answer.status, answer.text().contains("secret")), (status, status == 200));
        }
    }
    let mut config = Config::default();
    config.routes.stats = false;
    let mut sim = Sim::new(config, 1, 3);
    let line = sim.connect(0);
    assert_eq!(sim.get(line, "/stats/channels").status, 404);
}

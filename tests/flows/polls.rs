//! Flow (b): a poll is held until something comes or its time is up, and what was sent behind it
//! waits.

use holdline::Config;

use crate::both_paces;
use crate::sim::clients::request;
use crate::sim::{Pace, Sim, http};

both_paces!(
    a_held_poll_is_answered_by_the_next_message,
    a_poll_with_nothing_to_say_ends_with_a_fresh_position,
    a_request_behind_a_held_poll_is_answered_after_it,
    many_requests_behind_a_held_poll_are_answered_in_order_though_the_client_has_finished,
    a_poll_for_what_is_there_is_answered_at_once_and_says_if_there_is_more,
    a_first_poll_gets_a_position_and_the_way_on,
    a_raw_poll_is_one_message_or_nothing_and_a_position,
    a_short_poll_is_never_held,
    a_flood_behind_a_held_poll_is_not_read,
    a_head_of_a_poll_says_what_the_get_would_and_is_not_held,
);

fn held(sim: &mut Sim, channel: &str) -> usize {
    let line = sim.connect(0);
    let since = sim.id(sim.history.head());
    sim.ask(line, "GET", &format!("/poll?channel={channel}&since={since}"), b"");
    sim.settle();
    assert!(sim.answer(line).is_none(), "answered at once");
    assert!(sim.engine().connections().poll > 0);
    line
}

fn a_held_poll_is_answered_by_the_next_message(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = held(&mut sim, "news");
    sim.publish("other", "not for it");
    sim.settle();
    assert!(sim.answer(line).is_none());
    sim.pass(7_000);
    sim.publish("news", "one");
    sim.publish("news", "two");
    sim.settle();
    let answer = sim.answer(line).expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("holdline-cursor"), Some(&*sim.id(3)));
    let body = answer.json();
    assert_eq!((&body["more"], &body["gap"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(body["cursor"], *sim.id(3));
    let texts: Vec<_> = body["messages"].as_array().expect("messages").iter().collect();
    assert_eq!(
        texts.iter().map(|m| m["text"].as_str()).collect::<Vec<_>>(),
        [Some("one"), Some("two")]
    );
    assert!(!answer.is_closing());
    assert_eq!(sim.get(line, "/health").status, 200);
}

fn a_poll_with_nothing_to_say_ends_with_a_fresh_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = held(&mut sim, "news");
    for _ in 0..3 {
        sim.publish("other", "not for it");
    }
    sim.pass(19_900);
    assert!(sim.answer(line).is_none(), "too early");
    sim.pass(5_100);
    let answer = sim.answer(line).expect("an answer");
    let body = answer.json();
    assert_eq!((answer.status, &body["messages"]), (200, &serde_json::json!([])));
    assert_eq!(body["cursor"], *sim.id(3));
    assert_eq!(answer.header("holdline-cursor"), Some(&*sim.id(3)));
    assert_eq!(sim.engine().subscriptions(), 0);
    assert_eq!(sim.get(line, "/health").status, 200);
}

fn a_request_behind_a_held_poll_is_answered_after_it(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    let poll = request("GET", &format!("/poll?channel=a&since={}&wait=20", sim.id(0)), "", b"");
    let both = [poll, request("GET", "/health", "", b"")].concat();
    sim.send(line, &both);
    sim.pass(15_900);
    assert!(sim.lines[line].received.is_empty(), "the second answer came first");
    sim.pass(4_100);
    assert_eq!(sim.answer(line).expect("the poll's").json()["messages"], serde_json::json!([]));
    assert_eq!(sim.answer(line).expect("the other").json()["status"], "ok");
    // The same where a message ends the hold.
    sim.send(line, &both);
    sim.settle();
    sim.publish("a", "now");
    sim.settle();
    assert_eq!(sim.answer(line).expect("the poll's").json()["messages"][0]["text"], "now");
    assert_eq!(sim.answer(line).expect("the other").json()["status"], "ok");
}

fn many_requests_behind_a_held_poll_are_answered_in_order_though_the_client_has_finished(
    pace: Pace,
) {
    let mut sim = Sim::with(Config { allow_half_close: true, ..Config::default().open() }, pace);
    let line = sim.connect(0);
    sim.ask(line, "GET", &format!("/poll?channel=a&since={}", sim.id(0)), b"");
    for target in ["/health", "/channels/a", "/health"] {
        sim.ask(line, "GET", target, b"");
    }
    sim.finish(line);
    sim.settle();
    sim.publish("a", "now");
    sim.settle();
    assert_eq!(sim.answer(line).expect("the poll's").json()["messages"][0]["text"], "now");
    assert_eq!(sim.answer(line).expect("the second").json()["status"], "ok");
    assert_eq!(sim.answer(line).expect("the third").json()["channel"], "a");
    assert_eq!(sim.answer(line).expect("the last").json()["status"], "ok");
    assert!(sim.is_closed(line), "nothing more can come from it");
    sim.assert_deserted();
}

fn a_poll_for_what_is_there_is_answered_at_once_and_says_if_there_is_more(pace: Pace) {
    let mut sim = Sim::with(Config { poll_messages_max: 4, ..Config::default().open() }, pace);
    for n in 1..=10 {
        sim.publish(if n % 2 == 0 { "a" } else { "b" }, n.to_string());
    }
    let line = sim.connect(0);
    let (mut since, mut texts, mut mores) = (sim.id(1), Vec::new(), Vec::new());
    loop {
        let body = sim.get(line, &format!("/poll?channel=a&channel=b&since={since}")).json();
        let messages = body["messages"].as_array().expect("messages").clone();
        texts.extend(messages.iter().map(|m| m["text"].as_str().expect("text").to_owned()));
        since = body["cursor"].as_str().expect("a cursor").to_owned();
        mores.push(body["more"] == true);
        if !mores[mores.len() - 1] {
            break;
        }
        assert_eq!(since, messages[messages.len() - 1]["id"], "told more than was given");
    }
    assert_eq!(texts, ["2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    assert_eq!((mores, since), (vec![true, true, false], sim.id(10)));
}

fn a_first_poll_gets_a_position_and_the_way_on(pace: Pace) {
    let mut sim = Sim::open(pace);
    sim.publish("a", "before");
    let line = sim.connect(0);
    let answer = sim.get(line, "/poll?channel=a&channel=b");
    let (body, next) = (answer.json(), format!("?channel=a&channel=b&since={}", sim.id(1)));
    assert_eq!(
        (&body["cursor"], &body["messages"]),
        (&(*sim.id(1)).into(), &serde_json::json!([]))
    );
    assert_eq!(body["next"], *next);
    assert_eq!(answer.header("link"), Some(&*format!("<{next}>; rel=\"next\"")));
    sim.publish("b", "after");
    let body = sim.get(line, &format!("/poll{next}")).json();
    assert_eq!(body["messages"][0]["text"], "after");
}

fn a_raw_poll_is_one_message_or_nothing_and_a_position(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    for text in ["one", "two"] {
        sim.publish("a", text);
    }
    let mut since = sim.id(0);
    for text in ["one", "two"] {
        let answer = sim.get(line, &format!("/channels/a?since={since}"));
        assert_eq!((answer.status, &*answer.text()), (200, text));
        since = answer.header("holdline-cursor").expect("a position").to_owned();
    }
    sim.publish("b", "elsewhere");
    sim.ask(line, "GET", &format!("/channels/a?since={since}"), b"");
    sim.pass(19_900);
    assert!(sim.answer(line).is_none());
    sim.pass(5_100);
    let answer = sim.answer(line).expect("an answer");
    assert_eq!((answer.status, answer.header("holdline-cursor")), (204, Some(&*sim.id(3))));
}

fn a_short_poll_is_never_held(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = sim.connect(0);
    let (since, start) = (sim.id(0), sim.now);
    let body = sim.get(line, &format!("/poll?channel=a&since={since}&wait=0")).json();
    assert_eq!((&body["messages"], &body["cursor"]), (&serde_json::json!([]), &(*since).into()));
    let answer = sim.get(line, &format!("/channels/a?since={since}&wait=0"));
    assert_eq!((answer.status, sim.now), (204, start));
}

/// The hold is a random 0.8 to 1.0 of what was asked, 25 s if nothing was, 55 s at most.
#[test]
fn holds_are_spread_over_a_fifth_of_the_wait() {
    for (wait, seconds) in [("", 25), ("&wait=40", 40), ("&wait=1", 1), ("&wait=900", 55)] {
        let mut sim = Sim::open(Pace::Whole);
        let start = sim.now.mono_ms;
        let since = sim.id(0);
        let lines: Vec<_> = (0..300)
            .map(|_| {
                let line = sim.connect(0);
                sim.ask(line, "GET", &format!("/poll?channel=a&since={since}{wait}"), b"");
                line
            })
            .collect();
        let (mut ends, mut open) = (Vec::new(), lines);
        sim.pass_until(start + 60_000, |sim| {
            open.retain(|line| match sim.answer(*line) {
                Some(answer) => {
                    assert_eq!(answer.status, 200);
                    ends.push(sim.now.mono_ms - start);
                    false
                }
                None => true,
            });
            open.is_empty()
        });
        let (min, max) = (ends[0], ends[ends.len() - 1]);
        assert_eq!(ends.len(), 300, "{wait}");
        assert!(min >= seconds * 800, "{wait}: {min} ms is too early");
        assert!(max <= seconds * 1000, "{wait}: {max} ms is too late");
        if seconds == 1 {
            continue; // no more than a tick of the wheel
        }
        let early = ends.iter().filter(|end| **end < seconds * 900).count();
        assert!((50..=250).contains(&early), "{wait}: {early} of 300 in the first half");
    }
}

/// Once as much as a whole head waits behind a hold, no more is read, and its answer is the last.
fn a_flood_behind_a_held_poll_is_not_read(pace: Pace) {
    let mut sim = Sim::open(pace);
    let line = held(&mut sim, "a");
    for _ in 0..2_000 {
        sim.ask(line, "GET", "/health", b"");
    }
    sim.settle();
    assert!(sim.lines[line].unread() > 60_000, "{} bytes unread", sim.lines[line].unread());
    sim.publish("a", "now");
    sim.settle();
    let answer = sim.answer(line).expect("the poll's");
    assert!(answer.is_closing());
    assert!(sim.lines[line].received.is_empty());
    sim.close(line);
    sim.assert_deserted();
}

/// Aborting is noticed while a poll is held, though its bytes are not read.
#[test]
fn a_poller_that_goes_away_is_gone_at_once() {
    for behind in [0, 200] {
        let mut sim = Sim::open(Pace::Whole);
        let line = held(&mut sim, "a");
        (0..behind).for_each(|_| sim.ask(line, "GET", "/health", b""));
        sim.close(line);
        sim.settle();
        assert!(sim.is_closed(line));
        sim.assert_deserted();
    }
}

fn a_head_of_a_poll_says_what_the_get_would_and_is_not_held(pace: Pace) {
    let mut sim = Sim::open(pace);
    sim.publish("a", "one");
    sim.publish("a", "two");
    sim.publish("b", "three");
    let line = sim.connect(0);
    for target in [
        "/channels/a?since=earliest",
        "/channels/a?since=zzzzzz-1",
        "/channels/a?since=latest&wait=0",
        "/poll?channel=a",
        "/poll?channel=a&since=earliest",
        "/poll?channel=a&since=latest&wait=0",
    ] {
        let get = sim.get(line, target);
        sim.ask(line, "HEAD", target, b"");
        sim.settle();
        let head = http::take_head(&mut sim.lines[line].received).expect("an answer");
        assert_eq!(head.status, 200, "{target}");
        assert!(sim.lines[line].received.is_empty(), "no body: {target}");
        // What did not come has no length, and of how long to wait each answer has its own.
        let names = |answer: &http::Answer| -> Vec<String> {
            let of = |(name, value): &(String, String)| match &**name {
                "Content-Length" | "Content-Type" | "X-Content-Type-Options"
                    if get.status == 204 =>
                {
                    None
                }
                "Holdline-Gap" => Some(name.clone()),
                _ => Some(format!("{name}: {value}")),
            };
            answer.headers.iter().filter_map(of).collect()
        };
        assert_eq!(names(&head), names(&get), "{target}");
    }
}

//! Resuming with one string over every transport: nothing is lost unannounced, nothing comes twice.

use crate::clients::wait_subscribers;
use crate::clients::ws::{CLOSE, Ws, close_code};
use crate::clients::{
    Http, PATIENCE, Sse, call, get, lossy, poll, publish, publish_many, seq, text_of, texts,
};
use crate::support::Running;
use crate::traveller::{ALL, Got, Oracle, PROTOCOL, Transport, Traveller};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A cursor that no server gave out.
const LOST: &str = "zzzzzzzz-5";

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("expected a number, came {text:?}"))
}

/// A small generator: the seed of a failure is in its message.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::from(now.subsec_nanos())
}

#[track_caller]
fn expect_gap(got: Got, reason: &str, since: &str) -> u64 {
    let Got::Gap { reason: told, since: asked, resumed, .. } = &got else {
        panic!("expected a gap {reason}, came {got:?}")
    };
    assert_eq!((told.as_str(), asked.as_str()), (reason, since), "came {got:?}");
    seq(resumed)
}

#[test]
fn one_string_goes_on_over_every_transport() {
    let server = Running::start(&[]);
    let start = publish(&server, "a", "before");
    publish_many(&server, "a", 0..12);
    let mut reader = Traveller::start(&server, ALL[0], &["a"], &start);
    let mut came = reader.texts(2);
    for transport in &ALL[1..] {
        reader.switch(*transport);
        came.extend(reader.texts(2));
    }
    assert_eq!(came, numbers(0..12));
    for transport in ALL {
        reader.switch(transport);
        if !matches!(transport, Transport::Poll | Transport::RawPoll) {
            wait_subscribers(&server, "a", 1);
        }
        publish(&server, "a", format!("{transport:?}"));
        assert_eq!(reader.texts(1), [format!("{transport:?}")], "live after the switch");
    }
}

#[test]
fn a_reader_without_a_string_gets_one_before_any_message() {
    let server = Running::start(&[]);
    publish(&server, "a", "before");
    // A raw poll has no first word: without a position it would be a question about the channel.
    for (n, via) in ALL.iter().filter(|via| **via != Transport::RawPoll).enumerate() {
        let string = Traveller::start(&server, *via, &["a"], "").position();
        publish(&server, "a", n.to_string());
        for other in ALL {
            let mut again = Traveller::start(&server, other, &["a"], &string);
            assert_eq!(again.texts(1), [n.to_string()], "{string} of {via:?} over {other:?}");
        }
    }
}

#[test]
fn a_reader_comes_back_after_1000_messages() {
    let server = Running::start(&[]);
    let start = publish(&server, "b", "before");
    publish_many(&server, "a", 0..1000);
    for transport in ALL {
        let mut reader = Traveller::start(&server, transport, &["a"], &start);
        assert_eq!(reader.texts(1000), numbers(0..1000), "over {transport:?}");
    }
}

#[test]
fn a_position_that_history_left_is_a_gap_and_what_is_kept_follows() {
    let server = Running::start(&["--history", "3"]);
    for transport in ALL {
        let ids = publish_many(&server, "a", 0..10);
        let mut reader = Traveller::start(&server, transport, &["a"], &ids[0]);
        let resumed = expect_gap(reader.next(), "trimmed", &ids[0]);
        let between = seq(&ids[6])..seq(&ids[7]);
        assert!(between.contains(&resumed), "in {between:?}, came {resumed} over {transport:?}");
        assert_eq!(reader.texts(3), numbers(7..10), "over {transport:?}");
        let mut reader = Traveller::start(&server, transport, &["a"], &ids[6]);
        assert_eq!(reader.texts(3), numbers(7..10), "recovered over {transport:?}");
        publish(&server, "a", "live");
        assert_eq!(reader.texts(1), ["live"], "over {transport:?}");
    }
}

#[test]
fn another_epoch_and_the_future_are_a_gap() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    let epoch = ids[0].split('-').next().unwrap_or_default();
    let ahead = format!("{epoch}-{}", seq(&ids[1]) + 1_000_000);
    let last = format!("{epoch}-{}", u64::MAX);
    for transport in ALL {
        for since in [LOST, "zzzzzz-0", "zzzzzz-18446744073709551615", &ahead, &last] {
            let mut reader = Traveller::start(&server, transport, &["a"], since);
            let resumed = expect_gap(reader.next(), "epoch", since);
            assert!(resumed < seq(&ids[0]), "before what is kept, came {resumed}");
            assert_eq!(reader.texts(2), numbers(0..2), "for {since} over {transport:?}");
        }
    }
}

#[test]
fn a_restart_is_another_epoch() {
    let (before, after) = (Running::start(&[]), Running::start(&[]));
    let old = publish(&before, "a", "old");
    publish(&after, "a", "new");
    let mut reader = Traveller::start(&after, Transport::Poll, &["a"], &old);
    expect_gap(reader.next(), "epoch", &old);
    assert_eq!(reader.texts(1), ["new"]);
}

#[test]
fn a_last_event_id_that_is_no_cursor_is_an_unknown_epoch() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..2);
    let targets = [("/events?channel=a", "gap"), ("/channels/a", "holdline-gap")];
    for (target, event) in targets {
        for id in ["nonsense", "42", "earliest", "abc-1", "k3J9xQ-01", LOST, "\u{e4}"] {
            let mut sse = Sse::open(&server, target, &[("Last-Event-ID", id)]);
            let told = sse.event();
            assert_eq!(told.event, event, "for {id:?}, came {told:?}");
            let gap = told.json();
            let repeated = if id == LOST { LOST } else { "" };
            let came = (&gap["reason"], &gap["since"]);
            assert_eq!(came, (&json!("epoch"), &json!(repeated)), "for {id:?}, came {gap}");
            for id in &ids {
                assert_eq!(sse.event().id.as_deref(), Some(id.as_str()), "what is kept");
            }
        }
    }
}

#[test]
fn a_last_event_id_wins_over_the_query_and_an_empty_one_is_none() {
    let server = Running::start(&[]);
    let ids = publish_many(&server, "a", 0..3);
    for path in ["/events?channel=a&", "/channels/a?"] {
        for query in ["since=earliest", &format!("lastEventId={}", ids[0]), ""] {
            let headers = [("Last-Event-ID", ids[1].as_str())];
            let mut sse = Sse::open(&server, &format!("{path}{query}"), &headers);
            assert_eq!(sse.event().id.as_deref(), Some(ids[2].as_str()), "with {query:?}");
        }
        let since = format!("{path}since={}", ids[0]);
        let mut sse = Sse::open(&server, &since, &[("Last-Event-ID", "")]);
        assert_eq!(sse.event().id.as_deref(), Some(ids[1].as_str()), "the query counts");
    }
    for target in ["/events?channel=b", "/channels/b"] {
        publish(&server, "b", "old");
        let mut sse = Sse::open(&server, target, &[("Last-Event-ID", "")]);
        sse.block().expect("the first block");
        let id = publish(&server, "b", "new");
        assert_eq!(sse.event().id, Some(id), "from now on");
    }
}

#[test]
fn a_time_that_reaches_behind_an_eviction_is_a_gap() {
    let server = Running::start(&["--history", "2"]);
    publish_many(&server, "whole", 0..2);
    publish_many(&server, "a", 0..4);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let past = (now - 3600).to_string();
    for transport in ALL {
        for since in ["1h", "9999d", &past] {
            let mut reader = Traveller::start(&server, transport, &["a"], since);
            expect_gap(reader.next(), "trimmed", "");
            assert_eq!(reader.texts(2), numbers(2..4), "{since} over {transport:?}");
            let mut reader = Traveller::start(&server, transport, &["whole"], since);
            assert_eq!(reader.texts(2), numbers(0..2), "{since} over {transport:?}");
        }
        let mut reader = Traveller::start(&server, transport, &["a"], "earliest");
        assert_eq!(reader.texts(2), numbers(2..4), "earliest is always recovered");
    }
}

#[test]
fn bytes_and_age_evict_as_well() {
    let server = Running::start(&["--history", "1000,1s"]);
    let start = publish(&server, "b", "before");
    let aged = publish(&server, "a", "aged");
    let deadline = Instant::now() + PATIENCE;
    let gap = loop {
        let body = poll(&server, &format!("channel=a&since={start}&wait=0"));
        if body["gap"] != Value::Null {
            break body["gap"][0].clone();
        }
        assert_eq!(texts(&body), ["aged"], "kept, or announced as gone");
        assert!(Instant::now() < deadline, "expected it to go after a second, came {body}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&gap["reason"], &gap["since"]), (&json!("trimmed"), &json!(start)), "{gap}");
    let body = poll(&server, &format!("channel=a&since={aged}&wait=0"));
    assert_eq!(body["gap"], Value::Null, "nothing after it is gone, came {body}");
    let bytes = Running::start(&[]);
    let first = publish(&bytes, "a", "first");
    (0..20).for_each(|_| drop(publish(&bytes, "a", vec![b'x'; 60_000])));
    let body = poll(&bytes, &format!("channel=a&since={first}&wait=0"));
    assert_eq!(body["gap"][0]["reason"], "trimmed", "20 × 60 000 are more than 1 MiB");
    assert!(get(&bytes, "/channels/a").json()["messages"].as_u64() > Some(10));
}

#[test]
fn what_has_ttl_zero_is_never_replayed_and_no_gap() {
    let server = Running::start(&[]);
    let start = publish(&server, "a", "before");
    for n in ["1", "2"] {
        call(&server, "POST", "/channels/a", &[("TTL", "0")], b"now or never").expect(202);
        publish(&server, "a", n);
    }
    for transport in ALL {
        let mut reader = Traveller::start(&server, transport, &["a"], &start);
        assert_eq!(reader.texts(2), ["1", "2"], "over {transport:?}");
    }
}

#[test]
fn delete_sets_the_floor_to_the_newest_deleted_message() {
    let server = Running::start(&[]);
    for transport in ALL {
        let ids = publish_many(&server, "a", 0..3);
        let elsewhere = publish(&server, "b", "elsewhere");
        call(&server, "DELETE", "/channels/a", &[], b"").expect(204);
        publish(&server, "a", "new");
        for since in [&ids[0], &ids[1]] {
            let mut reader = Traveller::start(&server, transport, &["a"], since);
            let resumed = expect_gap(reader.next(), "trimmed", since);
            assert!(resumed >= seq(&ids[2]), "over {transport:?}, came {resumed}");
            assert_eq!(reader.texts(1), ["new"]);
        }
        for since in [&ids[2], &elsewhere, "earliest"] {
            let mut reader = Traveller::start(&server, transport, &["a"], since);
            assert_eq!(reader.texts(1), ["new"], "no gap after {since} over {transport:?}");
        }
    }
}

#[test]
fn many_channels_replay_in_one_order() {
    let server = Running::start(&[]);
    let ids: Vec<String> =
        (0..30).map(|n| publish(&server, ["a", "b", "c"][n % 3], n.to_string())).collect();
    for transport in PROTOCOL {
        for (since, first) in [("earliest", 0), (&ids[13], 14)] {
            let mut reader = Traveller::start(&server, transport, &["c", "a", "b"], since);
            let rest = numbers(first..30);
            assert_eq!(reader.texts(rest.len()), rest, "after {since} over {transport:?}");
        }
    }
}

#[test]
fn a_gap_names_the_channels_that_lost_and_a_cut_after_it_loses_nothing() {
    let server = Running::start(&["--history", "3"]);
    let start = publish(&server, "other", "before");
    publish(&server, "b", "b0");
    publish_many(&server, "a", 0..5);
    publish(&server, "b", "b1");
    for transport in PROTOCOL {
        let mut reader = Traveller::start(&server, transport, &["a", "b"], &start);
        let gap = reader.next();
        let Got::Gap { channels, reason, .. } = &gap else { panic!("no gap first: {gap:?}") };
        let told = (channels.as_slice(), reason.as_str());
        assert_eq!(told, (&["a".to_owned()][..], "trimmed"), "over {transport:?}");
        let mut cut = Traveller::start(&server, Transport::Events, &["b"], &reader.cursor);
        let all = ["b0", "2", "3", "4", "b1"];
        assert_eq!(reader.texts(5), all, "over {transport:?}");
        if transport != Transport::Poll {
            assert_eq!(cut.texts(2), ["b0", "b1"], "b lost nothing over {transport:?}");
        }
    }
}

#[test]
fn a_cut_while_a_second_channel_catches_up_loses_nothing() {
    let server = Running::start(&[]);
    publish_many(&server, "b", 0..300);
    for read in [1, 2, 150, 299] {
        let mut ws = Ws::open(&server, "/ws?channel=a");
        ws.until("live");
        publish(&server, "a", "a");
        ws.op("message");
        ws.say(r#"{"op":"subscribe","channel":"b","since":"earliest"}"#);
        ws.op("ok");
        let (mut position, mut came) = (String::new(), Vec::new());
        for _ in 0..read {
            let message = ws.op("message");
            text_of(&message, "cursor").clone_into(&mut position);
            came.push(number(text_of(&message, "text")));
        }
        drop(ws);
        let mut reader = Traveller::start(&server, Transport::Poll, &["b"], &position);
        while came.last() != Some(&299) {
            let next = number(reader.next().text());
            // The position may lie before what was read: a client drops what it knows.
            came.extend(came.last().is_none_or(|last| *last < next).then_some(next));
        }
        let whole: Vec<u32> = (0..300).collect();
        assert_eq!(came, whole, "cut after {read}, resumed with {position}");
    }
}

#[test]
fn a_slow_reader_is_told_what_it_lost() {
    let server = Running::start(&["--history", "10"]);
    let start = publish(&server, "a", "before");
    let via = [Transport::Events, Transport::RawSse, Transport::Ws, Transport::Meta];
    let mut readers = via.map(|transport| Traveller::start(&server, transport, &["a"], &start));
    let mut plain = Ws::open(&server, &format!("/channels/a?since={start}"));
    wait_subscribers(&server, "a", 5);
    let mut http = Http::open(&server);
    let text = |n| format!("{n:05}{}", "x".repeat(60_000));
    let published: Vec<u64> = (0..300).map(|n| seq(&http.publish("a", &text(n)))).collect();
    for (reader, transport) in readers.iter_mut().zip(via) {
        let mut oracle = Oracle { published: published.clone(), ..Oracle::default() };
        let mut slow = 0;
        while oracle.delivered.last() != published.last() {
            let before = reader.cursor.clone();
            let got = reader.next();
            oracle.note(&before, &got);
            slow += u32::from(matches!(&got, Got::Gap { reason, .. } if reason == "slow"));
        }
        oracle.judge(0);
        assert!(slow > 0, "{transport:?} lost its place without a slow gap");
    }
    let mut next = 0;
    loop {
        let frame = plain.message();
        if frame.opcode == CLOSE {
            assert_eq!(close_code(&frame), (1013, "gap".to_owned()));
            break;
        }
        assert_eq!(lossy(&frame.payload[..5]), format!("{next:05}"), "in order to the Close");
        next += 1;
    }
}

#[test]
fn a_seeded_journey_loses_nothing_unannounced() {
    let server = Running::start(&["--history", "15"]);
    let seed = seed();
    for (channels, via) in [(&["a", "b"][..], &PROTOCOL[..]), (&["c"], &ALL)] {
        let mut dice = Dice(seed);
        let mut oracle = Oracle::default();
        let start = publish(&server, "start", "x");
        let mut reader = Traveller::start(&server, via[0], channels, &start);
        let mut http = Http::open(&server);
        for _ in 0..80 {
            for _ in 0..dice.below(40) {
                oracle.published.push(seq(&http.publish(dice.pick(channels), "x")));
                http.publish("noise", "x");
            }
            reader.switch(dice.pick(via));
            let last = oracle.published.last().copied().unwrap_or(0);
            let mut left = dice.pick(&[3, 10, 1000]);
            while left > 0 && seq(&reader.cursor) < last {
                let before = reader.cursor.clone();
                let got = reader.next();
                oracle.note(&before, &got);
                left -= 1;
            }
        }
        let last = *oracle.published.last().expect("something was published");
        while oracle.delivered.last() != Some(&last) {
            let before = reader.cursor.clone();
            let got = reader.next();
            oracle.note(&before, &got);
        }
        oracle.judge(seed);
        assert!(!oracle.gaps.is_empty(), "seed {seed}: a history of 15 was never left");
    }
}

#[test]
fn a_reader_that_changes_transport_amid_publishing_misses_nothing() {
    let server = Running::start(&["--history", "300"]);
    let seed = seed();
    let start = publish(&server, "start", "x");
    let (channels, mut oracle, mut dice) = (["a", "b"], Oracle::default(), Dice(seed));
    let mut reader = Traveller::start(&server, Transport::Ws, &channels, &start);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut http = Http::open(&server);
            let texts = (0..2000).map(|_| "x").chain(["end"]);
            let say = |(n, text)| seq(&http.publish(channels[n % 2], text));
            texts.enumerate().map(say).collect()
        });
        let mut over = false;
        while !over {
            for _ in 0..dice.below(40) {
                let before = reader.cursor.clone();
                let got = reader.next();
                oracle.note(&before, &got);
                over |= matches!(&got, Got::Message { text, .. } if text == "end");
                if over {
                    break;
                }
            }
            reader.switch(dice.pick(&PROTOCOL));
        }
        oracle.published = publisher.join().expect("the publisher ends");
    });
    oracle.judge(seed);
}

//! The order after a planned restart: the same answers as before it, or a gap that is announced.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::*;
use crate::hub::Unreadable;
use crate::message::Form;

fn snapshot(history: &History, now: Now) -> Vec<u8> {
    let mut bytes = Vec::new();
    history.snapshot(now, &mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Gives out what was written, as it is asked for.
fn source(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) -> bool {
    move |wanted| {
        let Some((taken, rest)) = bytes.split_at_checked(wanted.len()) else { return false };
        wanted.copy_from_slice(taken);
        bytes = rest;
        true
    }
}

fn restore(config: &Config, bytes: &[u8], now: Now) -> Result<History, Unreadable> {
    History::restore(config, bytes.len() as u64, &mut source(bytes), now)
}

/// The same where only publications are weighed, for budgets in which nothing else has a place.
fn restart_narrow(before: &History, config: &Config, now: Now) -> History {
    let bytes = snapshot(before, now);
    let new = |epoch| {
        let mut history = History::new(config, epoch, now);
        weigh_publications_alone(&mut history);
        history
    };
    History::refill(new, bytes.len() as u64, &mut source(&bytes), now).expect("it is whole")
}

fn restart(history: &History, config: &Config, now: Now) -> History {
    restore(config, &snapshot(history, now), now).expect("it is whole")
}

/// Everything that a reader from `since` gets, with all that is shown of it.
fn answer(history: &History, channel: &str, since: Since, now: Now) -> String {
    let horizon = history.head();
    let joined = history.join(channel, Some(since), horizon, now).expect("there is room");
    let (mut items, mut lost) = (Vec::new(), Vec::new());
    let catching_up = joined.position < horizon;
    let want = Want { channel: joined.channel, after: joined.position, catching_up };
    history.pull(&[want], horizon, ALL, now, &mut items, &mut lost);
    assert!(lost.is_empty(), "nobody who just came has lost its place");
    let mut told = format!("{} {:?} {}", joined.position, joined.gap, joined.name);
    for item in items {
        let Publication { seq, time_ms, expires_ms, form, channel, payload, .. } = &*item;
        let texts = (&item.media_type, &item.event, payload, channel);
        told += &format!("\n{seq} {time_ms} {expires_ms} {form:?} {texts:?}");
    }
    told
}

const NAMES: [&str; 6] = ["a", "b.c", "d~e", "f", "quiet", "never-used"];

fn any_message(random: &mut fastrand::Rng) -> Message {
    let n = random.u32(..);
    let mut message = match random.u8(..5) {
        0 => Message::json(format!("{{\"n\":{n}}}")).expect("it is JSON"),
        1 => Message::bytes([0xff, 0xfe, n as u8]),
        2 => Message::bytes("x".repeat(random.usize(..300))),
        3 => Message::from(format!("<b>{n}</b>")).media_type("text/html"),
        _ => Message::from("ünïcode").event("tick"),
    };
    if random.u8(..3) == 0 {
        message = message.ttl(Duration::from_secs(random.u64(..40)));
    }
    if random.u8(..4) == 0 {
        message = message.idempotency_key(format!("key-{}", random.u8(..20)));
    }
    message
}

fn any_history(config: &Config, random: &mut fastrand::Rng) -> (History, Now) {
    let (history, mut now) = (history(config.clone()), START);
    for _ in 0..random.usize(..200) {
        let name = NAMES[random.usize(..4)];
        match random.u8(..20) {
            0 => history.clear(name, now),
            1 => _ = history.sweep(now),
            2 => {
                let joined = history.join("quiet", None, history.head(), now).expect("room");
                history.leave(joined.channel, now);
            }
            _ => {
                let mut message = any_message(random);
                message.check(1000).expect("it is a message");
                // The budget may be full.
                let _ = history.publish(name, message, now);
            }
        }
        now = now.after(random.u64(..2000));
    }
    (history, now)
}

fn any_config(random: &mut fastrand::Rng) -> Config {
    let mut pick = |from: [usize; 2]| from[random.usize(..2)];
    Config {
        history_messages: pick([5, 1000]),
        history_bytes: pick([400, 1 << 20]),
        recent_bytes: pick([0, 4000]),
        memory_bytes: pick([20_000, 1 << 20]),
        history_age: Duration::from_secs(pick([20, 300]) as u64),
        channel_memory: Duration::from_secs(pick([1, 3600]) as u64),
        ..Config::default()
    }
}

#[test]
fn a_restart_changes_no_answer() {
    let seed = RandomState::new().build_hasher().finish();
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let config = any_config(&mut random);
        let (before, now) = any_history(&config, &mut random);
        let after = restart_narrow(&before, &config, now);
        let head = before.head();
        assert_eq!((after.head(), after.epoch()), (head, before.epoch()));
        let other = Cursor { epoch: Epoch::from_random(8), seq: 1 };
        let mut sinces = vec![Since::Earliest, Since::Latest, Since::Unknown, Since::Cursor(other)];
        sinces.extend((0..head + 3).map(|seq| Since::Cursor(before.cursor(seq))));
        sinces.extend((0..100).map(|n| Since::Ago { ms: n * 3000 }));
        sinces.extend((0..100).map(|n| Since::At { unix_ms: START.unix_ms - 20_000 + n * 3000 }));
        for (name, since) in NAMES.iter().flat_map(|name| sinces.iter().map(move |s| (name, *s))) {
            let answers = [&before, &after].map(|history| answer(history, name, since, now));
            assert_eq!(answers[0], answers[1], "{name} {since:?}");
        }
        for n in 0..40 {
            let message = any_message(&mut fastrand::Rng::with_seed(n));
            let ids = [&before, &after].map(|history| {
                history.publish(NAMES[n as usize % 4], message.clone(), now).map(|made| made.id)
            });
            assert_eq!(ids[0], ids[1], "the same place, the same key");
        }
    }
}

#[test]
fn what_is_written_is_read_and_written_again() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..50 {
        let config = any_config(&mut random);
        let (before, now) = any_history(&config, &mut random);
        // The first time what is too old by now goes.
        let once = restart(&before, &config, now);
        let twice = restart(&once, &config, now);
        assert!(snapshot(&once, now) == snapshot(&twice, now));
        assert_eq!(once.stats().memory_used, once.lock().held, "nothing is pinned");
    }
}

/// A little of everything.
fn small() -> Vec<u8> {
    let history = narrow(Config { history_messages: 2, ..Config::default() });
    put_all(&history, "a", ["1", "2", "3"]);
    let json = Message::json("[1]").expect("it is JSON").event("e").media_type("a/json");
    put_at(&history, "b", json, START);
    put_at(&history, "b", short_lived("x", 60).idempotency_key("k"), START);
    history.clear("a", START);
    snapshot(&history, START)
}

#[test]
fn a_snapshot_that_is_cut_anywhere_is_refused() {
    let bytes = small();
    restore(&Config::default(), &bytes, START).expect("it is whole");
    for len in 0..bytes.len() {
        let why = restore(&Config::default(), &bytes[..len], START).map(drop);
        let expected = if len < 36 { Unreadable::Foreign } else { Unreadable::Torn };
        assert_eq!(why, Err(expected), "cut after {len} bytes");
    }
    let longer = [&bytes[..], b"\0"].concat();
    let why = restore(&Config::default(), &longer, START).map(drop);
    assert_eq!(why, Err(Unreadable::Torn), "one byte too many");
}

#[test]
fn a_snapshot_with_any_bit_turned_is_refused() {
    let mut bytes = small();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let restored = restore(&Config::default(), &bytes, START);
            assert!(restored.is_err(), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn another_format_is_named() {
    let mut bytes = small();
    bytes[16] = 2;
    let why = restore(&Config::default(), &bytes, START).expect_err("it cannot be known");
    assert_eq!(why, Unreadable::Version(2));
    bytes[0] = b'H';
    let why = restore(&Config::default(), &bytes, START).expect_err("it is something else");
    assert_eq!(why, Unreadable::Foreign);
}

#[test]
fn smaller_limits_of_a_channel_raise_its_floor() {
    let wide = history(Config::default());
    put_all(&wide, "x", ["a", "b", "c", "d"]);
    let cases = [
        (Config { history_messages: 2, ..Config::default() }, START),
        (Config { history_bytes: 2, ..Config::default() }, START),
    ];
    for (config, now) in cases {
        let restored = restart(&wide, &config, now);
        assert_eq!(kept(&restored, "x", now), "cd");
        assert_eq!(after(&restored, "x", 1), (2, Some(GapReason::Trimmed)));
        assert_eq!(after(&restored, "x", 2), (2, None));
    }
}

#[test]
fn what_has_grown_too_old_meanwhile_is_a_gap() {
    let before = history(Config::default());
    put_at(&before, "x", "a".into(), START);
    put_at(&before, "x", "b".into(), seconds(200));
    put_at(&before, "x", short_lived("c", 10), seconds(200));
    let bytes = snapshot(&before, seconds(201));
    let later = seconds(301);
    let after = restore(&Config::default(), &bytes, later).expect("it is whole");
    assert_eq!(kept(&after, "x", later), "b", "and what its ttl took nobody has lost");
    let at = |seq| stand(&after, "x", Since::Cursor(after.cursor(seq)), later);
    assert_eq!(at(0), (1, Some(GapReason::Trimmed)));
    assert_eq!(at(1), (1, None));
}

#[test]
fn a_smaller_budget_takes_the_oldest_of_all_channels() {
    let before = history(Config::default());
    for (name, text) in [("x", "a"), ("y", "b"), ("x", "c"), ("y", "d")] {
        put(&before, name, text);
    }
    let config = Config { memory_bytes: 2 * (FIXED + 1), ..Config::default() };
    let restored = restart_narrow(&before, &config, START);
    assert_eq!(
        (kept(&restored, "x", START), kept(&restored, "y", START)),
        ("c".into(), "d".into())
    );
    assert_eq!(after(&restored, "y", 1), (3, Some(GapReason::Trimmed)));
    assert!(restored.stats().memory_used <= config.memory_bytes);
    put(&restored, "x", "e");
    assert_eq!(kept(&restored, "y", START), "d", "the oldest goes first, as ever");
    assert_eq!(kept(&restored, "x", START), "e");
}

#[test]
fn a_message_over_the_whole_budget_is_a_gap() {
    let before = history(Config::default());
    put_all(&before, "x", ["a", &"b".repeat(500)]);
    let config = Config { memory_bytes: FIXED + 100, ..Config::default() };
    let restored = restart_narrow(&before, &config, START);
    assert_eq!(kept(&restored, "x", START), "");
    assert_eq!(after(&restored, "x", 1), (2, Some(GapReason::Trimmed)));
    assert_eq!(after(&restored, "x", 2), (2, None));
}

#[test]
fn a_smaller_table_takes_the_channels_that_were_used_last() {
    let before = history(Config::default());
    for name in ["w", "x", "y"] {
        put(&before, name, name);
    }
    let config = Config { channels_max: 2, ..Config::default() };
    let restored = restart(&before, &config, START);
    assert_eq!(restored.stats().channels, 2);
    assert_eq!(kept(&restored, "x", START) + &kept(&restored, "y", START), "xy");
    assert_eq!(restored.lock().folded_floor, 1, "what had no place is lost to all who ask for it");
    put(&before, "z", "z");
    before.clear("z", START);
    let restored = restart(&before, &Config { channels_max: 3, ..config }, START);
    assert_eq!(after(&restored, "w", 1), (1, None), "messages come first");
    assert_eq!(restored.lock().folded_floor, 4);
}

#[test]
fn a_key_is_answered_with_the_first_id_until_its_time_is_over() {
    let before = history(Config::default());
    let message = || Message::from("once").idempotency_key("k");
    let first = put_at(&before, "x", message(), START);
    put(&before, "x", "more");
    let bytes = snapshot(&before, seconds(100));
    for (later, expected) in [(299, first), (300, 3)] {
        let after = restore(&Config::default(), &bytes, seconds(later)).expect("it is whole");
        assert_eq!(put_at(&after, "x", message(), seconds(later)), expected, "after {later} s");
    }
}

#[test]
fn the_newest_keys_stay_when_there_is_room_for_fewer() {
    let before = history(Config::default());
    for n in 1..=3 {
        put_at(&before, "x", Message::from("m").idempotency_key(n.to_string()), START);
    }
    let config = Config { idempotency_bytes_max: two_keys_bytes(), ..Config::default() };
    let after = restart(&before, &config, START);
    for n in 2..=3 {
        assert_eq!(
            put_at(&after, "x", Message::from("m").idempotency_key(n.to_string()), START),
            n
        );
    }
    assert_eq!(after.lock().keys.len(), 2);
}

#[test]
fn a_channel_that_conflates_by_now_keeps_the_newest_of_each_name() {
    let before = history(Config::default());
    put_all(&before, "x", ["1", "2"]);
    put_at(&before, "x", Message::from("3").event("e"), START);
    put_all(&before, "x", ["4"]);
    let config = Config { latest: vec!["x".into()], ..Config::default() };
    let after = restart(&before, &config, START);
    assert_eq!(after.stats().messages, 2);
    let all = answer(&after, "x", Since::Earliest, START);
    assert!(all.contains('3') && all.contains('4'), "{all}");
    put(&after, "x", "5");
    assert_eq!(after.stats().messages, 2);
}

#[test]
fn a_clock_that_was_set_back_keeps_times_and_order() {
    let before = history(Config::default());
    put_at(&before, "x", Message::from("a").idempotency_key("k"), START);
    let bytes = snapshot(&before, START);
    let earlier = Now { mono_ms: 1_000, unix_ms: START.unix_ms - 86_400_000 };
    let after = restore(&Config::default(), &bytes, earlier).expect("it is whole");
    assert!(answer(&after, "x", Since::Earliest, earlier).contains(&START.unix_ms.to_string()));
    assert_eq!(put_at(&after, "x", "b".into(), earlier), 2);
    let window = earlier.after(300_000);
    assert_eq!(after.sweep(window).map(drop), Some(()), "something is kept");
    let again = put_at(&after, "x", Message::from("a").idempotency_key("k"), window);
    assert_eq!(again, 3, "a key does not live for a day");
}

#[test]
fn what_is_only_for_those_who_listen_is_not_written() {
    let before = history(Config { history_messages: 1, ..Config::default() });
    put_all(&before, "x", ["hidden", "kept"]);
    put_at(&before, "x", short_lived("passing", 0), START);
    let bytes = snapshot(&before, START);
    let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    assert_eq!([has("hidden"), has("passing"), has("kept")], [false, false, true]);
    let after = restart(&before, &Config::default(), START);
    assert_eq!(put(&after, "x", "next"), 4, "numbers go on all the same");
}

#[test]
fn a_closed_order_takes_nothing_more() {
    let history = history(Config::default());
    put_at(&history, "x", Message::from("a").idempotency_key("k"), START);
    history.close();
    for message in [Message::from("b"), Message::from("a").idempotency_key("k")] {
        let rejected = history.publish("x", message.clone(), START).expect_err("it is closed");
        assert_eq!((rejected.refusal, rejected.message), (CLOSED, message));
    }
    assert_eq!((history.head(), kept(&history, "x", START)), (1, "a".to_owned()));
}

#[test]
fn forms_survive() {
    let before = history(Config::default());
    put_at(&before, "x", Message::json("1").expect("it is JSON"), START);
    put(&before, "x", "1");
    put_at(&before, "x", Message::bytes([0xff]), START);
    let after = restart(&before, &Config::default(), START);
    let inner = after.lock();
    let forms: Vec<_> = inner.channels[0].visible(START.unix_ms).map(|p| p.form).collect();
    assert_eq!(forms, [Form::Data, Form::Text, Form::Binary]);
}

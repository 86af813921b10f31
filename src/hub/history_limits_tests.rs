//! Where the order's limits lie to the byte and to the millisecond, and who is woken.

use std::sync::atomic::AtomicUsize;

use super::*;

#[test]
fn a_publication_wakes_who_dozes_and_a_refused_one_nobody() {
    let history = history(Config { memory_bytes: FIXED + 10, ..Config::default() });
    let wakes: [Arc<AtomicUsize>; 2] = Default::default();
    let bells = wakes.each_ref().map(|wakes| {
        let wakes = Arc::clone(wakes);
        Arc::new(Bell::new(move || _ = wakes.fetch_add(1, Ordering::Relaxed)))
    });
    bells.iter().for_each(|bell| history.add_bell(Arc::clone(bell)));
    let woken = || wakes.each_ref().map(|wakes| wakes.load(Ordering::Relaxed));
    bells[0].doze();
    bells[0].rise();
    put(&history, "x", "a");
    assert_eq!(woken(), [0, 0], "both are awake");
    bells[1].doze();
    let version = history.version();
    history.publish("x", "too large for it".into(), START).expect_err("it is refused");
    assert_eq!((woken(), bells[1].is_dozing()), ([0, 0], true), "there is nothing to see");
    put(&history, "x", "b");
    put(&history, "x", "c");
    assert_eq!((woken(), bells[1].is_dozing()), ([0, 1], false));
    assert_ne!(history.version(), version);
}

#[test]
fn a_publication_wakes_only_those_of_several_loops_that_listen() {
    let history = history(Config::default().loops(3));
    let wakes: [Arc<AtomicUsize>; 3] = Default::default();
    let bells = wakes.each_ref().map(|wakes| {
        let wakes = Arc::clone(wakes);
        Arc::new(Bell::new(move || _ = wakes.fetch_add(1, Ordering::Relaxed)))
    });
    bells.iter().enumerate().for_each(|(number, bell)| history.add_loop(number, Arc::clone(bell)));
    let publish = |channel| {
        let news = [0, 1, 2].map(|number| history.news_of(number));
        bells.iter().for_each(|bell| bell.doze());
        put(&history, channel, "x");
        let is_new = [0, 1, 2].map(|number| history.news_of(number) != news[number]);
        let woken = wakes.each_ref().map(|wakes| wakes.swap(0, Ordering::Relaxed) > 0);
        assert_eq!(woken, is_new, "a loop that sleeps is woken, one that is awake sees it");
        woken
    };
    assert_eq!(publish("a"), [true, false, false], "somebody must sweep");
    assert_eq!(publish("a"), [false; 3], "and does");
    let channel = history.join("a", None, history.head(), START).expect("room").channel;
    let before = history.news_of(1);
    history.listen(channel, 1);
    assert_ne!(history.news_of(1), before, "what was published meanwhile is looked for");
    assert_eq!((publish("a"), publish("b")), ([false, true, false], [false; 3]));
    history.hear_all(2, true);
    assert_eq!((publish("a"), publish("b")), ([false, true, true], [false, false, true]));
    history.hear_all(2, false);
    history.unlisten(channel, 1);
    history.leave(channel, START);
    assert_eq!((publish("a"), publish("b")), ([false; 3], [false; 3]));
    bells.iter().for_each(|bell| bell.doze());
    history.ring();
    assert!(bells.iter().all(|bell| !bell.is_dozing()));
}

#[test]
fn the_budget_holds_what_fills_it_exactly() {
    let history = narrow(Config { memory_bytes: 2 * (FIXED + 10), ..Config::default() });
    put(&history, "x", &"a".repeat(10));
    put(&history, "x", &"b".repeat(10));
    assert_eq!(kept(&history, "x", START).len(), 20);
    let whole = "c".repeat(FIXED + 20);
    put(&history, "x", &whole);
    assert_eq!(kept(&history, "x", START), whole);
    let over = history.publish("x", "d".repeat(FIXED + 21).into(), START).expect_err("one byte");
    assert_eq!(over.refusal, MEMORY_FULL);
    assert_eq!(kept(&history, "x", START), whole);
}

/// Five messages of one byte that history has let go of, and a connection has not.
fn pin_five(history: &History) -> Vec<Arc<Publication>> {
    let reader = Reader::live(history, "x");
    put_all(history, "x", ["1", "2", "3", "4", "5"]);
    let mut pins = Vec::new();
    history.pull(&[reader.want()], 5, ALL, START, &mut pins, &mut Vec::new());
    history.clear("x", START);
    pins
}

/// What is evicted while a connection still has it takes its room all the same.
#[test]
fn evicting_what_is_pinned_frees_nothing() {
    let place = FIXED + 1;
    let history = history(Config { memory_bytes: 8 * place, ..Config::default() });
    let pins = pin_five(&history);
    for number in 0..20_u64 {
        let message = Message::from("a").ttl(Duration::from_secs(number / 10));
        history.publish("y", message, START).expect("three places are free or can be");
        assert!(history.stats().memory_used <= 8 * place, "{number}: {:?}", history.stats());
    }
    // And where evicting cannot help, it ends.
    let whole = "b".repeat(3 * place);
    history.publish("y", whole.into(), START).expect_err("five places are pinned");
    drop(pins);
    put(&history, "y", "c");
}

#[test]
fn what_recent_holds_is_evicted_one_by_one_too() {
    // Five of eight places are pinned: `recent`, which may have four, holds all that is kept.
    let place = FIXED + 1;
    let history = history(Config { memory_bytes: 8 * place, ..Config::default() });
    let _pins = pin_five(&history);
    put_all(&history, "y", ["a", "b", "c", "d", "e"]);
    assert_eq!(kept(&history, "y", START), "cde", "and no more than had to go");
    assert_eq!(history.stats().memory_used, 8 * place);
    assert_eq!(after(&history, "y", 6).1, Some(GapReason::Trimmed));
    assert_eq!(after(&history, "y", 7).1, None);
}

#[test]
fn a_sweep_frees_what_is_older_than_its_age_and_nothing_younger() {
    let config = Config { history_age: Duration::from_secs(60), ..Config::default() };
    let history = history(config);
    put(&history, "x", "a");
    put_at(&history, "x", "b".into(), seconds(1));
    let used = |second| {
        history.sweep(seconds(second));
        history.stats().memory_used
    };
    assert_eq!(used(30), 2 * (FIXED + 1));
    assert_eq!(used(59), 2 * (FIXED + 1), "half a minute has not passed");
    assert_eq!(used(61), FIXED + 1, "one is a minute old and the other is past it");
    assert_eq!(used(91), 0);
    assert_eq!(history.next_sweep(), Some(seconds(121).mono_ms), "the channel is remembered");
}

#[test]
fn what_passes_makes_room_where_nothing_is_kept() {
    // Five of ten places are pinned, and `recent` may have the other five.
    let place = FIXED + 1;
    let history = history(Config { memory_bytes: 10 * place, ..Config::default() });
    let _pins = pin_five(&history);
    for text in ["a", "b", "c", "d", "e", "f", "g"] {
        put_at(&history, "y", short_lived(text, 0), START);
        assert!(history.stats().memory_used <= 10 * place, "{text}");
    }
    let refused = history.publish("y", "h".repeat(5 * FIXED).into(), START);
    assert_eq!(refused.expect_err("it never fits").refusal, MEMORY_FULL);
    assert_eq!(history.stats().memory_used, 10 * place, "and nothing was let go of for it");
}

#[test]
fn recent_takes_at_most_half_of_the_budget() {
    let place = FIXED + 1;
    let history = history(Config { memory_bytes: 8 * place, ..Config::default() });
    put_all(&history, "x", ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(history.lock().recent.len(), 4);
    let unlimited = HistoryLimits::from(&Config { memory_bytes: 0, ..Config::default() });
    assert_eq!(unlimited.memory_bytes, 64 * MIB);
    assert!(unlimited.recent_bytes <= 32 * MIB);
}

#[test]
fn this_very_moment_is_not_the_future() {
    let history = narrow(Config::default());
    put_at(&history, "x", "a".into(), seconds(10));
    let at = |second: u64| Since::At { unix_ms: seconds(second).unix_ms };
    for since in [at(10), Since::Ago { ms: 0 }] {
        assert_eq!(stand(&history, "x", since, seconds(10)), (0, None), "{since:?}");
    }
    // A clock that was set back: what lies ahead of it has not been, whatever was published then.
    let back = Now { unix_ms: seconds(5).unix_ms, ..seconds(11) };
    assert_eq!(stand(&history, "x", at(6), back), (1, None));
    assert_eq!(stand(&history, "x", at(5), back), (0, None));
}

#[test]
fn a_key_that_is_remembered_alone_still_expires() {
    let config = Config {
        history_age: Duration::ZERO,
        channel_memory: Duration::ZERO,
        idempotency_window: Duration::from_secs(100),
        ..Config::default()
    };
    let history = narrow(config);
    put_at(&history, "x", Message::from("a").idempotency_key("1"), START);
    assert_eq!(history.sweep(seconds(40)), Some(seconds(70).mono_ms));
    assert_eq!((history.stats().channels, history.stats().memory_used), (0, 0));
    assert_eq!(history.sweep(seconds(99)), Some(seconds(129).mono_ms));
    assert_eq!(history.sweep(seconds(128)), Some(seconds(129).mono_ms), "it is not yet time");
    assert_eq!(history.lock().keys.len(), 1);
    assert_eq!(history.sweep(seconds(129)), None, "then nothing wakes any more");
    assert_eq!(history.lock().keys.len(), 0);
}

#[test]
fn the_index_stays_small_behind_much_that_is_kept() {
    let history = narrow(Config { history_messages: 4_200, ..Config::default() });
    for number in 0..44_200 {
        put(&history, if number < 4_200 { "old" } else { "x" }, "z");
    }
    let indexed = history.lock().order.len();
    assert!((8_400..25_000).contains(&indexed), "{indexed}");
    assert_eq!(history.stats().messages, 8_400);
}

#[test]
fn a_stale_place_in_the_index_takes_nothing_younger_away() {
    let place = FIXED + 1;
    let history = narrow(Config { memory_bytes: 4 * place, ..Config::default() });
    put_all(&history, "x", ["1", "2", "3"]);
    put(&history, "y", "4");
    history.clear("x", START);
    put(&history, "x", "5");
    // Two of the four places are free, and this takes three.
    put(&history, "z", &"6".repeat(3 * place - FIXED));
    let left = ["x", "y"].map(|channel| kept(&history, channel, START));
    assert_eq!(left, ["5", ""], "the oldest that is still there went");
}

#[test]
fn a_pull_takes_what_fills_it_exactly() {
    let history = history(Config::default());
    put_all(&history, "x", ["aa", "bb", "cc"]);
    let want = Reader::join(&history, "x", Since::Earliest, START).want();
    for (bytes, count) in [(0, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)] {
        let limits = PullLimits { count: usize::MAX, bytes };
        let (items, pulled) = pull(&history, &[want], 3, limits, START).expect("nothing is lost");
        let expected = Pulled { up_to: count, more: count < 3 };
        assert_eq!((items.len() as u64, pulled), (count, expected), "{bytes} bytes");
    }
}

#[test]
fn a_known_key_tells_todays_listeners() {
    let history = history(Config::default());
    let again = || {
        let message = Message::from("a").idempotency_key("1");
        history.publish("x", message, START).expect("there is room").subscribers
    };
    assert_eq!([again(), again()], [0, 0]);
    let readers = [(); 2].map(|()| Reader::live(&history, "x"));
    assert_eq!(again(), 2);
    readers.iter().for_each(|reader| history.leave(reader.channel, START));
    assert_eq!(again(), 0);
}

#[test]
fn where_the_table_is_full_the_quietest_channel_without_listeners_gives_way() {
    let history = narrow(Config { channels_max: 3, ..Config::default() });
    let reader = history.join("a", None, 0, START).expect("there is room");
    put(&history, "a", "1");
    put(&history, "b", "2");
    put(&history, "c", "3");
    put(&history, "a", "4");
    put(&history, "d", "5");
    assert_eq!(kept(&history, "a", START), "14", "somebody listens there");
    assert_eq!(kept(&history, "c", START), "3");
    assert_eq!(kept(&history, "d", START), "5");
    history.leave(reader.channel, START);
    assert_eq!(history.stats().channels, 3);
    assert_eq!(history.publish("e", "6".into(), START).map(|published| published.id.seq), Ok(6));
    // What it kept is not lost without a word.
    assert_eq!(after(&history, "c", 2), (6, Some(GapReason::Trimmed)));
}

#[test]
fn where_everyone_has_listeners_there_is_no_place_for_another() {
    let history = narrow(Config { channels_max: 2, ..Config::default() });
    for name in ["a", "b"] {
        history.join(name, None, 0, START).expect("there is room");
        put_all(&history, name, ["1", "2"]);
    }
    for now in [START, seconds(1), seconds(2)] {
        assert!(history.publish("c", "3".into(), now).is_err());
    }
    assert_eq!(
        (kept(&history, "a", START), kept(&history, "b", START)),
        ("12".into(), "12".into())
    );
}

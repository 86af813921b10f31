//! Channels that keep only the newest of each event name: what goes, what is never a loss, and that
//! the accounts stay right.

use super::*;

fn conflating(config: Config) -> History {
    history(Config { latest: vec!["x*".to_owned()], ..config })
}

fn named(event: &str, text: &str) -> Message {
    Message::from(text).event(event)
}

fn take_in(history: &History, horizon: u64) -> Vec<ChannelIndex> {
    let mut news = Vec::new();
    history.take_in(horizon, &mut news);
    news
}

#[test]
fn the_newest_of_each_name_is_kept_and_no_floor_rises() {
    let history = conflating(Config::default());
    for (event, text) in [("n", "a"), ("m", "b"), ("n", "c"), ("n", "d"), ("m", "e")] {
        put_at(&history, "x", named(event, text), START);
    }
    put_all(&history, "x", ["f", "g"]);
    put_all(&history, "y", ["h", "i"]);
    assert_eq!(
        (kept(&history, "x", START), kept(&history, "y", START)),
        ("deg".into(), "hi".into())
    );
    assert_eq!(after(&history, "x", 0), (0, None));
    let info = ChannelInfo { subscribers: 0, messages: 3, bytes: 3 };
    assert_eq!(history.info("x", START), info);
    let stats = history.stats();
    assert_eq!((stats.messages, stats.bytes, stats.published, stats.conflated), (5, 5, 9, 4));
    let names = 2 * (1 + 48); // and what an allocator adds to them
    assert_eq!(stats.memory_used, 5 * (FIXED + 1) + names);
}

#[test]
fn what_is_superseded_leaves_the_limits_to_the_others() {
    let history = narrow(Config {
        latest: vec!["x".to_owned()],
        history_messages: 2,
        history_bytes: 20,
        ..Config::default()
    });
    for _ in 0..9 {
        put_at(&history, "x", named("n", "nnnnnnnn"), START);
        put_at(&history, "x", named("m", "mmmmmmmm"), START);
    }
    assert_eq!(after(&history, "x", 0), (0, None));
    put_at(&history, "x", named("o", "o"), START);
    assert_eq!(after(&history, "x", 0), (17, Some(GapReason::Trimmed)));
    assert_eq!(kept(&history, "x", START), "mmmmmmmmo");
    // The one that was evicted comes again: nobody who has seen the last has lost it.
    put_at(&history, "x", named("m", "m"), START);
    assert_eq!((after(&history, "x", 17), kept(&history, "x", START)), ((17, None), "om".into()));
}

#[test]
fn a_reader_has_lost_nothing_when_what_a_limit_hides_is_superseded() {
    let history = conflating(Config { history_messages: 1, ..Config::default() });
    let mut live = Reader::live(&history, "x");
    for (event, text) in [("n", "a"), ("m", "b"), ("n", "c"), ("m", "d"), ("n", "e")] {
        put_at(&history, "x", named(event, text), START);
    }
    assert_eq!(kept(&history, "x", START), "e");
    assert_eq!(live.texts(&history), "de", "the hidden one too, for it listened");
    let inner = history.lock();
    let (held, weighed) = (inner.held, history.budget.used());
    assert_eq!(held, weighed, "what is held is all there is");
}

#[test]
fn what_has_been_taken_in_is_delivered_until_the_next_look() {
    let history = conflating(Config::default());
    let mut live = Reader::live(&history, "x");
    put_all(&history, "x", ["a", "b"]);
    take_in(&history, 0);
    let horizon = history.head();
    put_all(&history, "x", ["c", "d", "e"]);
    put_at(&history, "x", short_lived("p", 0), START);
    let (items, _) = pull(&history, &[live.want()], horizon, ALL, START).expect("nothing is lost");
    assert_eq!(items, [(2, "b".to_owned())], "the newest at the horizon");
    live.at = horizon;
    assert_eq!((kept(&history, "x", START), history.info("x", START).messages), ("e".into(), 1));
    assert_eq!(take_in(&history, horizon).len(), 1, "and there is more");
    let stats = history.stats();
    assert_eq!((stats.conflated, stats.memory_used), (4, 2 * (FIXED + 1)));
    assert_eq!(live.texts(&history), "ep");
    assert!(history.lock().late.is_empty());
}

#[test]
fn what_one_of_several_loops_has_taken_in_passes_until_that_loop_looks() {
    let config = Config { recent_bytes: 10 * (FIXED + 1), ..Config::default().loops(3) };
    let history = conflating(config);
    let live = Reader::live(&history, "x");
    let channel = history.find("x").expect("somebody listens");
    [0, 1].into_iter().for_each(|number| history.listen(channel, number));
    let look = |number, horizon| history.take_in_on(number, horizon, &mut Vec::new()).horizon;
    let found = |horizon| pull(&history, &[live.want()], horizon, ALL, START).expect("no loss").0;
    put_all(&history, "x", ["a"]);
    let horizon = look(0, 0);
    // Others look as often as anybody publishes.
    for text in ["b", "c", "d"] {
        put_all(&history, "x", [text]);
        look(1, horizon);
        look(2, horizon);
        assert_eq!(found(horizon), [(1, "a".to_owned())]);
    }
    assert_eq!(found(look(0, horizon)), [(4, "d".to_owned())], "and nothing older");
    assert!(history.lock().late.is_empty());
    // Nobody waits for a loop that listens no more, nor longer than `recent` lasts for one that stands.
    let superseded = |text| {
        put_all(&history, "x", [text]);
        look(1, horizon);
        history.lock().late.len()
    };
    assert_eq!((superseded("e"), superseded("f")), (1, 2));
    (0..100).for_each(|_| assert!(superseded("g") <= 11));
    history.unlisten(channel, 0);
    look(1, horizon);
    assert!(history.lock().late.is_empty());
    let inner = history.lock();
    assert_eq!(inner.held, history.budget.used(), "what is held is all there is");
}

#[test]
fn one_that_replays_is_not_given_what_is_superseded_meanwhile() {
    let history = conflating(Config::default());
    put_all(&history, "x", ["a"]);
    take_in(&history, 0);
    let reader = Reader::join(&history, "x", Since::Earliest, START);
    put_all(&history, "x", ["b"]);
    let (items, pulled) = pull(&history, &[reader.want()], 1, ALL, START).expect("none is lost");
    assert_eq!((items.len(), pulled), (0, Pulled { up_to: 1, more: false }));
    assert_eq!(kept(&history, "x", START), "b");
}

#[test]
fn what_passes_supersedes_what_passes() {
    let history = conflating(Config::default());
    let mut live = Reader::live(&history, "x");
    put(&history, "x", "a");
    for text in ["b", "c"] {
        put_at(&history, "x", short_lived(text, 0), START);
    }
    assert_eq!((live.texts(&history), kept(&history, "x", START)), ("ac".into(), "a".into()));
    put_at(&history, "x", short_lived("d", 0), START);
    put(&history, "x", "e");
    assert_eq!((live.texts(&history), history.stats().conflated), ("e".into(), 4));
    assert_eq!(history.stats().memory_used, FIXED + 1);
}

#[test]
fn what_a_connection_still_holds_counts_until_it_lets_go() {
    let place = FIXED + 1;
    let history = conflating(Config { memory_bytes: 4 * place, ..Config::default() });
    let mut live = Reader::live(&history, "x");
    let mut pins = Vec::new();
    for _ in 0..3 {
        put(&history, "x", "a");
        take_in(&history, 0);
        history.pull(&[live.want()], history.head(), ALL, START, &mut pins, &mut Vec::new());
        live.at = history.head();
    }
    put(&history, "x", "b");
    take_in(&history, 0);
    assert_eq!((pins.len(), history.stats().memory_used), (3, 4 * place));
    let large = "c".repeat(place + 1);
    let full = history.publish("x", large.into(), START).expect_err("three places are pinned");
    assert_eq!((full.refusal, kept(&history, "x", START)), (MEMORY_FULL, "b".into()));
    pins.clear();
    put(&history, "x", "d");
    take_in(&history, 0);
    assert_eq!((history.stats().memory_used, history.lock().held), (place, place));
}

#[test]
fn the_index_over_all_channels_stays_small_behind_one_that_stays() {
    let history = conflating(Config::default());
    put_at(&history, "x", named("first", "stays"), START);
    for _ in 0..50_000 {
        put(&history, "x", "z");
    }
    let indexed = history.lock().order.len();
    assert!(indexed <= 8_192, "{indexed}");
    // And it still finds the oldest of all.
    let history = conflating(Config { memory_bytes: 20 * FIXED, ..Config::default() });
    for number in 0..20_000u32 {
        let (channel, event) = (["x1", "x2"][number as usize % 2], format!("e{}", number % 60));
        put_at(&history, channel, named(&event, &event), START);
        assert!(history.stats().memory_used <= 20 * FIXED);
    }
    let newest = "e30e32e34";
    assert!(!kept(&history, "x1", START).contains(newest), "thirty names do not fit");
    assert!(kept(&history, "x1", START).ends_with("e16e18"), "{}", kept(&history, "x1", START));
}

#[test]
fn a_sweep_and_forgetting_a_channel_leave_nothing() {
    let history = conflating(Config { channel_memory: Duration::ZERO, ..Config::default() });
    let live = Reader::live(&history, "x");
    for second in 0..3 {
        put_at(&history, "x", named("n", "a"), seconds(second));
        put_at(&history, "x", short_lived("p", 0), seconds(second));
        take_in(&history, 0);
    }
    put_at(&history, "x", named("n", "a"), seconds(3));
    put_at(&history, "x", short_lived("p", 0), seconds(3));
    history.leave(live.channel, seconds(3));
    history.sweep(seconds(400));
    let stats = history.stats();
    assert_eq!((stats.channels, stats.messages, stats.memory_used), (0, 0, 0));
    // The place in the table is another's now; what was to be dropped there does not touch it.
    put(&history, "y", "b");
    take_in(&history, 0);
    assert_eq!((kept(&history, "y", START), history.lock().held), ("b".into(), FIXED + 1));
}

#[test]
fn names_that_end_together_are_forgotten_in_one_pass() {
    const NAMES: u64 = 2_000;
    // Out of their rings with what is published next; or only when `recent` has grown old.
    for (recent_bytes, ttl_s) in [(0, 10), (64 * MIB, 10), (64 * MIB, 0)] {
        let config = Config { history_messages: 10_000, recent_bytes, ..Config::default() };
        let history = conflating(config);
        for number in 0..NAMES {
            let name = format!("{:04}", number * 7919 % NAMES);
            let message = named(&name, "x").ttl(Duration::from_secs(ttl_s));
            put_at(&history, "x", message, START);
        }
        let mut inner = history.lock();
        let names = |inner: &Inner| inner.channels[0].places();
        assert!(names(&inner) >= NAMES as usize);
        let moved = inner.channels[0].names_moved();
        drop(inner);
        put_at(&history, "x", named("last", "y"), seconds(20));
        history.sweep(seconds(1_000));
        inner = history.lock();
        let moved = inner.channels[0].names_moved() - moved;
        assert!(moved < 2 * NAMES as usize, "{recent_bytes} {ttl_s}: {moved} moves");
        assert!(names(&inner) < 200, "the table is given back");
        drop(inner);
        assert_eq!(history.stats().messages, 0, "all are too old by now");
        history.check();
    }
}

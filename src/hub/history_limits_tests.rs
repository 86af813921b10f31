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

#[test]
fn what_recent_holds_is_evicted_one_by_one_too() {
    // Five of eight places are pinned: `recent`, which may have four, holds all that is kept.
    let place = FIXED + 1;
    let history = history(Config { memory_bytes: 8 * place, ..Config::default() });
    let reader = Reader::live(&history, "x");
    put_all(&history, "x", ["1", "2", "3", "4", "5"]);
    let mut pins = Vec::new();
    history.pull(&[reader.want()], 5, ALL, START, &mut pins, &mut Vec::new());
    history.clear("x", START);
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

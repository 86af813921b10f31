//! The order as its readers see it: what is kept, what limits take, and what is said about it.

use std::time::Duration;

use super::*;
use crate::config::KIB;
use crate::message::on_heap;

#[path = "history_audit_tests.rs"]
mod audit;
#[path = "history_latest_tests.rs"]
mod latest;
#[path = "history_limits_tests.rs"]
mod limits;
#[path = "history/restore_tests.rs"]
mod restore;
#[path = "history_tables_tests.rs"]
mod tables;

const START: Now = Now { mono_ms: 500_000, unix_ms: 1_764_000_000_000 };
/// What one publication weighs besides its payload.
const FIXED: usize = size_of::<Publication>() + 64;

fn seconds(seconds: u64) -> Now {
    START.after(seconds * 1000)
}

/// Tables cost nothing, and no part of the budget is held back.
fn weigh_publications_alone(history: &mut History) {
    history.limits.counts_tables = false;
    history.limits.usable_bytes = history.limits.memory_bytes;
}

/// One whose budget counts publications alone.
fn history(config: Config) -> History {
    let mut history = History::new(&config, Epoch::from_random(7), START);
    weigh_publications_alone(&mut history);
    history
}

/// A history whose `recent` holds nothing back: only the newest publication.
fn narrow(config: Config) -> History {
    history(Config { recent_bytes: 0, ..config })
}

fn put(history: &History, channel: &str, text: &str) -> u64 {
    put_at(history, channel, text.into(), START)
}

fn put_all<const N: usize>(history: &History, channel: &str, texts: [&str; N]) {
    for text in texts {
        put(history, channel, text);
    }
}

fn put_at(history: &History, channel: &str, message: Message, now: Now) -> u64 {
    history.publish(channel, message, now).expect("it is taken").id.seq
}

fn short_lived(text: &str, seconds: u64) -> Message {
    Message::from(text).ttl(Duration::from_secs(seconds))
}

/// Where a new reader stands; it does not stay.
fn stand(history: &History, channel: &str, since: Since, now: Now) -> (u64, Option<GapReason>) {
    let joined = history.join(channel, Some(since), history.head(), now).expect("there is room");
    history.leave(joined.channel, now);
    (joined.position, joined.gap)
}

fn after(history: &History, channel: &str, seq: u64) -> (u64, Option<GapReason>) {
    stand(history, channel, Since::Cursor(history.cursor(seq)), START)
}

/// One who listens, from its place on.
struct Reader {
    channel: ChannelIndex,
    at: u64,
    catching_up: bool,
}

impl Reader {
    fn join(history: &History, channel: &str, since: Since, now: Now) -> Self {
        let horizon = history.head();
        let joined = history.join(channel, Some(since), horizon, now).expect("there is room");
        let at = joined.position;
        Self { channel: joined.channel, at, catching_up: at < horizon }
    }

    fn live(history: &History, channel: &str) -> Self {
        Self::join(history, channel, Since::Latest, START)
    }

    fn want(&self) -> Want {
        Want { channel: self.channel, after: self.at, catching_up: self.catching_up }
    }

    /// Everything up to the head: seqs and texts, and whether a place was lost.
    fn read(&mut self, history: &History, now: Now) -> (Vec<(u64, String)>, bool) {
        let mut lost = false;
        loop {
            match pull(history, &[self.want()], history.head(), ALL, now) {
                Ok((items, _)) => {
                    (self.at, self.catching_up) = (history.head(), false);
                    return (items, lost);
                }
                Err(place) => (self.at, lost) = (place[0].resumed, true),
            }
        }
    }

    fn texts(&mut self, history: &History) -> String {
        let (items, lost) = self.read(history, START);
        let texts: String = items.into_iter().map(|(_, text)| text).collect();
        if lost { format!("!{texts}") } else { texts }
    }
}

const ALL: PullLimits = PullLimits { count: usize::MAX, bytes: usize::MAX };

type Texts = Vec<(u64, String)>;

fn pull(
    history: &History,
    wants: &[Want],
    horizon: u64,
    limits: PullLimits,
    now: Now,
) -> Result<(Texts, Pulled), Vec<Lost>> {
    let (mut items, mut lost) = (Vec::new(), Vec::new());
    let pulled = history.pull(wants, horizon, limits, now, &mut items, &mut lost);
    if !lost.is_empty() {
        assert!(items.is_empty(), "nothing is collected where a place was lost");
        return Err(lost);
    }
    let text = |item: &Item| String::from_utf8_lossy(&item.payload).into_owned();
    Ok((items.iter().map(|item| (item.seq, text(item))).collect(), pulled))
}

/// What a newcomer can still see.
fn kept(history: &History, channel: &str, now: Now) -> String {
    let mut reader = Reader::join(history, channel, Since::Earliest, now);
    let (items, lost) = reader.read(history, now);
    assert!(!lost, "earliest is never lost");
    history.leave(reader.channel, now);
    items.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn a_ring_is_bounded_by_count_bytes_and_age() {
    let by_count = narrow(Config { history_messages: 3, ..Config::default() });
    put_all(&by_count, "x", ["a", "b", "c", "d", "e"]);
    assert_eq!(kept(&by_count, "x", START), "cde");

    let by_bytes = narrow(Config { history_bytes: 5, ..Config::default() });
    put_all(&by_bytes, "x", ["aa", "bb", "cc", "d"]);
    assert_eq!(kept(&by_bytes, "x", START), "bbccd");
    put(&by_bytes, "x", "eeeeee");
    assert_eq!(kept(&by_bytes, "x", START), "", "one that is too large alone is not kept");

    let by_age = narrow(Config { history_age: Duration::from_secs(10), ..Config::default() });
    put_at(&by_age, "x", "a".into(), START);
    put_at(&by_age, "x", "b".into(), seconds(5));
    assert_eq!(kept(&by_age, "x", seconds(10)), "ab");
    assert_eq!(kept(&by_age, "x", seconds(11)), "b", "before any sweep");
    assert_eq!(by_age.info("x", seconds(16)).messages, 0);
    assert_eq!(kept(&by_age, "x", seconds(16)), "");
}

#[test]
fn a_history_of_nothing_still_delivers() {
    let history = narrow(Config { history_messages: 0, ..Config::default() });
    let mut reader = Reader::live(&history, "x");
    put(&history, "x", "a");
    assert_eq!(kept(&history, "x", START), "");
    assert_eq!(reader.texts(&history), "a");
    put_all(&history, "x", ["b", "c"]);
    assert_eq!(reader.texts(&history), "!", "`recent` held the newest only");
}

#[test]
fn one_order_runs_over_all_channels() {
    let history = history(Config::default());
    let seqs = [("x", "a"), ("y", "b"), ("x", "c")].map(|(to, text)| put(&history, to, text));
    assert_eq!(seqs, [1, 2, 3]);
    let wants = ["x", "y"].map(|name| Reader::join(&history, name, Since::Earliest, START).want());
    let (items, pulled) = pull(&history, &wants, 3, ALL, START).expect("nothing is lost");
    assert_eq!(items, [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
    assert_eq!(pulled, Pulled { up_to: 3, more: false });
    assert_eq!(history.only_news(&wants), None);
    let only = [Want { after: 3, ..wants[0] }, Want { after: 1, ..wants[1] }];
    assert_eq!(history.only_news(&only), Some(1));
    // Nothing beyond the horizon, and no more than was asked for.
    let (items, _) = pull(&history, &wants, 2, ALL, START).expect("nothing is lost");
    assert_eq!(items.last(), Some(&(2, "b".into())));
    let two = PullLimits { count: 2, bytes: usize::MAX };
    let (_, pulled) = pull(&history, &wants, 3, two, START).expect("nothing is lost");
    assert_eq!(pulled, Pulled { up_to: 2, more: true });
    let (items, pulled) =
        pull(&history, &wants, 3, PullLimits { count: 9, bytes: 0 }, START).expect("none is lost");
    assert_eq!(
        (items.len(), pulled),
        (1, Pulled { up_to: 1, more: true }),
        "the first always fits"
    );
}

#[test]
fn what_is_new_is_listed_once_and_an_overrun_is_told() {
    let history = history(Config { recent_bytes: 3 * (FIXED + 1), ..Config::default() });
    let mut news = Vec::new();
    for channel in ["y", "x", "y"] {
        put(&history, channel, "a");
    }
    assert_eq!(history.take_in(0, &mut news), TakenIn { horizon: 3, overrun: false });
    let names = |news: &[ChannelIndex]| {
        let inner = history.lock();
        news.iter()
            .map(|index| inner.channels[*index as usize].name.to_string())
            .collect::<String>()
    };
    assert_eq!(names(&news), "yx");
    news.clear();
    put(&history, "x", "b");
    assert_eq!(history.take_in(3, &mut news), TakenIn { horizon: 4, overrun: false });
    assert_eq!(names(&news), "x");
    assert!(history.take_in(0, &mut Vec::new()).overrun);
    assert!(!history.take_in(1, &mut Vec::new()).overrun);
}

#[test]
fn limits_hide_from_a_since_what_a_live_reader_still_gets() {
    let history = history(Config { history_messages: 1, ..Config::default() });
    let mut live = Reader::live(&history, "x");
    put_all(&history, "x", ["a", "b", "c"]);
    assert_eq!(after(&history, "x", 0), (2, Some(GapReason::Trimmed)));
    assert_eq!(after(&history, "x", 2), (2, None));
    assert_eq!(kept(&history, "x", START), "c");
    assert_eq!(live.texts(&history), "abc");
    assert_eq!(history.info("x", START).messages, 1);
}

#[test]
fn a_reader_at_its_horizon_has_lost_nothing_yet() {
    // Another thread publishes between a loop's look at the order and its pull.
    let history = narrow(Config { history_messages: 1, ..Config::default() });
    let mut reader = Reader::live(&history, "x");
    put(&history, "x", "a");
    let horizon = history.head();
    put_all(&history, "x", ["b", "c", "d"]);
    let lost = pull(&history, &[reader.want()], horizon, ALL, START).expect_err("it is gone");
    assert_eq!(lost, [Lost { want: 0, resumed: horizon }]);
    reader.at = horizon;
    let (items, pulled) = pull(&history, &[reader.want()], horizon, ALL, START).expect("said once");
    assert_eq!((items.len(), pulled), (0, Pulled { up_to: horizon, more: false }));
    assert_eq!(reader.texts(&history), "!d", "and the rest is said when the horizon is there");
}

#[test]
fn every_since_has_its_verdict() {
    let history = narrow(Config { history_messages: 2, ..Config::default() });
    for (second, text) in ["a", "b", "c", "d"].iter().enumerate() {
        put_at(&history, "x", (*text).into(), seconds(second as u64 * 10));
    }
    let now = seconds(40);
    let at = |second: u64| Since::At { unix_ms: seconds(second).unix_ms };
    let cursor = |seq| Since::Cursor(history.cursor(seq));
    let foreign = Since::Cursor(Cursor { epoch: Epoch::from_random(8), seq: 3 });
    let (trimmed, epoch) = (Some(GapReason::Trimmed), Some(GapReason::Epoch));
    let cases = [
        (Since::Latest, 4, None),
        (Since::Earliest, 2, None),
        (cursor(4), 4, None),
        (cursor(3), 3, None),
        (cursor(2), 2, None),
        (cursor(1), 2, trimmed),
        (cursor(0), 2, trimmed),
        (cursor(5), 2, epoch),
        (cursor(u64::MAX), 2, epoch),
        (foreign, 2, epoch),
        (Since::Unknown, 2, epoch),
        (at(30), 3, None),
        (at(11), 2, None),
        (at(10), 2, trimmed),
        (at(0), 2, trimmed),
        (at(31), 4, None),
        (at(41), 4, None),
        (Since::At { unix_ms: u64::MAX }, 4, None),
        (Since::Ago { ms: 0 }, 4, None),
        (Since::Ago { ms: 10_000 }, 3, None),
        (Since::Ago { ms: 29_000 }, 2, None),
        (Since::Ago { ms: 30_000 }, 2, trimmed),
        (Since::Ago { ms: u64::MAX }, 2, trimmed),
    ];
    for (since, position, gap) in cases {
        assert_eq!(stand(&history, "x", since, now), (position, gap), "{since:?}");
    }
    for since in [Since::Ago { ms: u64::MAX }, Since::At { unix_ms: 0 }, cursor(0)] {
        assert_eq!(stand(&history, "y", since, now).1, None, "{since:?}");
    }
    let joined = history.join("y", None, 4, now).expect("there is room");
    assert_eq!((joined.position, joined.gap, &*joined.name), (4, None, "y"));
}

#[test]
fn nothing_beyond_a_horizon_is_named() {
    let history = history(Config::default());
    put_all(&history, "x", ["a", "b", "c"]);
    for since in [None, Some(Since::Latest), Some(Since::At { unix_ms: u64::MAX })] {
        assert_eq!(history.join("x", since, 1, START).expect("room").position, 1, "{since:?}");
    }
    let beyond = history.join("x", Some(Since::Cursor(history.cursor(2))), 1, START);
    assert_eq!(beyond.expect("room").gap, Some(GapReason::Epoch));
    let earliest = history.join("y", Some(Since::Earliest), 1, START).expect("room");
    assert_eq!(earliest.position, 1);
}

#[test]
fn a_ttl_ends_without_a_gap_and_never_prolongs() {
    let history = narrow(Config { history_age: Duration::from_secs(60), ..Config::default() });
    put_at(&history, "x", short_lived("a", 5), START);
    put_at(&history, "x", short_lived("b", 500), START);
    put(&history, "x", "c");
    assert_eq!(kept(&history, "x", seconds(4)), "abc");
    assert_eq!(kept(&history, "x", seconds(5)), "bc");
    let since = Since::Cursor(history.cursor(0));
    assert_eq!(stand(&history, "x", since, seconds(5)), (0, None), "nobody has lost it");
    assert_eq!(kept(&history, "x", seconds(61)), "");
    let gone = Some(GapReason::Trimmed);
    assert_eq!(stand(&history, "x", since, seconds(61)), (3, gone));
}

#[test]
fn a_ttl_of_zero_is_for_those_who_listen() {
    let history = history(Config::default());
    let mut live = Reader::live(&history, "x");
    put(&history, "x", "a");
    put_at(&history, "x", short_lived("b", 0), START);
    put(&history, "x", "c");
    assert_eq!(kept(&history, "x", START), "ac");
    assert_eq!(history.info("x", START).messages, 2);
    assert_eq!(live.texts(&history), "abc");
    assert_eq!(after(&history, "x", 1), (1, None), "and it leaves no gap");

    // It is let go of with `recent`, and so is its channel.
    let history = narrow(Config::default());
    put_at(&history, "x", short_lived("a", 0), START);
    put(&history, "y", "b");
    assert_eq!(history.stats().memory_used, FIXED + 1);
}

#[test]
fn the_budget_takes_the_oldest_of_all_channels() {
    let history = narrow(Config { memory_bytes: 4 * (FIXED + 10), ..Config::default() });
    let text = |c: &str| c.repeat(10);
    let sent = [("x", "a"), ("y", "b"), ("x", "c"), ("y", "d"), ("z", "e"), ("z", "f")];
    for (channel, c) in sent {
        put(&history, channel, &text(c));
    }
    assert_eq!(kept(&history, "x", START), text("c"));
    assert_eq!(kept(&history, "y", START), text("d"));
    assert_eq!(kept(&history, "z", START), text("e") + &text("f"));
    let stats = history.stats();
    assert_eq!((stats.messages, stats.bytes, stats.published, stats.seq), (4, 40, 6, 6));
    assert_eq!((stats.memory_used, stats.memory_budget), (4 * (FIXED + 10), 4 * (FIXED + 10)));
    assert_eq!(after(&history, "x", 0).1, Some(GapReason::Trimmed));
    assert_eq!(after(&history, "y", 1).1, Some(GapReason::Trimmed));
    assert_eq!(after(&history, "y", 2).1, None);
    assert_eq!(after(&history, "z", 0).1, None);
}

#[test]
fn what_passes_is_within_the_budget_too() {
    let memory_bytes = 8 * (FIXED + 1);
    let history = history(Config { memory_bytes, ..Config::default() });
    for _ in 0..100 {
        put_at(&history, "x", short_lived("a", 0), START);
        assert!(history.stats().memory_used <= memory_bytes);
    }
}

#[test]
fn a_pinned_publication_counts_and_history_is_not_emptied_for_it() {
    let memory_bytes = 3 * (FIXED + KIB);
    let history = narrow(Config { memory_bytes, ..Config::default() });
    let (big, small) = ("p".repeat(KIB), "s".repeat(KIB / 2));
    let reader = Reader::live(&history, "x");
    put_all(&history, "x", [&big, &big]);
    let mut pins = Vec::new();
    history.pull(&[reader.want()], 2, ALL, START, &mut pins, &mut Vec::new());
    history.clear("x", START);
    put(&history, "y", &small); // the slot of `recent` passes on
    assert_eq!(history.stats().memory_used, 2 * (FIXED + KIB) + FIXED + KIB / 2);

    let refused = history.publish("y", Message::from("r".repeat(2 * KIB)), START);
    let rejected = refused.expect_err("two thirds are pinned");
    assert_eq!(rejected.refusal, MEMORY_FULL);
    assert_eq!(rejected.message, Message::from("r".repeat(2 * KIB)), "it comes back");
    assert_eq!(kept(&history, "y", START), small, "what was kept is kept");
    assert_eq!(history.head(), 3, "and no number is spent");
    put(&history, "y", &small);
    assert!(history.stats().memory_used <= memory_bytes);

    pins.clear();
    put(&history, "y", &"r".repeat(2 * KIB));
    assert!(history.stats().memory_used <= memory_bytes);
    assert!(history.publish("y", "r".repeat(memory_bytes).into(), START).is_err());
    assert!(kept(&history, "y", START).ends_with('r'), "nor for what can never fit");
}

#[test]
fn deleting_drops_what_is_kept_and_nothing_is_lost_by_who_has_seen_it() {
    let history = history(Config::default());
    let mut live = Reader::live(&history, "x");
    put_all(&history, "x", ["a", "b"]);
    history.clear("x", START);
    history.clear("nobody", START);
    assert_eq!(kept(&history, "x", START), "");
    assert_eq!(after(&history, "x", 2), (2, None));
    assert_eq!(after(&history, "x", 1), (2, Some(GapReason::Trimmed)));
    assert_eq!(live.texts(&history), "ab", "those who listened still get it");
    put(&history, "x", "c");
    assert_eq!(kept(&history, "x", START), "c");
    assert_eq!(history.info("x", START), ChannelInfo { subscribers: 1, messages: 1, bytes: 1 });
}

#[test]
fn a_sweep_lets_go_of_what_is_old_and_forgets_who_is_idle() {
    let config = Config {
        history_age: Duration::from_secs(60),
        channel_memory: Duration::from_secs(600),
        ..Config::default()
    };
    let history = history(config);
    assert_eq!(history.next_sweep(), None, "nothing is kept: nothing wakes");
    put(&history, "x", "a");
    let listener = Reader::live(&history, "y");
    put(&history, "y", "b");
    assert_eq!(history.next_sweep(), Some(seconds(30).mono_ms));
    let sweep = |second| history.sweep(seconds(second));
    sweep(60);
    assert_eq!(history.stats().messages, 2);
    sweep(91);
    let stats = history.stats();
    assert_eq!((stats.messages, stats.memory_used, stats.channels), (0, 0, 2));
    sweep(599);
    assert_eq!(history.stats().channels, 2);
    sweep(640);
    assert_eq!(history.stats().channels, 1, "who is listened to is not forgotten");
    // What was forgotten is the floor of every channel that is new.
    assert_eq!(after(&history, "x", 0).1, Some(GapReason::Trimmed));
    assert_eq!(after(&history, "x", 1), (1, None));
    let trimmed = Some(GapReason::Trimmed);
    assert_eq!(after(&history, "new", 0).1, trimmed, "a false gap is allowed");
    let at = Since::At { unix_ms: START.unix_ms };
    assert_eq!(stand(&history, "new", at, seconds(640)).1, trimmed);
    history.leave(listener.channel, seconds(640));
    assert_eq!(sweep(1300), None);
    assert_eq!(history.stats().channels, 0);
    assert_eq!(after(&history, "y", 1).1, Some(GapReason::Trimmed));
    assert_eq!(after(&history, "y", 2).1, None);
}

#[test]
fn a_channel_that_never_kept_anything_goes_with_its_last_listener() {
    let history = narrow(Config::default());
    let readers = ["x", "x"].map(|channel| Reader::live(&history, channel));
    for reader in readers {
        history.leave(reader.channel, START);
    }
    assert_eq!(history.stats().channels, 0);
    // What another has kept is not forgotten yet, or all that are new would seem to have lost it.
    for channel in ["y", "z"] {
        put(&history, channel, "a");
    }
    history.clear("y", START);
    assert_eq!((after(&history, "y", 1).1, after(&history, "new", 0).1), (None, None));
}

/// What two short keys take: their texts, and four places of a table and of a queue.
fn two_keys_bytes() -> usize {
    type Place = (u64, Arc<str>);
    2 * on_heap(2 * size_of::<usize>() + "x\0".len() + "1".len())
        + 4 * (size_of::<Place>() + 1)
        + 4 * size_of::<Place>()
}

#[test]
fn a_key_stands_for_its_first_publication() {
    let history = history(Config { idempotency_bytes_max: two_keys_bytes(), ..Config::default() });
    let keyed = |text: &str, key: &str| Message::from(text).idempotency_key(key);
    assert_eq!(put_at(&history, "x", keyed("a", "1"), START), 1);
    let _reader = Reader::live(&history, "x");
    let again = history.publish("x", keyed("other", "1"), seconds(299)).expect("known");
    assert_eq!((again.id.seq, again.subscribers), (1, 1), "with today's listeners");
    assert_eq!(put_at(&history, "y", keyed("b", "1"), START), 2, "a key is its channel's own");
    let refused = history.publish("x", keyed("c", "2"), seconds(299)).expect_err("two are known");
    assert_eq!((refused.refusal, refused.message), (KEYS_FULL, keyed("c", "2")));
    assert_eq!(put(&history, "x", "d"), 3, "without one it goes");
    assert_eq!(put_at(&history, "x", keyed("e", "1"), seconds(300)), 4, "after its window");
    assert_eq!(history.stats().published, 4);
}

#[test]
fn a_full_table_takes_the_place_of_who_is_idle_only() {
    let history = narrow(Config { channels_max: 2, history_messages: 1, ..Config::default() });
    let _live = Reader::live(&history, "x");
    put(&history, "y", "a");
    let refused = history.publish("z", "b".into(), START).expect_err("both are in use");
    assert_eq!((refused.refusal, refused.message), (CHANNELS_FULL, "b".into()));
    assert_eq!(history.join("z", None, 1, START), Err(CHANNELS_FULL));
    put(&history, "x", "b"); // `recent` lets go of what follows
    history.clear("y", START);
    assert_eq!(put(&history, "z", "c"), 3);
    assert_eq!(after(&history, "z", 0).1, Some(GapReason::Trimmed), "what was forgotten counts");
}

#[test]
fn the_index_over_all_channels_stays_small() {
    let history = narrow(Config { history_messages: 2, ..Config::default() });
    put(&history, "old", "kept for ever");
    for number in 0..50_000u32 {
        put(&history, ["x", "y"][number as usize % 2], "z");
    }
    let indexed = history.lock().order.len();
    assert!(indexed <= 8_192, "{indexed}");
    assert_eq!(kept(&history, "old", START), "kept for ever");
    assert_eq!(history.stats().messages, 5);
}

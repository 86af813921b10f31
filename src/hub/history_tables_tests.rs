//! The memory with everything that is counted against it: what is empty is given back, what is
//! refused leaves nothing, and no table takes the room of messages.

use super::*;

const BUDGET: usize = 1 << 20;

/// One whose budget counts its tables, too.
fn counted() -> History {
    History::new(
        &Config { memory_bytes: BUDGET, ..Config::default() },
        Epoch::from_random(7),
        START,
    )
}

/// Leaves this much of the memory to publications.
fn leave(history: &History, spare: usize) {
    let fixed = history.stats().memory_tables;
    history.hold(0, history.usable_bytes() - fixed - spare);
}

/// Bytes of tables that some hundred channels leave whose messages are all too old.
fn bytes_of_empty(event: Option<&str>, config: Config) -> usize {
    let config = Config { memory_bytes: BUDGET, ..config };
    let history = History::new(&config, Epoch::from_random(7), START);
    for number in 0..200 * 33 {
        let channel = format!("c{}", number / 33);
        let message = Message::from("x");
        let message = match event {
            Some(event) => message.event(format!("{event}{}", number % 33)),
            None => message,
        };
        let _ = history.publish(&channel, message, START);
    }
    let stats = history.stats();
    assert!(stats.channels == 200 && stats.messages > 1_000, "{stats:?}");
    history.sweep(seconds(400));
    assert_eq!(history.stats().messages, 0);
    let inner = history.lock();
    inner.index_bytes(&history.limits)
}

#[test]
fn channels_that_are_empty_hold_no_rings() {
    let bytes = bytes_of_empty(None, Config::default());
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn channels_that_are_empty_hold_no_places_for_the_newest() {
    let config = Config { latest: vec!["*".to_owned()], ..Config::default() };
    let bytes = bytes_of_empty(Some("e"), config);
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn channels_whose_messages_are_gone_keep_no_others_from_publishing() {
    let history = counted();
    for number in 0..2_000 * 33 {
        let channel = format!("c{}", number / 33);
        for ttl in [0, 60] {
            let message = short_lived("x", ttl);
            let refused = history.publish(&channel, message, START).err();
            assert!(refused.is_none(), "{number}: {refused:?}");
        }
    }
}

#[test]
fn keys_leave_room_for_messages_and_channels() {
    let history = counted();
    let mut count = 0;
    let refused = loop {
        let message = Message::from("").idempotency_key(format!("{count:0128}"));
        match history.publish("a", message, START) {
            Ok(_) => count += 1,
            Err(rejected) => break rejected.refusal,
        }
    };
    assert_eq!(refused, KEYS_FULL);
    assert!(history.stats().keys_bytes <= BUDGET / 8 && count > 100, "{count}");
    put(&history, "a", "plain");
    history.join("fresh", None, history.head(), START).expect("there is room for a channel");
}

#[test]
fn what_is_acknowledged_is_there_for_who_listens() {
    for ttl in [0, 60] {
        for spare in (0..3_000).step_by(16) {
            let history = counted();
            let mut reader = Reader::live(&history, "a");
            leave(&history, spare);
            if let Ok(published) = history.publish("a", short_lived("x", ttl), START) {
                assert_eq!(published.subscribers, 1);
                assert_eq!(reader.texts(&history), "x", "ttl {ttl}, {spare} bytes to spare");
            }
        }
    }
}

#[test]
fn a_refused_join_leaves_no_channel() {
    let history = counted();
    leave(&history, 1_000);
    for number in 0..500 {
        let joined = history.join(&format!("c{number}"), None, 0, START);
        assert_eq!(joined.expect_err("there is no room"), MEMORY_FULL);
    }
    assert_eq!(history.stats().channels, 0);
}

//! What keys are said to cost, and that the tables go with them.

use super::*;

/// Keys `from..to` that expire one a millisecond, as long as there is room.
fn fill(keys: &mut Keys, from: u64, to: u64, bytes_max: usize) -> u64 {
    for number in from..to {
        keys.expire(number);
        let scoped = Keys::scoped("channel", &format!("key-{number}"));
        if !keys.has_room(&scoped, bytes_max) {
            return number;
        }
        keys.insert(scoped, number, number + 1_000);
        assert!(keys.bytes() <= bytes_max);
    }
    to
}

#[test]
fn a_flood_stays_within_its_bytes_and_uses_most_of_them() {
    for bytes_max in [1_000, 16 << 10, 100_000, 1 << 20] {
        let mut keys = Keys::default();
        let count = (0..).take_while(|number| {
            let scoped = Keys::scoped("channel", &format!("key-{number}"));
            let has_room = keys.has_room(&scoped, bytes_max);
            if has_room {
                keys.insert(scoped, *number, 1_000);
            }
            has_room
        });
        let count = count.count();
        assert_eq!(keys.len(), count);
        assert!(keys.bytes() <= bytes_max && keys.bytes() * 2 > bytes_max, "{bytes_max}: {count}");
        keys.expire(1_000);
        assert_eq!((keys.len(), keys.bytes()), (0, 0));
    }
}

#[test]
fn keys_that_come_and_go_are_never_refused_within_the_bytes() {
    let mut keys = Keys::default();
    assert_eq!(fill(&mut keys, 0, 200_000, 400_000), 200_000);
    assert_eq!(keys.len(), 1_000);
}

#[test]
fn a_burst_leaves_no_tables_behind() {
    let mut keys = Keys::default();
    fill(&mut keys, 0, 1_000, 1 << 20);
    let full = keys.bytes();
    keys.expire(1_990);
    assert_eq!(keys.len(), 9);
    assert!(keys.bytes() * 8 < full, "{} of {full}", keys.bytes());
    assert_eq!(keys.find(&Keys::scoped("channel", "key-995")), Some(995));
}

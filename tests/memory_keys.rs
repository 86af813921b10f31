//! What idempotency keys cost: as much heap as is said, and never more than is allowed.

use std::alloc::System;

use holdline::hub::History;
use holdline::{Config, Epoch, Message, Now};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const START: Now = Now { mono_ms: 500_000, unix_ms: 1_764_000_000_000 };

fn heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Publishes under ever new keys until one is refused; how many were taken, the bytes of heap that
/// came with them, and the bytes that `/stats` tells. One message is kept, and one place of it known.
fn flood(bytes_max: usize, length: usize) -> (usize, usize, usize) {
    let config = Config {
        idempotency_bytes_max: bytes_max,
        latest: vec!["*".to_owned()],
        recent_bytes: 0,
        ..Config::default()
    };
    let history = History::new(&config, Epoch::from_random(7), START);
    let publish = |key: String| {
        let message = Message::from("x").idempotency_key(key);
        history.publish("channel", message, START).is_ok()
    };
    assert!(publish("0".to_owned()));
    let start = heap();
    let mut count = 0;
    while publish(format!("{count:0length$}")) {
        count += 1;
        assert!(heap() - start <= bytes_max, "{count} keys of {length}");
    }
    (count, heap() - start, history.stats().keys_bytes)
}

/// One test, since the heap is one for the whole process.
#[test]
fn a_flood_of_keys_takes_what_is_said_and_allowed() {
    for (bytes_max, length) in [(16 << 10, 10), (16 << 10, 128), (1 << 20, 36), (8 << 20, 36)] {
        let (count, grown, told) = flood(bytes_max, length);
        println!("{count} keys of {length} bytes: {grown} B of heap, {told} B told");
        assert!(told <= bytes_max && told * 2 > bytes_max, "{told} of {bytes_max}");
        assert!(grown.abs_diff(told) * 5 <= told, "{grown} B, and {told} B told");
    }
}

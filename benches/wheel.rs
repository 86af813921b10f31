//! Timers of 100 000 connections.

#[path = "support/measure.rs"]
mod measure;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use holdline::collections::wheel::{TICK_MS, Wheel};
use measure::{Busy, config};

const COUNT: u32 = 100_000;
const HEARTBEAT_MS: u64 = 25_000;

criterion_group! { name = wheel; config = config(); targets = one, all }
criterion_main!(wheel);

/// Deadlines spread over a heartbeat.
fn filled() -> Wheel {
    let mut wheel = Wheel::new(0);
    for index in 0..COUNT {
        wheel.file(index, deadline(index));
    }
    wheel
}

fn deadline(index: u32) -> u64 {
    1 + u64::from(index).wrapping_mul(0x9e37_79b9) % HEARTBEAT_MS
}

fn one(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("wheel of 100000, one entry");
    let mut wheel = filled();
    let mut index = 0;
    group.bench_function("file again", |b| {
        b.iter(|| {
            index = (index + 7919) % COUNT;
            wheel.file(index, deadline(index ^ 1));
        });
    });
    group.bench_function("file no later, and it is not earlier", |b| {
        b.iter(|| {
            index = (index + 7919) % COUNT;
            wheel.file_no_later(index, 2 * HEARTBEAT_MS);
        });
    });
    group.bench_function("next deadline", |b| b.iter(|| black_box(&wheel).next_deadline()));
}

fn all(c: &mut Criterion<Busy>) {
    let mut group = c.benchmark_group("wheel of 100000, all entries");
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    group.bench_function("file", |b| b.iter_batched(|| (), |()| filled(), BatchSize::LargeInput));
    // What a heartbeat's length of silence costs: each entry comes up once and is filed again.
    group.bench_function("a round of ticks, each entry filed again", |b| {
        b.iter_batched(
            filled,
            |mut wheel| {
                let mut due = Vec::new();
                let mut fired = 0;
                for tick in 1..=HEARTBEAT_MS / TICK_MS {
                    let now = tick * TICK_MS;
                    wheel.expire(now, usize::MAX, &mut due);
                    fired += due.len();
                    due.drain(..).for_each(|index| wheel.file(index, now + HEARTBEAT_MS));
                }
                assert_eq!(fired, COUNT as usize);
                wheel
            },
            BatchSize::LargeInput,
        );
    });
}

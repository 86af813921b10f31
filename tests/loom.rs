//! Threads and loops in every order that there is: the library itself under a model checker, which
//! runs each model once for every way in which its threads can take turns, and calls it a failure if
//! all of them wait.
//!
//! `tests/sanitize/run loom` builds and runs it; in any other build it is empty. A model looks at no
//! more than a few involuntary changes of thread per run, which is where nearly all faults are;
//! `LOOM_MAX_PREEMPTIONS=4` looks at more.
#![cfg(loom)]

#[path = "loom/loops.rs"]
mod loops;
#[path = "loom/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread::{Builder, JoinHandle};

/// Runs a model in every order with at most so many involuntary changes of thread, and says how many
/// orders those were.
fn model(name: &str, preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    let bound = builder.preemption_bound;
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        run();
    });
    println!("{name}: {} orders, {bound:?} preemptions", orders.load(Ordering::Relaxed));
}

/// A thread of a model with the stack that an engine needs.
fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().stack_size(1 << 18).spawn(run).expect("a thread")
}

//! Loops over one history: engines that sleep between two looks, and publishers on other threads.
//! Each loop does what the contract of the engine asks of a driver, and its connections are pipes
//! that always take everything.

use std::sync::Arc;

use holdline::engine::{Common, Engine, Peer, Policy, What};
use holdline::hub::{Bell, History, Published};
use holdline::{Config, ConnId, Cursor, Epoch, Now};
use loom::sync::{Condvar, Mutex};

use super::{model, spawn};

const NOW: Now = Now { mono_ms: 5_000, unix_ms: 1_764_000_000_000 };

/// What a loop sleeps on: one wake ends one sleep, also one that has yet to begin.
#[derive(Default)]
struct Sleep {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleep {
    fn wait(&self) {
        let mut is_woken = self.is_woken.lock().expect("no panic");
        while !*is_woken {
            is_woken = self.changed.wait(is_woken).expect("no panic");
        }
        *is_woken = false;
    }

    fn wake(&self) {
        *self.is_woken.lock().expect("no panic") = true;
        self.changed.notify_one();
    }
}

/// As of a server with two loops: a bell is rung for what its loop listens to.
fn config() -> Config {
    Config::default().open().loops(2)
}

fn history() -> Arc<History> {
    Arc::new(History::new(&config(), Epoch::from_random(7), NOW))
}

fn publish(history: &History, channel: &str, text: &str) -> Published {
    history.publish(channel, text.into(), NOW).expect("room")
}

struct Loop {
    engine: Engine,
    bell: Arc<Bell>,
    sleep: Arc<Sleep>,
    id: Option<ConnId>,
    /// All that its connection was sent.
    sent: String,
}

impl Loop {
    fn new(history: &Arc<History>) -> Self {
        Self::nth(0, history)
    }

    fn nth(number: u8, history: &Arc<History>) -> Self {
        let sleep = Arc::new(Sleep::default());
        let wakes = Arc::clone(&sleep);
        let bell = Arc::new(Bell::new(move || wakes.wake()));
        history.add_loop(number.into(), Arc::clone(&bell));
        let common = Common::new(Arc::new(config()), Arc::clone(history), 2);
        let policy = Policy::new(common.config(), &[]);
        let engine = Engine::with(&common, policy, number, 7, NOW);
        bell.doze();
        Self { engine, bell, sleep, id: None, sent: String::new() }
    }

    /// Hands a request in, and writes nothing yet.
    fn ask(&mut self, head: &str) {
        let id = *self.id.get_or_insert_with(|| self.engine.handle_accept(Peer::Unix, NOW));
        let mut request = format!("{head}\r\nHost: localhost\r\n\r\n").into_bytes();
        self.engine.handle_bytes(id, &mut request, NOW);
    }

    /// Listens to all channels that these models have.
    fn listen(&mut self) {
        self.ask("GET /events?channel=a&channel=b HTTP/1.0\r\nAccept: text/event-stream");
    }

    fn listen_to(&mut self, channel: &str) {
        self.ask(&format!("GET /events?channel={channel} HTTP/1.0\r\nAccept: text/event-stream"));
    }

    fn turn(&mut self) {
        if !self.engine.has_work() {
            self.sleep.wait();
        }
        self.bell.rise();
        self.write();
        self.bell.doze();
    }

    /// The second phase; what it says may name no position beyond the horizon.
    fn write(&mut self) {
        let from = self.sent.len();
        self.engine.take_in(NOW);
        while let Some(transmit) = self.engine.poll_transmit() {
            let What::Bytes(bytes) = transmit.what else { continue };
            let len = bytes.len();
            self.sent.push_str(std::str::from_utf8(bytes).expect("text"));
            self.engine.handle_sent(len);
        }
        while self.engine.poll_resumed().is_some() {}
        self.engine.check();
        let horizon = self.engine.horizon();
        for seq in positions(&self.sent[from..]) {
            assert!(seq <= horizon, "{seq} is named at {horizon}: {}", &self.sent[from..]);
        }
        assert!(horizon <= self.engine.history().head());
    }

    /// The channels and texts of what was delivered, in order.
    fn heard(&self) -> Vec<String> {
        let data = self.sent.lines().filter(|line| line.contains("\"text\":"));
        data.map(|line| {
            let id = positions(line).next().expect("an id");
            let text = line.split("\"text\":\"").nth(1).and_then(|rest| rest.split('"').next());
            format!("{id} {}", text.expect("a text"))
        })
        .collect()
    }
}

/// Every position in a text, of whatever field.
fn positions(text: &str) -> impl Iterator<Item = u64> + '_ {
    let epoch = epoch();
    let after = text.match_indices(&epoch).map(|(at, found)| at + found.len()).collect::<Vec<_>>();
    after.into_iter().map(|at| {
        let digits: String = text[at..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    })
}

/// What every position begins with.
fn epoch() -> String {
    Cursor { epoch: Epoch::from_random(7), seq: 0 }.to_string().trim_end_matches('0').to_owned()
}

/// The bell is looked at after the order has grown, and the order after the bell has been hung out.
#[test]
fn a_loop_sleeps_over_nothing_that_is_published() {
    model("one loop, two publishers", 3, || {
        let history = history();
        let mut one = Loop::new(&history);
        one.listen();
        one.write();
        let publishers = ["a", "b"].map(|channel| {
            let history = Arc::clone(&history);
            spawn(move || publish(&history, channel, channel))
        });
        while one.engine.horizon() < 2 {
            one.turn();
        }
        publishers.into_iter().for_each(|thread| {
            thread.join().expect("no panic");
        });
    });
}

/// A loop is woken for what it listens to. It has joined before it says so, and looks once more then.
#[test]
fn a_loop_that_begins_to_listen_sleeps_over_nothing() {
    model("one loop that begins, one publisher", 3, || {
        let history = history();
        let mut one = Loop::nth(1, &history);
        let source = Arc::clone(&history);
        let publisher = spawn(move || publish(&source, "a", "x").subscribers);
        one.listen_to("a");
        while one.engine.horizon() < 1 {
            one.turn();
        }
        let counted = publisher.join().expect("no panic");
        assert!(counted == 0 || one.heard() == ["1 x"], "counted, and left out");
    });
}

#[test]
fn two_loops_deliver_one_order_and_name_nothing_beyond_their_horizon() {
    model("two loops, one publisher", 2, || {
        let history = history();
        let mut one = Loop::new(&history);
        let mut two = Loop::nth(1, &history);
        one.listen();
        two.listen();
        one.write();
        let until_all_is_heard = |mut a_loop: Loop| {
            while a_loop.heard().len() < 2 {
                a_loop.turn();
            }
            a_loop.heard()
        };
        let other = spawn(move || until_all_is_heard(two));
        let source = Arc::clone(&history);
        let publisher = spawn(move || {
            for (channel, text) in [("a", "first"), ("b", "second")] {
                assert_eq!(publish(&source, channel, text).subscribers, 2);
            }
        });
        let heard = until_all_is_heard(one);
        assert_eq!(heard, ["1 first", "2 second"]);
        assert_eq!(other.join().expect("no panic"), heard);
        publisher.join().expect("no panic");
    });
}

#[test]
fn what_two_threads_publish_has_one_order_on_all_loops() {
    model("two loops, two publishers", 1, || {
        let history = history();
        let mut one = Loop::new(&history);
        let mut two = Loop::nth(1, &history);
        one.listen();
        two.listen();
        one.write();
        two.write();
        let publishers = ["a", "b"].map(|channel| {
            let history = Arc::clone(&history);
            spawn(move || publish(&history, channel, channel).id.seq)
        });
        let other = spawn(move || {
            while two.heard().len() < 2 {
                two.turn();
            }
            two.heard()
        });
        while one.heard().len() < 2 {
            one.turn();
        }
        let [a, b] = publishers.map(|thread| thread.join().expect("no panic"));
        let mut expected = [format!("{a} a"), format!("{b} b")];
        expected.sort();
        assert_eq!(one.heard(), expected);
        assert_eq!(other.join().expect("no panic"), expected);
    });
}

/// What decides between 201 and 202: who is counted is told, and whoever joined before is counted.
#[test]
fn a_publication_counts_those_who_had_joined_and_all_of_them_get_it() {
    model("two joins, one publication", 2, || {
        let history = history();
        let mut one = Loop::new(&history);
        let mut two = Loop::nth(1, &history);
        one.listen();
        one.write();
        let join = spawn(move || {
            two.listen();
            let seq_max = two.engine.horizon();
            two.write();
            (two, seq_max)
        });
        let published = publish(&history, "a", "x");
        let (mut two, joined_at) = join.join().expect("no panic");
        one.write();
        two.write();
        assert_eq!(one.heard(), ["1 x"]);
        match published.subscribers {
            2 => assert_eq!(two.heard(), ["1 x"], "counted, and left out"),
            1 => assert!(two.heard().is_empty() || joined_at == 0),
            other => panic!("{other} subscribers"),
        }
        assert_eq!(history.info("a", NOW).subscribers, 2);
    });
}

#[test]
fn a_listener_that_leaves_is_counted_until_it_has_left() {
    model("a leave, one publication", 3, || {
        let history = history();
        let mut one = Loop::new(&history);
        one.listen();
        one.write();
        let id = one.id.expect("a connection");
        let leave = spawn(move || {
            one.engine.handle_lost(id, NOW);
            one.write();
            one
        });
        let first = publish(&history, "a", "x").subscribers;
        let second = publish(&history, "a", "y").subscribers;
        assert!(first <= 1 && second <= first, "{first}, then {second}");
        let one = leave.join().expect("no panic");
        assert!(one.engine.is_empty());
        assert_eq!(publish(&history, "a", "z").subscribers, 0);
    });
}

/// Where a reader begins is told to it, and what comes behind that reaches it, in its next request.
#[test]
fn nothing_falls_between_two_polls() {
    model("two polls, one publication", 3, || {
        let history = history();
        let mut one = Loop::new(&history);
        let source = Arc::clone(&history);
        let publisher = spawn(move || publish(&source, "a", "x"));
        one.ask("GET /poll?channel=a HTTP/1.1");
        let horizon = one.engine.horizon();
        one.write();
        let began = positions(&one.sent).last().expect("a cursor");
        assert!(began <= horizon, "{began} was told at {horizon}");
        one.ask(&format!("GET /poll?channel=a&since={}{began} HTTP/1.1", epoch()));
        one.write();
        while one.engine.horizon() < 1 {
            one.turn();
        }
        let expected: &[&str] = if began == 0 { &["1 x"] } else { &[] };
        assert_eq!(one.heard(), expected, "{}", one.sent);
        publisher.join().expect("no panic");
    });
}

/// The horizon moves past what others listen to, and takes nobody's news with it.
#[test]
fn a_reader_of_one_channel_is_marked_whatever_else_is_published() {
    model("one loop, two channels", 3, || {
        let history = history();
        let mut one = Loop::new(&history);
        one.listen_to("b");
        one.write();
        let source = Arc::clone(&history);
        let publisher = spawn(move || ["a", "b"].map(|channel| publish(&source, channel, channel)));
        while one.heard().is_empty() {
            one.turn();
        }
        assert_eq!(one.heard(), ["2 b"]);
        let [nobody, somebody] = publisher.join().expect("no panic");
        assert_eq!((nobody.subscribers, somebody.subscribers), (0, 1));
    });
}

/// `recent` forgets what a loop has not looked at: it must then look everywhere.
#[test]
fn a_loop_that_is_overrun_looks_everywhere() {
    model("one loop, overrun", 3, || {
        let config = Config { recent_bytes: 1, ..config() };
        let history = Arc::new(History::new(&config, Epoch::from_random(7), NOW));
        let mut one = Loop::new(&history);
        one.listen_to("a");
        one.write();
        let source = Arc::clone(&history);
        let publisher = spawn(move || ["a", "b"].map(|channel| publish(&source, channel, channel)));
        while one.heard().is_empty() {
            one.turn();
        }
        assert_eq!(one.heard(), ["1 a"]);
        publisher.join().expect("no panic");
    });
}

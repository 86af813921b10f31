//! What an application sends on WebSockets of its own: bounded, in order, and it is told of room.

use std::sync::{Arc, Mutex};

use holdline::App;
use holdline::engine::{Answer, CloseReason, ConnId, Ctx, Kind, Queued, Request, Route};

use crate::sim::clients::Ws;
use crate::sim::{Pace, Sim};

/// Sends to whoever is there when it gets a signal, and counts what did not fit.
#[derive(Clone, Default)]
struct Sender(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    id: Option<ConnId>,
    queued: usize,
    full: usize,
    most: usize,
    writable: usize,
    closed: Vec<CloseReason>,
}

const SENT: usize = 1_000;

impl App for Sender {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn open(&mut self, _: &mut Ctx<'_>, id: ConnId) {
        self.0.lock().expect("no panic").id = Some(id);
    }

    fn signal(&mut self, cx: &mut Ctx<'_>, times: u64) {
        let mut counts = self.0.lock().expect("no panic");
        let id = counts.id.expect("somebody");
        for _ in 0..times {
            match cx.send(id, Kind::Binary, &[0; SENT]) {
                Queued::Bytes(waiting) => {
                    counts.queued += 1;
                    counts.most = counts.most.max(waiting);
                }
                Queued::Full => counts.full += 1,
                Queued::Gone => panic!("it is there"),
            }
        }
    }

    fn writable(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        let mut counts = self.0.lock().expect("no panic");
        counts.writable += 1;
        assert!(matches!(cx.send(id, Kind::Text, b"more"), Queued::Bytes(_)));
    }

    fn closed(&mut self, cx: &mut Ctx<'_>, id: ConnId, reason: CloseReason) {
        assert_eq!(cx.send(id, Kind::Text, b""), Queued::Gone);
        self.0.lock().expect("no panic").closed.push(reason);
    }
}

#[test]
fn what_an_application_sends_is_bounded_and_it_is_told_once_when_there_is_room() {
    let mut sim = Sim::open(Pace::Whole);
    let sender = Sender::default();
    sim.engine_mut().set_app(Box::new(sender.clone()));
    let signal = |sim: &mut Sim, times| {
        let now = sim.now;
        sim.engine_mut().handle_signal(times, now);
        sim.settle();
    };
    let socket = Ws::open(&mut sim, 0, "/own");
    signal(&mut sim, 50);
    assert_eq!(socket.frames(&mut sim).len(), 50);
    assert_eq!(sender.0.lock().expect("no panic").full, 0);
    sim.stall(socket.line, 0);
    signal(&mut sim, 1);
    signal(&mut sim, 100);
    // One message always has a place behind the replies that stop further dispatch.
    let max = sim.config.outbox_bytes_max + sim.config.reply_bytes_per_turn;
    let fits = (max / (SENT + 4)).min(101);
    {
        let mut counts = sender.0.lock().expect("no panic");
        assert_eq!(counts.queued, 50 + fits);
        assert_eq!((counts.full, counts.writable), (101 - fits, 0));
        assert!(counts.most >= 50 * SENT, "the first fifty");
        counts.most = 0;
    }
    // Bit by bit; told when less than half is left, once.
    let mut had = 0;
    sim.lines[socket.line].window = 1_000;
    while sender.0.lock().expect("no panic").writable == 0 {
        sim.take(socket.line, 1_000);
        sim.settle();
        had += 1_000;
        assert!(had < 2 * max, "it is never told");
    }
    let half = fits * (SENT + 4) - sim.config.outbox_bytes_max / 2;
    assert!((half - 4_000..=half + 4_000).contains(&had), "told after {had} bytes");
    sim.unstall(socket.line);
    sim.settle();
    let frames = socket.frames(&mut sim);
    assert_eq!(frames.len(), fits + 1);
    assert_eq!(frames[fits].payload, b"more");
    socket.close(&mut sim, 4_001);
    sim.settle();
    let counts = sender.0.lock().expect("no panic");
    assert_eq!(counts.writable, 1);
    drop(counts);
    sim.close(socket.line);
    sim.settle();
    assert_eq!(sender.0.lock().expect("no panic").closed, [CloseReason::Peer(4_001)]);
    sim.assert_deserted();
}

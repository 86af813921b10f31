//! After an application has closed a WebSocket of its own, nothing reaches it any more.

use std::sync::{Arc, Mutex};

use holdline::App;
use holdline::engine::{Answer, ConnId, Ctx, Kind, Queued, Request, Route};

use crate::sim::clients::Ws;
use crate::sim::{Pace, Sim};

/// Closes each WebSocket at its first message, then tries everything that it could before.
#[derive(Clone, Default)]
struct Closer(Arc<Mutex<Vec<&'static str>>>);

impl App for Closer {
    fn request(&mut self, _: &mut Ctx<'_>, _: ConnId, _: &Request<'_>) -> Answer<Route> {
        Answer::Done(Route::WebSocket { protocol: None })
    }

    fn open(&mut self, cx: &mut Ctx<'_>, id: ConnId) {
        cx.subscribe(id, "before", None).expect("it is open");
    }

    fn message(&mut self, cx: &mut Ctx<'_>, id: ConnId, _: Kind, _: &[u8]) {
        assert!(cx.close(id, 4_000, "enough"));
        let mut refused = self.0.lock().expect("no panic");
        if cx.subscribe(id, "after", None).is_err() {
            refused.push("subscribe");
        }
        if cx.send(id, Kind::Text, b"late") == Queued::Gone {
            refused.push("send");
        }
    }
}

#[test]
fn behind_its_close_an_application_cannot_subscribe_or_send() {
    let mut sim = Sim::open(Pace::Whole);
    let closer = Closer::default();
    sim.engine_mut().set_app(Box::new(closer.clone()));
    let socket = Ws::open(&mut sim, 0, "/own");
    socket.text(&mut sim, "go");
    sim.settle();
    assert_eq!(*closer.0.lock().expect("no panic"), ["subscribe", "send"]);
    for channel in ["before", "after"] {
        sim.publish(channel, "hello");
    }
    sim.settle();
    let frames = socket.frames(&mut sim);
    assert_eq!(frames.len(), 1, "the close is the last: {frames:?}");
    assert_eq!(frames[0].payload, b"\x0f\xa0enough");
}

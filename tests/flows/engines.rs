//! Several loops over one history: one order, one count of listeners, and a position that is good on
//! each of them and on each transport.

use holdline::Config;

use crate::both_paces;
use crate::sim::clients::{Sse, Ws};
use crate::sim::{Pace, Sim};

both_paces!(
    a_message_published_on_one_loop_reaches_the_listeners_of_all,
    listeners_of_all_loops_are_counted_exactly,
    one_position_goes_from_transport_to_transport_and_from_loop_to_loop,
    a_loop_that_has_not_looked_yet_accepts_the_position_of_one_that_has,
);

fn loops(pace: Pace, count: usize) -> Sim {
    let mut sim = Sim::new(Config::default().open(), count, 3);
    sim.pace = pace;
    sim
}

fn a_message_published_on_one_loop_reaches_the_listeners_of_all(pace: Pace) {
    let mut sim = loops(pace, 3);
    let sockets = [0, 1, 2].map(|number| Ws::open(&mut sim, number, "/channels/a"));
    for (n, sender) in sockets.iter().enumerate() {
        sender.text(&mut sim, &n.to_string());
        sim.settle();
    }
    for socket in &sockets {
        let texts: Vec<_> = socket.frames(&mut sim).iter().map(|frame| frame.text()).collect();
        assert_eq!(texts, ["0", "1", "2"]);
    }
}

fn listeners_of_all_loops_are_counted_exactly(pace: Pace) {
    let mut sim = loops(pace, 3);
    let mut sockets = Vec::new();
    let line = sim.connect(2);
    for count in 1..=9 {
        sockets.push(Ws::open(&mut sim, count % 3, "/channels/a"));
        let answer = sim.call(line, "POST", "/channels/a", b"x");
        assert_eq!((answer.status, &answer.json()["subscribers"]), (201, &count.into()));
    }
    for count in (0..9).rev() {
        let leaver = sim.rng.usize(..sockets.len());
        sim.close(sockets.swap_remove(leaver).line);
        sim.settle();
        let answer = sim.call(line, "POST", "/channels/a", b"x");
        let status = if count > 0 { 201 } else { 202 };
        assert_eq!((answer.status, &answer.json()["subscribers"]), (status, &count.into()));
    }
}

/// Gets one message by each transport in turn, each time on another loop, with one string.
fn one_position_goes_from_transport_to_transport_and_from_loop_to_loop(pace: Pace) {
    let mut sim = loops(pace, 3);
    let mut since = sim.id(0);
    for round in 0..12 {
        let number = round % 3;
        let (first, second) = (format!("{round}.1"), format!("{round}.2"));
        sim.publish("a", &*first);
        sim.publish("b", "to others");
        sim.publish("a", &*second);
        let id = sim.id(sim.history.head());
        match round % 4 {
            0 => {
                let socket = Ws::open(&mut sim, number, &format!("/ws?channel=a&since={since}"));
                let got = socket.jsons(&mut sim);
                assert_eq!(got[0]["cursor"], *since, "where replay starts");
                assert_eq!(
                    (&got[2]["text"], &got[3]["text"]),
                    (&(*first).into(), &(*second).into())
                );
                since = got[3]["id"].as_str().expect("an id").to_owned();
                sim.close(socket.line);
            }
            1 => {
                let mut sse =
                    Sse::open(&mut sim, number, &format!("/events?channel=a&since={since}"));
                let got = sse.blocks(&mut sim);
                assert_eq!(got[0].id.as_ref(), Some(&since));
                assert_eq!(
                    (&got[1].json()["text"], &got[2].json()["text"]),
                    (&(*first).into(), &(*second).into())
                );
                since = got[2].id.clone().expect("an id");
                sim.close(sse.line);
            }
            2 => {
                let line = sim.connect(number);
                let body = sim.get(line, &format!("/poll?channel=a&since={since}")).json();
                let texts = [0, 1].map(|n| body["messages"][n]["text"].as_str().expect("text"));
                assert_eq!(texts, [&*first, &*second]);
                since = body["cursor"].as_str().expect("a cursor").to_owned();
                sim.close(line);
            }
            _ => {
                let socket = Ws::meta(&mut sim, number, &format!("/channels/a?since={since}"));
                let got: Vec<_> = socket.frames(&mut sim).iter().map(|f| f.text()).collect();
                assert_eq!(got[0], format!("cursor: {since}\n\n"));
                assert!(got[1].ends_with(&first) && got[2].ends_with(&second), "{got:?}");
                since = id.clone();
                sim.close(socket.line);
            }
        }
        assert_eq!(since, id);
    }
    sim.assert_deserted();
}

fn a_loop_that_has_not_looked_yet_accepts_the_position_of_one_that_has(pace: Pace) {
    let mut sim = loops(pace, 2);
    let _other = Ws::open(&mut sim, 1, "/ws");
    let line = sim.connect(0);
    for round in 0..5 {
        sim.ask(line, "POST", "/channels/a", b"x");
        // Only the first loop turns; its client goes to the other with what it has been told.
        while sim.lines[line].received.is_empty() {
            sim.turn(0);
            sim.take(line, usize::MAX);
        }
        let mut answer = None;
        while answer.is_none() {
            sim.turn(0);
            sim.take(line, usize::MAX);
            answer = sim.answer(line);
        }
        let id = answer.and_then(|answer| answer.json()["id"].as_str().map(str::to_owned));
        let id = id.expect("an id");
        assert!(sim.loops[1].engine.horizon() < sim.history.head(), "round {round}");
        let mut sse = Sse::open(&mut sim, 1, &format!("/events?channel=a&since={id}"));
        let blocks = sse.blocks(&mut sim);
        assert_eq!((blocks[0].id.as_ref(), blocks.len()), (Some(&id), 1), "round {round}");
    }
}

//! Subscriptions of the program's own: the order that clients see, without a connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use holdline::engine::{Listen, Push, Taken};
use holdline::{Config, Message, Since};

use crate::sim::clients::Ws;
use crate::sim::local::Local;
use crate::sim::{Pace, Sim};

/// Keeps three messages a channel, and nothing besides.
fn short() -> Sim {
    let config = Config { history_messages: 3, recent_bytes: 0, ..Config::default().open() };
    Sim::with(config, Pace::Whole)
}

fn since(sim: &Sim, seq: u64) -> Option<Since> {
    Some(Since::Cursor(sim.history.cursor(seq)))
}

fn publish(sim: &Sim, channel: &str, texts: &[&str]) {
    for text in texts {
        sim.publish(channel, *text);
    }
}

#[test]
fn the_program_hears_what_clients_hear_in_one_order() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a", "b"], None);
    let client = Ws::open(&mut sim, 0, "/ws?channel=a&channel=b");
    let sender = Ws::open(&mut sim, 0, "/channels/b");
    client.jsons(&mut sim);
    for n in 0..50 {
        sim.publish("a", format!("host {n}"));
        sender.text(&mut sim, &format!("client {n}"));
        sim.publish("c", "to others");
        if n % 7 == 0 {
            sim.settle();
        }
    }
    sim.settle();
    let heard = client.jsons(&mut sim).into_iter().map(|json| json["text"].to_string());
    let heard: Vec<_> = heard.map(|text| text.trim_matches('"').to_owned()).collect();
    assert_eq!(local.texts(), heard);
    assert_eq!(heard.len(), 100);
}

#[test]
fn a_message_is_handed_over_with_all_that_the_publisher_gave() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a"], None);
    let message = Message::json("{\"t\":1}").expect("JSON").event("tick").media_type("a/b+json");
    let id = sim.publish("a", message).id;
    sim.settle();
    let pushes = local.read();
    let [Push::Message { id: told, publication }, Push::Live { cursor }] = &pushes[..] else {
        panic!("{pushes:?}")
    };
    assert_eq!((*told, *cursor), (id, id));
    assert_eq!((publication.seq(), &**publication.channel()), (id.seq, "a"));
    assert_eq!(publication.payload(), b"{\"t\":1}");
    assert_eq!((publication.event(), publication.media_type()), (Some("tick"), Some("a/b+json")));
    assert_eq!(publication.form(), holdline::message::Form::Data);
    assert_eq!(publication.time_ms(), sim.now.unix_ms);
}

#[test]
fn it_begins_when_it_is_asked_for_and_not_when_the_loop_looks() {
    let mut sim = Sim::open(Pace::Whole);
    publish(&sim, "a", &["before"]);
    let listen = |sim: &Sim, texts: std::sync::mpsc::Sender<Vec<u8>>| {
        let take = move |push| {
            if let Push::Message { publication, .. } = push {
                texts.send(publication.payload().to_vec()).expect("somebody reads");
            }
            Taken::Yes
        };
        Listen::new(&["a"], None, &sim.history, Box::new(take))
    };
    let (sender, texts) = std::sync::mpsc::channel();
    let asked = listen(&sim, sender);
    publish(&sim, "a", &["meanwhile"]);
    sim.publish("a", Message::from("passing").ttl(Duration::ZERO));
    let now = sim.now;
    sim.engine_mut().handle_listen(asked, now);
    publish(&sim, "a", &["after"]);
    sim.settle();
    let heard: Vec<_> = texts.try_iter().collect();
    assert_eq!(heard, [&b"meanwhile"[..], b"passing", b"after"]);
}

#[test]
fn it_counts_as_a_subscriber_until_it_ends() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a", "b"], None);
    let second = Local::listen(&mut sim, &["a"], None);
    assert_eq!(sim.publish("a", "x").subscribers, 2);
    assert_eq!((sim.publish("b", "x").subscribers, sim.engine().subscriptions()), (1, 3));
    local.end(&mut sim);
    assert_eq!(sim.publish("a", "x").subscribers, 1);
    // One that goes without a word is found out by what is handed to it.
    second.leave();
    sim.settle();
    assert!(second.progress.is_ended());
    assert_eq!(sim.publish("a", "x").subscribers, 0);
    sim.assert_deserted();
}

#[test]
fn it_resumes_from_its_position_and_misses_nothing() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a", "b"], None);
    publish(&sim, "a", &["1", "2"]);
    sim.settle();
    assert_eq!(local.texts(), ["1", "2"]);
    let position = local.position().expect("it has begun");
    assert_eq!(position.seq, 2);
    local.end(&mut sim);
    publish(&sim, "b", &["3"]);
    publish(&sim, "a", &["4"]);
    let local = Local::listen(&mut sim, &["a", "b"], Some(Since::Cursor(position)));
    publish(&sim, "b", &["5"]);
    sim.settle();
    let live = format!("live {}", sim.id(5));
    assert_eq!(local.words(), ["3", "4", "5", &live]);
    assert_eq!(local.position(), Some(sim.history.cursor(5)));
}

#[test]
fn it_is_told_that_it_is_live_when_there_is_nothing_to_catch_up_on() {
    let mut sim = Sim::open(Pace::Whole);
    publish(&sim, "a", &["1"]);
    for from in [None, Some(Since::Latest), since(&sim, 1)] {
        let local = Local::listen(&mut sim, &["a"], from);
        assert_eq!(local.position(), None, "nothing has been said");
        sim.settle();
        assert_eq!(local.words(), [format!("live {}", sim.id(1))]);
        assert_eq!(local.position(), Some(sim.history.cursor(1)));
    }
}

#[test]
fn a_lost_position_is_a_gap_before_what_is_kept() {
    let mut sim = short();
    publish(&sim, "a", &["1", "2", "3", "4", "5"]);
    publish(&sim, "b", &["6"]);
    let from = since(&sim, 1);
    let local = Local::listen(&mut sim, &["a", "b"], from);
    sim.settle();
    let (asked, kept, live) = (sim.id(1), sim.id(2), format!("live {}", sim.id(6)));
    let gap = format!("gap a trimmed {asked} {kept}");
    assert_eq!(local.words(), [&gap, "3", "4", "5", "6", &live]);
    let from = since(&sim, 7);
    let local = Local::listen(&mut sim, &["a", "b"], from);
    sim.settle();
    let words = local.words();
    assert_eq!(words.len(), 7, "{words:?}");
    assert!(words[0].starts_with("gap a epoch ") && words[1].starts_with("gap b epoch "));
}

#[test]
fn what_is_only_for_those_who_listen_comes_once_it_is_live() {
    let mut sim = Sim::open(Pace::Whole);
    let passing = |text: &str| Message::from(text).ttl(Duration::ZERO);
    sim.publish("a", "kept");
    sim.publish("a", passing("too early"));
    let local = Local::listen(&mut sim, &["a"], Some(Since::Earliest));
    sim.settle();
    sim.publish("a", passing("in time"));
    sim.settle();
    assert_eq!(local.texts(), ["kept", "in time"]);
}

#[test]
fn a_full_channel_catches_up_when_there_is_room() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen_on(&mut sim, 0, &["a"], Some(Since::Latest), 3);
    sim.settle();
    let texts: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    for text in &texts {
        sim.publish("a", text.as_str());
        sim.settle();
    }
    let mut heard = local.texts();
    assert_eq!(heard, ["0", "1"], "three, with the word that it is live");
    assert_eq!(local.position(), Some(sim.history.cursor(2)), "no further than it was handed");
    while heard.len() < 1_000 {
        let before = heard.len();
        sim.pass(128);
        heard.extend(local.texts());
        assert!(heard.len() > before, "it stands still at {before}");
    }
    assert_eq!(heard, texts);
    sim.settle();
    assert_eq!(local.position(), Some(sim.history.cursor(1_000)));
}

#[test]
fn a_full_channel_is_asked_less_and_less_often() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen_on(&mut sim, 0, &["a"], None, 1);
    publish(&sim, "a", &["1", "2"]);
    sim.settle();
    let refused = local.refused();
    sim.pass(10_000);
    let more = local.refused() - refused;
    assert!((15..=25).contains(&more), "{more} times in ten seconds");
    assert_eq!(local.texts(), ["1"]);
    sim.pass(1_024);
    assert_eq!(local.texts(), ["2"]);
    local.end(&mut sim);
    sim.assert_deserted();
}

#[test]
fn a_full_channel_that_falls_out_of_history_gets_a_gap_and_goes_on() {
    let mut sim = short();
    let local = Local::listen_on(&mut sim, 0, &["a"], Some(Since::Latest), 2);
    sim.settle();
    assert_eq!(local.words().len(), 1);
    publish(&sim, "a", &["1", "2", "3"]);
    sim.settle();
    publish(&sim, "a", &["4", "5", "6", "7"]);
    sim.settle();
    assert_eq!(local.words(), ["1", "2"]);
    assert_eq!(local.position(), Some(sim.history.cursor(2)));
    // The loss is known, and cannot be told yet.
    local.set_places(0);
    sim.pass(200);
    assert_eq!(local.position(), Some(sim.history.cursor(2)), "beyond a gap that is untold");
    local.set_places(1);
    sim.pass(200);
    let gap = format!("gap a slow {} {}", sim.id(2), sim.id(4));
    assert_eq!(local.words(), [gap]);
    local.set_places(100);
    sim.pass(200);
    assert_eq!(local.words(), ["5", "6", "7"]);
    assert_eq!(sim.engine().stats().gaps[2], 1);
}

#[test]
fn no_position_is_told_before_a_gap_has_been() {
    let mut sim = short();
    publish(&sim, "a", &["1", "2", "3", "4", "5"]);
    let from = since(&sim, 1);
    let local = Local::listen_on(&mut sim, 0, &["a"], from, 0);
    sim.pass(1_000);
    assert_eq!(local.position(), None);
    local.set_places(1);
    sim.pass(1_000);
    assert!(local.words()[0].starts_with("gap "));
    local.set_places(100);
    sim.pass(1_000);
    assert_eq!(local.position(), Some(sim.history.cursor(5)));
}

#[test]
fn what_is_wrong_is_told_and_nothing_is_left() {
    let config = Config { local_subscriptions_max: 2, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let many: Vec<String> = (0..129).map(|n| format!("c{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (channels, word) in [
        (&["no name"][..], "refused bad_channel"),
        (&[], "refused bad_request"),
        (&["a", "a"], "refused bad_request"),
        (&many, "refused bad_request"),
    ] {
        let local = Local::listen(&mut sim, channels, None);
        assert_eq!(local.words(), [word], "{channels:?}");
        assert!(local.progress.is_ended());
    }
    let (first, second) =
        (Local::listen(&mut sim, &["a"], None), Local::listen(&mut sim, &many[..128], None));
    assert_eq!(Local::listen(&mut sim, &["a"], None).words(), ["refused overloaded"]);
    first.end(&mut sim);
    second.end(&mut sim);
    assert_eq!(sim.engine().subscriptions(), 0);
    sim.assert_deserted();
}

#[test]
fn each_turn_has_one_pull_for_each_and_no_more() {
    let mut sim = Sim::open(Pace::Whole);
    let locals = [0; 3].map(|_| Local::listen(&mut sim, &["a"], Some(Since::Earliest)));
    sim.settle();
    locals.iter().for_each(|local| _ = local.read());
    (0..900).for_each(|n| _ = sim.publish("a", n.to_string()));
    for turn in 1..=4 {
        sim.turn(0);
        let most = if turn < 4 { 256 } else { 900 - 3 * 256 };
        assert_eq!(locals.each_ref().map(|local| local.texts().len()), [most; 3], "turn {turn}");
    }
    assert!(!sim.engine().has_work());
}

#[test]
fn an_order_that_overruns_a_loop_is_looked_through_for_everybody() {
    let config = Config { recent_bytes: 100, ..Config::default().open() };
    let mut sim = Sim::with(config, Pace::Whole);
    let local = Local::listen(&mut sim, &["a"], None);
    sim.settle();
    local.read();
    publish(&sim, "a", &["1"]);
    (0..100).for_each(|_| publish(&sim, "b", &["much else"]));
    sim.settle();
    assert_eq!(local.texts(), ["1"]);
}

#[test]
fn the_end_hands_over_what_was_published_before_it() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a"], None);
    let full = Local::listen_on(&mut sim, 0, &["a"], None, 1);
    sim.settle();
    let texts: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    texts.iter().for_each(|text| _ = sim.publish("a", text.as_str()));
    sim.history.close();
    let now = sim.now;
    sim.engine_mut().end_listens(now);
    assert_eq!(local.texts(), texts);
    assert!(local.progress.is_ended() && full.progress.is_ended());
    assert_eq!(full.position(), Some(sim.history.cursor(0)), "it stays where it was");
    assert_eq!(sim.engine().subscriptions(), 0);
}

#[test]
fn a_panic_in_a_callback_fails_the_engine_and_ends_that_subscription() {
    let mut sim = Sim::open(Pace::Whole);
    let listen = Listen::new(&["a"], None, &sim.history, Box::new(|_| panic!("as asked")));
    let (progress, now) = (listen.progress(), sim.now);
    sim.engine_mut().handle_listen(listen, now);
    let caught = catch_unwind(AssertUnwindSafe(|| sim.settle()));
    assert!(caught.is_ok(), "it went through the engine");
    assert!(sim.engine().has_failed() && progress.is_ended());
}

#[test]
fn dropping_an_engine_ends_what_listens_there() {
    let mut sim = Sim::open(Pace::Whole);
    let local = Local::listen(&mut sim, &["a"], None);
    assert!(!local.progress.is_ended());
    sim.loops.clear();
    assert!(local.progress.is_ended());
}

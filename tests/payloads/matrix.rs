//! Every payload, published in every way, to listeners of every kind, live and replayed.

use super::listen::{Kind, Listener};
use super::matter::{BYTES_MAX, Said, Way};
use super::net::Net;
use super::publish::{Publisher, Told};

/// How much is published on one channel: less than what is kept of it.
const KEPT_BYTES: usize = 512 * 1024;

/// Where `channel` stands.
pub fn position<N: Net>(net: &N, channel: &str) -> String {
    let request = super::http::Req::new(&format!("GET /poll?channel={channel}"));
    let answer = Publisher::new(net, channel).ask(request);
    answer.field("holdline-cursor").expect("a cursor").to_owned()
}

/// Publishes one payload in all these ways and hears it everywhere.
pub fn check<N: Net>(net: &N, channel: &str, payload: &[u8], ways: &[Way], kinds: &[Kind]) {
    let at_once = (KEPT_BYTES / (payload.len() + 1024)).max(1);
    for (number, ways) in ways.chunks(at_once).enumerate() {
        check_some(net, &format!("{channel}-{number}"), payload, ways, kinds);
    }
}

fn check_some<N: Net>(net: &N, channel: &str, payload: &[u8], ways: &[Way], kinds: &[Kind]) {
    let start = position(net, channel);
    // Streams listen from now on; a poll has to say from where.
    let mut live: Vec<Listener<'_, N>> = kinds
        .iter()
        .map(|kind| {
            let is_poll = matches!(kind, Kind::Poll { .. } | Kind::RawPoll { .. });
            Listener::open(net, *kind, channel, is_poll.then_some(&start[..]))
        })
        .collect();
    let publisher = Publisher::new(net, channel);
    let mut messages: Vec<(Said, String)> = Vec::new();
    for way in ways {
        let id = match publisher.publish(*way, payload) {
            Told::Id(id) => id,
            Told::Heard => position(net, channel),
            Told::Refused(status, code) => panic!("{way:?} was refused: {status} {code}"),
        };
        let said = way.says(payload);
        for listener in &mut live {
            listener.expect(&said, &id, None);
        }
        messages.push((said, id));
    }
    for listener in &mut live {
        listener.assert_quiet();
    }
    for kind in kinds {
        let mut listener = Listener::open(net, *kind, channel, Some(&start));
        for (said, id) in &messages {
            listener.expect(said, id, None);
        }
        listener.assert_quiet();
    }
}

/// One byte more than may be is refused in every way, and nobody hears of it.
pub fn check_too_large<N: Net>(net: &N, channel: &str, kinds: &[Kind]) {
    let payload = vec![b'1'; BYTES_MAX + 1];
    let start = position(net, channel);
    let mut live: Vec<Listener<'_, N>> =
        kinds.iter().map(|kind| Listener::open(net, *kind, channel, Some(&start))).collect();
    let publisher = Publisher::new(net, channel);
    let mut ways = Way::all(&payload);
    ways.push(Way::Command(super::matter::Field::Text));
    for way in ways {
        let told = publisher.publish(way, &payload);
        let wanted = match way {
            Way::Body { .. } | Way::Ten | Way::Object(_) => (413, "too_large"),
            Way::Line(_) => (200, "too_large"),
            Way::Frame { .. } | Way::Command(_) => (1009, ""),
        };
        assert_eq!(told, Told::Refused(wanted.0, wanted.1.to_owned()), "{way:?}");
    }
    // What is published next is the first that is heard.
    let last = Way::Body { line: "POST", media: None, chunked: false };
    let Told::Id(id) = publisher.publish(last, b"next") else { panic!("refused") };
    for listener in &mut live {
        listener.expect(&last.says(b"next"), &id, None);
        listener.assert_quiet();
    }
}

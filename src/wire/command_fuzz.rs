//! What reading commands and lines promises, asserted on any bytes: the fuzz target and the tests
//! run it. It reads the JSON a second time, as a tree, and writes what was read to read it again.

use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, value::RawValue};

use super::{Command, Fault, Line, Parsed, Targets, parse_command, parse_line};
use crate::cursor::Since;
use crate::json;
use crate::message::{self, Message};

const PAYLOAD_BYTES_MAX: usize = 4096;
const CHANNELS_MAX: usize = 3;

/// Nothing panics, exactly what is no JSON is called so, limits are kept, what was read is what a
/// parser of trees reads, and it can be written and read again.
///
/// # Panics
///
/// If one of these does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_command(data: &[u8]) {
    let line = parse_line(data, PAYLOAD_BYTES_MAX);
    assert_eq!(matches!(line, Err(Fault::NotJson)), !json::is_valid(data));
    let Ok(text) = str::from_utf8(data) else { return };
    let tree = serde_json::from_str(text).ok();
    if let Some(tree) = &tree {
        let is_object = matches!(tree, Value::Object(_));
        let is_deep = json::depth(data) > json::DEPTH_MAX;
        assert!(is_deep || is_object != matches!(line, Err(Fault::NotObject)));
    }
    if let Ok(line) = &line {
        check_line(line, tree.as_ref());
    }
    let parsed = parse_command(text, PAYLOAD_BYTES_MAX, CHANNELS_MAX);
    assert_eq!(matches!(parsed.command, Err(Fault::NotJson)), !json::is_valid(data));
    check_command(&parsed, tree.as_ref());
}

fn check_line(line: &Line<'_>, tree: Option<&Value>) {
    check_message(&line.message);
    let mut out = object(&line.message);
    match &line.targets {
        Targets::One(name) => {
            assert!(message::is_channel(name.as_bytes()));
            assert!(tree.is_none_or(|tree| tree["channel"] == **name));
            out.insert("channel".into(), name.to_string().into());
        }
        Targets::Many(names) => {
            assert!((1..=super::LINE_CHANNELS_MAX).contains(&names.len()));
            let names = names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
            out.insert("channels".into(), names.into());
        }
    }
    let text = text_of(out, Some(&line.message));
    assert_eq!(parse_line(text.as_bytes(), PAYLOAD_BYTES_MAX).as_ref(), Ok(line), "{text}");
}

fn check_command(parsed: &Parsed<'_>, tree: Option<&Value>) {
    let Ok(command) = &parsed.command else { return };
    let mut out = Map::new();
    let mut message = None;
    let op = match command {
        Command::Subscribe { channels, since, since_text, gap_live, presence } => {
            check_channels(channels, tree);
            let is_read = since_text.as_ref().map(|text| Since::parse(text.as_bytes()));
            assert_eq!(is_read, since.map(Some));
            out.insert("channels".into(), channels.to_vec().into());
            out.extend(since_text.iter().map(|text| ("since".into(), text.to_string().into())));
            out.insert("gap".into(), if *gap_live { "live" } else { "retained" }.into());
            out.insert("presence".into(), (*presence).into());
            "subscribe"
        }
        Command::Unsubscribe { channels } => {
            check_channels(channels, tree);
            out.insert("channels".into(), channels.to_vec().into());
            "unsubscribe"
        }
        Command::Publish { channel, message: published } => {
            assert!(message::is_channel(channel.as_bytes()));
            assert!(tree.is_none_or(|tree| tree["channel"] == **channel));
            check_message(published);
            out = object(published);
            out.insert("channel".into(), channel.to_string().into());
            message = Some(published);
            "publish"
        }
        Command::Ping { t } => {
            let is_echo = |raw: &str| !raw.contains(['\r', '\n', '{', '[']) || raw.starts_with('"');
            assert!(t.is_none_or(|raw| json::is_valid(raw.as_bytes()) && is_echo(raw)));
            // It is echoed as it was written.
            if let Some(raw) = t {
                let text = format!(r#"{{"op":"ping","t":{raw}}}"#);
                let again = parse_command(&text, PAYLOAD_BYTES_MAX, CHANNELS_MAX).command;
                assert_eq!(again.as_ref(), Ok(command), "{text}");
            }
            "ping"
        }
    };
    out.insert("op".into(), op.into());
    assert!(tree.is_none_or(|tree| tree["op"] == op));
    out.extend(parsed.reference.map(|reference| ("ref".into(), reference.into())));
    let text = text_of(out, message);
    let again = parse_command(&text, PAYLOAD_BYTES_MAX, CHANNELS_MAX);
    assert_eq!(again.reference, parsed.reference);
    match (&again.command, command) {
        (Ok(Command::Ping { .. }), Command::Ping { .. }) => {}
        (again, command) => assert_eq!(again.as_ref(), Ok(command), "{text}"),
    }
}

fn check_channels(channels: &[std::borrow::Cow<'_, str>], tree: Option<&Value>) {
    assert!((1..=CHANNELS_MAX).contains(&channels.len()));
    assert!(channels.iter().all(|name| message::is_channel(name.as_bytes())));
    let Some(tree) = tree else { return };
    match &tree["channels"] {
        Value::Array(names) => assert!(names.iter().eq(channels.iter().map(|name| &**name))),
        _ => assert!(channels.len() == 1 && tree["channel"] == *channels[0]),
    }
}

fn check_message(message: &Message) {
    assert!(message.payload.len() <= PAYLOAD_BYTES_MAX);
    assert!(!message.is_json || json::is_valid(&message.payload));
    assert!(!message.is_json || memchr::memchr2(b'\r', b'\n', &message.payload).is_none());
    let promises = message.media_type.as_deref().is_some_and(message::is_json_type);
    assert!(message.is_json || !promises, "a type that promises JSON, and none");
    let is = |text: Option<&str>, holds: fn(&[u8]) -> bool| {
        assert!(text.is_none_or(|text| holds(text.as_bytes())), "{text:?}");
    };
    is(message.event.as_deref(), message::is_event);
    is(message.media_type.as_deref(), message::is_media_type);
    is(message.idempotency_key.as_deref(), message::is_idempotency_key);
}

/// Whether it is written as `data`: where a type promises JSON, the payload may have space around.
fn is_data(message: &Message) -> bool {
    message.is_json && message.media_type.is_none()
}

/// The fields of a message but for JSON data, which is written as it is.
fn object(message: &Message) -> Map<String, Value> {
    let mut out = Map::new();
    if !is_data(message) {
        out.insert("b64".into(), STANDARD.encode(&message.payload).into());
    }
    let texts = [
        ("type", message.media_type.as_deref()),
        ("event", message.event.as_deref()),
        ("idempotency_key", message.idempotency_key.as_deref()),
    ];
    out.extend(texts.into_iter().filter_map(|(name, text)| Some((name.into(), text?.into()))));
    out.extend(message.ttl_s.map(|seconds| ("ttl".into(), seconds.into())));
    out
}

fn text_of(fields: Map<String, Value>, message: Option<&Message>) -> String {
    let mut text = Value::Object(fields).to_string();
    if let Some(message) = message.filter(|message| is_data(message)) {
        let data = str::from_utf8(&message.payload).expect("JSON is UTF-8");
        let data: &RawValue = serde_json::from_str(data).expect("it was checked");
        text.pop();
        text.push_str(if text.len() > 1 { ",\"data\":" } else { "\"data\":" });
        text.push_str(data.get());
        text.push('}');
    }
    text
}

//! `/stats/channels`: which channels there are, for those who look after the server.

use std::borrow::Cow;

use super::core::Core;
use super::query::{REPEATED, TOO_MANY, UNREADABLE, saturating_digits};
use super::reply::Reply;
use super::request::Next;
use super::stats::Object;
use crate::code::{Code, Refusal};
use crate::config::Config;
use crate::conn::Answering;
use crate::message::is_in_channel;
use crate::wire::http::{Head, Query};

/// The most that are listed.
const LISTED_MAX: u64 = 1_000;
/// How many are, if nobody says.
const LISTED: u64 = 100;

const BAD_VALUE: Refusal = Refusal::new(
    Code::BadQuery,
    "limit is a whole number, match a part of a channel name: A-Z a-z 0-9 _ . ~ : -",
);

/// Which channels are asked for.
struct Wanted<'b> {
    limit: usize,
    text: Cow<'b, str>,
}

impl<'b> Wanted<'b> {
    fn read(head: &'b [u8], parsed: &Head, config: &Config) -> Result<Self, Refusal> {
        let (mut limit, mut text) = (None, None);
        for (number, pair) in Query::new(parsed.query.map(|span| span.of(head))).enumerate() {
            if number == config.query_pairs_max {
                return Err(TOO_MANY);
            }
            let (name, value) = pair.map_err(|_| UNREADABLE)?;
            let is_repeated = match &*name {
                "limit" => {
                    let number = saturating_digits(value.as_bytes()).ok_or(BAD_VALUE)?;
                    limit.replace(number.min(LISTED_MAX)).is_some()
                }
                "match" if !is_in_channel(value.as_bytes()) => return Err(BAD_VALUE),
                "match" => text.replace(value).is_some(),
                _ => false,
            };
            if is_repeated {
                return Err(REPEATED);
            }
        }
        Ok(Self { limit: limit.unwrap_or(LISTED) as usize, text: text.unwrap_or_default() })
    }
}

impl Core {
    pub(crate) fn answer_channels(
        &mut self,
        index: u32,
        to: &Answering,
        head: &[u8],
        parsed: &Head,
    ) -> Result<(), Next> {
        let wanted = Wanted::read(head, parsed, &self.config)?;
        self.may_administer(index)?;
        let (listed, total) = self.history.list(&wanted.text, wanted.limit);
        let mut body = Vec::with_capacity(64 + 96 * listed.len());
        let mut object = Object::open(&mut body);
        object.number("total", total as u64);
        object.objects("channels", &listed, |o, channel| {
            o.text("channel", &channel.name);
            o.number("subscribers", u64::from(channel.subscribers));
            o.number("messages", channel.messages as u64);
            o.number("bytes", channel.bytes as u64);
        });
        object.close();
        self.respond(index, to, &Reply::json(200, &body));
        Ok(())
    }
}

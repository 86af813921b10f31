//! Subscriptions of the program's own, without a connection: by a callback, or by a channel of the
//! standard library.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use super::hub::{Hub, HubError};
use super::mail::{Command, Job, Whom};
use crate::code::Code;
use crate::cursor::{Cursor, Since};
use crate::engine::{Listen, Progress, Push, Sink, Taken};

/// A subscription of the program's own. Dropping it ends the subscription: what is on its way is still
/// handed over, nothing after that.
#[derive(Debug)]
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription {
    progress: Progress,
    hub: Hub,
}

/// Why a subscription could not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The server has ended.
    Closed,
    /// Thousands of requests wait: the server is not being turned.
    Full,
    /// A channel's name is none.
    BadChannel,
    /// No channel, more than [`channels_per_connection_max`](crate::Config#structfield.channels_per_connection_max),
    /// or one twice.
    ChannelCount,
    /// There are [`local_subscriptions_max`](crate::Config#structfield.local_subscriptions_max) already.
    TooMany,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the server has ended",
            Self::Full => "the server is not being turned: its queue is full",
            Self::BadChannel => crate::message::CHANNEL_RULE,
            Self::ChannelCount => {
                "name 1 to 128 channels (channels_per_connection_max), each of them once"
            }
            Self::TooMany => {
                "too many subscriptions of the program's own: drop some, or raise \
                 local_subscriptions_max"
            }
        })
    }
}

impl std::error::Error for SubscribeError {}

impl From<HubError> for SubscribeError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Closed => Self::Closed,
            HubError::Full => Self::Full,
        }
    }
}

impl Subscription {
    /// The position up to which everything has been handed over: taken by the channel, or by the
    /// callback. `None` before the first push. A channel's reader that has not read all of it keeps
    /// the id of what it read last instead.
    #[must_use]
    pub fn position(&self) -> Option<Cursor> {
        self.progress.cursor()
    }

    /// Whether nothing will be handed over any more: the server has ended, the receiver has gone, or
    /// the subscription was [refused](Push::Refused).
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.progress.is_ended()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.progress.is_ended() {
            self.progress.end();
            // The loop is told to look, also if its queue is full: on a quiet channel nothing else would.
            let ended = Job::urgent(|engine, now| engine.handle_listen_ended(now));
            let _ = self.hub.send(Command::Do(Whom::First, ended));
        }
    }
}

impl Hub {
    /// Subscribes the program itself to channels: what is published to them is put into `sender`, in
    /// the one order that all clients see, each message once.
    ///
    /// `since` is what clients have: a position from which on nothing is missed, [`Since::Earliest`],
    /// a time; `None` is from this call on. What is missing all the same is told as [`Push::Gap`],
    /// before what follows it; [`Push::Live`] says that all that was there has come.
    ///
    /// The server never waits for the reader. While the channel is full the subscription stays behind,
    /// as a slow client does; it is looked at again after a millisecond, then less often, at least
    /// every second, and catches up from history, or is told of a gap. What lies in the channel counts
    /// against the server's [memory](crate::Config#structfield.memory_bytes): some hundred places are
    /// enough. Dropping the receiver or the [`Subscription`] ends it; when the server ends, the
    /// receiver is disconnected behind what it could still take.
    ///
    /// The program counts as a subscriber wherever subscribers are counted (not in the list of a
    /// channel's members), from the loop's next turn on. With several loops the first one serves it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::mpsc::sync_channel;
    /// use holdline::engine::Push;
    ///
    /// let server = holdline::Server::bind("127.0.0.1:0")?;
    /// let (sender, receiver) = sync_channel(256);
    /// let subscription = server.hub().subscribe(&["sensors"], None, sender)?;
    /// let running = server.spawn()?;
    /// running.hub().publish("sensors", "21.5")?;
    /// for push in receiver {
    ///     if let Push::Message { id, publication } = push {
    ///         println!("{id}: {:?}", publication.payload());
    ///         break;
    ///     }
    /// }
    /// # drop(subscription);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What is wrong with the channels, too many subscriptions, or a server that has ended or is not
    /// being turned. What only the loop can know comes as [`Push::Refused`].
    pub fn subscribe(
        &self,
        channels: &[&str],
        since: Option<Since>,
        sender: SyncSender<Push>,
    ) -> Result<Subscription, SubscribeError> {
        self.listen(channels, since, move |push| match sender.try_send(push) {
            Ok(()) => Taken::Yes,
            Err(TrySendError::Full(_)) => Taken::Full,
            Err(TrySendError::Disconnected(_)) => Taken::Over,
        })
    }

    /// Subscribes the program itself by a function that is called with each push, on the loop's
    /// thread; otherwise as [`subscribe`](Self::subscribe). It must not block: every client waits for
    /// it. It may use any `Hub`. If it panics the server ends with an error, as for a callback of an
    /// [`App`](crate::App). When the subscription ends it is dropped.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with(
        &self,
        channels: &[&str],
        since: Option<Since>,
        mut callback: impl FnMut(Push) + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        self.listen(channels, since, move |push| {
            callback(push);
            Taken::Yes
        })
    }

    fn listen(
        &self,
        channels: &[&str],
        since: Option<Since>,
        mut take: impl FnMut(Push) -> Taken + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        // Taken now, given back when the function goes.
        let seat = Arc::clone(&self.shared.seats);
        if Arc::strong_count(&seat) - 2 >= self.shared.limits.subscriptions_max {
            return Err(SubscribeError::TooMany);
        }
        let sink: Sink = Box::new(move |push| {
            let _seat = &seat;
            take(push)
        });
        let listen = Listen::new(channels, since, &self.shared.history, sink);
        listen.check(self.shared.limits.channels_max).map_err(|refusal| match refusal.code {
            Code::BadChannel => SubscribeError::BadChannel,
            _ => SubscribeError::ChannelCount,
        })?;
        let progress = listen.progress();
        let listen = Job::new(move |engine, now| engine.handle_listen(listen, now));
        self.send(Command::Do(Whom::First, listen))?;
        Ok(Subscription { progress, hub: self.clone() })
    }
}

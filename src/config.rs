//! Every limit and interval, as plain fields with their unit, default and what they cost.

use std::path::PathBuf;
use std::time::Duration;

/// The most loops that a server can have.
pub const LOOPS_MAX: u32 = 64;

/// How a server behaves. All fields are public; start from [`Config::default`] or
/// [`Config::device`] and change what you need.
///
/// ```
/// use holdline::Config;
///
/// let config = Config { history_messages: 100, ..Config::default() }.listen("127.0.0.1:0");
/// assert_eq!(config.listen, ["127.0.0.1:0"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    // Where and for whom.
    /// Addresses: `7070` (both loopback addresses), `ADDR:PORT`, `:7070` or `[::]:7070` (every
    /// interface), port 0 (a free one), `unix:PATH`. Empty: `7070`.
    pub listen: Vec<String>,
    /// Permissions of the socket files of `unix:PATH`, for example `0o660`; to connect is to write. They
    /// have them before anybody can connect. Default none: those that the umask leaves.
    pub unix_mode: Option<u32>,
    /// The group of these files: a name of `/etc/group`, or a number. Default none: the process's.
    pub unix_group: Option<String>,
    /// Anyone may do everything: no check of Origin, Host or address. Limits of size stay. Default off.
    pub open: bool,
    /// Loopback and unix peers may publish without an [`App`](crate::App) that allows it. Off in the
    /// library, on in the binary.
    pub local_publish: bool,
    /// Origins that are allowed besides the page's own host: `https://example.org`.
    pub origins: Vec<String>,
    /// Host names that are served besides the addresses listened on and localhost.
    pub hosts: Vec<String>,
    /// Proxies that are believed when they say, by `X-Forwarded-For`, for whom they ask: addresses,
    /// networks (`10.0.0.0/8`), `unix` for whoever comes over a unix socket. The limits below then count
    /// for the address that is named; rights to publish stay those of the proxy, which decides whom it
    /// lets through. Default none: the header is not looked at.
    pub trusted_proxies: Vec<String>,
    /// Which of the built-in routes answer. Default all.
    pub routes: Routes,

    // Of each address (IPv4, or 64 bits of IPv6), but for loopback and unix peers that are no trusted
    // proxies; none of these counts with `open`.
    /// Addresses that are remembered at a time, some 100 bytes each while one is connected and for as
    /// long as a rate has not recovered; more of them share one entry. 0: no address is limited, and
    /// no connection in its operations. Default 100 000.
    pub addresses_max: usize,
    /// Connections accepted. Default 20 a second, 60 at once.
    pub accepts_per_address: Rate,
    /// Connections at a time; 0: any number. Default 100.
    pub connections_per_address_max: u32,
    /// Polls held at a time; 0: any number. Default 20.
    pub polls_per_address_max: u32,
    /// Messages published. Default 20 a second, 50 at once.
    pub publishes_per_address: Rate,
    /// Channels published or listened to that did not exist. Default 10 a second, 200 at once.
    pub new_channels_per_address: Rate,
    /// Answers that credentials are missing or wrong, which an application gives. Default 5 a minute.
    pub unauthorized_per_address: Rate,
    /// Commands on one `/ws`, or messages on one raw WebSocket. Default 50 a second, 100 at once.
    pub operations_per_connection: Rate,
    /// Messages in one channel, of publishers that are limited. Default 500 a second, 500 at once; 16
    /// bytes for each channel whose rate has not recovered, of which there are at most `channels_max`.
    pub publishes_per_channel: Rate,

    // The order.
    /// Bytes of heap that peers may make the server hold; 0, the default: a quarter of the memory of
    /// the machine or control group, at most 512 MiB (64 MiB where a program drives the engine itself).
    ///
    /// The split: history takes what is there and gives way to the rest, oldest first, also what slow
    /// readers pin counts. Connections, with all that is unfinished on them and the buffers of the
    /// loop, hold at most half; channels and idempotency keys at most a quarter. Near its half no new
    /// connection is let in (503); beyond it, or when nothing is left to give way, whoever comes to
    /// hold more is refused (503, close 1013). An eighth of the budget is for what an allocator cannot
    /// use again at once, the shares are of the rest. The process has besides what it begins with.
    pub memory_bytes: usize,
    /// Messages kept per channel. Default 1 000.
    pub history_messages: usize,
    /// How long messages are kept. Default 5 min.
    pub history_age: Duration,
    /// Bytes kept per channel. Default 1 MiB.
    pub history_bytes: usize,
    /// Bytes of the newest publications of all channels that live delivery works from. Default 1 MiB.
    pub recent_bytes: usize,
    /// Channels that exist at a time. Default 100 000, some 200 bytes each.
    pub channels_max: usize,
    /// How long an empty channel's last position is remembered. Default 1 h.
    pub channel_memory: Duration,
    /// Payload of one message. Default 64 KiB. A frame of the built-in WebSockets may be as long, and where
    /// this is less, as long as [`ws_frame_bytes_max`](Self::ws_frame_bytes_max), but no longer than 64 KiB.
    pub message_bytes_max: usize,
    /// How long an idempotency key is remembered. Default 5 min.
    pub idempotency_window: Duration,
    /// Bytes of the idempotency keys remembered at a time, some 150 each. Default 64 MiB; at most an
    /// eighth of `memory_bytes`.
    pub idempotency_bytes_max: usize,
    /// Channels that keep and owe only the newest publication of each event name: names, in which `*`
    /// stands for any run of characters (`sensors.*`). What is skipped is no gap. Default none.
    pub latest: Vec<String>,
    /// A directory of a `Server`'s own, so that a planned restart is no gap: what
    /// the server keeps is written there at its orderly end, after the last publication, and read and
    /// removed when the next one is bound, before it serves. A crash leaves nothing, so that the
    /// epoch is new after it. Takes as many bytes as history holds, on disk only. Is made if the
    /// directory above it exists; one server at a time may use it. Default none: nothing is written.
    pub data: Option<PathBuf>,

    // Connections.
    /// Connections at a time; 0: the descriptor limit less 64, and no more than half of
    /// `memory_bytes` carries. Each costs about 250 bytes.
    pub connections_max: u32,
    /// Channels of one connection. Default 128.
    pub channels_per_connection_max: usize,
    /// How long a connection that is gone, or a poll between two requests, still counts as listening
    /// where somebody wants to know. Default 5 s; 0: polls are not told who
    /// comes and goes.
    pub presence_grace: Duration,
    /// Listeners of a channel that are listed; with more of them their coming and going is not told one
    /// by one. Default 1 000.
    pub presence_members_max: usize,
    /// Connections that are gone and still count, and polls that are known from one request to the
    /// next, on all channels that somebody watches and on all loops: some 100 bytes each. Beyond, they
    /// leave at once. Default 10 000.
    pub presence_entries_max: usize,
    /// Subscriptions of the program's own (`Hub::subscribe`) at a time, some 300 bytes each and 80
    /// for each of its channels, which do not count against `memory_bytes`. Default 256.
    pub local_subscriptions_max: usize,
    /// Own bytes (replies, not publications) waiting for one connection. Default 64 KiB.
    pub outbox_bytes_max: usize,
    /// A connection that takes nothing of what waits for it is closed after this. Default 30 s.
    pub write_stall: Duration,
    /// How long an answer that comes later may take ([`Answer::Later`](crate::engine::Answer)). Default 10 s.
    pub answer_deadline: Duration,

    // HTTP.
    /// Request head. Default 16 KiB.
    pub head_bytes_max: usize,
    /// Request line, and any other line of the head. Default 8 KiB.
    pub line_bytes_max: usize,
    /// Header fields. Default 64.
    pub headers_max: usize,
    /// Query pairs besides `channel`. Default 32.
    pub query_pairs_max: usize,
    /// Body of `POST /publish`. Default 1 MiB.
    pub batch_bytes_max: usize,
    /// Lines of `POST /publish`. Default 1 000.
    pub batch_lines_max: usize,
    /// Channels of all lines of one `POST /publish`. Default 4 096.
    pub batch_targets_max: usize,
    /// From accept, or the first byte of a further request, to the end of the head. Default 10 s.
    pub head_timeout: Duration,
    /// From the head to the end of the body. Default 30 s.
    pub body_timeout: Duration,
    /// Before the rate of a body counts. Default 5 s.
    pub body_grace: Duration,
    /// Slowest body, in bytes per second on average. Default 1 024.
    pub body_rate_min: u64,
    /// Idle between two requests. Default 75 s.
    pub keep_alive: Duration,
    /// Requests on one connection. Default 1 000.
    pub keep_alive_requests: u16,
    /// Age of a connection that still takes requests. Default 1 h.
    pub keep_alive_age: Duration,
    /// After the last answer: how long to read on without a byte. Default 2 s.
    pub linger_idle: Duration,
    /// After the last answer: how long to read on in all. Default 5 s.
    pub linger: Duration,
    /// After the last answer: how much to read on. Default 16 MiB.
    pub linger_bytes_max: usize,
    /// A peer that has closed its sending side still gets what a held poll or a stream owes it
    /// (`nc -N`); else it counts as gone. Default off.
    pub allow_half_close: bool,

    // Streams, polls, WebSockets.
    /// Silence on a WebSocket before a heartbeat. Default 25 s; each time a random 0.8–1.0 of it.
    pub heartbeat: Duration,
    /// The same on an event stream. Default 15 s.
    pub sse_heartbeat: Duration,
    /// After a ping: how long any byte may take. Default 10 s.
    pub pong_timeout: Duration,
    /// After our Close: how long the peer's may take. Default 5 s.
    pub close_timeout: Duration,
    /// How long a poll is held if it does not say. Default 25 s.
    pub poll_wait: Duration,
    /// How long a poll may be held. Default 55 s.
    pub poll_wait_max: Duration,
    /// Messages in one poll answer. Default 100.
    pub poll_messages_max: usize,
    /// Bytes of messages in one poll answer. Default 256 KiB.
    pub poll_bytes_max: usize,
    /// Shortest reconnect delay that a stream is given. Default 2 s.
    pub retry_min: Duration,
    /// Longest reconnect delay that a stream is given. Default 5 s.
    pub retry_max: Duration,
    /// Message of an application's own WebSocket. Default 64 KiB.
    pub ws_message_bytes_max: usize,
    /// Frame of an application's own WebSocket. Default 64 KiB.
    pub ws_frame_bytes_max: usize,
    /// Fragments of a message of an application's own WebSocket; 0: any number. Default 128.
    pub ws_fragments_max: u32,

    // The end.
    /// How long an orderly end may take after a signal, for programs that call
    /// `Server::watch_signals`. Clients are told at random moments of the first 80 %, at most 100 ms for
    /// each; 16 bytes for each meanwhile. Default 20 s.
    pub drain: Duration,
    /// How long only `/ready` says that the end is near, before it begins. Default 0.
    pub drain_delay: Duration,

    // The loops.
    /// Threads that serve connections, all of one order; 0 counts as 1, at most [`LOOPS_MAX`]. The first is the
    /// one that turns the server; it accepts, and hands a connection to the loop that has the fewest. Each
    /// costs a thread, two descriptors, `receive_buffer` and twice `arena_bytes`. Default 1: no thread at
    /// all.
    pub loops: u32,
    /// The one receive buffer of a loop. Default 64 KiB.
    pub receive_buffer: usize,
    /// Readiness events taken from the kernel in a turn, 16 bytes each. Default 1 024.
    pub events_per_turn: usize,
    /// Bytes read from one connection in a turn. Default 16 KiB.
    pub read_bytes_per_turn: usize,
    /// Replies to one connection in a turn, before its next event waits. Default 8 KiB.
    pub reply_bytes_per_turn: usize,
    /// Replies to all connections before they are written out. Default 256 KiB.
    pub arena_bytes: usize,
    /// Connections accepted in a turn. Default 64.
    pub accepts_per_turn: usize,
    /// Deliveries written in a turn. Default 1 024.
    pub writes_per_turn: usize,
    /// Bytes delivered in a turn. Default 1 MiB.
    pub write_bytes_per_turn: usize,
    /// Timers handled in a turn. Default 256.
    pub timers_per_turn: usize,
    /// Connections that the kernel may queue before they are accepted. Default 4 096.
    pub backlog: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            unix_mode: None,
            unix_group: None,
            open: false,
            local_publish: false,
            origins: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            routes: Routes::default(),
            addresses_max: 100_000,
            accepts_per_address: Rate::per_second(20, 60),
            connections_per_address_max: 100,
            polls_per_address_max: 20,
            publishes_per_address: Rate::per_second(20, 50),
            new_channels_per_address: Rate::per_second(10, 200),
            unauthorized_per_address: Rate { burst: 5, every: Duration::from_secs(12) },
            operations_per_connection: Rate::per_second(50, 100),
            publishes_per_channel: Rate::per_second(500, 500),
            memory_bytes: 0,
            history_messages: 1_000,
            history_age: Duration::from_secs(300),
            history_bytes: MIB,
            recent_bytes: MIB,
            channels_max: 100_000,
            channel_memory: Duration::from_secs(3_600),
            message_bytes_max: 64 * KIB,
            idempotency_window: Duration::from_secs(300),
            idempotency_bytes_max: 64 * MIB,
            latest: Vec::new(),
            data: None,
            connections_max: 0,
            channels_per_connection_max: 128,
            presence_grace: Duration::from_secs(5),
            presence_members_max: 1_000,
            presence_entries_max: 10_000,
            local_subscriptions_max: 256,
            outbox_bytes_max: 64 * KIB,
            write_stall: Duration::from_secs(30),
            answer_deadline: Duration::from_secs(10),
            head_bytes_max: 16 * KIB,
            line_bytes_max: 8 * KIB,
            headers_max: 64,
            query_pairs_max: 32,
            batch_bytes_max: MIB,
            batch_lines_max: 1_000,
            batch_targets_max: 4_096,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            body_rate_min: 1_024,
            keep_alive: Duration::from_secs(75),
            keep_alive_requests: 1_000,
            keep_alive_age: Duration::from_secs(3_600),
            linger_idle: Duration::from_secs(2),
            linger: Duration::from_secs(5),
            linger_bytes_max: 16 * MIB,
            allow_half_close: false,
            heartbeat: Duration::from_secs(25),
            sse_heartbeat: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            poll_wait: Duration::from_secs(25),
            poll_wait_max: Duration::from_secs(55),
            poll_messages_max: 100,
            poll_bytes_max: 256 * KIB,
            retry_min: Duration::from_secs(2),
            retry_max: Duration::from_secs(5),
            ws_message_bytes_max: 64 * KIB,
            ws_frame_bytes_max: 64 * KIB,
            ws_fragments_max: 128,
            drain: Duration::from_secs(20),
            drain_delay: Duration::ZERO,
            loops: 1,
            receive_buffer: 64 * KIB,
            events_per_turn: 1_024,
            read_bytes_per_turn: 16 * KIB,
            reply_bytes_per_turn: 8 * KIB,
            arena_bytes: 256 * KIB,
            accepts_per_turn: 64,
            writes_per_turn: 1_024,
            write_bytes_per_turn: MIB,
            timers_per_turn: 256,
            backlog: 4_096,
        }
    }
}

impl Config {
    /// Limits for small devices: 64 connections, 256 KiB for these and history, small buffers. A server
    /// with these holds at most 16 KiB of heap beyond its `memory_bytes`, whatever peers do; with 64
    /// connections that listen and as many small messages kept less than 64 KiB in all.
    #[must_use]
    pub fn device() -> Self {
        Self {
            addresses_max: 128,
            accepts_per_address: Rate::per_second(5, 20),
            connections_per_address_max: 32,
            polls_per_address_max: 8,
            publishes_per_address: Rate::per_second(10, 20),
            publishes_per_channel: Rate::per_second(50, 50),
            memory_bytes: 256 * KIB,
            history_messages: 100,
            history_bytes: 32 * KIB,
            recent_bytes: 16 * KIB,
            channels_max: 64,
            message_bytes_max: 8 * KIB,
            idempotency_bytes_max: 16 * KIB,
            connections_max: 64,
            presence_members_max: 64,
            presence_entries_max: 64,
            local_subscriptions_max: 8,
            outbox_bytes_max: 8 * KIB,
            head_bytes_max: 4 * KIB,
            line_bytes_max: 2 * KIB,
            batch_bytes_max: 32 * KIB,
            batch_lines_max: 100,
            batch_targets_max: 128,
            poll_bytes_max: 16 * KIB,
            ws_message_bytes_max: 8 * KIB,
            ws_frame_bytes_max: 8 * KIB,
            receive_buffer: 4 * KIB,
            events_per_turn: 32,
            read_bytes_per_turn: 4 * KIB,
            reply_bytes_per_turn: 2 * KIB,
            arena_bytes: 4 * KIB,
            write_bytes_per_turn: 64 * KIB,
            backlog: 64,
            ..Self::default()
        }
    }

    /// Adds an address to listen on; see [`Config::listen`](Self#structfield.listen).
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Serves on so many threads; see [`Config::loops`](Self#structfield.loops).
    #[must_use]
    pub fn loops(mut self, count: u32) -> Self {
        self.loops = count;
        self
    }

    /// Lets anyone do everything; see [`Config::open`](Self#structfield.open).
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }
}

/// How often something may happen: `burst` times at once, and then once every `every`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How often at once, after a time without; 0: no limit.
    pub burst: u32,
    /// After how long it may happen once more.
    pub every: Duration,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self { burst: 0, every: Duration::ZERO };

    /// So many a second (0 counts as 1), `burst` of them at once.
    #[must_use]
    pub const fn per_second(count: u32, burst: u32) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { burst, every: Duration::from_micros(1_000_000 / count as u64) }
    }
}

/// Which of the built-in routes answer; what is off is 404 unless the application answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes {
    /// `/channels/{name}`: raw mode.
    pub channels: bool,
    /// `/events`, `/poll`, `/ws`, `/publish`: protocol mode.
    pub protocol: bool,
    /// `/`: the console.
    pub console: bool,
    /// `/client.js` and `/client.iife.js`: the client for browsers.
    pub client: bool,
    /// `/health` and `/ready`.
    pub health: bool,
    /// `/stats` and `/stats/channels`.
    pub stats: bool,
}

impl Routes {
    /// No built-in route at all.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            channels: false,
            protocol: false,
            console: false,
            client: false,
            health: false,
            stats: false,
        }
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            channels: true,
            protocol: true,
            console: true,
            client: true,
            health: true,
            stats: true,
        }
    }
}

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * 1024;

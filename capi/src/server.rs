//! The server: made, turned, freed.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use holdline::server::LocalAddr;
use holdline::{Config, Server, Turned};

use crate::app::Callbacks;
use crate::error::{self, Outcome, guard, guard_or};
use crate::frame::{self, Mark};
use crate::hub::holdline_hub;
use crate::input;
use crate::types::{holdline_callbacks, holdline_config};

/// A server. It belongs to the thread that turns it; another one, or a callback, that turns it
/// meanwhile gets -EBUSY.
pub struct holdline_server {
    state: Mutex<State>,
    /// What may be asked while it is being turned.
    hub: Arc<holdline_hub>,
    mark: Mark,
    fd: c_int,
    port: Option<u16>,
    addresses: Vec<String>,
}

struct State {
    /// `None` while it is being freed.
    server: Option<Server>,
    has_ended: bool,
}

/// Makes a server and listens. config may be NULL: defaults, port 7070 on loopback. callbacks may
/// be NULL: clients listen, and only the program publishes; both are copied. *out is the server, or
/// NULL if it fails. -EINVAL -E2BIG -EADDRINUSE -EACCES and what else the system says; the log says
/// which address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_new(
    config: *const holdline_config,
    callbacks: *const holdline_callbacks,
    user: *mut c_void,
    out: *mut *mut holdline_server,
) -> c_int {
    guard(|| {
        if out.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: it is not null, so it is valid.
        unsafe { out.write(ptr::null_mut()) };
        // SAFETY: as the caller promises.
        let config = unsafe { read_config(config) }?;
        let message_bytes_max = config.message_bytes_max;
        let mark = Mark::default();
        let app = if callbacks.is_null() {
            None
        } else {
            // SAFETY: as the caller promises.
            let table = unsafe { input::read(callbacks) }?;
            Some(Callbacks { table, user, message_bytes_max, mark: mark.clone() })
        };
        let server = bind(config, app, mark)?;
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(Box::new(server))) };
        Ok(0)
    })
}

fn bind(config: Config, app: Option<Callbacks>, mark: Mark) -> Result<holdline_server, c_int> {
    let message_bytes_max = config.message_bytes_max;
    let bound = match app {
        Some(app) => config.bind_apps(|_| app.clone()),
        None => config.bind(),
    };
    let server = bound.map_err(|error| {
        log::error!("no server: {error}");
        error::of_io(&error)
    })?;
    let port = server.local_addrs().iter().find_map(|address| match address {
        LocalAddr::Tcp(address) => Some(address.port()),
        _ => None,
    });
    Ok(holdline_server {
        hub: Arc::new(holdline_hub { hub: server.hub(), message_bytes_max }),
        fd: server.as_raw_fd(),
        port,
        addresses: server.local_addrs().iter().map(ToString::to_string).collect(),
        state: Mutex::new(State { server: Some(server), has_ended: false }),
        mark,
    })
}

/// # Safety
/// `given` is null or valid, and so is what it points to.
unsafe fn read_config(given: *const holdline_config) -> Result<Config, c_int> {
    if given.is_null() {
        return Ok(Config::default());
    }
    // SAFETY: as the caller promises.
    let given = unsafe { input::read(given) }?;
    let mut config = if given.device == 0 { Config::default() } else { Config::device() };
    // SAFETY: as the caller promises.
    config.listen = unsafe { read_list(given.listen, given.listen_len) }?;
    config.open = given.open != 0;
    // SAFETY: as the caller promises.
    config.hosts = unsafe { read_list(given.hosts, given.hosts_len) }?;
    // SAFETY: as the caller promises.
    config.origins = unsafe { read_list(given.origins, given.origins_len) }?;
    check_names(&config)?;
    set_bytes(&mut config.memory_bytes, given.memory_bytes);
    set_bytes(&mut config.history_bytes, given.history_bytes);
    set_bytes(&mut config.history_messages, u64::from(given.history_messages));
    set_bytes(&mut config.message_bytes_max, u64::from(given.message_bytes_max));
    set_bytes(&mut config.ws_message_bytes_max, u64::from(given.ws_message_bytes_max));
    set_bytes(&mut config.ws_frame_bytes_max, u64::from(given.ws_frame_bytes_max));
    if given.connections_max != 0 {
        config.connections_max = given.connections_max;
    }
    if given.history_age_s != 0 {
        config.history_age = Duration::from_secs(u64::from(given.history_age_s));
    }
    if given.heartbeat_s != 0 {
        config.heartbeat = Duration::from_secs(u64::from(given.heartbeat_s));
        config.sse_heartbeat = config.heartbeat;
    }
    match given.ws_fragments_max {
        0 => {}
        u32::MAX => config.ws_fragments_max = 0,
        max => config.ws_fragments_max = max,
    }
    config.loops = given.loops;
    Ok(config)
}

/// What no request could ever match is a mistake.
fn check_names(config: &Config) -> Result<(), c_int> {
    let is_host = |name: &str| {
        let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let in_literal = |byte: u8| byte.is_ascii_hexdigit() || b".:".contains(&byte);
        match literal {
            Some(literal) => !literal.is_empty() && literal.bytes().all(in_literal),
            None => !name.is_empty() && name.bytes().all(in_name),
        }
    };
    let is_origin = |text: &str| {
        let parts = text.trim_end_matches('/').split_once("://");
        let is_whole = |(scheme, rest): (&str, &str)| {
            !scheme.is_empty() && !rest.is_empty() && !rest.contains(['/', ' '])
        };
        text == "null" || parts.is_some_and(is_whole)
    };
    if let Some(bad) = config.hosts.iter().find(|name| !is_host(name)) {
        log::error!("no server: {bad:?} is no host: a name, without scheme, port or path");
        return Err(libc::EINVAL);
    }
    if let Some(bad) = config.origins.iter().find(|text| !is_origin(text)) {
        log::error!("no server: {bad:?} is no origin: write it like https://app.example");
        return Err(libc::EINVAL);
    }
    Ok(())
}

fn set_bytes(limit: &mut usize, given: u64) {
    if given != 0 {
        *limit = usize::try_from(given).unwrap_or(usize::MAX);
    }
}

/// # Safety
/// `len` terminated texts at `list` are readable.
unsafe fn read_list(list: *const *const c_char, len: usize) -> Result<Vec<String>, c_int> {
    const LEN_MAX: usize = 1024;
    if len > LEN_MAX || (list.is_null() && len > 0) {
        return Err(libc::EINVAL);
    }
    let read = |number| {
        // SAFETY: as the caller promises.
        let text = unsafe { input::c_text(*list.add(number)) }?;
        text.map(str::to_owned).ok_or(libc::EINVAL)
    };
    (0..len).map(read).collect()
}

/// The port of the first TCP listener. -EADDRNOTAVAIL if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_port(server: *const holdline_server) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| server.ok_or(libc::EINVAL)?.port.map(c_int::from).ok_or(libc::EADDRNOTAVAIL))
}

/// Writes where it listens, the address of that number (from 0), into text, terminated, cut if size is too small:
/// "http://127.0.0.1:7070", "unix:/run/x.sock". Returns the whole length. -ENOENT: there are fewer. -EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_address(
    server: *const holdline_server,
    number: usize,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| {
        let address = server.ok_or(libc::EINVAL)?.addresses.get(number).ok_or(libc::ENOENT)?;
        // SAFETY: as the caller promises.
        unsafe { input::write_text(text, size, address) }
    })
}

/// Turns until it is shut down; then 0. -ESHUTDOWN: it had ended before; else as holdline_server_turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_run(server: *mut holdline_server) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| {
        let turns = |state: &mut State| {
            if state.has_ended {
                return Err(libc::ESHUTDOWN);
            }
            while !state.has_ended {
                match state.turn(None) {
                    Ok(_) | Err(libc::ESHUTDOWN) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Ok(0)
        };
        server.ok_or(libc::EINVAL)?.with_state(turns)
    })
}

/// One pass: waits at most timeout_ms (0: not at all, -1: until something happens), takes in what
/// came, makes callbacks, and writes what is owed. A signal that the program handles ends the wait.
/// 0: it goes on. -ESHUTDOWN: it has ended, free it. -EBUSY: it is being turned, by this thread (this
/// is a callback) or another. Anything else: it has failed, free it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_turn(
    server: *mut holdline_server,
    timeout_ms: c_int,
) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        server.ok_or(libc::EINVAL)?.with_state(|state| state.turn(timeout))
    })
}

/// A descriptor to watch in a loop of your own: when it is readable, or the timeout is over, call
/// holdline_server_turn(server, 0). It stays the same, and belongs to the server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_fd(server: *const holdline_server) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| Ok(server.ok_or(libc::EINVAL)?.fd))
}

/// How long a loop of your own may sleep, in ms, rounded up; -1: until the descriptor is readable;
/// 0: call holdline_server_turn(server, 0) now. Ask again before each sleep. -EINVAL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_timeout_ms(server: *const holdline_server) -> c_int {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard(|| {
        let next = |state: &mut State| {
            if state.has_ended {
                return Ok(0);
            }
            let next = state.server.as_ref().and_then(Server::next_timeout);
            Ok(next.map_or(-1, |time| error::count(time.as_millis().min(1 << 30) as usize)))
        };
        match server.ok_or(libc::EINVAL)?.with_state(next) {
            Err(libc::EBUSY) => Ok(0), // it is being turned: who asks has a turn to finish
            other => other,
        }
    })
}

/// Frees it: closes every descriptor, and calls closed for each WebSocket of the application's own that is
/// left. Hubs stay valid, and say -ESHUTDOWN. While it is being turned (in a callback, or by another thread)
/// it cannot be freed: it is shut down at once instead, its turn returns -ESHUTDOWN, and it must be
/// freed then. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_free(server: *mut holdline_server) {
    guard_or((), (), || {
        // SAFETY: as the caller promises.
        let Some(shared) = (unsafe { server.as_ref() }) else { return };
        let gone = shared.with_state(|state| {
            // It makes its last callbacks while all the rest is still there.
            state.has_ended = true;
            drop(state.server.take());
            Ok(0)
        });
        if gone == Err(libc::EBUSY) {
            log::error!("holdline_server_free while it is being turned: shut down instead");
            let _ = shared.hub.hub.shutdown(Duration::ZERO);
            return;
        }
        // SAFETY: it came from `Box::into_raw`, and nobody turns it.
        drop(unsafe { Box::from_raw(server) });
    });
}

/// A handle for other threads, to be freed by holdline_hub_free. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_server_hub(server: *mut holdline_server) -> *mut holdline_hub {
    // SAFETY: as the caller promises.
    let server = unsafe { server.as_ref() };
    guard_or(ptr::null_mut(), ptr::null_mut(), || {
        server.map_or(ptr::null_mut(), |server| holdline_hub::give(&server.hub))
    })
}

impl holdline_server {
    fn with_state(&self, act: impl FnOnce(&mut State) -> Outcome) -> Outcome {
        // With several loops a callback may run while nobody turns it.
        if frame::is_inside(&self.mark) {
            return Err(libc::EBUSY);
        }
        match self.state.try_lock() {
            Ok(mut state) => act(&mut state),
            Err(TryLockError::WouldBlock) => Err(libc::EBUSY),
            Err(TryLockError::Poisoned(_)) => Err(libc::EFAULT),
        }
    }
}

impl State {
    fn turn(&mut self, timeout: Option<Duration>) -> Outcome {
        let Some(server) = self.server.as_mut().filter(|_| !self.has_ended) else {
            return Err(libc::ESHUTDOWN);
        };
        match server.turn(timeout) {
            Ok(Turned::Ended) => {
                self.has_ended = true;
                Err(libc::ESHUTDOWN)
            }
            Ok(_) => Ok(0),
            Err(error) => {
                log::error!("the server has failed: {error}");
                self.has_ended = true;
                Err(error::of_io(&error))
            }
        }
    }
}

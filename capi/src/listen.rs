//! Subscriptions of the program's own, without a connection.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdline::Since;
use holdline::engine::Push;
use holdline::server::{SubscribeError, Subscription};

use crate::error::{guard, guard_or};
use crate::hub::holdline_hub;
use crate::input::{self, ABSENT, lend};
use crate::types::{holdline_bytes, holdline_push, holdline_push_kind};

/// A subscription of the program's own; holdline_listener_free ends it.
pub struct holdline_listener {
    _subscription: Subscription,
}

type Function = unsafe extern "C" fn(user: *mut c_void, push: *const holdline_push);

/// Who is called, and for the last time when this goes.
struct Callee {
    function: Function,
    user: *mut c_void,
    /// Of two, who comes second says that it has ended: this one's end, and that the subscription was
    /// really made. One that fails says nothing.
    is_second: Arc<AtomicBool>,
}

// SAFETY: the header says on which threads the function is called with this pointer.
unsafe impl Send for Callee {}

impl Callee {
    fn call(&self, kind: holdline_push_kind, fill: impl FnOnce(&mut holdline_push)) {
        let mut push = holdline_push {
            size: size_of::<holdline_push>(),
            kind: kind as c_int,
            id: ABSENT,
            channel: ABSENT,
            event: ABSENT,
            r#type: ABSENT,
            payload: ABSENT,
        };
        fill(&mut push);
        // SAFETY: who subscribed promised that it may be called so until it has been told the end.
        unsafe { (self.function)(self.user, &push) };
    }

    fn end(&self) {
        if self.is_second.swap(true, Ordering::AcqRel) {
            self.call(holdline_push_kind::HOLDLINE_PUSH_ENDED, |_| {});
        }
    }

    fn pass(&self, push: &Push) {
        match push {
            Push::Message { id, publication } => {
                let id = id.to_string();
                self.call(holdline_push_kind::HOLDLINE_PUSH_MESSAGE, |push| {
                    push.id = lend(id.as_bytes());
                    push.channel = lend(publication.channel().as_bytes());
                    push.event = publication.event().map_or(ABSENT, |text| lend(text.as_bytes()));
                    push.r#type =
                        publication.media_type().map_or(ABSENT, |text| lend(text.as_bytes()));
                    push.payload = lend(publication.payload());
                });
            }
            Push::Gap { channels, reason, resumed, .. } => {
                let (id, channels) = (resumed.to_string(), channels.join(","));
                self.call(holdline_push_kind::HOLDLINE_PUSH_GAP, |push| {
                    push.id = lend(id.as_bytes());
                    push.channel = lend(channels.as_bytes());
                    push.payload = lend(reason.name().as_bytes());
                });
            }
            Push::Live { cursor } => {
                let id = cursor.to_string();
                self.call(holdline_push_kind::HOLDLINE_PUSH_LIVE, |push| {
                    push.id = lend(id.as_bytes());
                });
            }
            Push::Refused(refusal) => {
                self.call(holdline_push_kind::HOLDLINE_PUSH_REFUSED, |push| {
                    push.payload = lend(refusal.message.as_bytes());
                });
            }
            _ => {} // there is no other
        }
    }
}

/// So that its end is told wherever it is dropped.
struct Last(Callee);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Subscribes the program itself to count channels, 1 to 128, each named once. push is called with everything that is published there,
/// in the one order, on the thread that turns the server, inside of holdline_server_turn: it must not
/// block. since: NULL: from now on; else as for holdline_subscribe. The last call says HOLDLINE_PUSH_ENDED, once:
/// after holdline_listener_free, or with the server, when it is freed at the latest; then user is
/// not used any more. *out is to be freed in any case. -EINVAL; -ENOMEM: too many; -EAGAIN; -ESHUTDOWN. On failure
/// push is not called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_listen(
    hub: *mut holdline_hub,
    channels: *const holdline_bytes,
    count: usize,
    since: *const c_char,
    push: Option<unsafe extern "C" fn(user: *mut c_void, push: *const holdline_push)>,
    user: *mut c_void,
    out: *mut *mut holdline_listener,
) -> c_int {
    // SAFETY: as the caller promises.
    let hub = unsafe { hub.as_ref() };
    guard(|| {
        if out.is_null() {
            return Err(libc::EINVAL);
        }
        // SAFETY: it is not null, so it is valid.
        unsafe { out.write(ptr::null_mut()) };
        let (hub, function) = (hub.ok_or(libc::EINVAL)?, push.ok_or(libc::EINVAL)?);
        // SAFETY: as the caller promises.
        let channels = unsafe { read_channels(channels, count) }?;
        // SAFETY: as the caller promises.
        let since = unsafe { input::c_text(since) }?;
        let parse = |since: &str| Since::parse(since.as_bytes()).ok_or(libc::EINVAL);
        let since = since.map(parse).transpose()?;
        let is_second = Arc::new(AtomicBool::new(false));
        let callee = |is_second| Callee { function, user, is_second };
        let (last, own) = (Last(callee(Arc::clone(&is_second))), callee(is_second));
        let pass = move |push: Push| {
            let Last(callee) = &last;
            callee.pass(&push);
        };
        let made = hub.hub.subscribe_with(&channels, since, pass).map_err(of_subscribe)?;
        // SAFETY: as above.
        unsafe { out.write(Box::into_raw(Box::new(holdline_listener { _subscription: made }))) };
        own.end(); // it may have ended already
        Ok(0)
    })
}

/// # Safety
/// `count` valid bytes at `channels` are readable.
unsafe fn read_channels<'a>(
    channels: *const holdline_bytes,
    count: usize,
) -> Result<Vec<&'a str>, c_int> {
    const COUNT_MAX: usize = 65_536;
    if channels.is_null() || count > COUNT_MAX {
        return Err(libc::EINVAL);
    }
    // SAFETY: as the caller promises.
    (0..count).map(|number| unsafe { input::text(*channels.add(number)) }).collect()
}

fn of_subscribe(error: SubscribeError) -> c_int {
    match error {
        SubscribeError::Closed => libc::ESHUTDOWN,
        SubscribeError::Full => libc::EAGAIN,
        SubscribeError::TooMany => libc::ENOMEM,
        _ => libc::EINVAL,
    }
}

/// Ends a subscription of the program's own. What is on its way is still handed over, then comes
/// HOLDLINE_PUSH_ENDED. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_listener_free(listener: *mut holdline_listener) {
    guard_or((), (), || {
        if !listener.is_null() {
            // SAFETY: it came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(listener) });
        }
    });
}

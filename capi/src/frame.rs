//! The callbacks that this thread is in. What C holds as a `holdline_ctx` is a number that is looked up
//! here and never followed: so one that is kept, passed to another thread or made up finds
//! nothing, whatever has been freed since.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;

use holdline::engine::{Request, Response, Ticket};
use holdline::{ConnId, Ctx};

use crate::types::{holdline_ctx, holdline_request};

thread_local! {
    /// The innermost callback; a callback that turns another server has more below it.
    static TOP: Cell<*const Frame> = const { Cell::new(ptr::null()) };
    static LAST_HANDLE: Cell<usize> = const { Cell::new(0) };
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

/// Tells servers apart.
pub(crate) type Mark = Arc<()>;

/// A name and a value.
pub(crate) type HeaderLine = (String, String);

/// What a callback is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Nothing,
    Authorize,
    Request,
}

/// What a callback has said about the request at hand.
#[derive(Default)]
pub(crate) enum Said {
    #[default]
    Nothing,
    Response(Response),
    WebSocket(Option<String>),
}

/// One callback, for as long as it runs.
pub(crate) struct Frame {
    handle: usize,
    /// Whose callback.
    mark: *const (),
    /// Null while a function acts through it.
    ctx: Cell<*mut Ctx<'static>>,
    pub(crate) question: Question,
    /// Whose question.
    pub(crate) asker: ConnId,
    request: Option<*const Request<'static>>,
    /// What C was given for that request.
    shown: *const holdline_request,
    pub(crate) said: RefCell<Said>,
    /// Header lines of the answer.
    pub(crate) headers: RefCell<Vec<HeaderLine>>,
    pub(crate) ticket: Cell<Option<Ticket>>,
    pub(crate) message_bytes_max: usize,
    below: *const Self,
}

impl Frame {
    /// What a callback is about; it is made by [`enter`](Self::enter).
    pub(crate) fn new(
        mark: &Mark,
        question: Question,
        asker: ConnId,
        message_bytes_max: usize,
    ) -> Self {
        Self {
            handle: next_handle(),
            mark: Arc::as_ptr(mark),
            ctx: Cell::new(ptr::null_mut()),
            question,
            asker,
            request: None,
            shown: ptr::null(),
            said: RefCell::default(),
            headers: RefCell::default(),
            ticket: Cell::new(None),
            message_bytes_max,
            below: TOP.get(),
        }
    }

    /// Makes the callback.
    pub(crate) fn enter<T>(
        &mut self,
        cx: &mut Ctx<'_>,
        request: Option<(&Request<'_>, &holdline_request)>,
        call: impl FnOnce(*mut holdline_ctx, *const holdline_request) -> T,
    ) -> T {
        self.ctx = Cell::new(ptr::from_mut(cx).cast());
        self.request = request.map(|(request, _)| ptr::from_ref(request).cast());
        self.shown = request.map_or(ptr::null(), |(_, shown)| ptr::from_ref(shown));
        let this: &Self = self; // shared from here on, with the functions that look it up
        let _leave = Leave(this.below);
        TOP.set(this);
        call(ptr::without_provenance_mut(this.handle), this.shown)
    }

    /// Whether the request offers this subprotocol.
    pub(crate) fn offers(&self, protocol: &str) -> bool {
        // SAFETY: `enter` stored it from a reference that outlives the frame.
        let request = self.request.map(|request| unsafe { &*request });
        request.is_some_and(|request| request.protocols().any(|offer| offer == protocol))
    }

    /// Acts through what the callback was lent; `None` while something does already, as when a log
    /// sink comes back in.
    pub(crate) fn with_ctx<T>(&self, act: impl FnOnce(&mut Ctx<'_>) -> T) -> Option<T> {
        let ctx = self.ctx.replace(ptr::null_mut());
        if ctx.is_null() {
            return None;
        }
        let _back = Back(self, ctx);
        // SAFETY: `enter` stored it from a `&mut Ctx` that outlives this frame and is not used while
        // the callback runs. It was taken out of the cell, so nobody else has it now; `act` cannot
        // keep it, for it must do with any lifetime.
        Some(act(unsafe { &mut *ctx }))
    }
}

/// Takes a frame off when its callback returns.
struct Leave(*const Frame);

impl Drop for Leave {
    fn drop(&mut self) {
        TOP.set(self.0);
    }
}

/// Puts a context back for the next function.
struct Back<'a>(&'a Frame, *mut Ctx<'static>);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.ctx.set(self.1);
    }
}

/// The frame that a handle names, if its callback runs on this thread.
pub(crate) fn with_frame<T>(ctx: *mut holdline_ctx, act: impl FnOnce(&Frame) -> T) -> Option<T> {
    with(|frame| frame.handle == ctx.addr(), act)
}

/// Whether this thread is in a callback of that server.
pub(crate) fn is_inside(mark: &Mark) -> bool {
    with(|frame| ptr::eq(frame.mark, Arc::as_ptr(mark)), |_| ()).is_some()
}

/// The request behind what a callback of this thread was shown.
pub(crate) fn with_request<T>(
    shown: *const holdline_request,
    act: impl FnOnce(&Request<'_>) -> T,
) -> Option<T> {
    let is_it = |frame: &Frame| !shown.is_null() && ptr::eq(frame.shown, shown);
    // SAFETY: `enter` stored it from a reference that outlives the frame.
    with(is_it, |frame| frame.request.map(|request| act(unsafe { &*request }))).flatten()
}

fn with<T>(is_it: impl Fn(&Frame) -> bool, act: impl FnOnce(&Frame) -> T) -> Option<T> {
    let mut at = TOP.get();
    loop {
        // SAFETY: null, or a frame whose `enter` has not returned on this thread: it lies further up
        // the stack and is only shared from here on.
        let frame = unsafe { at.as_ref() }?;
        if is_it(frame) {
            return Some(act(frame));
        }
        at = frame.below;
    }
}

/// A number that differs from all that this thread gave out lately, and from those of other
/// threads: it counts in large steps, from an address that only this thread has.
fn next_handle() -> usize {
    const STEP: usize = 0x9e37_79b9_7f4a_7c15_u64 as usize;
    LAST_HANDLE.with(|last| {
        let from = if last.get() == 0 { ptr::from_ref(last).addr() } else { last.get() };
        let next = from.wrapping_add(STEP);
        last.set(if next == 0 { STEP } else { next });
        last.get()
    })
}

/// Whether this thread is inside a log sink.
pub(crate) fn is_logging() -> bool {
    IS_LOGGING.get()
}

/// Runs a log sink, unless one runs on this thread already.
pub(crate) fn log_once(sink: impl FnOnce()) {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            IS_LOGGING.set(false);
        }
    }
    if !IS_LOGGING.replace(true) {
        let _done = Done;
        sink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_differ_from_call_to_call_and_between_threads() {
        let mut seen: Vec<_> = (0..1000).map(|_| next_handle()).collect();
        let other = std::thread::spawn(|| (0..1000).map(|_| next_handle()).collect::<Vec<_>>());
        seen.extend(other.join().expect("it does not panic"));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 2000);
        assert_ne!(seen[0], 0);
    }

    #[test]
    fn outside_a_callback_no_handle_and_no_request_is_found() {
        let made_up = ptr::without_provenance_mut(next_handle());
        assert!(with_frame(made_up, |_| ()).is_none());
        assert!(with_frame(ptr::null_mut(), |_| ()).is_none());
        assert!(with_request(ptr::null(), |_| ()).is_none());
    }
}

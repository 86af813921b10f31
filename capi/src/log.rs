//! The log. The one thing here that belongs to the whole process, and only once it is asked for.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{PoisonError, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use crate::error::guard_or;
use crate::frame;

type Sink = unsafe extern "C" fn(user: *mut c_void, level: c_int, text: *const c_char);

struct Logger {
    sink: RwLock<Option<(Sink, User)>>,
}

#[derive(Clone, Copy)]
struct User(*mut c_void);
// SAFETY: the header says that the sink is called on any thread with this pointer.
unsafe impl Send for User {}
// SAFETY: the same.
unsafe impl Sync for User {}

static LOGGER: Logger = Logger { sink: RwLock::new(None) };

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        frame::log_once(|| {
            // Held over the call: who takes the sink away waits until it has returned.
            let sink = self.sink.read().unwrap_or_else(PoisonError::into_inner);
            let Some((sink, User(user))) = *sink else { return };
            let text = record.args().to_string().replace('\0', " ");
            let Ok(text) = CString::new(text) else { return };
            // SAFETY: who gave the sink promised that it may be called with this, on any thread.
            unsafe { sink(user, record.level() as c_int, text.as_ptr()) };
        });
    }

    fn flush(&self) {}
}

/// Has lines of the log, of all servers of the process, given to sink; NULL: to nobody, as it is
/// before. level: 1 errors, 2 warnings, 3 information, 4 debugging, 5 everything; 0 nothing. The sink is called
/// on any thread, by several at a time, in the middle of things: it must not block, and every
/// function that it calls here does nothing and returns -EBUSY (NULL, {NULL, 0}). When this returns,
/// the sink before is no longer running. text is valid for the call, without a newline.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdline_log(
    sink: Option<unsafe extern "C" fn(user: *mut c_void, level: c_int, text: *const c_char)>,
    user: *mut c_void,
    level: c_int,
) {
    guard_or((), (), || {
        let filter = match (sink, level) {
            (None, _) | (_, ..=0) => LevelFilter::Off,
            (_, 1) => LevelFilter::Error,
            (_, 2) => LevelFilter::Warn,
            (_, 3) => LevelFilter::Info,
            (_, 4) => LevelFilter::Debug,
            (_, 5..) => LevelFilter::Trace,
        };
        let sink = sink.map(|sink| (sink, User(user)));
        *LOGGER.sink.write().unwrap_or_else(PoisonError::into_inner) = sink;
        // It fails the second time, when it is there.
        let _ = log::set_logger(&LOGGER);
        log::set_max_level(filter);
    });
}

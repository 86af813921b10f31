//! Results: what went wrong as a negative errno, and in words. No panic gets past here.

use std::ffi::{CStr, c_char, c_int};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use holdline::server::HubError;
use holdline::{Code, Refusal};

use crate::frame;

/// A function's result: a count, or a positive errno.
pub(crate) type Outcome = Result<c_int, c_int>;

/// Runs the body of an exported function. Nothing that panics gets out, and nothing is done for a log sink,
/// which may be called in the middle of anything.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> c_int {
    let result = guard_or(Err(libc::EBUSY), Err(libc::EFAULT), body);
    result.unwrap_or_else(|errno| -errno)
}

/// The same for what gives no number: `busy` inside a log sink, `broken` after a panic.
pub(crate) fn guard_or<T>(busy: T, broken: T, body: impl FnOnce() -> T) -> T {
    if frame::is_logging() {
        return busy;
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(broken)
}

/// A count as a result.
pub(crate) fn count(count: usize) -> c_int {
    c_int::try_from(count).unwrap_or(c_int::MAX)
}

pub(crate) fn of_refusal(refusal: &Refusal) -> c_int {
    match refusal.code {
        Code::BadJson => libc::EBADMSG,
        Code::TooLarge => libc::EMSGSIZE,
        Code::Overloaded => libc::ENOMEM,
        Code::Draining => libc::ESHUTDOWN,
        Code::NotFound => libc::ENOENT,
        Code::RateLimited => libc::EAGAIN,
        Code::Unauthorized | Code::Forbidden | Code::Origin => libc::EACCES,
        _ => libc::EINVAL,
    }
}

pub(crate) fn of_hub(error: HubError) -> c_int {
    match error {
        HubError::Closed => libc::ESHUTDOWN,
        HubError::Full => libc::EAGAIN,
        _ => libc::EIO,
    }
}

/// Of an error, or of the one behind it that was given words.
pub(crate) fn of_io(error: &io::Error) -> c_int {
    let behind =
        |error: &io::Error| error.get_ref()?.source()?.downcast_ref::<io::Error>().map(of_io);
    error.raw_os_error().or_else(|| behind(error)).unwrap_or(match error.kind() {
        ErrorKind::InvalidInput => libc::EINVAL,
        ErrorKind::AddrInUse => libc::EADDRINUSE,
        ErrorKind::AddrNotAvailable => libc::EADDRNOTAVAIL,
        ErrorKind::AlreadyExists => libc::EEXIST,
        ErrorKind::PermissionDenied => libc::EACCES,
        ErrorKind::NotFound => libc::ENOENT,
        ErrorKind::OutOfMemory => libc::ENOMEM,
        ErrorKind::Unsupported => libc::ENOTSUP,
        ErrorKind::WouldBlock => libc::EAGAIN,
        _ => libc::EIO,
    })
}

/// What a result says and what to do about it: never NULL, never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn holdline_strerror(result: c_int) -> *const c_char {
    text(result).as_ptr()
}

fn text(result: c_int) -> &'static CStr {
    match result.checked_neg().unwrap_or(c_int::MAX) {
        ..=0 => c"it worked: the result is 0 or a count",
        libc::EINVAL => {
            c"an argument is not what it must be: NULL, a size that is no sizeof, a name outside its \
              alphabet, an address that needs open or callbacks, or a ctx outside its callback; the \
              log says more"
        }
        libc::E2BIG => {
            c"a struct is from a newer header than the library: set the fields that it does not know \
              to zero, or install the newer library"
        }
        libc::ENOENT => c"there is no such connection any more, or it is no WebSocket: forget its number",
        libc::ENOBUFS => {
            c"too much waits for this connection: nothing was taken; wait for the writable callback"
        }
        libc::EMSGSIZE => c"the payload is larger than message_bytes_max: send less, or raise it",
        libc::ENOMEM => {
            c"a table or the byte budget is full: publish less, or raise memory_bytes; try again later"
        }
        libc::EBADMSG => c"the type promises JSON and the payload is none, or nests too deeply",
        libc::EILSEQ => c"text that is not UTF-8: send it as HOLDLINE_BINARY",
        libc::ESHUTDOWN => c"the server has ended: free it and what belongs to it",
        libc::EBUSY => {
            c"the server is being turned already, by this thread or another one, or this is a log \
              sink: call again after that has returned"
        }
        libc::EAGAIN => c"too much is asked at once, or the server is not being turned: try again later",
        libc::EALREADY => c"this request has been answered: return from the callback",
        libc::ENOTSUP => c"this build cannot do that",
        libc::EEXIST => c"a file that is no socket is there: choose another path, or move it away",
        libc::EADDRINUSE => c"the address is taken: choose another port, or end who has it",
        libc::EADDRNOTAVAIL => c"there is no such address on this machine, or no listener with a port",
        libc::EACCES => c"not allowed: check the rights to the port, path or channel",
        libc::EMFILE | libc::ENFILE => c"descriptors have run out: raise the limit (ulimit -n)",
        libc::EIO => c"the system failed, or what is kept could not be written: the log says more",
        libc::EFAULT => {
            c"a fault in the library was caught: free the server, and please report what the log says"
        }
        _ => c"the system refused: strerror(-result) names why, the log says more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_words() {
        for result in (-200..200).chain([c_int::MIN, c_int::MAX]) {
            assert!(text(result).to_bytes().len() > 10, "{result}");
        }
    }

    #[test]
    fn a_panic_is_a_result() {
        assert_eq!(guard(|| panic!("for a test")), -libc::EFAULT);
    }
}

//! What C hands in, made safe to use: sized structs, bytes, texts.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use holdline::Message;
use holdline::server::Published;

use crate::error::{self, Outcome};
use crate::types::{holdline_bytes, holdline_callbacks, holdline_config, holdline_message};

/// No struct grows beyond this: what says so has no size there.
const SIZE_MAX: usize = 4096;

/// What an id takes at most, with its NUL.
const ID_BYTES: usize = 40;

/// A struct whose first field is its size and whose fields may all be zero.
///
/// # Safety
/// Any bytes are a value of it, but for function pointers that are not null.
pub(crate) unsafe trait Measured: Copy {}

// SAFETY: numbers and pointers.
unsafe impl Measured for holdline_config {}
// SAFETY: numbers and pointers.
unsafe impl Measured for holdline_message {}
// SAFETY: a number and function pointers.
unsafe impl Measured for holdline_callbacks {}

/// Copies a struct that may be of an older header (what it lacks is zero) or a newer one (what we do
/// not know must be zero).
///
/// # Safety
/// `given` is null or points to as many readable bytes as its first field says.
pub(crate) unsafe fn read<T: Measured>(given: *const T) -> Result<T, c_int> {
    // SAFETY: as the caller promises.
    let size = unsafe { size(given) }?;
    let mut value = MaybeUninit::<T>::zeroed();
    let known = size.min(size_of::<T>());
    // SAFETY: `size` bytes are readable and `known` is no more.
    let bytes = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), size) };
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(libc::E2BIG);
    }
    // SAFETY: both have room for `known` bytes and do not overlap. All of it is initialised, by these
    // bytes or as zero; no pointer is cut, for all are as aligned as the size.
    Ok(unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast::<u8>(), known);
        value.assume_init()
    })
}

/// The size that a struct says it has.
///
/// # Safety
/// As for [`read`].
pub(crate) unsafe fn size<T: Measured>(given: *const T) -> Result<usize, c_int> {
    if given.is_null() {
        return Err(libc::EINVAL);
    }
    // SAFETY: the size itself is readable.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() || size % align_of::<usize>() != 0 {
        return Err(libc::EINVAL);
    }
    if size > SIZE_MAX { Err(libc::E2BIG) } else { Ok(size) }
}

/// What is not there.
pub(crate) const ABSENT: holdline_bytes = holdline_bytes { ptr: ptr::null(), len: 0 };

/// Bytes for C, where an empty text that is there has a pointer too.
pub(crate) fn lend(bytes: &[u8]) -> holdline_bytes {
    let ptr = if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr() };
    holdline_bytes { ptr, len: bytes.len() }
}

/// # Safety
/// `len` bytes at `ptr` are readable for as long as they are used.
pub(crate) unsafe fn slice<'a>(ptr: *const u8, len: usize) -> Result<&'a [u8], c_int> {
    match (ptr.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(libc::EINVAL),
        (false, _) if isize::try_from(len).is_err() => Err(libc::EINVAL),
        // SAFETY: as the caller promises.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(ptr, len) }),
    }
}

/// # Safety
/// As for [`slice`].
pub(crate) unsafe fn text<'a>(bytes: holdline_bytes) -> Result<&'a str, c_int> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { slice(bytes.ptr, bytes.len) }?;
    std::str::from_utf8(bytes).map_err(|_| libc::EINVAL)
}

/// A terminated text; `None` if it is NULL.
///
/// # Safety
/// `ptr` is null or points to a terminated text that stays as it is while it is used.
pub(crate) unsafe fn c_text<'a>(ptr: *const c_char) -> Result<Option<&'a str>, c_int> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(ptr) };
    text.to_str().map(Some).map_err(|_| libc::EINVAL)
}

/// A close code and its reason.
///
/// # Safety
/// As for [`c_text`].
pub(crate) unsafe fn close<'a>(
    code: c_int,
    reason: *const c_char,
) -> Result<(u16, &'a str), c_int> {
    const REASON_BYTES_MAX: usize = 123; // RFC 6455 §5.5
    // SAFETY: as the caller promises.
    let reason = unsafe { c_text(reason) }?.unwrap_or_default();
    let code = match code {
        0 => 1000,
        1000..=1003 | 1007..=1014 | 3000..=4999 => code as u16,
        _ => return Err(libc::EINVAL),
    };
    if reason.len() > REASON_BYTES_MAX { Err(libc::EINVAL) } else { Ok((code, reason)) }
}

/// A message and its channel. What is larger than may be is not copied.
///
/// # Safety
/// As for [`read`], and its fields as for [`slice`].
pub(crate) unsafe fn message<'a>(
    given: *const holdline_message,
    bytes_max: usize,
) -> Result<(&'a str, Message), c_int> {
    // SAFETY: as the caller promises.
    let given = unsafe { read(given) }?;
    // SAFETY: as the caller promises.
    let (channel, payload) =
        unsafe { (text(given.channel)?, slice(given.payload.ptr, given.payload.len)?) };
    // SAFETY: as the caller promises.
    let (media_type, event, key) =
        unsafe { (text(given.r#type)?, text(given.event)?, text(given.idempotency_key)?) };
    if payload.len() > bytes_max {
        return Err(libc::EMSGSIZE);
    }
    let mut message = Message::bytes(payload);
    if !media_type.is_empty() {
        message = message.media_type(media_type);
    }
    if !event.is_empty() {
        message = message.event(event);
    }
    if !key.is_empty() {
        message = message.idempotency_key(key);
    }
    match u64::try_from(given.ttl_s) {
        Ok(seconds) => message = message.ttl(Duration::from_secs(seconds)),
        Err(_) if given.ttl_s == -1 => {}
        Err(_) => return Err(libc::EINVAL),
    }
    Ok((channel, message))
}

/// Writes a text, terminated, as much of it as there is room for; its whole length.
///
/// # Safety
/// `out` is null or has room for `size` bytes.
pub(crate) unsafe fn write_text(out: *mut c_char, size: usize, text: &str) -> Outcome {
    if out.is_null() || size == 0 {
        return Err(libc::EINVAL);
    }
    let len = text.len().min(size - 1);
    // SAFETY: there is room for `size` bytes, of which these are the first.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), out.cast::<u8>(), len);
        out.add(len).write(0);
    }
    Ok(error::count(text.len()))
}

/// Writes the id of what was published, or an empty text.
///
/// # Safety
/// `out` is null or has room for 40 bytes.
pub(crate) unsafe fn write_id(out: *mut c_char, published: Option<&Published>) {
    if out.is_null() {
        return;
    }
    let id = published.map(|published| published.id.to_string()).unwrap_or_default();
    // SAFETY: as the caller promises. It is not null, so it cannot fail.
    let _ = unsafe { write_text(out, ID_BYTES, &id) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zeroed() -> holdline_config {
        // SAFETY: `Measured` promises that zeroes are a value.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }

    fn read_config(config: &holdline_config) -> Result<holdline_config, c_int> {
        // SAFETY: each test gives a size that is readable.
        unsafe { read(config) }
    }

    #[test]
    fn what_an_older_header_lacks_is_zero() {
        let mut config = zeroed();
        config.size = size_of::<usize>() * 4;
        config.open = 1;
        config.connections_max = 5; // beyond the size
        let read = read_config(&config).expect("a size");
        assert_eq!((read.open, read.connections_max), (1, 0));
    }

    #[repr(C)]
    struct Newer {
        known: holdline_config,
        more: [usize; 2],
    }

    #[test]
    fn what_a_newer_header_adds_must_be_zero() {
        let mut newer = Newer { known: zeroed(), more: [0; 2] };
        newer.known.size = size_of::<Newer>();
        newer.known.open = 1;
        // SAFETY: the size is that of the whole.
        let read_newer = |newer: &Newer| unsafe { read(ptr::from_ref(newer).cast()) };
        assert_eq!(read_newer(&newer).map(|config: holdline_config| config.open), Ok(1));
        newer.more[1] = 1;
        assert_eq!(read_newer(&newer).map(|_| ()), Err(libc::E2BIG));
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        let mut config = zeroed();
        for (size, errno) in [(0, libc::EINVAL), (9, libc::EINVAL), (1 << 20, libc::E2BIG)] {
            config.size = size;
            assert_eq!(read_config(&config).map(|_| ()), Err(errno), "{size}");
        }
    }

    #[test]
    fn bytes_without_a_pointer_are_refused() {
        // SAFETY: nothing is read.
        unsafe {
            assert_eq!(slice(ptr::null(), 1), Err(libc::EINVAL));
            assert_eq!(slice(ptr::null(), 0), Ok(&[][..]));
            assert_eq!(slice(ptr::without_provenance(1), usize::MAX), Err(libc::EINVAL));
        }
    }
}

//! Errors of the system in words that say what to do, which keep the error itself.

use std::error::Error;
use std::fmt;
use std::io;

/// The words, with the system's own error as the source: whoever needs its number finds it there.
#[derive(Debug)]
struct Explained {
    text: String,
    cause: io::Error,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// An error of the same kind that says `text`.
pub(super) fn explain(cause: io::Error, text: String) -> io::Error {
    io::Error::new(cause.kind(), Explained { text, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_the_number() {
        let error = explain(io::Error::from_raw_os_error(libc::EMFILE), "in words".into());
        assert_eq!(error.to_string(), "in words");
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(cause.and_then(io::Error::raw_os_error), Some(libc::EMFILE));
    }
}

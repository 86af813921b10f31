//! The directory in which history outlives the process: a file that is written at an orderly end, and
//! removed at the next start before anything is served. So a crash never looks like an orderly end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::explained;
use crate::config::Config;
use crate::hub::{History, Unreadable};
use crate::time::Now;

const HISTORY: &str = "history";
/// What is being written.
const NEW: &str = "history.new";
/// What could not be read, for whoever wants to know why.
const BAD: &str = "history.bad";
const LOCK: &str = "lock";

const BUFFER_BYTES: usize = 64 * 1024;

/// A directory that belongs to this server as long as this value lives.
#[derive(Debug)]
pub(super) struct Data {
    dir: PathBuf,
    _lock: File,
}

impl Data {
    /// Makes the directory if there is none, and takes it for this server alone.
    #[cold]
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let fail = |error| explain(error, dir, "it must be a directory that can be written to");
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(explain(error, dir, "make the directory above it first"));
            }
            made => made.map_err(fail)?,
        }
        let lock = own().create(true).truncate(false).open(dir.join(LOCK)).map_err(fail)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let what = "another server uses it: end that one first, or give each its own";
                return Err(explain(ErrorKind::WouldBlock.into(), dir, what));
            }
            Err(error) => return Err(explain(error.into(), dir, "it cannot be locked")),
            Ok(()) => {}
        }
        let data = Self { dir: dir.to_owned(), _lock: lock };
        // Better now than when history has to be written.
        data.create().and_then(|_| data.remove(NEW)).map_err(fail)?;
        Ok(data)
    }

    /// What was written at the last end, if it ended in order. What cannot be read is put aside.
    #[cold]
    pub(super) fn read(&self, config: &Config, now: Now) -> io::Result<Option<History>> {
        let path = self.path(HISTORY);
        let fail = |error| explain(error, &path, "make it readable, or move it away");
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(fail)?,
        };
        let restored = if found.is_file() {
            let file = File::open(&path).map_err(fail)?;
            restore(config, &file, found.len(), now)
        } else {
            Err(Unreadable::Foreign.to_string())
        };
        match restored {
            Ok(history) => {
                let (path, epoch) = (path.display(), history.epoch());
                let (messages, channels) = (history.stats().messages, history.stats().channels);
                log::info!(
                    "history: {messages} messages in {channels} channels read from {path}, epoch {}",
                    epoch.as_str()
                );
                Ok(Some(history))
            }
            Err(why) => {
                let bad = self.path(BAD);
                let moved = fs::rename(&path, &bad).and_then(|()| self.sync());
                moved.map_err(|error| {
                    explain(error, &path, &format!("{why}, and cannot be moved"))
                })?;
                let (path, bad) = (path.display(), bad.display());
                log::warn!("history: {path} is not used, {why}; it is {bad} now, the epoch is new");
                Ok(None)
            }
        }
    }

    /// Removes what was read. Comes before anything is served.
    pub(super) fn forget(&self) -> io::Result<()> {
        let forgotten = self.remove(HISTORY).and_then(|()| self.sync());
        forgotten.map_err(|error| explain(error, &self.path(HISTORY), "it must be removable"))
    }

    /// Writes down what is kept, all of it or nothing.
    #[cold]
    pub(super) fn write(self, history: &History, now: Now) -> io::Result<()> {
        let path = self.path(HISTORY);
        self.replace(history, now).map_err(|error| {
            // Neither half of it nor what may not last: the next start is to begin anew.
            let _ = self.remove(NEW);
            let _ = self.remove(HISTORY);
            let error = explain(error, &path, "history is not kept, the next start is a gap");
            log::error!("history: {error}");
            error
        })
    }

    fn replace(&self, history: &History, now: Now) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, self.create()?);
        let mut written = Ok(());
        let info = history.snapshot(now, &mut |bytes| {
            if written.is_ok() {
                written = out.write_all(bytes);
            }
        });
        written?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let path = self.path(HISTORY);
        fs::rename(self.path(NEW), &path)?;
        self.sync()?;
        let (messages, channels, path) = (info.messages, info.channels, path.display());
        log::info!("history: {messages} messages in {channels} channels written to {path}");
        Ok(())
    }

    fn create(&self) -> io::Result<File> {
        self.remove(NEW)?;
        own().create_new(true).open(self.path(NEW))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Makes renames and removals last.
    fn sync(&self) -> io::Result<()> {
        match File::open(&self.dir)?.sync_all() {
            // Some file systems know no such thing.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Files for nobody else.
fn own() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn restore(config: &Config, file: &File, len: u64, now: Now) -> Result<History, String> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut failed = None;
    let mut source = |bytes: &mut [u8]| match input.read_exact(bytes) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    };
    let restored = History::restore(config, len, &mut source, now);
    restored.map_err(|why| match failed {
        Some(error) => format!("{why} ({error})"),
        None => why.to_string(),
    })
}

fn explain(error: io::Error, path: &Path, what: &str) -> io::Error {
    let text = format!("--data: {}: {what} ({error})", path.display());
    explained::explain(error, text)
}

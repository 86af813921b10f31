//! The files of unix sockets that are listened on, and whom they let in.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::explained::explain;
use crate::config::Config;

/// Where groups have names. Those of a directory service are given by their number.
const GROUPS: &str = "/etc/group";

/// Whom a socket file lets in, if not whom the umask leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Access {
    mode: Option<u32>,
    group: Option<u32>,
}

impl Access {
    /// # Errors
    /// `InvalidInput` for a mode that is none, and for a group that nobody knows.
    pub(super) fn of(config: &Config) -> io::Result<Self> {
        if let Some(mode) = config.unix_mode.filter(|mode| *mode > 0o777) {
            let text = format!("a unix socket's mode is at most 777, not {mode:o}");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let group = match &config.unix_group {
            Some(group) => Some(group_number(group, fs::read_to_string(GROUPS))?),
            None => None,
        };
        Ok(Self { mode: config.unix_mode, group })
    }

    fn apply(self, path: &Path) -> io::Result<()> {
        if let Some(group) = self.group {
            lchown(path, None, Some(group)).map_err(|error| {
                let text = format!(
                    "its file cannot be given to group {group}: {error}: the server has to be a \
                     member of it, or root"
                );
                explain(error, text)
            })?;
        }
        if let Some(mode) = self.mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// The number of a group, by its name in a text like `/etc/group`'s or as it stands.
fn group_number(group: &str, known: io::Result<String>) -> io::Result<u32> {
    let bad = |text: String| io::Error::new(ErrorKind::InvalidInput, text);
    if group.bytes().all(|b| b.is_ascii_digit()) {
        // The largest number means "as it is" to the system.
        let number = group.parse().ok().filter(|number| *number != u32::MAX);
        return number.ok_or_else(|| bad(format!("there is no group number {group:?}")));
    }
    let known =
        known.map_err(|error| bad(format!("no group is known by its name: {GROUPS}: {error}")))?;
    let number_of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok()?;
        (name == group).then_some(number)
    };
    known.lines().find_map(number_of).ok_or_else(|| {
        bad(format!(
            "there is no group {group:?} in {GROUPS}; one that is known elsewhere is given by its \
             number (getent group {group})"
        ))
    })
}

/// A socket file that nobody answers on is left over: it is replaced. Any other file is not ours.
pub(super) fn listen(path: &Path, access: Access, backlog: i32) -> io::Result<UnixListener> {
    let named = |error: io::Error, advice: &str| {
        let text = format!("cannot listen on unix:{}: {error}{advice}", path.display());
        explain(error, text)
    };
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let error =
                io::Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there");
            return Err(named(error, ": choose another path with --listen"));
        }
        if UnixStream::connect(path).is_ok() {
            let error = io::Error::from(ErrorKind::AddrInUse);
            return Err(named(error, ": another program listens there; choose another path"));
        }
        fs::remove_file(path).map_err(|error| named(error, ""))?;
    }
    let socket = bind(path, access).map_err(|error| named(error, ""))?;
    match socket.listen(backlog) {
        Ok(()) => Ok(socket.into()),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(named(error, ""))
        }
    }
}

/// A socket whose file has its group and mode already, and that nobody can connect to yet: that is
/// refused until it listens, whatever the file was for a moment.
fn bind(path: &Path, access: Access) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Err(error) = access.apply(path) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("holdline-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("its file").mode() & 0o7777
    }

    #[test]
    fn nobody_gets_in_before_the_file_lets_in_whom_it_should() {
        let path = path("window");
        for wanted in [0o600, 0o660, 0o666, 0] {
            let access = Access { mode: Some(wanted), group: None };
            let socket = bind(&path, access).expect("binds");
            assert_eq!(mode(&path), wanted);
            let refused = UnixStream::connect(&path).expect_err("it does not listen yet");
            // Who is not root is told by the mode alone.
            let kinds = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
            assert!(kinds.contains(&refused.kind()), "{refused}");
            socket.listen(1).expect("listens");
            assert_eq!(mode(&path), wanted);
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn a_file_that_cannot_be_as_asked_is_not_left_behind() {
        let path = path("group");
        // A number that no group has.
        let access = Access { mode: None, group: Some(u32::MAX - 1) };
        let bound = bind(&path, access);
        if rustix::process::geteuid().is_root() {
            assert!(bound.is_ok(), "root may give it to any");
            assert_eq!(fs::symlink_metadata(&path).expect("its file").gid(), u32::MAX - 1);
            fs::remove_file(&path).expect("removed");
        } else {
            let error = bound.expect_err("nobody else is a member");
            assert!(error.to_string().contains("member"), "{error}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn groups_have_names_or_numbers() {
        let known =
            || Ok("root:x:0:\n# a remark\nbad\nwww-data:x:33:a,b\nhuge:x:9999999999:\n".to_owned());
        for (group, number) in [("root", 0), ("www-data", 33), ("0", 0), ("4242", 4242)] {
            assert_eq!(group_number(group, known()).expect(group), number);
        }
        for group in ["", "www", "www-data:x", "huge", "-1", "4294967295", "99999999999"] {
            let error = group_number(group, known()).expect_err(group);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{group}");
        }
        let unread = || Err(io::Error::from(ErrorKind::NotFound));
        assert_eq!(group_number("7", unread()).expect("a number needs no file"), 7);
        assert!(group_number("root", unread()).expect_err("no file").to_string().contains(GROUPS));
    }

    #[test]
    fn a_mode_has_three_digits() {
        let with = |mode| Config { unix_mode: Some(mode), ..Config::default() };
        assert!(Access::of(&with(0o777)).is_ok());
        let error = Access::of(&with(0o1777)).expect_err("the sticky bit means nothing here");
        assert!(error.to_string().contains("1777"), "{error}");
    }
}

//! The binary's own: arguments, environment, help, log lines, its service manager.

pub(crate) mod args;
pub(crate) mod banner;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod systemd;

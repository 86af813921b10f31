//! The binary's own: arguments, environment, help, log lines.

pub mod args;
pub mod banner;
pub mod log;

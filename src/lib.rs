//! A real-time server without an async runtime.

pub mod code;
pub mod collections;
pub mod config;
pub mod conn;
pub mod cursor;
pub mod engine;
pub mod hub;
pub mod json;
pub mod message;
#[cfg(feature = "server")]
pub mod server;
pub mod time;
pub mod wire;

pub use code::{Code, Refusal};
pub use config::{Config, Routes};
pub use cursor::{Cursor, Epoch, Since};
pub use engine::{App, ConnId, Ctx, Engine};
pub use message::Message;
#[cfg(feature = "server")]
pub use server::{Hub, Running, Server, Turned};
pub use time::Now;

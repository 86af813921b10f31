//! A real-time server without an async runtime.

pub mod code;
pub mod config;
pub mod cursor;
pub mod json;
pub mod message;
pub mod time;
pub mod wire;

pub use code::{Code, Refusal};
pub use config::{Config, Routes};
pub use cursor::{Cursor, Epoch, Since};
pub use message::Message;
pub use time::Now;

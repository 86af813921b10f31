//! Pure codecs over byte slices: no sockets, no clock, no state beyond one connection's parse.
//!
//! `parse` takes bytes of a client, `emit` and `write` append bytes of a server. Each is of use without
//! the rest: here a WebSocket server, from its handshake to an echo, over byte slices.
//!
//! ```
//! use holdline::wire::http::{HeadLimits, HeadScan, header, parse};
//! use holdline::wire::{handshake, ws};
//!
//! let limits = HeadLimits { head_bytes_max: 16_384, line_bytes_max: 8_192, headers_max: 64 };
//! let mut input = b"GET /echo?loud HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
//!     Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
//!     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
//!     \x81\x82\x01\x02\x03\x04ik".to_vec();
//!
//! // Where the head ends; `None` as long as more has to come. A scan goes on where it was.
//! let end = HeadScan::default().scan(&input, &limits)?.expect("a whole head");
//! let head = parse(&input[..end], &limits)?;
//! assert_eq!(head.path.of(&input), b"/echo");
//! assert!(head.upgrade_websocket);
//! let key = header(&input[..end], "Sec-WebSocket-Key").expect("a key");
//! let accept = handshake::accept_key(key).expect("16 bytes of base64");
//! assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
//!
//! // A frame: its header, its payload unmasked in place, and the same back.
//! let frame = &mut input[end..];
//! let header = ws::parse_header(frame)?.expect("a whole header");
//! let payload = &mut frame[usize::from(header.size)..];
//! ws::unmask(payload, header.key, 0);
//! let mut output = Vec::new();
//! ws::emit(&mut output, header.opcode, payload);
//! assert_eq!(output, b"\x81\x02hi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod command;
pub mod dialect;
pub mod handshake;
pub mod http;
pub mod utf8;
pub mod ws;

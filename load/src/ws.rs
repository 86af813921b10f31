//! WebSocket frames (RFC 6455 §5) as a client writes and reads them: whole messages in one frame.

use crate::Fault;

/// Any mask will do, since nobody must be kept from guessing it here; zero would spare the server work.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Appends a masked frame.
pub fn write(opcode: u8, payload: &[u8], to: &mut Vec<u8>) {
    to.push(0x80 | opcode);
    let len = payload.len();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => to.push(0x80 | len),
        (_, Ok(len)) => {
            to.push(0x80 | 126);
            to.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            to.push(0x80 | 127);
            to.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    to.extend_from_slice(&MASK);
    to.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A frame of a server. A part of a message is a message of its own here: nothing that this
/// program measures is sent in parts.
#[derive(Debug)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Bytes of the whole frame.
    pub len: usize,
}

/// The first frame, if all of it is there.
pub fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, Fault> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(Fault::wrong("the server's frame is masked"));
    }
    let (head, len) = match second {
        126 => match bytes.get(2..4) {
            Some(len) => (4, u64::from(u16::from_be_bytes([len[0], len[1]]))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(len) => (10, u64::from_be_bytes(len.try_into().unwrap_or_default())),
            None => return Ok(None),
        },
        len => (2, u64::from(len)),
    };
    let len = usize::try_from(len).ok().and_then(|len| len.checked_add(head));
    let len = len.ok_or_else(|| Fault::wrong("a frame longer than memory"))?;
    let Some(frame) = bytes.get(..len) else { return Ok(None) };
    Ok(Some(Frame { opcode: first & 0x0f, payload: &frame[head..], len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_masked_and_carries_its_length() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut frame = Vec::new();
            write(TEXT, &payload, &mut frame);
            let head = frame.len() - len;
            assert_eq!(frame[0], 0x81);
            assert_eq!(
                head,
                if len < 126 {
                    6
                } else if len < 65_536 {
                    8
                } else {
                    14
                }
            );
            let unmasked: Vec<u8> =
                frame[head..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
        }
    }

    #[test]
    fn a_frame_is_read_when_all_of_it_is_there() {
        let mut bytes = vec![0x82, 126, 0, 200];
        bytes.extend([7; 200]);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).expect("it is no fault").is_none(), "{end}");
        }
        bytes.push(0x81);
        let frame = read(&bytes).expect("a frame").expect("a whole one");
        assert_eq!((frame.opcode, frame.payload.len(), frame.len), (2, 200, 204));
    }

    #[test]
    fn a_masked_frame_of_a_server_is_a_fault() {
        assert!(read(&[0x81, 0x80, 0, 0, 0, 0]).is_err());
    }
}

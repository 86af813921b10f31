//! The form in which history outlives its process: records between a header and a checksum. Knows no
//! files: bytes go to whoever takes them and come from whoever has them.
//!
//! Numbers are little-endian. What is read is believed in nothing before it is looked at; no length
//! is allocated that is not there. It happens twice in a lifetime: code is to be small here, not quick.

use std::fmt;
use std::sync::Arc;

use sha1_smol::{DIGEST_LENGTH, Sha1};

use crate::cursor::Epoch;
use crate::message::{self, Message, Publication};

const MAGIC: &[u8; 16] = b"holdline history";
const VERSION: u32 = 1;

const END: u8 = 0;
const CHANNEL: u8 = 1;
const PUBLICATION: u8 = 2;
const KEY: u8 = 3;

/// Where bytes go.
pub type Sink<'a> = dyn FnMut(&[u8]) + 'a;
/// Where bytes come from: fills the whole buffer, or says that it cannot.
pub type Source<'a> = dyn FnMut(&mut [u8]) -> bool + 'a;

/// Why a snapshot is no history that could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It does not begin as one.
    Foreign,
    /// It has a format of this number.
    Version(u32),
    /// Its end is missing, or some of it is not what was written.
    Torn,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no history of holdline"),
            Self::Version(version) => {
                write!(f, "its format {version} is not the one of this version, {VERSION}")
            }
            Self::Torn => f.write_str("it is cut short or damaged"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// What holds for the order as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    pub(super) head: u64,
    pub(super) folded_floor: u64,
    pub(super) folded_floor_ms: u64,
}

/// One thing that is kept. Channels are counted from 0 in the order in which they come.
#[derive(Debug)]
pub(super) enum Record {
    Channel { name: String, floor: u64, floor_ms: u64 },
    Publication { channel: u32, seq: u64, time_ms: u64, expires_ms: u64, message: Message },
    Key { scoped: String, seq: u64, expires_unix_ms: u64 },
}

/// Writes a snapshot record by record.
pub(super) struct Writer<'a, 'b> {
    sink: &'a mut Sink<'b>,
    sum: Sha1,
    /// The short fields of one record.
    fields: Vec<u8>,
}

impl<'a, 'b> Writer<'a, 'b> {
    pub(super) fn new(sink: &'a mut Sink<'b>, header: &Header) -> Self {
        let mut writer = Self { sink, sum: Sha1::new(), fields: Vec::with_capacity(512) };
        writer.fields.extend_from_slice(MAGIC);
        writer.fields.extend_from_slice(&VERSION.to_le_bytes());
        writer.short(header.epoch.as_str().as_bytes());
        writer.numbers(&[header.head, header.folded_floor, header.folded_floor_ms]);
        writer.put();
        writer
    }

    pub(super) fn channel(&mut self, name: &str, floor: u64, floor_ms: u64) {
        self.fields.push(CHANNEL);
        self.short(name.as_bytes());
        self.numbers(&[floor, floor_ms]);
        self.put();
    }

    pub(super) fn publication(&mut self, channel: u32, publication: &Publication) {
        self.fields.push(PUBLICATION);
        self.fields.extend_from_slice(&channel.to_le_bytes());
        self.numbers(&[publication.seq, publication.time_ms, publication.expires_ms]);
        self.fields.push(u8::from(publication.form == message::Form::Data));
        for text in [&publication.media_type, &publication.event] {
            self.short(text.as_deref().unwrap_or("").as_bytes());
        }
        let len = publication.payload.len() as u64;
        self.numbers(&[len]);
        self.put();
        self.bytes(&publication.payload);
    }

    pub(super) fn key(&mut self, scoped: &str, seq: u64, expires_unix_ms: u64) {
        self.fields.push(KEY);
        // The channel and the key, each with its length: together they may have more than 255.
        let (channel, key) = scoped.split_once('\0').unwrap_or((scoped, ""));
        self.short(channel.as_bytes());
        self.short(key.as_bytes());
        self.numbers(&[seq, expires_unix_ms]);
        self.put();
    }

    pub(super) fn finish(mut self) {
        self.fields.push(END);
        self.put();
        (self.sink)(&self.sum.digest().bytes());
    }

    /// At most 255 bytes, as all names are.
    #[inline(never)]
    fn short(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= usize::from(u8::MAX), "names are short");
        self.fields.push(bytes.len() as u8);
        self.fields.extend_from_slice(bytes);
    }

    #[inline(never)]
    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.fields.extend_from_slice(&number.to_le_bytes()));
    }

    #[inline(never)]
    fn put(&mut self) {
        let fields = std::mem::take(&mut self.fields);
        self.bytes(&fields);
        self.fields = fields;
        self.fields.clear();
    }

    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        (self.sink)(bytes);
    }
}

/// Reads a snapshot record by record. None of them may be used before the last has been read.
pub(super) struct Reader<'a, 'b> {
    source: &'a mut Source<'b>,
    /// Bytes that are still to come before the checksum.
    left: u64,
    sum: Sha1,
}

impl<'a, 'b> Reader<'a, 'b> {
    /// A reader of `len` bytes, and what they begin with.
    pub(super) fn new(source: &'a mut Source<'b>, len: u64) -> Result<(Self, Header), Unreadable> {
        let left = len.checked_sub(DIGEST_LENGTH as u64).ok_or(Unreadable::Foreign)?;
        let mut reader = Self { source, left, sum: Sha1::new() };
        match reader.array::<16>() {
            Ok(magic) if magic == *MAGIC => {}
            Ok(_) | Err(_) => return Err(Unreadable::Foreign),
        }
        match u32::from_le_bytes(reader.array()?) {
            VERSION => {}
            version => return Err(Unreadable::Version(version)),
        }
        let epoch = Epoch::parse(reader.short()?.as_bytes()).ok_or(Unreadable::Torn)?;
        let [head, folded_floor, folded_floor_ms] = reader.numbers()?;
        // Nobody has given out so many numbers, and there must be some left.
        check(folded_floor <= head && head < u64::MAX / 2)?;
        Ok((reader, Header { epoch, head, folded_floor, folded_floor_ms }))
    }

    /// The next record; `None` after the last, when all that was read is as it was written.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Unreadable> {
        let [kind] = self.array()?;
        match kind {
            CHANNEL => self.channel().map(Some),
            PUBLICATION => self.publication().map(Some),
            KEY => self.key().map(Some),
            END => self.end().map(|()| None),
            _ => Err(Unreadable::Torn),
        }
    }

    fn channel(&mut self) -> Result<Record, Unreadable> {
        let name = self.short()?;
        check(message::is_channel(name.as_bytes()))?;
        let [floor, floor_ms] = self.numbers()?;
        Ok(Record::Channel { name, floor, floor_ms })
    }

    fn publication(&mut self) -> Result<Record, Unreadable> {
        let channel = u32::from_le_bytes(self.array()?);
        let [seq, time_ms, expires_ms] = self.numbers()?;
        let [is_json] = self.array()?;
        check(is_json <= 1 && expires_ms > 0)?;
        let media_type = self.text()?;
        let event = self.text()?;
        check(media_type.as_ref().is_none_or(|t| message::is_media_type(t.as_bytes())))?;
        check(event.as_ref().is_none_or(|e| message::is_event(e.as_bytes())))?;
        let [len] = self.numbers()?;
        let payload = self.take(len)?;
        let is_json = is_json == 1;
        let message = Message { payload, is_json, media_type, event, ..Message::default() };
        Ok(Record::Publication { channel, seq, time_ms, expires_ms, message })
    }

    fn key(&mut self) -> Result<Record, Unreadable> {
        let (channel, key) = (self.short()?, self.short()?);
        check(message::is_channel(channel.as_bytes()))?;
        check(message::is_idempotency_key(key.as_bytes()))?;
        let [seq, expires_unix_ms] = self.numbers()?;
        Ok(Record::Key { scoped: [channel, key].join("\0"), seq, expires_unix_ms })
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        check(self.left == 0)?;
        let mut sum = [0; DIGEST_LENGTH];
        check((self.source)(&mut sum) && sum == self.sum.digest().bytes())
    }

    fn numbers<const N: usize>(&mut self) -> Result<[u64; N], Unreadable> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Ok(numbers)
    }

    #[inline(never)]
    fn number(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline(never)]
    fn short(&mut self) -> Result<String, Unreadable> {
        let [len] = self.array()?;
        String::from_utf8(self.take(u64::from(len))?).map_err(|_| Unreadable::Torn)
    }

    /// One that may be missing.
    fn text(&mut self) -> Result<Option<Arc<str>>, Unreadable> {
        let text = self.short()?;
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn take(&mut self, len: u64) -> Result<Vec<u8>, Unreadable> {
        check(len <= self.left)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Unreadable::Torn)?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    #[inline(never)]
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Unreadable> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(Unreadable::Torn)?;
        check((self.source)(bytes))?;
        self.sum.update(bytes);
        Ok(())
    }
}

fn check(holds: bool) -> Result<(), Unreadable> {
    if holds { Ok(()) } else { Err(Unreadable::Torn) }
}

//! What reading a snapshot promises, asserted on any bytes: the fuzz target and the tests run it.

use std::sync::Arc;

use sha1_smol::Sha1;

use super::{Config, History, Now, Unreadable};
use crate::cursor::Since;
use crate::hub::{PullLimits, Want};

const NOW: Now = Now { mono_ms: 1_000_000, unix_ms: 1_764_000_000_000 };

/// Reads `data`, with a checksum that is right, as a snapshot; what is taken for one must be whole:
/// readers get what it holds, and written again it stays what it is. The first byte chooses limits.
///
/// # Panics
///
/// If that does not hold, which would be a bug.
#[doc(hidden)]
pub fn fuzz_snapshot(data: &[u8]) {
    let Some((limits, body)) = data.split_first() else { return };
    let mut config = Config::default();
    if limits & 1 != 0 {
        (config.memory_bytes, config.history_messages) = (2_000, 3);
    }
    if limits & 2 != 0 {
        (config.channels_max, config.idempotency_bytes_max) = (2, 300);
    }
    assert!(restore(&config, body).is_err() || body.len() > 20, "nothing is no history");
    let sealed = [body, &Sha1::from(body).digest().bytes()].concat();
    let Ok(history) = restore(&config, &sealed) else { return };
    let written = write(&history);
    let again = restore(&config, &written).expect("what is written is read");
    assert!(write(&again) == written, "and stays what it is");
    let stats = history.stats();
    assert!(stats.channels <= config.channels_max && stats.memory_used <= stats.memory_budget);
    check_readers(&history);
}

fn restore(config: &Config, bytes: &[u8]) -> Result<History, Unreadable> {
    let mut rest = bytes;
    let mut source = |wanted: &mut [u8]| {
        let Some((taken, left)) = rest.split_at_checked(wanted.len()) else { return false };
        wanted.copy_from_slice(taken);
        rest = left;
        true
    };
    History::restore(config, bytes.len() as u64, &mut source, NOW)
}

fn write(history: &History) -> Vec<u8> {
    let mut bytes = Vec::new();
    history.snapshot(NOW, &mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Whoever comes gets all that is kept, in order, and then what is new.
fn check_readers(history: &History) {
    let head = history.head();
    let mut wants = Vec::new();
    let names: Vec<_> =
        history.lock().channels.iter().map(|(_, channel)| Arc::clone(&channel.name)).collect();
    for channel in names {
        let joined = history.join(&channel, Some(Since::Earliest), head, NOW).expect("it exists");
        assert!(joined.gap.is_none() && joined.position <= head);
        wants.push(Want { channel: joined.channel, after: joined.position, catching_up: true });
    }
    let (mut items, mut lost) = (Vec::new(), Vec::new());
    let limits = PullLimits { count: usize::MAX, bytes: usize::MAX };
    let pulled = history.pull(&wants, head, limits, NOW, &mut items, &mut lost);
    assert!(lost.is_empty() && !pulled.more && items.len() == history.stats().messages);
    assert!(items.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert!(items.iter().all(|item| item.seq <= head));
    let next = history.publish("a", "x".into(), NOW);
    assert!(next.is_ok_and(|next| next.id.seq == head + 1) || head == history.head());
}

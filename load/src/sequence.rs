//! Numbered payloads, and whether each came once and in order.

/// `~000000000042~` at the end of a payload.
pub const MARK_BYTES: usize = 14;

/// A payload of `size` bytes, at least [`MARK_BYTES`], that ends with its number.
pub fn payload(number: u64, size: usize, to: &mut Vec<u8>) {
    to.resize(to.len() + size.saturating_sub(MARK_BYTES), b'x');
    to.extend_from_slice(format!("~{number:012}~").as_bytes());
}

/// Calls `each` with the numbers that stand in the bytes, and returns how many bytes need not be
/// looked at again when more have come.
pub fn marks(bytes: &[u8], mut each: impl FnMut(u64)) -> usize {
    let mut at = 0;
    while let Some(start) = memchr::memchr(b'~', &bytes[at..]) {
        let start = at + start;
        let Some(mark) = bytes.get(start..start + MARK_BYTES) else { return start };
        match number(mark) {
            Some(number) => {
                each(number);
                at = start + MARK_BYTES;
            }
            None => at = start + 1,
        }
    }
    bytes.len()
}

fn number(mark: &[u8]) -> Option<u64> {
    let (last, digits) = mark[1..].split_last()?;
    let mut number = 0;
    for digit in digits {
        number = number * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (*last == b'~').then_some(number)
}

/// What a listener has seen, and what was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    next: u64,
    missing: u64,
}

/// What was wrong with all listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrongs {
    /// Never came.
    pub lost: u64,
    /// Came twice.
    pub duplicates: u64,
    /// Came after one that was published later.
    pub disordered: u64,
}

impl Wrongs {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disordered += other.disordered;
    }
}

impl Order {
    /// Expects `next` and what follows.
    pub fn from(next: u64) -> Self {
        Self { next, missing: 0 }
    }

    /// A number has come.
    pub fn see(&mut self, number: u64, wrongs: &mut Wrongs) {
        if number >= self.next {
            let skipped = number - self.next;
            self.missing += skipped;
            wrongs.lost += skipped;
            self.next = number + 1;
        } else if self.missing > 0 {
            // It was counted as lost when the later one came.
            self.missing -= 1;
            wrongs.lost -= 1;
            wrongs.disordered += 1;
        } else {
            wrongs.duplicates += 1;
        }
    }

    /// All up to before `end` have been published: what has not come is lost.
    pub fn end(&mut self, end: u64, wrongs: &mut Wrongs) {
        wrongs.lost += end.saturating_sub(self.next);
        self.next = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_wherever_bytes_are_cut() {
        let mut bytes = b"data: ~no~ ".to_vec();
        payload(42, 20, &mut bytes);
        bytes.extend_from_slice(b"\n\ndata: ");
        payload(43, 14, &mut bytes);
        bytes.extend_from_slice(b"\n\n");
        for cut in 0..bytes.len() {
            let mut found = Vec::new();
            let used = marks(&bytes[..cut], |number| found.push(number));
            marks(&bytes[used..], |number| found.push(number));
            assert_eq!(found, [42, 43], "{cut}");
        }
    }

    #[test]
    fn what_is_lost_twice_or_out_of_order_is_told_apart() {
        let wrongs = |numbers: &[u64]| {
            let (mut order, mut wrongs) = (Order::from(1), Wrongs::default());
            numbers.iter().for_each(|number| order.see(*number, &mut wrongs));
            order.end(5, &mut wrongs);
            (wrongs.lost, wrongs.duplicates, wrongs.disordered)
        };
        assert_eq!(wrongs(&[1, 2, 3, 4]), (0, 0, 0));
        assert_eq!(wrongs(&[1, 3, 4]), (1, 0, 0));
        assert_eq!(wrongs(&[1, 2, 2, 3, 4]), (0, 1, 0));
        assert_eq!(wrongs(&[1, 3, 2, 4]), (0, 0, 1));
        assert_eq!(wrongs(&[1, 2]), (2, 0, 0));
    }
}

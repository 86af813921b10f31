//! Runs tables against one server: several threads, each case in up to three ways of cutting it.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::case::{After, Case, Continues, Piece};
use crate::http::{Answer, Req, Shape, Trouble, Wire, shown};
use crate::lint::CLOSING;

/// Cases whose request is longer are sent whole only.
const CUT_MAX: usize = 2048;
const THREADS: usize = 12;
/// Between single bytes, so that the server reads some of them alone. Never asserted on.
const BYTE_PAUSE: Duration = Duration::from_micros(20);
/// Between two halves, so that the first is read before the second comes.
const HALF_PAUSE: Duration = Duration::from_millis(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    Bytes,
    /// In the middle of every CRLFCRLF, or of the piece if it has none.
    Halves,
}

/// How long a read waits. A server that hangs again and again is given less, so that a whole table
/// of hangs still ends.
#[derive(Debug, Default)]
pub struct Patience(AtomicUsize);

impl Patience {
    pub fn now(&self) -> Duration {
        let many = self.0.load(Ordering::Relaxed) > 12;
        Duration::from_millis(if many { 400 } else { 6000 })
    }

    fn note(&self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Silence) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs every case of `table`; panics with all failures at once.
pub fn run_table(addr: SocketAddr, table: &[Case]) {
    let runs: Vec<(&Case, Cut)> =
        table.iter().flat_map(|case| cuts_of(case).iter().map(move |cut| (case, *cut))).collect();
    let (next, patience) = (AtomicUsize::new(0), Patience::default());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((case, cut)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = run(addr, case, *cut, &patience) {
                        failures.lock().expect("no thread panicked").push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panicked");
    failures.sort();
    let (failed, all) = (failures.len(), runs.len());
    assert!(failures.is_empty(), "{failed} of {all} runs failed:\n\n{}", failures.join("\n"));
}

fn cuts_of(case: &Case) -> &'static [Cut] {
    if case.sent().len() > CUT_MAX {
        return &[Cut::Whole];
    }
    &[Cut::Whole, Cut::Bytes, Cut::Halves]
}

fn run(addr: SocketAddr, case: &Case, cut: Cut, patience: &Patience) -> Result<(), String> {
    let case = case.at(&addr.to_string());
    let mut wire = Wire::open(addr, patience.now());
    let mut wrong = Vec::new();
    if let Err(trouble) = play(&mut wire, &case, cut, &mut wrong) {
        patience.note(&trouble);
        let silent = matches!(trouble, Trouble::End) && wire.received().is_empty();
        if !(silent && case.may_be_silent) {
            wrong.push(trouble.to_string());
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let (sent, got) = (shown(&case.sent()), shown(wire.received()));
    let wrong = wrong.join("\n    wrong: ");
    Err(format!("{} [{cut:?}]\n    wrong: {wrong}\n    sent: {sent}\n    came: {got}\n", case.name))
}

/// Sends the pieces, reads the wanted answers and whatever must follow.
fn play(wire: &mut Wire, case: &Case, cut: Cut, wrong: &mut Vec<String>) -> Result<(), Trouble> {
    let mut answers = Vec::new();
    for piece in &case.pieces {
        match piece {
            // A peer that ended early may refuse the rest; what it answered tells.
            Piece::Send(bytes) => deliver(wire, bytes, cut).unwrap_or(()),
            Piece::AwaitContinue => wire.await_continue()?,
            Piece::AwaitAnswer => answers.push(next_answer(wire, case, answers.len(), wrong)?),
            Piece::Finish => wire.finish(),
        }
    }
    while answers.len() < case.wants.len() {
        answers.push(next_answer(wire, case, answers.len(), wrong)?);
    }
    judge_continues(wire.continues(), case, cut, wrong);
    let last = answers.len().saturating_sub(1);
    for (i, answer) in answers.iter().enumerate().take(last) {
        if answer.lists("connection", "close") {
            wrong.push(format!("answer {i} announced a close, but more had to follow"));
        }
    }
    if case.wants.is_empty() {
        return expect_end(wire, None, wrong);
    }
    conclude(wire, case, &answers[last], wrong)
}

fn next_answer(
    wire: &mut Wire,
    case: &Case,
    i: usize,
    wrong: &mut Vec<String>,
) -> Result<Answer, Trouble> {
    let want = &case.wants[i];
    let answer = wire.answer(want.shape())?;
    let complaints = want.judge(&answer, case.is_ten());
    wrong.extend(complaints.into_iter().map(|text| format!("answer {i}: {text}")));
    Ok(answer)
}

fn deliver(wire: &mut Wire, bytes: &[u8], cut: Cut) -> std::io::Result<()> {
    match cut {
        Cut::Whole => wire.send(bytes),
        Cut::Bytes => bytes.chunks(1).try_for_each(|byte| {
            thread::sleep(BYTE_PAUSE);
            wire.send(byte)
        }),
        Cut::Halves => halves(bytes).into_iter().try_for_each(|half| {
            thread::sleep(HALF_PAUSE);
            wire.send(half)
        }),
    }
}

fn halves(bytes: &[u8]) -> Vec<&[u8]> {
    let mut halves = Vec::new();
    let mut from = 0;
    while let Some(i) = bytes[from..].windows(4).position(|w| w == b"\r\n\r\n") {
        halves.push(&bytes[from..from + i + 2]);
        from += i + 2;
    }
    if halves.is_empty() {
        from = bytes.len() / 2;
        halves.push(&bytes[..from]);
    }
    halves.push(&bytes[from..]);
    halves
}

fn judge_continues(got: usize, case: &Case, cut: Cut, wrong: &mut Vec<String>) {
    let right = match case.continues {
        Continues::None => got == 0,
        Continues::Once => got == 1,
        Continues::UnlessBodyCame => got == 0 || (cut == Cut::Bytes && got == 1),
        Continues::Any => got <= 1,
    };
    if !right {
        wrong.push(format!("{got} × 100 Continue, want {:?}", case.continues));
    }
}

/// Checks what becomes of the connection, and that no further answer comes.
fn conclude(
    wire: &mut Wire,
    case: &Case,
    last: &Answer,
    wrong: &mut Vec<String>,
) -> Result<(), Trouble> {
    let close = last.lists("connection", "close");
    match case.after {
        After::Open => Ok(()),
        After::Ends => expect_end(wire, Some(last), wrong),
        After::Upgraded => {
            // Whatever the frames say: no second HTTP answer may come out of this connection.
            let rest = wire.drain()?;
            if rest.windows(7).any(|w| w == b"HTTP/1.") {
                wrong.push("an HTTP answer after 101".to_owned());
            }
            Ok(())
        }
        After::Closed => {
            if !close && !case.is_ten() {
                wrong.push("closed without Connection: close".to_owned());
            }
            expect_end(wire, Some(last), wrong)
        }
        After::Kept => {
            if close || (case.is_ten() && !last.lists("connection", "keep-alive")) {
                wrong.push("Connection does not say that it goes on".to_owned());
            }
            expect_kept(wire, wrong)
        }
        After::Either if close => expect_end(wire, Some(last), wrong),
        After::Either => {
            if CLOSING.contains(&last.status) {
                wrong.push(format!("a {} always closes", last.status));
            }
            expect_kept(wire, wrong)
        }
    }
}

/// The end comes, and nothing before it: so exactly the wanted answers came.
fn expect_end(
    wire: &mut Wire,
    last: Option<&Answer>,
    wrong: &mut Vec<String>,
) -> Result<(), Trouble> {
    let clean_end_due = last.is_none_or(|answer| answer.status >= 400);
    let rest = match wire.drain() {
        Ok(rest) => rest,
        // RFC 9112 §9.6: an error must survive the bytes that still arrive. After a success with
        // `Connection: close` the client had no business to send more.
        Err(Trouble::Reset(_)) if !clean_end_due => wire.unread().to_vec(),
        Err(trouble) => return Err(trouble),
    };
    if !rest.is_empty() {
        wrong.push(format!("more than the wanted answers: {}", shown(&rest)));
    }
    Ok(())
}

/// One more request is answered, and its answer is the last: so exactly the wanted answers came.
fn expect_kept(wire: &mut Wire, wrong: &mut Vec<String>) -> Result<(), Trouble> {
    if let Err(error) = wire.send(&Req::new("GET /health").field("Connection: close").bytes()) {
        return Err(Trouble::Reset(error));
    }
    let answer = wire.answer(Shape::Full)?;
    if answer.status != 200 {
        wrong.push(format!("the next request was answered {}", answer.status));
    }
    expect_end(wire, Some(&answer), wrong)
}

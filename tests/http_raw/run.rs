//! Runs one row over one connection, and judges all that comes back.

use std::time::Duration;

use super::case::{After, Case, Continues, Piece};
use super::http::{Answer, Pipe, Req, Shape, Trouble, Wire, shown};
use super::lint::{CLOSING, error_code};
use super::net::Net;

/// Between single bytes, so that the server reads some of them alone. Never asserted on.
const BYTE_PAUSE: Duration = Duration::from_micros(20);
/// Between two parts, so that the first is read before the second comes.
const PART_PAUSE: Duration = Duration::from_millis(3);

/// Where every pause is long, the rest goes at once: a head may take ten seconds.
const DELIVERY_MAX: Duration = Duration::from_secs(3);

/// How what the row sends is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    Bytes,
    /// In the middle of every CRLFCRLF, or of the piece if it has none.
    Halves,
    /// Once, behind so many bytes of all that the row sends.
    At(usize),
}

/// A run that did not end as the row wants.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    /// The server said nothing where it had to.
    pub is_silence: bool,
}

/// What came of a run: of each answer its status, its error and whether it announces the end. Where
/// a row leaves something open, this shows that one server always decides it in one way.
pub type Outcome = Vec<(u16, Option<String>, bool)>;

pub fn run<N: Net>(net: &N, case: &Case, cut: Cut, patience: Duration) -> Result<Outcome, Failure> {
    let case = case.at(&net.addr());
    let mut wire = net.open(patience);
    let (mut answers, mut wrong, mut is_silence) = (Vec::new(), Vec::new(), false);
    if let Err(trouble) = play(net, &mut wire, &case, cut, (&mut answers, &mut wrong)) {
        is_silence = matches!(trouble, Trouble::Silence);
        let ended_silently = matches!(trouble, Trouble::End) && wire.received().is_empty();
        if !(ended_silently && case.may_be_silent) {
            wrong.push(trouble.to_string());
        }
    }
    if wrong.is_empty() {
        return Ok(answers.iter().map(outcome).collect());
    }
    let (sent, got) = (shown(&case.sent()), shown(wire.received()));
    let wrong = wrong.join("\n    wrong: ");
    let text =
        format!("{} [{cut:?}]\n    wrong: {wrong}\n    sent: {sent}\n    came: {got}\n", case.name);
    Err(Failure { text, is_silence })
}

fn outcome(answer: &Answer) -> (u16, Option<String>, bool) {
    (answer.status, error_code(answer), answer.lists("connection", "close"))
}

/// Sends the pieces, reads the wanted answers and whatever must follow.
fn play<N: Net>(
    net: &N,
    wire: &mut Wire<N::Pipe>,
    case: &Case,
    cut: Cut,
    (answers, wrong): (&mut Vec<Answer>, &mut Vec<String>),
) -> Result<(), Trouble> {
    let mut sent = 0;
    for piece in &case.pieces {
        match piece {
            Piece::Send(bytes) => {
                let place =
                    if let Cut::At(at) = cut { Cut::At(at.saturating_sub(sent)) } else { cut };
                // A peer that ended early may refuse the rest; what it answered tells.
                deliver(net, wire, bytes, place).unwrap_or(());
                sent += bytes.len();
            }
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

fn next_answer<P: Pipe>(
    wire: &mut Wire<P>,
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

fn deliver<N: Net>(
    net: &N,
    wire: &mut Wire<N::Pipe>,
    bytes: &[u8],
    cut: Cut,
) -> std::io::Result<()> {
    let (parts, pause) = match cut {
        Cut::Whole => (vec![bytes], Duration::ZERO),
        Cut::Bytes => (bytes.chunks(1).collect(), BYTE_PAUSE),
        Cut::Halves => (halves(bytes), PART_PAUSE),
        Cut::At(at) if (1..bytes.len()).contains(&at) => {
            (vec![&bytes[..at], &bytes[at..]], PART_PAUSE)
        }
        Cut::At(_) => (vec![bytes], Duration::ZERO),
    };
    let (since, mut sent) = (net.clock(), 0);
    for (i, part) in parts.into_iter().enumerate() {
        if net.clock() - since > DELIVERY_MAX {
            return wire.send(&bytes[sent..]);
        }
        if i > 0 || cut == Cut::Bytes {
            net.breathe(pause);
        }
        wire.send(part)?;
        sent += part.len();
    }
    Ok(())
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
        Continues::UnlessBodyCame => got == 0 || (is_cut_there(case, cut) && got == 1),
        Continues::Any => got <= 1,
    };
    if !right {
        wrong.push(format!("{got} × 100 Continue, want {:?}", case.continues));
    }
}

/// Whether the head may be read before the body has come.
fn is_cut_there(case: &Case, cut: Cut) -> bool {
    match cut {
        Cut::Whole | Cut::Halves => false,
        Cut::Bytes => true,
        Cut::At(at) => case.sent()[..at].ends_with(b"\r\n\r\n"),
    }
}

/// Checks what becomes of the connection, and that no further answer comes.
fn conclude<P: Pipe>(
    wire: &mut Wire<P>,
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
        After::WsClosed(code) => {
            let rest = wire.drain()?;
            if let Err(why) = closed_with(&rest, code) {
                wrong.push(format!("{why}: {}", shown(&rest)));
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
fn expect_end<P: Pipe>(
    wire: &mut Wire<P>,
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
fn expect_kept<P: Pipe>(wire: &mut Wire<P>, wrong: &mut Vec<String>) -> Result<(), Trouble> {
    if let Err(error) = wire.send(&Req::new("GET /health").field("Connection: close").bytes()) {
        return Err(Trouble::Reset(error));
    }
    let answer = wire.answer(Shape::Full)?;
    if answer.status != 200 {
        wrong.push(format!("the next request was answered {}", answer.status));
    }
    expect_end(wire, Some(&answer), wrong)
}

/// Whether a server's frames end in one close of this code.
fn closed_with(mut frames: &[u8], code: u16) -> Result<(), String> {
    while let [first, length, rest @ ..] = frames {
        let (length, rest) = match (length, rest) {
            (126, [a, b, rest @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            (0..126, rest) => (usize::from(*length), rest),
            _ => return Err("a frame that is masked or large".to_owned()),
        };
        let Some((payload, behind)) = rest.split_at_checked(length) else { break };
        frames = behind;
        if *first == 0x88 {
            let right = payload.starts_with(&code.to_be_bytes()) && frames.is_empty();
            return if right { Ok(()) } else { Err(format!("no close {code} at the end")) };
        }
    }
    Err("no close".to_owned())
}

//! A row of the tables: what is sent, in which pieces, and the one outcome that is right.

use super::http::{Answer, Req, Shape, shown};
use super::lint;

/// One step of the client.
#[derive(Clone, Debug)]
pub enum Piece {
    Send(Vec<u8>),
    /// Wait for `100 Continue` before going on.
    AwaitContinue,
    /// Wait for the next wanted answer before going on.
    AwaitAnswer,
    /// Half-close.
    Finish,
}

/// What becomes of the connection after the last wanted answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request is answered.
    Kept,
    /// Announced by `Connection: close`, and ended in order: no further answer, no reset.
    Closed,
    /// The pages allow both; what the answer says must be what happens.
    Either,
    /// Ended, whatever the last answer said (the client had half-closed).
    Ends,
    /// 101: what follows is not HTTP.
    Upgraded,
    /// 101, then frames, the last of them a close with this code, then the end.
    WsClosed(u16),
    /// A stream: its end is not waited for.
    Open,
}

/// How many `100 Continue` are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continues {
    None,
    Once,
    /// None when body bytes came with the end of the head; byte by byte, one is right too.
    UnlessBodyCame,
    Any,
}

/// What one answer must be.
#[derive(Clone, Debug)]
pub struct Want {
    /// Status and error code; the first is the page's own reading, and only with it are the
    /// field and body wishes below looked at.
    any: Vec<(u16, &'static str)>,
    shape: Shape,
    has: Vec<(String, String)>,
    lacks: Vec<String>,
    allow: Vec<&'static str>,
    says: Vec<String>,
    body: Option<Vec<u8>>,
}

/// A wanted answer that is no error.
pub fn status(status: u16) -> Want {
    error(status, "")
}

/// A wanted error, with the code that its JSON body must carry.
pub fn error(status: u16, code: &'static str) -> Want {
    Want {
        any: vec![(status, code)],
        shape: Shape::Full,
        has: Vec::new(),
        lacks: Vec::new(),
        allow: Vec::new(),
        says: Vec::new(),
        body: None,
    }
}

pub fn bad_request() -> Want {
    error(400, "bad_request")
}

impl Want {
    /// Another outcome that the pages leave open.
    pub fn or(mut self, status: u16, code: &'static str) -> Self {
        self.any.push((status, code));
        self
    }

    /// The answer to HEAD.
    pub fn head(mut self) -> Self {
        self.shape = Shape::Head;
        self
    }

    /// Only the head is read.
    pub fn open(mut self) -> Self {
        self.shape = Shape::Open;
        self
    }

    /// A line of this field contains `part`, without regard to case.
    pub fn has(mut self, name: &str, part: &str) -> Self {
        self.has.push((name.to_owned(), part.to_owned()));
        self
    }

    pub fn lacks(mut self, name: &str) -> Self {
        self.lacks.push(name.to_owned());
        self
    }

    /// `Allow` names exactly these known methods; `HEAD?` leaves HEAD open, OPTIONS always is.
    pub fn allow(mut self, methods: &[&'static str]) -> Self {
        self.allow = methods.to_vec();
        self
    }

    /// The body, its spaces left out, contains this text.
    pub fn says(mut self, text: &str) -> Self {
        self.says.push(text.to_owned());
        self
    }

    /// The body is exactly this.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All that is wrong with `answer`.
    pub fn judge(&self, answer: &Answer, ten: bool) -> Vec<String> {
        let mut wrong = lint::lint(answer, self.shape, ten);
        let Some((_, code)) = self.any.iter().find(|(s, c)| self.is(answer, *s, c)) else {
            let got = lint::error_code(answer).unwrap_or_default();
            wrong.push(format!("want {:?}, got {} {got:?}", self.any, answer.status));
            return wrong;
        };
        if (answer.status, *code) == self.any[0] {
            self.judge_details(answer, &mut wrong);
        }
        wrong
    }

    fn is(&self, answer: &Answer, status: u16, code: &str) -> bool {
        // The answer to HEAD has no body that could name the code.
        let named = || lint::error_code(answer).is_some_and(|c| c == code);
        answer.status == status && (code.is_empty() || self.shape != Shape::Full || named())
    }

    fn judge_details(&self, answer: &Answer, wrong: &mut Vec<String>) {
        for (name, part) in &self.has {
            let part = part.to_ascii_lowercase();
            if !answer.all(name).any(|v| v.to_ascii_lowercase().contains(&part)) {
                wrong.push(format!("field {name} must contain {part:?}"));
            }
        }
        for name in &self.lacks {
            if let Some(value) = answer.field(name) {
                wrong.push(format!("field {name} must be absent, is {value:?}"));
            }
        }
        for method in lint::METHODS.iter().filter(|_| !self.allow.is_empty()) {
            let open = *method == "OPTIONS" || (*method == "HEAD" && self.allow.contains(&"HEAD?"));
            if !open && answer.lists("allow", method) != self.allow.contains(method) {
                wrong.push(format!("Allow must name exactly {:?} (see {method})", self.allow));
            }
        }
        // Spaces between the tokens of JSON mean nothing.
        let text = String::from_utf8_lossy(&answer.body).replace(' ', "");
        for part in self.says.iter().filter(|part| !text.contains(part.as_str())) {
            wrong.push(format!("the body must contain {part:?}"));
        }
        if let Some(body) = self.body.as_ref().filter(|body| **body != answer.body) {
            wrong.push(format!("the body must be {:?}", shown(body)));
        }
    }

    /// Puts the server's address where `{addr}` stands.
    fn at(&self, addr: &str) -> Self {
        let mut want = self.clone();
        for (_, part) in &mut want.has {
            *part = part.replace("{addr}", addr);
        }
        want
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub pieces: Vec<Piece>,
    pub wants: Vec<Want>,
    pub continues: Continues,
    pub after: After,
    /// An end without any answer is right as well.
    pub may_be_silent: bool,
}

impl Case {
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            pieces: vec![Piece::Send(bytes.into())],
            wants: Vec::new(),
            continues: Continues::None,
            after: After::Kept,
            may_be_silent: false,
        }
    }

    /// Sends more in the same piece: pipelined.
    pub fn and(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        match self.pieces.last_mut() {
            Some(Piece::Send(sent)) => sent.extend(bytes.into()),
            _ => self.pieces.push(Piece::Send(bytes.into())),
        }
        self
    }

    /// Sends more in a piece of its own.
    pub fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.pieces.push(Piece::Send(bytes.into()));
        self
    }

    pub fn await_continue(mut self) -> Self {
        self.pieces.push(Piece::AwaitContinue);
        self.continues(Continues::Once)
    }

    pub fn await_answer(mut self) -> Self {
        self.pieces.push(Piece::AwaitAnswer);
        self
    }

    pub fn finish(mut self) -> Self {
        self.pieces.push(Piece::Finish);
        self
    }

    pub fn continues(mut self, continues: Continues) -> Self {
        self.continues = continues;
        self
    }

    pub fn may_be_silent(mut self) -> Self {
        self.may_be_silent = true;
        self
    }

    pub fn want(mut self, want: Want) -> Self {
        self.wants.push(want);
        self
    }

    pub fn after(mut self, after: After) -> Self {
        self.after = after;
        self
    }

    pub fn kept(self) -> Self {
        self.after(After::Kept)
    }

    pub fn closed(self) -> Self {
        self.after(After::Closed)
    }

    pub fn either(self) -> Self {
        self.after(After::Either)
    }

    /// The bytes of all pieces.
    pub fn sent(&self) -> Vec<u8> {
        let mut sent = Vec::new();
        for piece in &self.pieces {
            if let Piece::Send(bytes) = piece {
                sent.extend_from_slice(bytes);
            }
        }
        sent
    }

    /// Whether the client speaks HTTP/1.0, whose answers persist and are framed differently.
    pub fn is_ten(&self) -> bool {
        self.sent().windows(11).any(|w| w == b" HTTP/1.0\r\n")
    }

    /// Puts the server's address where `{addr}` stands.
    pub fn at(&self, addr: &str) -> Self {
        let mut case = self.clone();
        for piece in &mut case.pieces {
            if let Piece::Send(bytes) = piece {
                *bytes = replaced(bytes, b"{addr}", addr.as_bytes());
            }
        }
        case.wants = self.wants.iter().map(|want| want.at(addr)).collect();
        case
    }
}

fn replaced(bytes: &[u8], mark: &[u8], with: &[u8]) -> Vec<u8> {
    match bytes.windows(mark.len()).position(|w| w == mark) {
        Some(i) => [&bytes[..i], with, &replaced(&bytes[i + mark.len()..], mark, with)].concat(),
        None => bytes.to_vec(),
    }
}

pub fn get(target: &str) -> Req {
    Req::new(&format!("GET {target}"))
}

/// A GET that is answered, and keeps the connection.
pub fn ok(target: &str, want: Want) -> Case {
    Case::new(format!("GET {target}"), get(target)).want(want).kept()
}

/// A GET that is refused, and keeps the connection.
pub fn bad(target: &str, code: &'static str) -> Case {
    ok(target, error(400, code))
}

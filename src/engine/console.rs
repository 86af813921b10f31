//! `/`: a page for people, one file.

use super::core::Core;
use super::reply::Reply;
use super::request::Next;
use crate::conn::Answering;

impl Core {
    pub(crate) fn answer_console(
        &mut self,
        index: u32,
        to: &Answering,
        on_channel: bool,
    ) -> Result<(), Next> {
        self.may_administer(index)?;
        let reply = Reply {
            content_type: Some("text/html; charset=utf-8"),
            body: PAGE,
            extra: HEADERS.as_bytes(),
            vary: if on_channel { "Origin, Accept" } else { "Origin" },
            ..Reply::default()
        };
        self.respond(index, to, &reply);
        Ok(())
    }
}

const PAGE: &[u8] = include_bytes!("../../console/index.html");

/// The page shows what anybody has published. So nothing runs there but its own script, by its hash, and
/// the client of this server; nor can a string become markup or script (`trusted-types`).
/// `tests/flows/console.rs` compares the hashes, and says what they are to be.
const HEADERS: &str = "Content-Security-Policy: default-src 'none'; \
    script-src 'self' 'sha256-5oTZwR1/FmawrvrAw6q+reop7dUX+kvm3hWFOtVu8qA='; \
    style-src 'sha256-HZJKOBTC4oNjbN6tcLFt1nfdXTm82ZLdjxlqGoH9x+8='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'\r\n\
    Referrer-Policy: no-referrer\r\n";

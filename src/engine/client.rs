//! The client for browsers, served as it was built: an ES module, or a script with one global. Both
//! are one text; only the last words differ. Knows nothing of what the client does.

use super::core::Core;
use super::reply::Reply;
use crate::conn::Answering;
use crate::wire::http::header;
use crate::wire::http::response::push_header;

/// What a page takes the client as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `import Holdline from ".../client.js"`.
    Module,
    /// `<script src=".../client.iife.js">`, which makes `Holdline` a global.
    Script,
}

impl Form {
    /// Names the text by what is in it. A tag of the module is none of the script's.
    fn tag(self) -> String {
        match self {
            Self::Module => format!("\"{HASH:016x}-m\""),
            Self::Script => format!("\"{HASH:016x}-s\""),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Module => out.extend_from_slice(MODULE),
            Self::Script => {
                let (body, exports) = MODULE.split_at(BODY_BYTES);
                let name = &exports[EXPORT.len()..];
                let name_bytes = name.iter().take_while(|byte| **byte != b' ').count();
                out.extend_from_slice(b"var Holdline=(()=>{");
                out.extend_from_slice(body);
                out.extend_from_slice(b"return ");
                out.extend_from_slice(&name[..name_bytes]);
                out.extend_from_slice(b"})();\n");
            }
        }
    }
}

impl Core {
    pub(crate) fn answer_client(&mut self, index: u32, to: &Answering, head: &[u8], form: Form) {
        let tag = form.tag();
        // Pages of any origin may take it: there is nothing in it that is not public.
        let mut extra = b"Access-Control-Allow-Origin: *\r\n".to_vec();
        push_header(&mut extra, "ETag", tag.as_bytes());
        let common = Reply {
            extra: &extra,
            has_allow_origin: true,
            vary: "",
            // A new server may bring a new client: asked for each time, sent only if it is another.
            cache_control: "no-cache",
            ..Reply::default()
        };
        if header(head, "if-none-match").is_some_and(|tags| names(tags, tag.as_bytes())) {
            return self.respond(index, to, &Reply { status: 304, ..common });
        }
        let mut body = Vec::with_capacity(MODULE.len() + 64);
        form.write(&mut body);
        let content_type = Some("text/javascript; charset=utf-8");
        self.respond(index, to, &Reply { content_type, body: &body, ..common });
    }
}

/// Whether an `If-None-Match` names this tag (RFC 9110 §13.1.2: weakly compared).
fn names(tags: &[u8], tag: &[u8]) -> bool {
    tags.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag)
}

/// The client as a module: a body, and one statement that exports the class.
const MODULE: &[u8] = include_bytes!("../../client/dist/holdline.min.js");
const EXPORT: &[u8] = b"export{";
const BODY_BYTES: usize = body_bytes(MODULE);
const HASH: u64 = hash(MODULE);

/// Where the last statement begins.
const fn body_bytes(module: &[u8]) -> usize {
    let mut at = module.len() - EXPORT.len();
    while !begins_at(module, at) {
        at -= 1;
    }
    at
}

const fn begins_at(module: &[u8], at: usize) -> bool {
    let mut matched = 0;
    while matched < EXPORT.len() {
        if module[at + matched] != EXPORT[matched] {
            return false;
        }
        matched += 1;
    }
    true
}

/// FNV-1a. It tells builds apart; who can change one has no use for a collision.
const fn hash(bytes: &[u8]) -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::{Form, names};

    #[test]
    fn the_script_is_what_was_built() {
        let mut script = Vec::new();
        Form::Script.write(&mut script);
        assert_eq!(script, include_bytes!("../../client/dist/holdline.iife.js"));
    }

    #[test]
    fn a_tag_is_found_in_a_list_and_only_whole() {
        for tags in ["\"a\"", "*", "W/\"a\"", "\"b\", \"a\"", "\"b\",W/\"a\" "] {
            assert!(names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
        for tags in ["", "a", "\"ab\"", "\"b\"", "w/\"a\"", "\"a", "a\""] {
            assert!(!names(tags.as_bytes(), b"\"a\""), "{tags}");
        }
    }
}

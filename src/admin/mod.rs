//! The admin API: a call in, an answer out.
//!
//! # Who answers
//! A call that reads a bounded piece of what is live (one resource, a page of a list, the nodes of an upstream, why a
//! request would be refused) is answered by whatever worker has it, from the tree and the tables that it decides with:
//! [`here`]. Everything else goes to the leader's [`Desk`]: what writes, as there is one writer, and what costs with the
//! size of the document (the whole of it, a validation, a comparison), as no client waits on the leader's event loop
//! and many do on a worker's. [`table`] says for each call which it is, and nothing else does.
//!
//! # What is pure
//! Nothing here opens a socket or knows nginx. A [`Call`] and an [`Answer`] are values, with a form for the way between
//! two processes ([`wire`]). The desk alone touches files, those of its own folder ([`revisions`]), and does so in the
//! leader.
//!
//! # Place among the folders
//! Above are all that it shows and changes: the document's rules are `config`'s, what is live is `gateway`'s to read
//! and to publish. So this folder stands below `gateway`, and nothing of the request path can lean on it.

mod answer;
mod audit;
mod desk;
mod lay;
mod merge;
mod openapi;
mod overlays;
mod reads;
mod revisions;
mod sent;
mod source;
pub mod table;
mod wire;

pub use answer::{Answer, Problem};
pub use audit::{line, refused};
pub use desk::{Desk, Site};
pub use merge::merge;
pub use overlays::read_overlays;
pub use reads::here;
pub use revisions::{Last, last_document};
pub use sent::Sent;
pub use wire::{decode_answer, decode_call, encode_answer, encode_call};

/// The largest body of a call, bytes: that of the largest document.
pub const BODY_MAX: u64 = crate::gateway::DOCUMENT_MAX;

/// Where a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The file is the truth: calls read it, and set what lies over it.
    File,
    /// The file was the first document; calls write the others.
    Api,
}

impl Mode {
    /// As `gateway_config` has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
        }
    }
}

/// One request to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// From `/v1/` on, with its escapes.
    pub path: String,
    /// Without the question mark, with its escapes.
    pub query: String,
    /// `If-Match`, as it came.
    pub if_match: Option<String>,
    /// `If-None-Match`, as it came.
    pub if_none_match: Option<String>,
    /// `Content-Type`, as it came; empty where there is none.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// The name of the token that it came with.
    pub who: String,
    /// The client's address.
    pub from: String,
    /// When nobody waits for the answer any more, monotonic microseconds; 0 = never.
    pub until: u64,
}

impl Call {
    /// The value of the parameter `name`, decoded; the first where there are several.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key)? == name).then(|| decoded(&value.replace('+', " ")))?
        })
    }

    /// Whether the parameter `name` is there and is not `false` or `0`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
    }
}

/// `text` without its percent-escapes; `None` where one is broken or the whole is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (text, expected) in [
            ("a", Some("a")),
            ("10.0.0.0%2F8", Some("10.0.0.0/8")),
            ("%c3%bc", Some("ü")),
            ("%", None),
            ("%2", None),
            ("%+1", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "for {text}");
        }
    }

    #[test]
    fn parameters() {
        let call = Call { query: "a=1&b=x%20y&c&d=0&e=a+b&a=2".into(), ..Call::default() };
        assert_eq!(call.parameter("a").as_deref(), Some("1"));
        assert_eq!(call.parameter("b").as_deref(), Some("x y"));
        assert_eq!(call.parameter("e").as_deref(), Some("a b"));
        assert_eq!(call.parameter("z"), None);
        assert!(call.flag("c") && !call.flag("d") && !call.flag("z"));
    }
}

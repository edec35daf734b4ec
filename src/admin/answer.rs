//! What a call is answered with: JSON, or a problem (RFC 9457) with a stable `code`.

use std::hash::{Hash, Hasher};

use serde_json::{Value, json};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::config;
use crate::gateway::PublishError;
use crate::types::status;

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type of the body.
    pub content_type: String,
    /// Other headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the audit log says beside who, when and what.
    pub record: Option<Value>,
}

/// What went wrong, by the code that a client may go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No token, or one that is none.
    Token,
    /// Too many wrong tokens from there.
    Throttled,
    /// There is no such path, or nothing of that name.
    NotFound,
    /// The path knows other methods.
    Method,
    /// The body is of another type than the call takes.
    MediaType,
    /// The body is too large.
    TooLarge,
    /// The request's line or a parameter is not what it should be.
    Request,
    /// The body is not what it should be.
    Body,
    /// `If-Match` or `If-None-Match` does not hold.
    Precondition,
    /// The document would be wrong.
    Invalid,
    /// The file is the truth.
    FileMode,
    /// The document does not fit into the zone.
    Zone,
    /// A worker is still in an old generation.
    Busy,
    /// The leader cannot be reached.
    Leader,
    /// The leader did not answer in time.
    Timeout,
    /// The folder of the state cannot be written to.
    Storage,
    /// What should not be.
    Internal,
}

impl Problem {
    /// Every problem, in the order of the README.
    pub const ALL: [Self; 17] = [
        Self::Token,
        Self::Throttled,
        Self::NotFound,
        Self::Method,
        Self::MediaType,
        Self::TooLarge,
        Self::Request,
        Self::Body,
        Self::Precondition,
        Self::Invalid,
        Self::FileMode,
        Self::Zone,
        Self::Busy,
        Self::Leader,
        Self::Timeout,
        Self::Storage,
        Self::Internal,
    ];

    /// Status and code.
    #[must_use]
    pub const fn code(self) -> (u16, &'static str) {
        match self {
            Self::Token => (401, "admin.token"),
            Self::Throttled => (429, "admin.throttled"),
            Self::NotFound => (404, "admin.not_found"),
            Self::Method => (405, "admin.method"),
            Self::MediaType => (415, "admin.media_type"),
            Self::TooLarge => (413, "admin.too_large"),
            Self::Request => (400, "admin.request"),
            Self::Body => (400, "admin.body"),
            Self::Precondition => (412, "admin.precondition"),
            Self::Invalid => (422, "config.invalid"),
            Self::FileMode => (409, "config.file_mode"),
            Self::Zone => (507, "config.zone"),
            Self::Busy => (503, "config.busy"),
            Self::Leader => (503, "admin.leader"),
            Self::Timeout => (504, "admin.timeout"),
            Self::Storage => (500, "admin.storage"),
            Self::Internal => (500, "admin.internal"),
        }
    }

    /// The problem with what exactly is wrong.
    #[must_use]
    pub fn because(self, detail: impl AsRef<str>) -> Answer {
        self.with(detail, Value::Null)
    }

    /// The same with a list of what is wrong.
    #[must_use]
    pub fn with(self, detail: impl AsRef<str>, errors: Value) -> Answer {
        let (number, code) = self.code();
        let mut body = json!({
            "type": "about:blank",
            "title": status::title(number),
            "status": number,
            "detail": detail.as_ref(),
            "code": code,
        });
        if let (Some(fields), false) = (body.as_object_mut(), errors.is_null()) {
            fields.insert("errors".to_owned(), errors);
        }
        let mut answer = Answer::of(number, "application/problem+json", &body);
        match self {
            Self::Token => answer.header("WWW-Authenticate", "Bearer"),
            Self::Leader | Self::Busy => answer.header("Retry-After", "2"),
            _ => {}
        }
        answer
    }
}

impl Answer {
    fn of(status: u16, content_type: &str, body: &Value) -> Self {
        let mut body = body.to_string().into_bytes();
        body.push(b'\n');
        Self { status, content_type: content_type.to_owned(), headers: Vec::new(), body, record: None }
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", body)
    }

    /// Nothing but a status.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        let content_type = "application/json".to_owned();
        Self { status, content_type, headers: Vec::new(), body: Vec::new(), record: None }
    }

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The same with the entity tag `etag`.
    #[must_use]
    pub fn tagged(mut self, etag: &str) -> Self {
        self.header("ETag", etag);
        self
    }

    /// What is wrong with a document, with line and path of each problem.
    #[must_use]
    pub fn invalid(errors: &config::Errors, place: impl Fn(&config::Problem) -> (u32, String)) -> Self {
        let list: Vec<Value> = errors
            .problems()
            .iter()
            .map(|problem| {
                let (line, path) = place(problem);
                entry(line, if line > 0 { problem.column } else { 0 }, &path, &problem.message)
            })
            .collect();
        let detail = match errors.problems() {
            [only] => format!("{only}"),
            all => format!("{} things are wrong", all.len()),
        };
        Problem::Invalid.with(detail, list.into())
    }

    /// Why a document did not go live.
    #[must_use]
    pub fn unpublished(error: &PublishError) -> Self {
        if error.is_passing() { Problem::Busy } else { Problem::Zone }.because(error.to_string())
    }
}

/// One problem or warning of a document.
pub(super) fn entry(line: u32, column: u32, path: &str, message: &str) -> Value {
    let mut entry = json!({"message": message});
    if let Some(fields) = entry.as_object_mut() {
        if line > 0 {
            fields.insert("line".to_owned(), line.into());
            fields.insert("column".to_owned(), column.into());
        }
        if !path.is_empty() {
            fields.insert("path".to_owned(), path.into());
        }
    }
    entry
}

/// The strong entity tag of `value`. It is keyed, as it is that of the value with its secrets: nobody can try them out.
#[must_use]
pub(super) fn etag(key: [u64; 2], value: &impl Hash) -> String {
    let [low, high] = key;
    let mut hasher = SipHasher13::new_with_keys(low, high);
    value.hash(&mut hasher);
    let _ = hasher.finish();
    format!("\"{:032x}\"", hasher.finish128().as_u128())
}

/// Whether `If-Match` (RFC 9110, 13.1.1) holds for what has the tag `etag`; `None` = there is nothing.
#[must_use]
pub(super) fn matches(condition: &str, etag: Option<&str>) -> bool {
    let Some(etag) = etag else { return false };
    condition.trim() == "*" || condition.split(',').any(|one| one.trim() == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let etag = Some("\"a\"");
        for (condition, etag, expected) in [
            ("\"a\"", etag, true),
            ("*", etag, true),
            ("\"b\"", etag, false),
            ("\"b\", \"a\"", etag, true),
            ("W/\"a\"", etag, false),
            ("*", None, false),
            ("\"a\"", None, false),
        ] {
            assert_eq!(matches(condition, etag), expected, "for {condition} of {etag:?}");
        }
    }

    #[test]
    fn codes_are_told_apart() {
        let mut codes: Vec<_> = Problem::ALL.iter().map(|problem| problem.code().1).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Problem::ALL.len());
        for problem in Problem::ALL {
            assert!(!status::title(problem.code().0).ends_with("Error") || problem.code().0 == 500, "{problem:?}");
        }
    }
}

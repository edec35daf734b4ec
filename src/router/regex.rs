//! Regular expressions of the document: linear time, bounded memory, and what order and tree need to know of them.
//!
//! The syntax is that of the `regex` crate, which has neither look-around nor back-references, so that no request can
//! make a search slow (ReDoS). An expression is searched for (`^` and `$` anchor it) in bytes that need not be UTF-8.

use std::fmt;

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind, Look};

/// The longest expression, in bytes.
pub const REGEX_MAX: usize = 1_000;
/// The largest compiled form of an expression, in bytes: it bounds the time a byte of the request takes, too.
const PROGRAM_MAX: usize = 256 << 10;
/// What the lazy DFA of one expression may keep, in bytes; beyond that it begins anew.
const CACHE_MAX: usize = 128 << 10;

/// Why a text is no expression that we take; the message says what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegexError {
    /// Nothing to look for.
    Empty,
    /// Its length in bytes.
    TooLong(usize),
    /// Its compiled form is larger than is allowed.
    TooLarge,
    /// A control character.
    Control,
    /// What the parser says.
    Syntax(String),
}

impl fmt::Display for RegexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong(length) => write!(f, "must be at most {REGEX_MAX} bytes long, not {length}"),
            Self::TooLarge => f.write_str("takes too much memory once it is compiled: make its repetitions smaller"),
            Self::Control => f.write_str("cannot hold control characters: write `\\t`, `\\n` or `\\x7F`"),
            Self::Syntax(why) => write!(f, "is no regular expression: {why}"),
        }
    }
}

impl std::error::Error for RegexError {}

/// A compiled expression with the memory of its searches: one a process, `matches` takes it mutably.
pub struct Regex {
    regex: meta::Regex,
    cache: meta::Cache,
}

impl Regex {
    /// Compiles `text`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, RegexError> {
        match text.len() {
            0 => return Err(RegexError::Empty),
            length if length > REGEX_MAX => return Err(RegexError::TooLong(length)),
            _ if text.chars().any(char::is_control) => return Err(RegexError::Control),
            _ => {}
        }
        let config = meta::Config::new()
            .match_kind(MatchKind::LeftmostFirst)
            .utf8_empty(false)
            .nfa_size_limit(Some(PROGRAM_MAX))
            .onepass(false)
            .hybrid_cache_capacity(CACHE_MAX);
        let syntax = syntax::Config::new().utf8(false);
        let regex = meta::Builder::new().configure(config).syntax(syntax).build(text).map_err(|error| {
            if error.size_limit().is_some() {
                return RegexError::TooLarge;
            }
            let whole = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
            // The last line of the parser's drawing says what is wrong.
            let last = whole.lines().last().unwrap_or_default();
            RegexError::Syntax(last.strip_prefix("error: ").unwrap_or(last).to_owned())
        })?;
        let cache = regex.create_cache();
        Ok(Self { regex, cache })
    }

    /// Whether it is found in `text`. Time is linear in the length of `text`, whatever either says.
    pub fn matches(&mut self, text: &[u8]) -> bool {
        let input = Input::new(text).earliest(true);
        self.regex.search_half_with(&mut self.cache, &input).is_some()
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regex").finish_non_exhaustive()
    }
}

/// The bytes with which everything begins that `text` matches: what stands between `^` and the first choice. Empty
/// where it is not anchored, or where it is no expression.
#[must_use]
pub fn literal_prefix(text: &str) -> Vec<u8> {
    let syntax = syntax::Config::new().utf8(false);
    let mut prefix = Prefix { bytes: Vec::new(), is_anchored: false };
    if let Ok(hir) = syntax::parse_with(text, &syntax) {
        prefix.walk(&hir);
    }
    prefix.bytes
}

struct Prefix {
    bytes: Vec<u8>,
    is_anchored: bool,
}

impl Prefix {
    /// Adds what `hir` begins with; whether what follows it is reached by one way only.
    fn walk(&mut self, hir: &Hir) -> bool {
        match hir.kind() {
            HirKind::Look(Look::Start) if self.bytes.is_empty() => {
                self.is_anchored = true;
                true
            }
            HirKind::Literal(literal) if self.is_anchored => {
                self.bytes.extend_from_slice(&literal.0);
                true
            }
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(pieces) => pieces.iter().all(|piece| self.walk(piece)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (text, expected) in [
            (r"^/v\d+", "/v"),
            (r"^/api/v\d+/x", "/api/v"),
            (r"\A/a", "/a"),
            (r"^(/a)(/b|/c)", "/a"),
            (r"^(?:/a/)(?:b)", "/a/b"),
            (r"^/a$", "/a"),
            (r"^/a\.b", "/a.b"),
            (r"^/ab?", "/a"),
            (r"^/a+", "/"),
            (r"^/a|^/b", ""),
            (r"(?i)^/a", "/"),
            (r"(?m)^/a", ""),
            (r"/a", ""),
            (r"\.php$", ""),
            (r"x^/a", ""),
            (r"(^/a)", "/a"),
            (r"(^)?/a", ""),
            ("^ü/", "ü/"),
            ("(", ""),
        ] {
            assert_eq!(String::from_utf8(literal_prefix(text)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn everything_that_matches_begins_with_the_prefix() {
        for text in [r"^/v\d+", r"^(/a)(/b|/c)", r"(^/a)", r"^/a|^/b", r"^/ab?$", r"(?i)^/a", "^", "$"] {
            let mut regex = Regex::new(text).unwrap();
            let prefix = literal_prefix(text);
            for path in ["/v1", "/v", "/a/b", "/a/c", "/a", "/A", "/b", "/ab", "/", "", "x/a", "x/v1"] {
                assert!(!regex.matches(path.as_bytes()) || path.as_bytes().starts_with(&prefix), "{text} {path}");
            }
        }
    }

    #[test]
    fn searching() {
        for (text, path, expected) in [
            (r"^/v\d+", &b"/v12/x"[..], true),
            (r"^/v\d+", b"/v", false),
            (r"^/v\d+$", b"/v1/", false),
            (r"\.(jpg|png)$", b"/a/b.png", true),
            (r"^/\xff", b"/\xff", false),
            (r"(?-u)^/\xff", b"/\xff", true),
            ("^/ü$", "/ü".as_bytes(), true),
            (r"^/.$", "/ü".as_bytes(), true),
            (r"^/[^/]$", b"/\xff", false),
        ] {
            assert_eq!(Regex::new(text).unwrap().matches(path), expected, "{text} {path:?}");
        }
    }

    #[test]
    fn what_would_be_slow_or_large_is_none() {
        for (text, expected) in [
            ("", "must not be empty"),
            (&*"a".repeat(REGEX_MAX + 1), "must be at most 1000 bytes long, not 1001"),
            ("(", "is no regular expression: unclosed group"),
            (r"(a)\1", "is no regular expression: backreferences are not supported"),
            (r"(\w{100}){100}", "takes too much memory once it is compiled: make its repetitions smaller"),
            ("a\nb", "cannot hold control characters: write `\\t`, `\\n` or `\\x7F`"),
        ] {
            assert_eq!(Regex::new(text).unwrap_err().to_string(), expected, "{text}");
        }
        // What takes back-tracking engines for ever.
        let mut regex = Regex::new(r"^/(a|a)*(a+)+$").unwrap();
        let mut path = b"/".to_vec();
        path.resize(8_000, b'a');
        path.push(b'!');
        assert!(!regex.matches(&path));
    }
}

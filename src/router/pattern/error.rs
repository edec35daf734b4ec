use std::fmt;

use super::host::LABELS_MAX;
use super::path::{PARAMS_MAX, PATH_MAX, SEGMENTS_MAX};
use crate::router::host::HOST_MAX;
use crate::router::regex::RegexError;

/// Why a host or a path of the document is none. The message names the culprit and says what would be right; where it
/// stands in the document is for the caller to add.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum PatternError {
    PathEmpty,
    /// The path as it would be right.
    PathNoSlash(String),
    /// What is wrong with the expression.
    PathRegex(RegexError),
    PathTooLong(usize),
    PathControl(u8),
    PathQuery,
    PathFragment,
    PathDoubleSlash,
    /// `.` or `..`.
    PathDots(String),
    /// The `%` and what follows it.
    PathPercent(String),
    PathEncodedSlash,
    /// The segment with the star.
    PathStar(String),
    /// The segment with the brace.
    PathBrace(String),
    /// The name between the braces.
    ParamName(String),
    ParamTwice(String),
    /// The tail that something follows.
    TailNotLast(String),
    TooManyParams,
    TooManySegments(usize),
    HostEmpty,
    HostTooLong(usize),
    /// The host as it would be right.
    HostUrl(String),
    HostPort(String),
    HostLabel(String),
    TooManyLabels(usize),
    HostWildcard(String),
    HostIpv6(String),
    /// What may not stand in a host.
    HostCharacter(char),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathEmpty => write!(f, "the path is empty: write `/` for the root alone, `/*` for everything"),
            Self::PathNoSlash(right) => write!(f, "a path begins with a slash: write `{right}`"),
            Self::PathRegex(RegexError::Syntax(why)) if why.starts_with("repetition operator missing") => {
                write!(f, "what follows `~` is no regular expression: {why}; write `~(?i)` for nginx's `~*`")
            }
            Self::PathRegex(why) => write!(f, "what follows `~` {why}"),
            Self::PathTooLong(length) => write!(f, "the path has {length} bytes, at most {PATH_MAX} are possible"),
            Self::PathControl(byte) => {
                write!(f, "control character {byte:#04x}: requests with one are refused, so this would never match")
            }
            Self::PathQuery => {
                write!(
                    f,
                    "a path has no query: use `match` for query parameters, or write `%3F` for a question mark in the path"
                )
            }
            Self::PathFragment => write!(f, "a path has no fragment: write `%23` for a `#` in the path"),
            Self::PathDoubleSlash => {
                write!(f, "`//` never matches, since paths are compared with doubled slashes merged: write one slash")
            }
            Self::PathDots(segment) => {
                write!(
                    f,
                    "the segment `{segment}` never matches, since paths are compared resolved: write the path that it leads to"
                )
            }
            Self::PathPercent(found) => {
                write!(
                    f,
                    "`{found}` is no percent-encoding: two hexadecimal digits follow a `%`; write `%25` for a percent sign"
                )
            }
            Self::PathEncodedSlash => {
                write!(f, "`%2F` never matches, since requests with it are refused: write `/` between segments")
            }
            Self::PathStar(segment) => write!(
                f,
                "`{segment}`: a star stands alone as the last segment (`/a/*`); write `{{name}}` for one segment, `%2A` for a star itself"
            ),
            Self::PathBrace(segment) => write!(
                f,
                "`{segment}`: a parameter is a whole segment (`/users/{{id}}`); write `%7B` and `%7D` for braces themselves"
            ),
            Self::ParamName(name) => {
                write!(f, "`{name}` is no name for a parameter: letters, digits and `_`, not beginning with a digit")
            }
            Self::ParamTwice(name) => write!(f, "two parameters are called `{name}`: give each a name of its own"),
            Self::TailNotLast(tail) => {
                write!(f, "`{tail}` takes all that is left, so nothing can follow it: write `{{name}}` for one segment")
            }
            Self::TooManyParams => write!(f, "a path has at most {PARAMS_MAX} parameters"),
            Self::TooManySegments(count) => {
                write!(f, "the path has {count} segments, with parameters or `/*` at most {SEGMENTS_MAX} are possible")
            }
            Self::HostEmpty => write!(f, "the host is empty: leave `hosts` out to answer to any host"),
            Self::HostTooLong(length) => write!(f, "the host has {length} bytes, at most {HOST_MAX} are possible"),
            Self::HostUrl(right) => write!(f, "a host is a name alone, without scheme, user and path: write `{right}`"),
            Self::HostPort(right) => {
                write!(f, "ports are ignored when hosts are compared, so none can be given: write `{right}`")
            }
            Self::HostLabel(host) => write!(f, "`{host}` has an empty label: one dot stands between two labels"),
            Self::TooManyLabels(count) => {
                write!(f, "the wildcard has {count} labels, at most {LABELS_MAX} are possible")
            }
            Self::HostWildcard(host) => write!(
                f,
                "`{host}`: a star stands alone as the first label and means one or more labels (`*.example.com`)"
            ),
            Self::HostIpv6(host) => write!(f, "`{host}` is no IPv6 address: write one in brackets (`[2001:db8::1]`)"),
            Self::HostCharacter(found) if found.is_ascii() => {
                write!(f, "{found:?} cannot stand in a host: letters, digits, `-`, `_` and dots can")
            }
            Self::HostCharacter(found) => {
                write!(f, "{found:?} cannot stand in a host: write the name as DNS has it (`xn--…`)")
            }
        }
    }
}

impl std::error::Error for PatternError {}

//! What a route's `hosts` and `paths` mean once parsed. The tree turns them into keys; the naive matcher compares
//! them as they are.

mod display;
mod error;
mod host;
mod path;

pub use error::PatternError;
pub use host::LABELS_MAX;
pub use path::{PARAMS_MAX, PATH_MAX, SEGMENTS_MAX};

/// A host that a route answers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Any host, also none.
    Any,
    /// `*.example.com`, kept as `example.com`: one or more labels before it, never the apex.
    Wildcard(Vec<u8>),
    /// One host, in lower case, without port and trailing dot.
    Exact(Vec<u8>),
}

/// A piece of a pattern between two slashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// These bytes.
    Literal(Vec<u8>),
    /// `{name}`: one segment, never empty.
    Param(String),
}

/// What stands behind the last segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tail {
    /// Nothing: the path ends here.
    None,
    /// `/*`: this and everything below.
    Any,
    /// `{*name}`: what is left, captured, never empty.
    Captured(String),
}

/// A path that a route answers to, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// `"/a"`: this path alone.
    Exact(Vec<u8>),
    /// `"/a/*"`, kept as `/a`: `/a`, `/a/` and everything below, never `/ab`; empty for `"/*"`.
    Prefix(Vec<u8>),
    /// `"/users/{id}"`, `"/u/{id}/*"`, `"/f/{*rest}"`.
    Pattern {
        /// The segments, in order.
        segments: Vec<Segment>,
        /// What follows them.
        tail: Tail,
    },
    /// `"~^/v\d+"`, kept without the tilde: searched for in the path, captures nothing.
    Regex(String),
}

/// One way to reach a route: a host and a path. A route has one for each pair of its hosts and paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// The host.
    pub host: Host,
    /// The path.
    pub path: Path,
}

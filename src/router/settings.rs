//! What a route may ask of a request beside host, path and method, and what it may answer by itself.

use rkyv::{Archive, Deserialize, Serialize};

/// The part of a request that a condition looks at.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A header, name in lower case.
    Header(String),
    /// A query parameter, decoded.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// What must hold of a field.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// It has this value.
    Equals(String),
    /// It has one of these values.
    In(Vec<String>),
    /// It matches; linear-time syntax of the `regex` crate, unanchored.
    Regex(String),
    /// It is there, empty or not.
    Exists,
}

/// One entry of a route's `match`; all of them must hold.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// What is looked at.
    pub field: Field,
    /// What must hold.
    pub test: Test,
    /// The other way round.
    pub not: bool,
}

/// A piece of a template.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// `{name}`: a parameter of the path; checked to be one of the route's.
    Param(String),
}

/// Text with path parameters in it.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template(pub Vec<Part>);

/// An answer that needs no upstream.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct StaticReply {
    /// 200 to 599.
    pub status: u16,
    /// Header lines, in order.
    pub headers: Vec<(String, String)>,
    /// The body; an object of the document is kept as JSON text, with its content type among the headers.
    pub body: String,
}

/// A redirect.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// Where to: a path or an absolute http(s) URL; parameters are percent-encoded when they are put in.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a route answers by itself.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A fixed answer.
    Reply(StaticReply),
    /// A redirect.
    Redirect(Redirect),
}

//! The document as a tree that knows where everything stands.
//!
//! Plain scalars keep their text: what they mean (YAML 1.2, core schema) is asked of them one by one.

use std::rc::Rc;

use super::problem::Place;

/// A value and where it stands. It has no `Debug`: it may hold a secret.
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What a node is.
pub(super) enum Value {
    /// A scalar; whether it stood without quotes.
    Scalar(Box<str>, bool),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What stands at an anchor, here and at its aliases.
    Shared(Rc<Shared>),
}

/// An anchored node, with what an alias to it costs.
pub(super) struct Shared {
    pub node: Node,
    /// So many nodes, itself included.
    pub size: u64,
    /// So many levels, its own included.
    pub height: u32,
}

/// One field of an object.
pub(super) struct Entry {
    pub key: Box<str>,
    pub place: Place,
    pub node: Node,
}

/// What a node means to someone who reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Integer,
    Float,
    Text,
    List,
    Map,
}

impl Kind {
    /// In words, for "found …".
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool => "a boolean",
            Self::Integer | Self::Float => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Map => "an object",
        }
    }
}

impl Node {
    /// The value, through aliases.
    pub(super) fn value(&self) -> &Value {
        let mut node = self;
        while let Value::Shared(shared) = &node.value {
            node = &shared.node;
        }
        &node.value
    }

    pub(super) fn kind(&self) -> Kind {
        match self.value() {
            Value::Scalar(_, false) => Kind::Text,
            Value::Scalar(text, true) => plain_kind(text),
            Value::Map(_) => Kind::Map,
            // `value` unfolds what is shared.
            Value::List(_) | Value::Shared(_) => Kind::List,
        }
    }

    /// The text of any scalar, whatever it means.
    pub(super) fn scalar(&self) -> Option<&str> {
        match self.value() {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.scalar().filter(|_| self.kind() == Kind::Text)
    }

    pub(super) fn bool(&self) -> Option<bool> {
        self.scalar().filter(|_| self.kind() == Kind::Bool).map(|text| text.starts_with(['t', 'T']))
    }

    pub(super) fn integer(&self) -> Option<i64> {
        let text = self.scalar().filter(|_| self.kind() == Kind::Integer)?;
        match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
            (Some(digits), _) => i64::from_str_radix(digits, 16).ok(),
            (_, Some(digits)) => i64::from_str_radix(digits, 8).ok(),
            _ => text.parse().ok(),
        }
    }

    /// The field `name` of an object.
    pub(super) fn field(&self, name: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let text = self.scalar().unwrap_or_default();
        match self.kind() {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool => self.bool().into(),
            Kind::Integer => self.integer().into(),
            Kind::Float => text.parse::<f64>().ok().into(),
            Kind::Text => text.into(),
            Kind::List => self.items().iter().map(Node::to_json).collect(),
            Kind::Map => self.entries().iter().map(|entry| (entry.key.to_string(), entry.node.to_json())).collect(),
        }
    }

    /// The items of a list; empty for anything else.
    pub(super) fn items(&self) -> &[Node] {
        match self.value() {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The fields of an object; empty for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match self.value() {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }
}

/// What a plain scalar means by the core schema of YAML 1.2 (chapter 10.3).
pub(super) fn plain_kind(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Kind::Bool,
        ".nan" | ".NaN" | ".NAN" => return Kind::Float,
        _ => {}
    }
    let all = |digits: &str, accepts: fn(&u8) -> bool| !digits.is_empty() && digits.bytes().all(|byte| accepts(&byte));
    if text.strip_prefix("0x").is_some_and(|digits| all(digits, u8::is_ascii_hexdigit))
        || text.strip_prefix("0o").is_some_and(|digits| all(digits, |byte| (b'0'..=b'7').contains(byte)))
    {
        return Kind::Integer;
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if all(digits, u8::is_ascii_digit) {
        return Kind::Integer;
    }
    // What Rust reads as a float and YAML does not are words: `inf`, `nan`, `infinity`.
    let numeric = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if matches!(digits, ".inf" | ".Inf" | ".INF") || numeric && digits.parse::<f64>().is_ok() {
        return Kind::Float;
    }
    Kind::Text
}

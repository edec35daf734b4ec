//! A cursor over the tree that knows its own path, so that whoever finds a mistake need only name it.

use std::borrow::Cow;

use super::node::{Entry, Kind, Node};
use super::problem::{Place, Sink, quote};

/// A node, the way to it, and where to report.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub node: &'a Node,
    pub sink: &'a Sink,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a At<'a>, &'a Entry),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(super) const fn root(node: &'a Node, sink: &'a Sink) -> Self {
        Self { node, sink, step: Step::Root }
    }

    /// The field `name` of this object.
    pub(super) fn get(&'a self, name: &str) -> Option<At<'a>> {
        self.node.entries().iter().find(|entry| &*entry.key == name).map(|entry| self.enter(entry))
    }

    /// The field `name` where it is an object; what is none has been reported.
    pub(super) fn object(&'a self, name: &str) -> Option<At<'a>> {
        self.get(name).filter(At::is_object)
    }

    /// Whether this is an object.
    pub(super) fn is_object(&self) -> bool {
        self.node.kind() == Kind::Map
    }

    /// The fields of this object.
    pub(super) fn fields(&'a self) -> impl Iterator<Item = (&'a Entry, At<'a>)> {
        self.node.entries().iter().map(move |entry| (entry, self.enter(entry)))
    }

    /// The items of this list.
    pub(super) fn items(&'a self) -> impl Iterator<Item = At<'a>> {
        let items = self.node.items().iter().enumerate();
        items.map(move |(index, node)| At { node, sink: self.sink, step: Step::Index(self, index) })
    }

    fn enter(&'a self, entry: &'a Entry) -> At<'a> {
        At { node: &entry.node, sink: self.sink, step: Step::Field(self, entry) }
    }

    /// The text of the field `name`.
    pub(super) fn text(&'a self, name: &str) -> Option<&'a str> {
        self.get(name)?.node.text()
    }

    /// The field `name`, read by `parse`; `None` also where it cannot be read, which the tables have reported.
    pub(super) fn parsed<T>(&'a self, name: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        parse(self.text(name)?).ok()
    }

    /// The whole number in the field `name`.
    pub(super) fn number<T: TryFrom<i64>>(&'a self, name: &str) -> Option<T> {
        self.get(name)?.node.integer()?.try_into().ok()
    }

    /// The boolean in the field `name`.
    pub(super) fn bool(&'a self, name: &str) -> Option<bool> {
        self.get(name)?.node.bool()
    }

    /// The texts of the list in the field `name`.
    pub(super) fn texts(&'a self, name: &str) -> Option<Vec<String>> {
        let list = self.get(name)?.node;
        (list.kind() == Kind::List).then(|| list.items().iter().filter_map(Node::text).map(str::to_owned).collect())
    }

    /// Names and texts of the object in the field `name`, in the order of names: theirs means nothing in JSON.
    pub(super) fn labels(&'a self, name: &str) -> Option<Vec<(String, String)>> {
        let entries = self.get(name)?.node.entries();
        let pair = |entry: &Entry| (entry.key.to_string(), entry.node.scalar().unwrap_or_default().to_owned());
        let mut pairs: Vec<(String, String)> = entries.iter().map(pair).collect();
        pairs.sort();
        Some(pairs)
    }

    /// Where the node begins; for a field that is an object or list, where its name stands.
    pub(super) fn place(&self) -> Place {
        match self.step {
            Step::Field(_, entry) if matches!(self.node.kind(), Kind::Map | Kind::List | Kind::Null) => entry.place,
            _ => self.node.place,
        }
    }

    /// `routes[3].limits[0].rate`.
    pub(super) fn path(&self) -> String {
        match self.step {
            Step::Root => String::new(),
            Step::Index(parent, index) => format!("{}[{index}]", parent.path()),
            Step::Field(parent, entry) => {
                let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                let key = match entry.key.bytes().all(is_word) && entry.key.len() <= 64 {
                    true => Cow::Borrowed(&*entry.key),
                    false => Cow::Owned(quote(&entry.key)),
                };
                match parent.step {
                    Step::Root => key.into_owned(),
                    _ => format!("{}.{key}", parent.path()),
                }
            }
        }
    }

    pub(super) fn error(&self, message: impl Into<String>) {
        self.error_in(self.place(), message);
    }

    pub(super) fn error_in(&self, place: Place, message: impl Into<String>) {
        // The path costs more than the problem where nobody keeps it.
        let path = if self.sink.is_full() { String::new() } else { self.path() };
        self.sink.error(place, path, message.into());
    }

    pub(super) fn warn(&self, message: impl Into<String>) {
        self.sink.warn(self.place(), self.path(), message.into());
    }
}

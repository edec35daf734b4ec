//! Who is called what, before anything else is read: references may point forward.

use std::collections::HashMap;

use super::node::Node;
use super::problem::{Place, quote};
use super::read::At;

/// The names of one list of the document.
pub(super) struct Names<'a> {
    /// What one of the list is called in messages.
    what: &'static str,
    known: HashMap<&'a str, (usize, Place)>,
}

impl<'a> Names<'a> {
    /// Collects the names in the list `list` of the document; two of the same are reported.
    pub(super) fn collect(document: &'a At<'a>, list: &'static str, what: &'static str) -> Self {
        let mut known: HashMap<&'a str, (usize, Place)> = HashMap::new();
        // Names are borrowed from the nodes, which outlive the cursors that lead to them.
        let nodes = document.node.field(list).map(Node::items).unwrap_or_default();
        let cursor = document.get(list);
        for ((index, node), item) in nodes.iter().enumerate().zip(cursor.iter().flat_map(At::items)) {
            let (Some(name), Some(at)) = (node.field("name").and_then(Node::text), item.get("name")) else { continue };
            match known.get(name) {
                Some((first, place)) => {
                    at.error(format!("{} is the name of {list}[{first}] too, in line {}", quote(name), place.line));
                }
                None => drop(known.insert(name, (index, at.place()))),
            }
        }
        Self { what, known }
    }

    /// Whether the name in `at` is somebody's; if not, it is reported.
    pub(super) fn refer(&self, at: &At<'_>) -> bool {
        let Some(name) = at.node.text() else { return false };
        if self.known.contains_key(name) {
            return true;
        }
        if !at.sink.is_full() {
            let suggestion = at.sink.suggestion(name, self.known.keys().copied());
            at.error(format!("no {} is called {}{suggestion}", self.what, quote(name)));
        }
        false
    }

    /// Warns at `at` where `name` is nobody's, but nearly somebody's: it may be meant so, or be a slip.
    pub(super) fn hint(&self, at: &At<'_>, name: &str) {
        if self.known.contains_key(name) || at.sink.is_full() {
            return;
        }
        let suggestion = at.sink.suggestion(name, self.known.keys().copied());
        if !suggestion.is_empty() {
            at.warn(format!("no {} is called {}{suggestion}", self.what, quote(name)));
        }
    }
}

//! What differs between two documents, resource by resource.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use super::document::Document;
use super::value;

/// A resource that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The list of the document that it belongs to: `routes`, `upstreams` and so on.
    pub kind: &'static str,
    /// Its name; for a ban its block.
    pub name: String,
    /// How it differs.
    pub how: How,
}

/// How a resource differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It is in the new document alone.
    Added,
    /// It is in the old document alone.
    Removed,
    /// It is in both, with differences in these fields, in the order of the alphabet. Never empty: secrets have the
    /// field that they belong to.
    Changed {
        /// The fields' names.
        fields: Vec<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Added => write!(out, "+ {} {}", self.kind, self.name),
            How::Removed => write!(out, "- {} {}", self.kind, self.name),
            How::Changed { fields } => write!(out, "~ {} {}: {}", self.kind, self.name, fields.join(", ")),
        }
    }
}

impl Change {
    /// `{kind, name, change, fields}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (word, fields) = match &self.how {
            How::Added => ("added", &[][..]),
            How::Removed => ("removed", &[][..]),
            How::Changed { fields } => ("changed", fields.as_slice()),
        };
        serde_json::json!({"kind": self.kind, "name": self.name, "change": word, "fields": fields})
    }
}

/// Compares two documents. The order within a list is no difference; of what `defaults` say, the routes tell.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&mut changes, "auth", "jwt", &old.auth, &new.auth, |entry| &entry.name, value::auth);
    compare(&mut changes, "consumers", "", &old.consumers, &new.consumers, |entry| &entry.name, value::consumer);
    compare(&mut changes, "roles", "", &old.roles, &new.roles, |entry| &entry.name, value::role);
    compare(&mut changes, "lists", "", &old.lists, &new.lists, |entry| &entry.name, value::list);
    compare(&mut changes, "limiters", "", &old.limiters, &new.limiters, |entry| &entry.name, value::limiter);
    compare(&mut changes, "upstreams", "", &old.upstreams, &new.upstreams, |entry| &entry.name, value::upstream);
    compare(&mut changes, "routes", "", &old.routes, &new.routes, |entry| &entry.name, value::route);
    let (old, new) = (value::bans(old), value::bans(new));
    compare(&mut changes, "bans", "", &old, &new, |entry| &entry.0, |entry| entry.1.clone());
    changes
}

/// `secret` is the field that differs where all that may be shown is equal.
fn compare<T: PartialEq>(
    changes: &mut Vec<Change>,
    kind: &'static str,
    secret: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
    show: impl Fn(&T) -> Value,
) {
    let before: HashMap<&str, &T> = old.iter().map(|entry| (name(entry), entry)).collect();
    let after: HashSet<&str> = new.iter().map(&name).collect();
    let change = |name: &str, how| Change { kind, name: name.to_owned(), how };
    for entry in old.iter().filter(|entry| !after.contains(name(entry))) {
        changes.push(change(name(entry), How::Removed));
    }
    for entry in new {
        match before.get(name(entry)) {
            None => changes.push(change(name(entry), How::Added)),
            Some(other) if *other == entry => {}
            Some(other) => {
                let mut fields = differing(&show(other), &show(entry));
                if fields.is_empty() {
                    fields.push(secret.to_owned());
                }
                changes.push(change(name(entry), How::Changed { fields }));
            }
        }
    }
}

fn differing(one: &Value, other: &Value) -> Vec<String> {
    let keys =
        |value: &Value| value.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect::<Vec<_>>();
    let mut names: Vec<String> = keys(one).into_iter().chain(keys(other)).collect();
    names.sort();
    names.dedup();
    names.retain(|name| one.get(name) != other.get(name));
    names
}

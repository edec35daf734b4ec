//! The document as it was written: references to secrets unresolved, nothing filled in. What api mode changes and keeps.
//!
//! A change is made in place and can be undone, so that an edit of one resource among 100,000 copies that one.

use serde_json::{Map, Value};

use crate::config::Collection;

/// A document that is an object; whether it is right only [`crate::config::parse`] can tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source(Map<String, Value>);

/// What takes a change back.
#[derive(Debug)]
pub enum Undo {
    /// It was added at the end of its list, …
    Added(Collection),
    /// … or stood there before, …
    Put(Collection, usize, Value),
    /// … or was removed from there.
    Removed(Collection, usize, Value),
}

impl Source {
    /// `None` where `value` is no object.
    #[must_use]
    pub fn new(value: Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    /// The whole as a value.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// The whole as JSON, on one line.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The resources of `collection`.
    #[must_use]
    pub fn list(&self, collection: Collection) -> &[Value] {
        self.0.get(collection.name()).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The place of the resource `name`.
    #[must_use]
    pub fn index(&self, collection: Collection, name: &str) -> Option<usize> {
        let is = |value: &Value| value.get(collection.key()).and_then(Value::as_str) == Some(name);
        self.list(collection).iter().position(is)
    }

    /// The resource `name`.
    #[must_use]
    pub fn get(&self, collection: Collection, name: &str) -> Option<&Value> {
        self.list(collection).get(self.index(collection, name)?)
    }

    /// Puts `value` where the resource `name` stands, or at the end.
    pub fn put(&mut self, collection: Collection, name: &str, value: Value) -> Undo {
        let index = self.index(collection, name);
        self.list_mut(collection, |list| match index.and_then(|index| Some((index, list.get_mut(index)?))) {
            Some((index, place)) => Undo::Put(collection, index, std::mem::replace(place, value)),
            None => {
                list.push(value);
                Undo::Added(collection)
            }
        })
    }

    /// Takes the resource `name` out; `None` where there is none.
    pub fn remove(&mut self, collection: Collection, name: &str) -> Option<Undo> {
        let index = self.index(collection, name)?;
        Some(Undo::Removed(collection, index, self.list_mut(collection, |list| list.remove(index))))
    }

    /// Takes a change back; of several the last one first.
    pub fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Added(collection) => drop(self.list_mut(collection, Vec::pop)),
            Undo::Put(collection, index, value) => self.list_mut(collection, |list| {
                if let Some(place) = list.get_mut(index) {
                    *place = value;
                }
            }),
            Undo::Removed(collection, index, value) => {
                self.list_mut(collection, |list| list.insert(index.min(list.len()), value));
            }
        }
    }

    /// The whole as JSON with `raw`, the text that the resource `name` was read from, from the beginning of the second
    /// line on, and nothing but the rest behind it: a problem on line n of the whole is on line n - 1 of `raw`.
    #[must_use]
    pub fn spliced(&self, collection: Collection, name: &str, raw: &str) -> String {
        let place = self.index(collection, name);
        let mut text = String::from("{");
        for (field, value) in &self.0 {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&Value::from(field.as_str()).to_string());
            text.push(':');
            match (field == collection.name(), value) {
                (true, Value::Array(items)) => {
                    text.push('[');
                    for (index, item) in items.iter().enumerate() {
                        if index > 0 {
                            text.push(',');
                        }
                        if Some(index) == place {
                            text.push('\n');
                            text.push_str(raw);
                            text.push('\n');
                        } else {
                            text.push_str(&item.to_string());
                        }
                    }
                    text.push(']');
                }
                _ => text.push_str(&value.to_string()),
            }
        }
        text.push('}');
        text
    }

    /// Changes the list of `collection`, which is made where there is none.
    fn list_mut<T>(&mut self, collection: Collection, change: impl FnOnce(&mut Vec<Value>) -> T) -> T {
        let place = self.0.entry(collection.name().to_owned()).or_insert(Value::Null);
        let mut list = match place.take() {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        let done = change(&mut list);
        *place = Value::Array(list);
        done
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_can_be_undone() {
        let start = json!({"version": 1, "routes": [{"name": "a"}, {"name": "b"}], "bans": [{"cidr": "10.0.0.0/8"}]});
        let mut source = Source::new(start).unwrap();
        let before = source.clone();
        let mut undo = vec![
            source.put(Collection::Routes, "b", json!({"name": "b", "x": 1})),
            source.put(Collection::Routes, "c", json!({"name": "c"})),
            source.remove(Collection::Routes, "a").unwrap(),
            source.remove(Collection::Bans, "10.0.0.0/8").unwrap(),
        ];
        assert_eq!(source.list(Collection::Routes), [json!({"name": "b", "x": 1}), json!({"name": "c"})]);
        assert!(source.remove(Collection::Routes, "a").is_none());
        while let Some(last) = undo.pop() {
            source.undo(last);
        }
        assert_eq!(source, before);
    }

    #[test]
    fn a_list_that_was_not_there_goes_again() {
        let mut source = Source::new(json!({"version": 1})).unwrap();
        let undo = source.put(Collection::Routes, "a", json!({"name": "a"}));
        assert_eq!(source.list(Collection::Routes).len(), 1);
        source.undo(undo);
        assert!(source.list(Collection::Routes).is_empty());
    }

    #[test]
    fn a_resource_keeps_its_lines() {
        let mut source = Source::new(json!({"version": 1, "routes": [{"name": "a"}]})).unwrap();
        source.put(Collection::Routes, "b", json!({"name": "b"}));
        let text = source.spliced(Collection::Routes, "b", "{\n\"name\": \"b\"\n}");
        assert_eq!(text, "{\"routes\":[{\"name\":\"a\"},\n{\n\"name\": \"b\"\n}\n],\"version\":1}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), source.value());
    }
}

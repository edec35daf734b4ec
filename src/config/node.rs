//! YAML or JSON text as a tree that knows where everything stands.
//!
//! saphyr-parser gives events with positions; what it leaves open is decided here: one document, no duplicate keys,
//! no tags beyond YAML's own scalar types, and a bound on size, depth and what aliases unfold to. Plain scalars keep
//! their text: what they mean (YAML 1.2, core schema) is asked of them one by one.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::problem::{Place, Sink, quote};

/// The largest document, in bytes.
pub const SIZE_MAX: usize = 64 << 20;
/// How deep lists and objects may nest, aliases unfolded.
pub const DEPTH_MAX: u32 = 64;
/// How many nodes aliases may stand for, in all.
pub const ALIASED_MAX: u64 = 1_000_000;

/// A value and where it stands. It has no `Debug`: it may hold a secret.
pub(super) struct Node {
    pub place: Place,
    value: Value,
}

/// What a node is.
pub(super) enum Value {
    /// A scalar; whether it stood without quotes.
    Scalar(String, bool),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// What stands at an anchor, here and at its aliases.
    Shared(Rc<Shared>),
}

/// An anchored node, with what an alias to it costs.
pub(super) struct Shared {
    node: Node,
    size: u64,
    height: u32,
}

/// One field of an object.
pub(super) struct Entry {
    pub key: String,
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
        self.entries().iter().find(|entry| entry.key == name).map(|entry| &entry.node)
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
            Kind::Map => self.entries().iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
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

/// Reads `text`; what is wrong goes to `sink`, and `None` says that nothing can be made of it.
pub(super) fn read(text: &str, sink: &Sink) -> Option<Node> {
    if text.len() > SIZE_MAX {
        let message = format!("the document is larger than {} MiB", SIZE_MAX >> 20);
        sink.error(Place::default(), String::new(), message);
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let joined = join_surrogates(text);
    let mut builder =
        Builder { sink, stack: Vec::new(), anchors: HashMap::new(), aliased: 0, root: None, documents: 0 };
    let mut parser = Parser::new_from_str(joined.as_deref().unwrap_or(text));
    match builder.run(&mut parser) {
        Ok(()) => builder.root,
        Err((place, message)) => {
            sink.error(place, String::new(), message);
            None
        }
    }
}

/// Where and why reading ends.
type Stop = (Place, String);

struct Builder<'s> {
    sink: &'s Sink,
    stack: Vec<Open>,
    anchors: HashMap<usize, Rc<Shared>>,
    aliased: u64,
    root: Option<Node>,
    documents: u32,
}

/// A list or an object whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
    size: u64,
    height: u32,
}

enum Content {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, Place)>),
}

impl Builder<'_> {
    fn run(&mut self, parser: &mut Parser<'_, StrInput<'_>>) -> Result<(), Stop> {
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                (
                    Place { line: clamp(error.marker().line()), column: clamp(error.marker().col() + 1) },
                    error.info().to_owned(),
                )
            })?;
            self.event(event, place_of(span))?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err((place, "a second document begins here; only one is read".to_owned()));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = plain(&text, style, tag.as_deref(), place)?;
                self.put(Node { place, value: Value::Scalar(text.into_owned(), plain) }, anchor, 1, 1)?;
            }
            Event::Alias(anchor) => self.alias(anchor, place)?,
            Event::SequenceStart(anchor, tag) => self.open(place, anchor, tag.as_deref(), Content::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => {
                self.open(place, anchor, tag.as_deref(), Content::Map(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, place: Place, anchor: usize, tag: Option<&Tag>, content: Content) -> Result<(), Stop> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && matches!(&*tag.suffix, "map" | "seq"))) {
            return Err((place, format!("the tag {} means nothing here", quote(&tag.to_string()))));
        }
        if self.stack.len() >= DEPTH_MAX as usize {
            return Err((place, format!("more than {DEPTH_MAX} levels deep")));
        }
        if let Some(Open { content: Content::Map(_, None), .. }) = self.stack.last() {
            return Err((place, "a field's name must be text".to_owned()));
        }
        self.stack.push(Open { place, anchor, content, size: 1, height: 1 });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        // The parser gives as many ends as starts.
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map(entries, _) => {
                self.check_duplicates(&entries);
                Value::Map(entries)
            }
        };
        self.put(Node { place: open.place, value }, open.anchor, open.size, open.height)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(shared) = self.anchors.get(&anchor).map(Rc::clone) else {
            return Err((place, "an alias inside of what it stands for".to_owned()));
        };
        self.aliased = self.aliased.saturating_add(shared.size);
        if self.aliased > ALIASED_MAX {
            return Err((place, format!("aliases stand for more than {ALIASED_MAX} values")));
        }
        if clamp(self.stack.len()) + shared.height > DEPTH_MAX {
            return Err((place, format!("more than {DEPTH_MAX} levels deep, aliases unfolded")));
        }
        if let (Some(Open { content: Content::Map(_, key @ None), .. }), Some(text)) =
            (self.stack.last_mut(), shared.node.scalar())
        {
            *key = Some((text.to_owned(), place));
            return Ok(());
        }
        let (size, height) = (shared.size, shared.height);
        self.put(Node { place, value: Value::Shared(shared) }, 0, size, height)
    }

    /// Puts a finished node where it belongs: into the list or object that is open, as a key or as a value.
    fn put(&mut self, node: Node, anchor: usize, size: u64, height: u32) -> Result<(), Stop> {
        let node = match anchor {
            0 => node,
            _ => {
                let place = node.place;
                // A long text costs more than one node.
                let size = size + node.scalar().map_or(0, |text| text.len() as u64 / 64);
                let shared = Rc::new(Shared { node, size, height });
                self.anchors.insert(anchor, Rc::clone(&shared));
                Node { place, value: Value::Shared(shared) }
            }
        };
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.size = open.size.saturating_add(size);
        open.height = open.height.max(height + 1);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries, key) => match key.take() {
                Some((key, place)) => entries.push(Entry { key, place, node }),
                None => match node.scalar() {
                    Some(text) => *key = Some((text.to_owned(), node.place)),
                    None => return Err((node.place, "a field's name must be text".to_owned())),
                },
            },
        }
        Ok(())
    }

    fn check_duplicates(&self, entries: &[Entry]) {
        // Most objects are small, and a look at each pair is then the quickest.
        if entries.len() <= 16 {
            for (index, entry) in entries.iter().enumerate() {
                if let Some(first) = entries.iter().take(index).find(|first| first.key == entry.key) {
                    self.duplicate(first, entry);
                }
            }
            return;
        }
        let mut seen: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            match seen.get(&*entry.key) {
                Some(first) => self.duplicate(first, entry),
                None => drop(seen.insert(&entry.key, entry)),
            }
        }
    }

    fn duplicate(&self, first: &Entry, entry: &Entry) {
        let message =
            format!("{} stands here a second time; the first is in line {}", quote(&entry.key), first.place.line);
        self.sink.error(entry.place, String::new(), message);
    }
}

/// Whether a scalar's text is to be read as null, boolean or number where it looks like one.
fn plain(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<bool, Stop> {
    let bare = style == ScalarStyle::Plain;
    let Some(tag) = tag else { return Ok(bare) };
    let wanted = match &*tag.suffix {
        _ if !tag.is_yaml_core_schema() => None,
        "str" => return Ok(false),
        "int" => Some(Kind::Integer),
        "float" => Some(Kind::Float),
        "bool" => Some(Kind::Bool),
        "null" => Some(Kind::Null),
        _ => None,
    };
    match wanted {
        Some(kind) if plain_kind(text) == kind => Ok(true),
        _ => Err((place, format!("the tag {} means nothing here", quote(&tag.to_string())))),
    }
}

/// What a plain scalar means by the core schema of YAML 1.2 (chapter 10.3).
fn plain_kind(text: &str) -> Kind {
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

/// JSON writes what is beyond U+FFFF as two `\u` escapes, YAML as one `\U`; `None` where there is nothing to join.
///
/// Columns behind such a pair move by two, in its line alone.
fn join_surrogates(text: &str) -> Option<String> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    if !is_json || !(text.contains("\\ud") || text.contains("\\uD")) {
        return None;
    }
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        if let Some(character) = surrogate_pair(escape) {
            joined.push_str(&format!("\\U{:08X}", u32::from(character)));
            rest = escape.get(12..).unwrap_or_default();
        } else {
            // The character behind the backslash is no escape's beginning, be it a backslash itself.
            let length = 1 + escape.chars().nth(1).map_or(0, char::len_utf8);
            joined.push_str(escape.get(..length).unwrap_or_default());
            rest = escape.get(length..).unwrap_or_default();
        }
    }
    joined.push_str(rest);
    Some(joined)
}

fn surrogate_pair(escape: &str) -> Option<char> {
    let half = |from: usize| {
        let digits = escape.get(from..from + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    char::decode_utf16([half(0)?, half(6)?]).next()?.ok().filter(|character| u32::from(*character) > 0xFFFF)
}

fn place_of(span: Span) -> Place {
    Place { line: clamp(span.start.line()), column: clamp(span.start.col() + 1) }
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as JSON-like text, with each scalar's kind.
    fn show(node: &Node) -> String {
        match node.value() {
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
            Value::Map(entries) => {
                let fields: Vec<_> =
                    entries.iter().map(|entry| format!("{}:{}", entry.key, show(&entry.node))).collect();
                format!("{{{}}}", fields.join(","))
            }
            _ => match node.kind() {
                Kind::Null => "null".into(),
                Kind::Text => format!("{:?}", node.scalar().unwrap()),
                _ => node.scalar().unwrap().into(),
            },
        }
    }

    fn tree(text: &str) -> Result<String, String> {
        let sink = Sink::new("f");
        let node = read(text, &sink);
        match sink.finish() {
            Ok(_) => Ok(node.as_ref().map(show).unwrap_or_default()),
            Err(errors) => Err(errors.to_string()),
        }
    }

    #[test]
    fn reads_yaml_and_json() {
        for (text, expected) in [
            ("a: 1\nb: [x, 'y', \"z\"]\n", r#"{a:1,b:["x","y","z"]}"#),
            ("{\"a\":1,\"b\":[true,null,-2.5e3]}", "{a:1,b:[true,null,-2.5e3]}"),
            ("{\n\t\"a\": {\n\t\t\"b\": \"c\"\n\t},\n\t\"d\": []\n}\n", r#"{a:{b:"c"},d:[]}"#),
            ("{\r\n  \"a\" : 1 ,\r\n  \"b\" :\r\n 2 }", "{a:1,b:2}"),
            (r#"{"a":"http:\/\/x\u00e9\ud83d\ude00\\ud83d\"\t"}"#, "{a:\"http://xé😀\\\\ud83d\\\"\\t\"}"),
            ("\u{feff}{\"a\":\"b\"}", r#"{a:"b"}"#),
            ("{\"a:b\":\"{c: d} # e\",\"#\":\"*x\"}", "{a:b:\"{c: d} # e\",#:\"*x\"}"),
            ("a: &x {b: 1}\nc: *x\n", "{a:{b:1},c:{b:1}}"),
            ("a: !!str 1\nb: !!int 2\n", r#"{a:"1",b:2}"#),
            ("a: yes\nb: on\nc: 010\nd: 1_000\n", r#"{a:"yes",b:"on",c:010,d:"1_000"}"#),
            ("a: |\n  x\n  y\n", r#"{a:"x\ny\n"}"#),
            ("---\na: 1\n...\n", "{a:1}"),
            ("", ""),
            ("# nothing\n", ""),
        ] {
            assert_eq!(tree(text).as_deref(), Ok(expected), "for {text:?}");
        }
    }

    #[test]
    fn real_json_documents() {
        let long = "x".repeat(100_000);
        let value = serde_json::json!({"routes": [{"name": long, "paths": ["/a/*"], "n": 1.5, "t": true, "z": null}]});
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            assert_eq!(
                tree(&text),
                Ok(format!(r#"{{routes:[{{n:1.5,name:"{long}",paths:["/a/*"],t:true,z:null}}]}}"#))
            );
        }
    }

    #[test]
    fn refuses() {
        for (text, expected) in [
            ("a: 1\nb: 2\na: 3\n", "f:3: `a` stands here a second time; the first is in line 1"),
            ("{\"a\":1,\"a\":2}", "f:1: `a` stands here a second time; the first is in line 1"),
            ("a: 1\n---\nb: 2\n", "f:2: a second document begins here; only one is read"),
            ("a: &x [*x]\n", "f:1: an alias inside of what it stands for"),
            ("[a]: 1\n", "f:1: a field's name must be text"),
            ("? {a: 1}\n: 1\n", "f:1: a field's name must be text"),
            ("a: !secret b\n", "f:1: the tag `!secret` means nothing here"),
            ("a: !!int b\n", "f:1: the tag `tag:yaml.org,2002:!int` means nothing here"),
        ] {
            assert_eq!(tree(text), Err(expected.to_owned()), "for {text:?}");
        }
        for text in ["a: [1", "a: \"b", "a: b: c", "{\"a\":}x", "a: *nowhere"] {
            assert!(tree(text).is_err(), "for {text:?}");
        }
    }

    #[test]
    fn many_duplicates_are_found() {
        let text: String = (0..100).map(|number| format!("k{}: 1\n", number % 99)).collect();
        assert_eq!(tree(&text), Err("f:100: `k0` stands here a second time; the first is in line 1".into()));
    }

    #[test]
    fn depth_and_aliases_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(tree(&nested(64)).is_ok());
        assert_eq!(tree(&nested(65)), Err("f:1: more than 64 levels deep".into()));
        assert!(tree(&nested(100_000)).is_err());
        assert!(tree(&"[".repeat(1_000_000)).is_err());
        assert!(tree(&"- ".repeat(1_000_000)).is_err());

        // A billion laughs.
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..10 {
            let alias = format!("*a{},", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", alias.trim_end_matches(',')));
        }
        assert!(tree(&laughs).unwrap_err().contains("aliases stand for more than 1000000 values"));

        // A long chain would cost stack when it is dropped.
        let mut chain = String::from("a0: &a0 [x]\n");
        for level in 1..100 {
            chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert!(tree(&chain).unwrap_err().contains("more than 64 levels deep, aliases unfolded"));
    }

    #[test]
    fn knows_lines_and_columns() {
        let sink = Sink::new("f");
        let root = read("a:\n  - b: x\n    c: [1,\n      2]\n", &sink).unwrap();
        let item = &root.entries()[0].node.items()[0];
        let field = &item.entries()[1];
        assert_eq!((field.place.line, field.place.column), (3, 5));
        let second = &field.node.items()[1];
        assert_eq!((second.place.line, second.place.column), (4, 7));
    }
}

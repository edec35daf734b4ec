//! YAML or JSON text as a tree of nodes.
//!
//! saphyr-parser gives events with positions; what it leaves open is decided here: one document, no duplicate keys,
//! no tags beyond YAML's own scalar types, and a bound on size, depth and what aliases unfold to.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::node::{Entry, Kind, Node, Shared, Value, plain_kind};
use super::problem::{Place, Sink, quote};

/// The largest document, in bytes.
pub const SIZE_MAX: usize = 64 << 20;
/// How deep lists and objects may nest, aliases unfolded.
pub const DEPTH_MAX: u32 = 64;
/// The most values in a document: what they take in memory is many times what `[,,,]` takes as text.
pub const VALUES_MAX: u64 = 16_000_000;
/// How many nodes aliases may stand for, in all.
pub const ALIASED_MAX: u64 = 1_000_000;

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
        Builder { sink, stack: Vec::new(), anchors: HashMap::new(), aliased: 0, values: 0, root: None, documents: 0 };
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
    values: u64,
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
    Map(Vec<Entry>, Option<(Box<str>, Place)>),
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
                self.put(
                    Node { place, value: Value::Scalar(text.into_owned().into_boxed_str(), plain) },
                    anchor,
                    1,
                    1,
                )?;
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
            *key = Some((text.into(), place));
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
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err((node.place, format!("more than {VALUES_MAX} values")));
        }
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
                    Some(text) => *key = Some((text.into(), node.place)),
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
mod tests;

//! A strict JSON reader (RFC 8259) that allocates nothing once its buffers have grown.
//!
//! Tokens are the one place where a stranger's JSON decides who somebody is, so everything that two readers could
//! understand differently is refused: a member twice (also when one of them is spelled with escapes), half a
//! surrogate pair, invalid UTF-8, anything behind the value. What is left lies in one flat list in document order;
//! each node knows where its subtree ends, so a walk over members skips what it does not ask for.

mod scanner;

use self::scanner::Scanner;
use super::base64url::{self, Malformed};

/// The types of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
}

/// Where a text stands: in the source as it is, or among the texts that had to be unescaped.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    /// Bytes; the top bit is set for unescaped texts.
    len: u32,
}

const UNESCAPED: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Node {
    key: Span,
    value: Span,
    /// The first node behind this one's subtree.
    end: u32,
    /// Of the key, see [`print_of`].
    print: u16,
    kind: Kind,
}

/// A document that was read, and the buffers for the next one.
#[derive(Default)]
pub struct Document {
    source: String,
    unescaped: String,
    nodes: Vec<Node>,
    order: Vec<u32>,
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a Document,
    index: usize,
    node: &'a Node,
}

impl Document {
    /// Reads the document that `text` encodes in base64url, of at most `limit` values.
    pub fn decode(&mut self, text: &[u8], limit: usize) -> Result<(), Malformed> {
        self.nodes.clear();
        let mut bytes = std::mem::take(&mut self.source).into_bytes();
        let decoded = base64url::decode(text, &mut bytes);
        self.take(bytes)?;
        decoded?;
        self.scan(limit)
    }

    /// Reads the document `text`, of at most `limit` values.
    pub fn read(&mut self, text: &[u8], limit: usize) -> Result<(), Malformed> {
        self.nodes.clear();
        let mut bytes = std::mem::take(&mut self.source).into_bytes();
        bytes.clear();
        bytes.extend_from_slice(text);
        self.take(bytes)?;
        self.scan(limit)
    }

    /// Forgets the document, not the buffers.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.unescaped.clear();
        self.source.clear();
    }

    /// The whole document; `None` when none was read.
    #[inline]
    pub fn root(&self) -> Option<Value<'_>> {
        self.at(0)
    }

    /// The whole document where it is an object.
    #[inline]
    pub fn object(&self) -> Option<Value<'_>> {
        self.root().filter(|root| root.kind() == Kind::Object)
    }

    #[inline]
    fn at(&self, index: usize) -> Option<Value<'_>> {
        Some(Value { document: self, index, node: self.nodes.get(index)? })
    }

    fn take(&mut self, bytes: Vec<u8>) -> Result<(), Malformed> {
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.source = text;
                Ok(())
            }
            Err(error) => {
                // Only to keep the buffer.
                let mut bytes = error.into_bytes();
                bytes.clear();
                self.source = String::from_utf8(bytes).unwrap_or_default();
                Err(Malformed)
            }
        }
    }

    fn scan(&mut self, limit: usize) -> Result<(), Malformed> {
        self.unescaped.clear();
        let mut scanner = Scanner {
            source: &self.source,
            limit,
            unescaped: &mut self.unescaped,
            nodes: &mut self.nodes,
            order: &mut self.order,
        };
        let read = scanner.document();
        if read.is_err() {
            self.nodes.clear();
        }
        read
    }

    #[inline]
    fn text(&self, span: Span) -> &str {
        text(&self.source, &self.unescaped, span)
    }
}

impl<'a> Value<'a> {
    /// Its type.
    #[inline]
    pub fn kind(self) -> Kind {
        self.node.kind
    }

    /// The name under which it stands in its object; empty elsewhere.
    #[inline]
    pub fn key(self) -> &'a str {
        self.document.text(self.node.key)
    }

    /// The same as bytes, for who only compares it.
    #[inline]
    pub fn name(self) -> &'a [u8] {
        octets(&self.document.source, &self.document.unescaped, self.node.key)
    }

    /// A string's content, unescaped.
    #[inline]
    pub fn string(self) -> Option<&'a str> {
        (self.node.kind == Kind::String).then(|| self.text())
    }

    /// A string's content, or a number or literal as it is spelled; empty for arrays and objects.
    #[inline]
    pub fn text(self) -> &'a str {
        self.document.text(self.node.value)
    }

    /// The members of an object or the elements of an array, in order; nothing for other types.
    #[inline]
    pub fn children(self) -> Children<'a> {
        Children { document: self.document, next: self.index + 1, end: self.node.end as usize }
    }

    /// The member called `name`.
    #[inline]
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        if self.node.kind != Kind::Object {
            return None;
        }
        let print = print_of(first_word(name.as_bytes()), name.len() as u32);
        self.children().find(|member| member.node.print == print && member.name() == name.as_bytes())
    }
}

/// The values directly inside another one.
#[derive(Clone)]
pub struct Children<'a> {
    document: &'a Document,
    next: usize,
    end: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        if self.next >= self.end {
            return None;
        }
        let value = self.document.at(self.next)?;
        self.next = value.node.end as usize;
        Some(value)
    }
}

#[inline]
fn text<'a>(source: &'a str, unescaped: &'a str, span: Span) -> &'a str {
    let from = if span.len & UNESCAPED == 0 { source } else { unescaped };
    let start = span.start as usize;
    from.get(start..start + (span.len & !UNESCAPED) as usize).unwrap_or_default()
}

/// The same without a look at character boundaries.
#[inline]
fn octets<'a>(source: &'a str, unescaped: &'a str, span: Span) -> &'a [u8] {
    let from = if span.len & UNESCAPED == 0 { source } else { unescaped };
    let start = span.start as usize;
    from.as_bytes().get(start..start + (span.len & !UNESCAPED) as usize).unwrap_or_default()
}

/// The first eight bytes of a name as a number, with zeros behind a shorter one.
#[inline]
fn first_word(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A name's fingerprint, of its first bytes and its length. Names of claims share lengths and letters, so a look-up
/// compares fingerprints first.
#[inline(always)]
fn print_of(first_word: u64, len: u32) -> u16 {
    (first_word.wrapping_add(len.into()).wrapping_mul(SPREAD) >> 48) as u16
}

/// An odd number by which the names of claims that tokens usually have differ in the first six bits already.
const SPREAD: u64 = 0x0dce_19b0_0b12_5363;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, Malformed> {
        let mut document = Document::default();
        document.read(text.as_bytes(), usize::MAX).map(|()| document)
    }

    #[test]
    fn walks_members_and_skips_subtrees() {
        let document =
            read(r#" {"a":{"x":[1,{"y":2}],"z":null}, "b" : "\u00e9\n\ud83d\ude00/" ,"c":-1.5e+3} "#).unwrap();
        let root = document.object().unwrap();
        assert_eq!(root.children().map(Value::key).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(root.member("b").unwrap().string(), Some("é\n😀/"));
        assert_eq!(root.member("c").unwrap().text(), "-1.5e+3");
        let x = root.member("a").unwrap().member("x").unwrap();
        assert_eq!(x.children().count(), 2);
        assert_eq!(x.children().nth(1).unwrap().member("y").unwrap().text(), "2");
        assert!(root.member("y").is_none() && root.member("c").unwrap().member("x").is_none());
    }

    #[test]
    fn refuses_a_name_twice_at_any_level_and_in_any_spelling() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"\u0061":1,"a":2}"#,
            r#"{"x":[{"":1,"":1}]}"#,
            r#"{"o":{"k":1,"l":{"k":1},"k":1}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#).is_ok());
        for members in [2, 16, 17, 18, 40, 3000] {
            let names: Vec<String> = (0..members).map(|i| format!(r#""k{i}":{{"k0":0}}"#)).collect();
            assert!(read(&format!("{{{}}}", names.join(","))).is_ok(), "{members}");
            for again in [0, members / 2, members - 1] {
                let text = format!(r#"{{{},"k{again}":1}}"#, names.join(","));
                assert!(read(&text).is_err(), "{members}, {again} again");
            }
        }
    }

    #[test]
    fn refuses_what_the_grammar_does_not_have() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "0x1",
            "NaN",
            "tru",
            "truex",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            "\"\t\"",
            "1 2",
            "{} {}",
            "[1 2]",
            "\u{feff}1",
            "//",
            "'a'",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        for text in ["0", "-0", "0.0", "1E-2", "true", "null", "\"\"", "[]", "{}", " [ ] ", "\"\u{7f}é\""] {
            assert!(read(text).is_ok(), "{text:?}");
        }
        assert!(Document::default().read(b"\"\xff\"", 9).is_err());
        assert!(read(&("[".repeat(32) + &"]".repeat(32))).is_ok());
        assert!(read(&("[".repeat(33) + &"]".repeat(33))).is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(Document::default().read(b"[1,2,3]", 4).is_ok() && Document::default().read(b"[1,2,3]", 3).is_err());
    }

    #[test]
    fn control_bytes_are_found_wherever_they_stand() {
        for len in 0..40 {
            for place in 0..=len {
                for byte in [0, 0x1f, b'\n'] {
                    let mut text = "x".repeat(len);
                    text.insert(place, char::from(byte));
                    assert!(read(&format!("\"{text}\"")).is_err(), "{byte} at {place} of {len}");
                }
                let mut text = "x".repeat(len);
                text.insert_str(place, "\\n");
                let document = read(&format!("\"{text}\"")).unwrap();
                assert_eq!(document.root().unwrap().string(), Some(text.replace("\\n", "\n").as_str()));
            }
        }
    }
}

//! Structured fields (RFC 8941, 9651), as far as signatures need them, and stricter: what a lenient reader would read
//! in its own way is refused. Nothing is copied, and nothing is allocated but the text of the parameters.

use std::io::Write;

/// The most components that one signature may cover.
pub const ITEMS_MAX: usize = 32;
/// The most signatures that a request may carry.
pub const LABELS_MAX: usize = 8;

/// A place in a field's value.
#[derive(Clone, Copy)]
pub struct Scanner<'a> {
    rest: &'a [u8],
}

/// A component that a signature covers, as it is named.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Item<'a> {
    pub name: &'a [u8],
    /// `name` of `@query-param`, between its quotes.
    pub parameter: Option<&'a [u8]>,
    /// It has a parameter that changes its meaning and that we do not know.
    pub is_foreign: bool,
}

/// One signature's entry in `Signature-Input`.
pub struct Input<'a> {
    pub label: &'a [u8],
    items: [Item<'a>; ITEMS_MAX],
    count: usize,
    pub created: Option<u64>,
    pub expires: Option<u64>,
    pub keyid: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub alg: Option<&'a [u8]>,
    pub tag: Option<&'a [u8]>,
}

impl<'a> Input<'a> {
    pub fn items(&self) -> &[Item<'a>] {
        self.items.get(..self.count).unwrap_or_default()
    }
}

/// A bare item (RFC 8941, 3.3) without decimals, which no parameter of a signature has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare<'a> {
    /// What stands between the quotes, escapes as they are: there is one way to write each.
    String(&'a [u8]),
    Integer(i64),
    Token(&'a [u8]),
    /// Base64.
    Bytes(&'a [u8]),
    Bool(bool),
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text.trim_ascii() }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Goes over the comma between two members; `None` where something else stands there, or nothing behind it.
    pub fn next_member(&mut self) -> Option<()> {
        self.skip(b" \t");
        self.expect(b',')?;
        self.skip(b" \t");
        (!self.rest.is_empty()).then_some(())
    }

    /// `label=(…);…`; writes the canonical text of what follows the `=` behind what is in `text`.
    pub fn input(&mut self, text: &mut Vec<u8>) -> Option<Input<'a>> {
        let label = self.key()?;
        self.expect(b'=')?;
        let mut input = Input {
            label,
            items: [Item::default(); ITEMS_MAX],
            count: 0,
            created: None,
            expires: None,
            keyid: None,
            nonce: None,
            alg: None,
            tag: None,
        };
        self.expect(b'(')?;
        text.push(b'(');
        self.skip(b" ");
        while !self.eat(b')') {
            if input.count > 0 {
                text.push(b' ');
            }
            let item = self.item(text)?;
            // RFC 9421, 2: each one once.
            if input.items().contains(&item) {
                return None;
            }
            *input.items.get_mut(input.count)? = item;
            input.count += 1;
            if self.rest.first() != Some(&b')') && self.skip(b" ") == 0 {
                return None;
            }
        }
        text.push(b')');
        self.parameters(&mut input, text)?;
        Some(input)
    }

    fn item(&mut self, text: &mut Vec<u8>) -> Option<Item<'a>> {
        let name = self.string()?;
        put(text, Bare::String(name));
        let mut item = Item { name, ..Item::default() };
        while let Some((key, value)) = self.parameter()? {
            write_parameter(text, key, value);
            match (key, value) {
                (b"name", Bare::String(value)) if item.parameter.is_none() => item.parameter = Some(value),
                _ => item.is_foreign = true,
            }
        }
        Some(item)
    }

    fn parameters(&mut self, input: &mut Input<'a>, text: &mut Vec<u8>) -> Option<()> {
        let mut seen: [&[u8]; 16] = [b""; 16];
        let mut count = 0;
        while let Some((key, value)) = self.parameter()? {
            // A lenient reader takes the last of several.
            if seen.contains(&key) {
                return None;
            }
            *seen.get_mut(count)? = key;
            count += 1;
            write_parameter(text, key, value);
            match (key, value) {
                (b"created", Bare::Integer(value)) => input.created = Some(u64::try_from(value).ok()?),
                (b"expires", Bare::Integer(value)) => input.expires = Some(u64::try_from(value).ok()?),
                (b"keyid", Bare::String(value)) => input.keyid = Some(value),
                (b"nonce", Bare::String(value)) => input.nonce = Some(value),
                (b"alg", Bare::String(value)) => input.alg = Some(value),
                (b"tag", Bare::String(value)) => input.tag = Some(value),
                (b"created" | b"expires" | b"keyid" | b"nonce" | b"alg" | b"tag", _) => return None,
                // Unknown ones are signed like the others and mean nothing to us.
                _ => {}
            }
        }
        Some(())
    }

    /// `;key=value`; `Some(None)` where there is none, `None` where it is wrong.
    fn parameter(&mut self) -> Option<Option<(&'a [u8], Bare<'a>)>> {
        if !self.eat(b';') {
            return Some(None);
        }
        self.skip(b" ");
        let key = self.key()?;
        let value = if self.eat(b'=') { self.bare()? } else { Bare::Bool(true) };
        Some(Some((key, value)))
    }

    /// `label=:…:`, without parameters: the label and the base64 between the colons.
    pub fn bytes(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let label = self.key()?;
        self.expect(b'=')?;
        match self.bare()? {
            Bare::Bytes(text) => Some((label, text)),
            _ => None,
        }
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        if !matches!(self.rest.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        Some(self.take(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn bare(&mut self) -> Option<Bare<'a>> {
        match self.rest.first()? {
            b'"' => self.string().map(Bare::String),
            b':' => {
                self.expect(b':')?;
                let text = self.take(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
                self.expect(b':')?;
                Some(Bare::Bytes(text))
            }
            b'?' => {
                self.expect(b'?')?;
                match () {
                    () if self.eat(b'1') => Some(Bare::Bool(true)),
                    () if self.eat(b'0') => Some(Bare::Bool(false)),
                    () => None,
                }
            }
            b'-' | b'0'..=b'9' => self.integer(),
            first if first.is_ascii_alphabetic() || *first == b'*' => {
                Some(Bare::Token(self.take(|byte| is_tchar(byte) || matches!(byte, b':' | b'/'))))
            }
            _ => None,
        }
    }

    /// At most 15 digits, so it cannot overflow; a point behind them makes it a decimal.
    fn integer(&mut self) -> Option<Bare<'a>> {
        let negative = self.eat(b'-');
        let digits = self.take(|byte| byte.is_ascii_digit());
        if !(1..=15).contains(&digits.len()) || self.rest.first() == Some(&b'.') {
            return None;
        }
        let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        Some(Bare::Integer(if negative { -value } else { value }))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let mut length = 0;
        loop {
            match self.rest.get(length)? {
                b'"' => break,
                b'\\' => {
                    if !matches!(self.rest.get(length + 1)?, b'"' | b'\\') {
                        return None;
                    }
                    length += 2;
                }
                0x20..=0x7e => length += 1,
                _ => return None,
            }
        }
        let (content, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.get(1..)?;
        Some(content)
    }

    fn take(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !is_part(*byte)).unwrap_or(self.rest.len());
        let (part, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        part
    }

    fn skip(&mut self, blanks: &[u8]) -> usize {
        self.take(|byte| blanks.contains(&byte)).len()
    }

    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.eat(byte).then_some(())
    }
}

/// Letters of a token (RFC 9110, 5.6.2).
pub fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn write_parameter(text: &mut Vec<u8>, key: &[u8], value: Bare<'_>) {
    text.push(b';');
    text.extend_from_slice(key);
    if value != Bare::Bool(true) {
        text.push(b'=');
        put(text, value);
    }
}

/// RFC 8941, 4.1: the one way to write it.
fn put(text: &mut Vec<u8>, value: Bare<'_>) {
    let mut wrap = |content: &[u8], quote: &[u8]| {
        text.extend_from_slice(quote);
        text.extend_from_slice(content);
        text.extend_from_slice(quote);
    };
    match value {
        Bare::String(content) => wrap(content, b"\""),
        Bare::Bytes(content) => wrap(content, b":"),
        Bare::Token(content) => wrap(content, b""),
        Bare::Bool(value) => wrap(if value { b"?1" } else { b"?0" }, b""),
        // Writing to a vector cannot fail.
        Bare::Integer(value) => drop(write!(text, "{value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The canonical texts of all members.
    fn read(text: &str) -> Option<Vec<String>> {
        let mut scanner = Scanner::new(text.as_bytes());
        let mut found = Vec::new();
        loop {
            let mut canonical = Vec::new();
            let input = scanner.input(&mut canonical)?;
            found.push(format!("{}={}", String::from_utf8_lossy(input.label), String::from_utf8(canonical).unwrap()));
            if scanner.is_at_end() {
                return Some(found);
            }
            scanner.next_member()?;
        }
    }

    #[test]
    fn canonical_text() {
        for (text, expected) in [
            (r#"a=("@method")"#, vec![r#"a=("@method")"#]),
            ("a=()", vec!["a=()"]),
            (r#"  a=(  "x"   "y" )  "#, vec![r#"a=("x" "y")"#]),
            (r#"a=("x");  created=007;keyid="k""#, vec![r#"a=("x");created=7;keyid="k""#]),
            (r#"a=("@query-param"; name="q")"#, vec![r#"a=("@query-param";name="q")"#]),
            (r#"a=("x";req);b=?1;c=?0;d=t/k:;e=:YQ==:"#, vec![r#"a=("x";req);b;c=?0;d=t/k:;e=:YQ==:"#]),
            (r#"a=("x");nonce="q\"\\q""#, vec![r#"a=("x");nonce="q\"\\q""#]),
            (r#"a=("x"),b=("y")"#, vec![r#"a=("x")"#, r#"b=("y")"#]),
            ("a=(\"x\") \t,\t b=()", vec![r#"a=("x")"#, "b=()"]),
        ] {
            assert_eq!(
                read(text).as_deref(),
                Some(expected.iter().map(|t| t.to_string()).collect::<Vec<_>>().as_slice()),
                "{text}"
            );
        }
    }

    #[test]
    fn refused() {
        let many = format!("a=({})", (0..33).map(|n| format!("\"h{n}\"")).collect::<Vec<_>>().join(" "));
        for text in [
            "",
            "a",
            "a=",
            "a=\"x\"",
            "A=()",
            "1=()",
            "a=(",
            "a=(\"x\"",
            "a=(x)",
            "a=(\"x\"\"y\")",
            "a=(\"x\",\"y\")",
            "a=(\"x\"\t\"y\")",
            "a=(\"x\" \"x\")",
            "a=(\"x\";a \"x\";a)",
            "a=(),",
            "a=(),,b=()",
            "a=() b=()",
            "a=();",
            "a=();created",
            "a=();created=\"1\"",
            "a=();created=1.5",
            "a=();created=+1",
            "a=();created=-1",
            "a=();created=18446744073709552616",
            "a=();created=1;created=1",
            "a=();x=1;x=2",
            "a=();created= 1",
            "a=();created =1",
            "a=();keyid=k",
            "a=();keyid=\"k",
            "a=();nonce=\"\u{e9}\"",
            "a=();nonce=\"a\r\nb\"",
            "a=();nonce=\"a\\b\"",
            "a=();x=?2",
            "a=();x=:?:",
            "a=();X=1",
            "a=(\"x\");created=1 x",
            &many,
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}

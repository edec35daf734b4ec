//! From text to nodes, in one pass.

use super::{Kind, Malformed, Node, Span, UNESCAPED, octets};

/// How deep arrays and objects may nest; the reader recurses.
const DEPTH_MAX: u32 = 32;

pub(super) struct Scanner<'a> {
    pub source: &'a str,
    /// The next byte.
    pub at: usize,
    /// The most nodes that may come of it.
    pub limit: usize,
    pub unescaped: &'a mut String,
    pub nodes: &'a mut Vec<Node>,
    /// Room to sort the members of a large object.
    pub order: &'a mut Vec<u32>,
}

impl Scanner<'_> {
    pub fn document(&mut self) -> Result<(), Malformed> {
        self.space();
        self.value(Span::default(), 0)?;
        self.space();
        if self.at == self.source.len() { Ok(()) } else { Err(Malformed) }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.source.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn push(&mut self, key: Span, value: Span, kind: Kind) -> Result<usize, Malformed> {
        let index = self.nodes.len();
        if index >= self.limit {
            return Err(Malformed);
        }
        self.nodes.push(Node { key, value, end: index as u32 + 1, kind });
        Ok(index)
    }

    fn value(&mut self, key: Span, depth: u32) -> Result<(), Malformed> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => {
                let value = self.string()?;
                return self.push(key, value, Kind::String).map(drop);
            }
            Some(b'{') if depth < DEPTH_MAX => return self.object(key, depth),
            Some(b'[') if depth < DEPTH_MAX => return self.array(key, depth),
            Some(b't') => self.literal("true", Kind::True)?,
            Some(b'f') => self.literal("false", Kind::False)?,
            Some(b'n') => self.literal("null", Kind::Null)?,
            _ => self.number()?,
        };
        self.push(key, Span { start: start as u32, len: (self.at - start) as u32 }, kind).map(drop)
    }

    fn literal(&mut self, word: &str, kind: Kind) -> Result<Kind, Malformed> {
        let rest = self.source.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(kind)
    }

    fn number(&mut self) -> Result<Kind, Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Malformed) }
    }

    fn array(&mut self, key: Span, depth: u32) -> Result<(), Malformed> {
        let index = self.push(key, Span::default(), Kind::Array)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(Span::default(), depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(Malformed),
            }
            self.space();
        }
        self.at += 1;
        self.close(index);
        Ok(())
    }

    fn object(&mut self, key: Span, depth: u32) -> Result<(), Malformed> {
        let index = self.push(key, Span::default(), Kind::Object)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        // A set of fingerprints: a name whose fingerprint is new is new. Few members are compared one by one, many
        // are sorted at the end, so that the cost stays n log n whatever the names are.
        let (mut seen, mut members, mut doubt) = (0_u64, 0_u32, false);
        loop {
            if self.peek() != Some(b'"') {
                return Err(Malformed);
            }
            let name = self.string()?;
            let mark = 1 << fingerprint(octets(self.source, self.unescaped, name));
            if seen & mark != 0 {
                if members > 16 {
                    doubt = true;
                } else if self.has_member(index, name) {
                    return Err(Malformed);
                }
            }
            seen |= mark;
            members += 1;
            self.space();
            if self.peek() != Some(b':') {
                return Err(Malformed);
            }
            self.at += 1;
            self.space();
            self.value(name, depth + 1)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(Malformed),
            }
            self.space();
        }
        self.at += 1;
        self.close(index);
        if doubt { self.distinct(index) } else { Ok(()) }
    }

    #[inline]
    fn close(&mut self, index: usize) {
        let end = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(index) {
            node.end = end;
        }
    }

    /// Whether the open object at `index` has a member called `name` already.
    fn has_member(&self, index: usize, name: Span) -> bool {
        let name = octets(self.source, self.unescaped, name);
        let mut at = index + 1;
        while let Some(node) = self.nodes.get(at) {
            if octets(self.source, self.unescaped, node.key) == name {
                return true;
            }
            at = node.end as usize;
        }
        false
    }

    /// Refuses the closed object at `index` if two members share a name.
    fn distinct(&mut self, index: usize) -> Result<(), Malformed> {
        self.order.clear();
        let mut at = index + 1;
        while let Some(node) = self.nodes.get(at) {
            self.order.push(at as u32);
            at = node.end as usize;
        }
        let name = |at: &u32| {
            let key = self.nodes.get(*at as usize).map(|node| node.key).unwrap_or_default();
            octets(self.source, self.unescaped, key)
        };
        self.order.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        match self.order.array_windows().any(|[a, b]| name(a) == name(b)) {
            true => Err(Malformed),
            false => Ok(()),
        }
    }

    /// Reads the string that begins here.
    #[inline]
    fn string(&mut self) -> Result<Span, Malformed> {
        self.at += 1;
        let start = self.at;
        self.plain();
        match self.peek() {
            Some(b'"') => {
                let len = self.at - start;
                self.at += 1;
                Ok(Span { start: start as u32, len: len as u32 })
            }
            Some(b'\\') => self.escaped(start),
            _ => Err(Malformed),
        }
    }

    /// Goes on to the next byte that a string cannot hold as it is: quote, backslash or control.
    #[inline]
    fn plain(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH: u64 = ONES << 7;
        let bytes = self.source.as_bytes();
        while let Some(word) = bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_le_bytes(*word);
            let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
            let quote = below(word ^ (ONES * b'"' as u64), 1);
            let slash = below(word ^ (ONES * b'\\' as u64), 1);
            // Borrows spoil only bytes above the first hit.
            let hit = (quote | slash | below(word, 0x20)) & HIGH;
            if hit != 0 {
                self.at += hit.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..) = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Result<Span, Malformed> {
        let from = self.unescaped.len();
        let mut copied = start;
        loop {
            self.plain();
            self.unescaped.push_str(self.source.get(copied..self.at).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 1,
                _ => return Err(Malformed),
            }
            let letter = self.peek().ok_or(Malformed)?;
            self.at += 1;
            let character = match letter {
                b'"' | b'\\' | b'/' => char::from(letter),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode()?,
                _ => return Err(Malformed),
            };
            self.unescaped.push(character);
            copied = self.at;
        }
        self.at += 1;
        Ok(Span { start: from as u32, len: (self.unescaped.len() - from) as u32 | UNESCAPED })
    }

    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.hex()?;
        let scalar = match first {
            0xd800..=0xdbff => {
                if self.source.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(Malformed);
                }
                self.at += 2;
                match self.hex()? {
                    second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(Malformed),
                }
            }
            other => other,
        };
        char::from_u32(scalar).ok_or(Malformed)
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self.source.as_bytes().get(self.at..self.at + 4).ok_or(Malformed)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, digit| {
            char::from(*digit).to_digit(16).map(|digit| value << 4 | digit).ok_or(Malformed)
        })
    }
}

/// Six bits that tell most names of one object apart.
#[inline]
fn fingerprint(name: &[u8]) -> u32 {
    let byte = |at: usize| u32::from(name.get(at).copied().unwrap_or_default());
    let last = u32::from(name.last().copied().unwrap_or_default());
    (byte(0) * 5 + byte(1) * 11 + last * 3 + name.len() as u32 * 7) & 63
}

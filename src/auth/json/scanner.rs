//! From text to nodes, in one pass.

use super::{Kind, Malformed, Node, Span, UNESCAPED, first_word, octets, print_of};

/// How deep arrays and objects may nest; the reader recurses.
const DEPTH_MAX: u32 = 32;

pub(super) struct Scanner<'a> {
    pub source: &'a str,
    /// The most nodes that may come of it.
    pub limit: usize,
    pub unescaped: &'a mut String,
    pub nodes: &'a mut Vec<Node>,
    /// Room to sort the members of a large object.
    pub order: &'a mut Vec<u32>,
}

/// The name under which a value stands; empty in arrays.
#[derive(Clone, Copy, Default)]
struct Key {
    span: Span,
    print: u16,
}

/// Each part takes the place where it begins and returns the place behind it: so the place stays in a register.
impl<'a> Scanner<'a> {
    pub fn document(&mut self) -> Result<(), Malformed> {
        let at = self.value(Key::default(), self.space(0), 0)?;
        if self.space(at) == self.source.len() { Ok(()) } else { Err(Malformed) }
    }

    #[inline(always)]
    fn peek(&self, at: usize) -> Option<u8> {
        self.source.as_bytes().get(at).copied()
    }

    #[inline(always)]
    fn space(&self, mut at: usize) -> usize {
        while let Some(byte) = self.peek(at)
            && byte <= b' '
            && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
        {
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn push(&mut self, key: Key, value: Span, kind: Kind) -> Result<usize, Malformed> {
        let index = self.nodes.len();
        if index >= self.limit {
            return Err(Malformed);
        }
        let Key { span: key, print } = key;
        self.nodes.push(Node { key, value, end: index as u32 + 1, print, kind });
        Ok(index)
    }

    /// Strings and numbers here; what is rarer is not worth its place in the caller.
    #[inline(always)]
    fn value(&mut self, key: Key, at: usize, depth: u32) -> Result<usize, Malformed> {
        let (value, kind, behind) = match self.peek(at) {
            Some(b'"') => {
                let (value, behind) = self.string(at)?;
                (value, Kind::String, behind)
            }
            Some(b'-' | b'0'..=b'9') => {
                let behind = self.number(at)?;
                (span(at, behind), Kind::Number, behind)
            }
            _ => return self.rare(key, at, depth),
        };
        self.push(key, value, kind)?;
        Ok(behind)
    }

    #[inline(never)]
    fn rare(&mut self, key: Key, at: usize, depth: u32) -> Result<usize, Malformed> {
        let (word, kind) = match self.peek(at) {
            Some(b'{') if depth < DEPTH_MAX => return self.object(key, at, depth),
            Some(b'[') if depth < DEPTH_MAX => return self.array(key, at, depth),
            Some(b't') => ("true", Kind::True),
            Some(b'f') => ("false", Kind::False),
            Some(b'n') => ("null", Kind::Null),
            _ => return Err(Malformed),
        };
        let rest = self.source.as_bytes().get(at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.push(key, span(at, at + word.len()), kind)?;
        Ok(at + word.len())
    }

    #[inline(always)]
    fn number(&self, mut at: usize) -> Result<usize, Malformed> {
        if self.peek(at) == Some(b'-') {
            at += 1;
        }
        at = match self.peek(at) {
            Some(b'0') => at + 1,
            _ => self.digits(at)?,
        };
        match self.peek(at) {
            Some(b'.' | b'e' | b'E') => self.fraction(at),
            _ => Ok(at),
        }
    }

    #[inline(never)]
    fn fraction(&self, mut at: usize) -> Result<usize, Malformed> {
        if self.peek(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.peek(at) {
            at += 1;
            if let Some(b'+' | b'-') = self.peek(at) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        Ok(at)
    }

    #[inline(always)]
    fn digits(&self, start: usize) -> Result<usize, Malformed> {
        let mut at = start;
        while let Some(b'0'..=b'9') = self.peek(at) {
            at += 1;
        }
        if at > start { Ok(at) } else { Err(Malformed) }
    }

    fn array(&mut self, key: Key, at: usize, depth: u32) -> Result<usize, Malformed> {
        let index = self.push(key, Span::default(), Kind::Array)?;
        let mut at = self.space(at + 1);
        if self.peek(at) == Some(b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.value(Key::default(), at, depth + 1)?;
            at = self.space(at);
            match self.peek(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b']') => break,
                _ => return Err(Malformed),
            }
        }
        self.close(index);
        Ok(at + 1)
    }

    fn object(&mut self, key: Key, at: usize, depth: u32) -> Result<usize, Malformed> {
        let index = self.push(key, Span::default(), Kind::Object)?;
        let mut at = self.space(at + 1);
        if self.peek(at) == Some(b'}') {
            return Ok(at + 1);
        }
        // A set of fingerprints: a name whose fingerprint is new is new. Few members are compared one by one, many
        // are sorted at the end, so that the cost stays n log n whatever the names are.
        let (mut seen, mut members, mut doubt) = (0_u64, 0_u32, false);
        loop {
            if self.peek(at) != Some(b'"') {
                return Err(Malformed);
            }
            let (name, behind) = self.string(at)?;
            let print = self.print(name);
            // Its first six bits.
            let mark = 1_u64 << (print >> 10);
            if seen & mark != 0 {
                if members > 16 {
                    doubt = true;
                } else if self.has_member(index, name) {
                    return Err(Malformed);
                }
            }
            seen |= mark;
            members += 1;
            at = self.space(behind);
            if self.peek(at) != Some(b':') {
                return Err(Malformed);
            }
            at = self.value(Key { span: name, print }, self.space(at + 1), depth + 1)?;
            at = self.space(at);
            match self.peek(at) {
                Some(b',') => at = self.space(at + 1),
                Some(b'}') => break,
                _ => return Err(Malformed),
            }
        }
        self.close(index);
        if doubt {
            self.distinct(index)?;
        }
        Ok(at + 1)
    }

    #[inline]
    fn close(&mut self, index: usize) {
        let end = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(index) {
            node.end = end;
        }
    }

    #[inline(always)]
    fn print(&self, name: Span) -> u16 {
        let start = name.start as usize;
        let word = match self.source.as_bytes().get(start..).and_then(<[u8]>::first_chunk) {
            Some(word) if name.len < 8 => u64::from_le_bytes(*word) & ((1 << (8 * name.len)) - 1),
            Some(word) if name.len & UNESCAPED == 0 => u64::from_le_bytes(*word),
            _ => first_word(octets(self.source, self.unescaped, name)),
        };
        print_of(word, name.len & !UNESCAPED)
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

    /// Reads the string whose quote stands at `at`.
    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<(Span, usize), Malformed> {
        let start = at + 1;
        let end = plain(self.source.as_bytes(), start);
        match self.peek(end) {
            Some(b'"') => Ok((span(start, end), end + 1)),
            Some(b'\\') => self.escaped(start, end),
            _ => Err(Malformed),
        }
    }

    /// The rest of a string whose first backslash stands at `at`.
    #[cold]
    fn escaped(&mut self, start: usize, mut at: usize) -> Result<(Span, usize), Malformed> {
        let from = self.unescaped.len();
        let mut copied = start;
        loop {
            self.unescaped.push_str(self.source.get(copied..at).unwrap_or_default());
            match self.peek(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 1,
                _ => return Err(Malformed),
            }
            let letter = self.peek(at).ok_or(Malformed)?;
            at += 1;
            let character = match letter {
                b'"' | b'\\' | b'/' => char::from(letter),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => self.unicode(&mut at)?,
                _ => return Err(Malformed),
            };
            self.unescaped.push(character);
            copied = at;
            at = plain(self.source.as_bytes(), at);
        }
        let len = (self.unescaped.len() - from) as u32;
        Ok((Span { start: from as u32, len: len | UNESCAPED }, at + 1))
    }

    fn unicode(&self, at: &mut usize) -> Result<char, Malformed> {
        let first = self.hex(at)?;
        let scalar = match first {
            0xd800..=0xdbff => {
                if self.source.as_bytes().get(*at..*at + 2) != Some(b"\\u") {
                    return Err(Malformed);
                }
                *at += 2;
                match self.hex(at)? {
                    second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(Malformed),
                }
            }
            other => other,
        };
        char::from_u32(scalar).ok_or(Malformed)
    }

    fn hex(&self, at: &mut usize) -> Result<u32, Malformed> {
        let digits = self.source.as_bytes().get(*at..*at + 4).ok_or(Malformed)?;
        *at += 4;
        digits.iter().try_fold(0, |value, digit| {
            char::from(*digit).to_digit(16).map(|digit| value << 4 | digit).ok_or(Malformed)
        })
    }
}

#[inline(always)]
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, len: (end - start) as u32 }
}

/// From `at` on, the next byte that a string cannot hold as it is: quote, backslash or control.
#[inline(always)]
fn plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
        let slash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        // The top bit of each byte: it went below zero, and had no top bit itself. Borrows spoil only bytes above the
        // first hit.
        let hit = (quote | slash | control) & !word & (ONES << 7);
        if hit != 0 {
            return at + hit.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..) = bytes.get(at) {
        at += 1;
    }
    at
}

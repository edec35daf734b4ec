//! A route's rules as keys of the tree.
//!
//! The path of a rule is a *shape*, which says where its literal segments are and how it ends, and the literals
//! themselves. All shapes of a host stand in its host record, in order of precedence; a lookup hashes the segments
//! of the request once and then asks the hash trie for each shape that fits. Exact paths are not shapes: they are
//! found by one hash over the whole path.

use crate::router::pattern::{Host, Path, Rule, Segment, Tail};
use crate::router::regex;

use super::hash::{self, SEGMENTS_MAX, Seed, Segments};
use super::write::Refusal;

/// The longest path of a rule in bytes.
pub const PATH_MAX: usize = 4096;
/// The longest host in bytes (RFC 1035, 2.3.4).
pub const HOST_MAX: usize = 253;
/// How many labels a wildcard host has at most.
pub(super) const LABELS_MAX: usize = 32;
/// How many spans a pattern captures at most.
pub const CAPTURES_MAX: usize = 16;
/// What stands for a parameter in a key's path; configured paths hold no control bytes.
pub(super) const PARAM: u8 = 1;
/// Bytes of a key in front of its host.
pub(super) const KEY_HEADER: usize = 16;

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum End {
    /// Compared whole.
    Exact = 0,
    /// A pattern that ends with its last segment.
    Here = 1,
    /// A pattern with something behind it, captured or not.
    Tail = 2,
    /// A prefix.
    Prefix = 3,
    /// A regular expression below the whole segments that it begins with.
    Regex = 4,
}

impl End {
    #[inline(always)]
    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Exact,
            1 => Self::Here,
            2 => Self::Tail,
            4 => Self::Regex,
            _ => Self::Prefix,
        }
    }
}

/// Which hosts a host record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum HostKind {
    Exact = 0,
    Wildcard = 1,
    Any = 2,
}

/// Where the literal segments of a path are, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bit i: segment i is literal.
    pub literal: u32,
    /// How many segments.
    pub count: u8,
    pub end: End,
}

impl Shape {
    /// Orders shapes by precedence, the better one first: patterns before expressions before prefixes; among patterns
    /// the one whose first different segment is literal, then the one that goes on with a parameter, then the one that
    /// ends there, then the one with a tail; among expressions and among prefixes the longer one. Of two expressions
    /// that match one path the one with more whole segments in its literal prefix has also more bytes in it.
    pub(super) fn rank(self, other: Self) -> std::cmp::Ordering {
        let place = |shape: Self, index: u8| match (index < shape.count, shape.literal >> index & 1) {
            (true, 1) => 0,
            (true, _) => 1,
            (false, _) if shape.end == End::Here => 2,
            (false, _) => 3,
        };
        let class = |shape: Self| match shape.end {
            End::Exact | End::Here | End::Tail => 0,
            End::Regex => 1,
            End::Prefix => 2,
        };
        match (class(self), class(other)) {
            (1, 1) | (2, 2) => other.count.cmp(&self.count),
            (0, 0) => {
                let last = self.count.max(other.count);
                let order = (0..last).map(|i| place(self, i).cmp(&place(other, i))).find(|order| order.is_ne());
                order.unwrap_or_else(|| self.end.cmp(&other.end))
            }
            (one, two) => one.cmp(&two),
        }
    }

    /// The hash of the literal segments that this shape looks at.
    #[inline(always)]
    pub(super) fn hash(self, segments: &Segments) -> u64 {
        let mut sum = 0_u64;
        let mut left = self.literal;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            sum = sum.wrapping_add(segments.hashes.get(index).copied().unwrap_or(0));
            left &= left - 1;
        }
        hash::pair(sum, u64::from(self.literal) << 32 | u64::from(self.count) << 8 | self.end as u64)
    }

    /// The bit that stands for the last literal segment in a filter over the keys of this shape; without literals,
    /// the first segment's.
    #[inline(always)]
    pub(super) fn filter_bit(self, segments: &Segments) -> u32 {
        let index = (self.literal | 1).ilog2() as usize;
        1 << (segments.hashes.get(index).copied().unwrap_or(0) >> 59)
    }
}

/// The hash of a host in the space of its kind.
#[inline(always)]
pub(super) fn host_hash(seed: Seed, kind: HostKind, host: &[u8]) -> u64 {
    hash::bytes(seed, kind as u64, host)
}

/// The hash of a key as it stands in the tree.
pub(super) fn key_hash(seed: Seed, host_kind: u8, host: &[u8], shape: Shape, path: &[u8]) -> u64 {
    let path = if shape.end == End::Exact { exact_hash(seed, path) } else { shape_hash(seed, shape, path) };
    hash::pair(hash::bytes(seed, host_kind.into(), host), path)
}

fn shape_hash(seed: Seed, shape: Shape, path: &[u8]) -> u64 {
    // A parameter hashes to something, but no shape looks at it.
    let mut segments = Segments::new();
    segments.take_apart(seed, path);
    shape.hash(&segments)
}

/// The hash of an exact path.
#[inline(always)]
pub(super) fn exact_hash(seed: Seed, path: &[u8]) -> u64 {
    hash::bytes(seed, 7, path)
}

/// One rule, ready for the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub host_kind: HostKind,
    pub host: Vec<u8>,
    pub shape: Shape,
    /// Exact paths as they are; else the segments, each behind a slash, with [`PARAM`] for a parameter.
    pub path: Vec<u8>,
    /// The tail is captured, so something must be there to capture.
    pub captured: bool,
    /// What is searched for, where it ends in an expression.
    pub regex: Option<Pattern>,
    /// Index of the rule in its route.
    pub rule: u16,
}

/// A regular expression as a key holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub text: Vec<u8>,
    /// Bytes of its literal prefix, by which expressions are ordered.
    pub prefix: u16,
}

impl Key {
    /// The key of `rule`, or why the tree cannot hold it. Beyond what a request could ever match, it refuses what the
    /// fixed arrays of a lookup would not see.
    pub(super) fn of(rule: &Rule, index: u16) -> Result<Self, Refusal> {
        let (host_kind, host) = match &rule.host {
            Host::Any => (HostKind::Any, &[][..]),
            Host::Wildcard(name) => (HostKind::Wildcard, &name[..]),
            Host::Exact(name) => (HostKind::Exact, &name[..]),
        };
        let bare = host_kind != HostKind::Any && host.is_empty();
        // Without an early end, so that the compiler looks at many bytes at once.
        let controls = host.iter().fold(false, |any, &byte| any | (byte <= b' ') | (byte == 0x7f));
        if bare || host.len() > HOST_MAX || controls {
            return Err(Refusal::Host);
        }
        if host_kind == HostKind::Wildcard && host.iter().filter(|&&byte| byte == b'.').count() >= LABELS_MAX {
            return Err(Refusal::Host);
        }
        let mut key = Self {
            host_kind,
            host: host.to_vec(),
            shape: Shape { literal: 0, count: 0, end: End::Exact },
            path: Vec::new(),
            captured: false,
            regex: None,
            rule: index,
        };
        match &rule.path {
            Path::Exact(path) => key.path.clone_from(path),
            Path::Prefix(path) if path.is_empty() => key.shape.end = End::Prefix,
            Path::Prefix(path) => {
                key.path.clone_from(path);
                key.shape.end = End::Prefix;
                let count = path.iter().filter(|&&byte| byte == b'/').count();
                key.set_literals(count, path.first() == Some(&b'/'))?;
            }
            Path::Pattern { segments, tail } => key.pattern(segments, tail)?,
            Path::Regex(text) => key.regex(text)?,
        }
        let is_control = |byte: u8| (byte < b' ') & (byte != PARAM) | (byte == 0x7f);
        let controls = key.path.iter().fold(false, |any, &byte| any | is_control(byte));
        let params = key.path.iter().filter(|&&byte| byte == PARAM).count();
        // A parameter is counted once in the shape: more marks than that were control bytes of a literal.
        if key.path.len() > PATH_MAX || controls || params != key.params() {
            return Err(Refusal::Path);
        }
        Ok(key)
    }

    /// The rule that this key is of, with `params` for the names of its parameters, which the tree does not keep. What
    /// is written in more than one way (`/a` as a pattern without parameters) comes back in the simplest.
    pub(super) fn to_rule<'n>(&self, mut params: impl Iterator<Item = &'n str>) -> Rule {
        let host = match self.host_kind {
            HostKind::Exact => Host::Exact(self.host.clone()),
            HostKind::Wildcard => Host::Wildcard(self.host.clone()),
            HostKind::Any => Host::Any,
        };
        let mut name = || params.next().unwrap_or("_").to_owned();
        let path = match (self.shape.end, &self.regex) {
            (End::Regex, Some(regex)) => Path::Regex(String::from_utf8_lossy(&regex.text).into_owned()),
            (End::Exact | End::Regex, _) => Path::Exact(self.path.clone()),
            (End::Prefix, _) => Path::Prefix(self.path.clone()),
            (End::Here | End::Tail, _) => {
                // The path of a tail alone is empty, and has no segment.
                let segments = self.path.split(|&byte| byte == b'/').skip(1).map(|segment| match segment {
                    [PARAM] => Segment::Param(name()),
                    literal => Segment::Literal(literal.to_vec()),
                });
                let segments = segments.collect();
                let tail = match (self.shape.end, self.captured) {
                    (End::Here, _) => Tail::None,
                    (_, true) => Tail::Captured(name()),
                    (_, false) => Tail::Any,
                };
                Path::Pattern { segments, tail }
            }
        };
        Rule { host, path }
    }

    /// Hangs an expression below the whole segments that it begins with, those that a slash ends.
    fn regex(&mut self, text: &str) -> Result<(), Refusal> {
        let prefix = regex::literal_prefix(text);
        let is_rooted = prefix.first() == Some(&b'/');
        let slashes = prefix.iter().filter(|&&byte| byte == b'/').count();
        let count = if is_rooted { slashes.saturating_sub(1).min(SEGMENTS_MAX) } else { 0 };
        let end = prefix.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(count).map_or(0, |(at, _)| at);
        if text.len() > PATH_MAX || text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(Refusal::Path);
        }
        self.path = prefix.get(..if count == 0 { 0 } else { end }).unwrap_or_default().to_vec();
        self.shape.end = End::Regex;
        self.regex = Some(Pattern { text: text.as_bytes().to_vec(), prefix: prefix.len() as u16 });
        self.set_literals(count, true)
    }

    fn set_literals(&mut self, count: usize, rooted: bool) -> Result<(), Refusal> {
        if count > SEGMENTS_MAX || !rooted {
            return Err(Refusal::Path);
        }
        self.shape.count = count as u8;
        self.shape.literal = ((1_u64 << count) - 1) as u32;
        Ok(())
    }

    fn pattern(&mut self, segments: &[Segment], tail: &Tail) -> Result<(), Refusal> {
        if segments.len() > SEGMENTS_MAX {
            return Err(Refusal::Path);
        }
        let length = |segment: &Segment| match segment {
            Segment::Literal(bytes) => 1 + bytes.len(),
            Segment::Param(_) => 2,
        };
        self.path.reserve_exact(segments.iter().map(length).sum());
        for (index, segment) in segments.iter().enumerate() {
            self.path.push(b'/');
            match segment {
                Segment::Literal(bytes) if bytes.contains(&b'/') => return Err(Refusal::Path),
                Segment::Literal(bytes) => {
                    self.path.extend_from_slice(bytes);
                    self.shape.literal |= 1 << index;
                }
                Segment::Param(_) => self.path.push(PARAM),
            }
        }
        self.shape.count = segments.len() as u8;
        self.captured = matches!(tail, Tail::Captured(_));
        let only_literals = self.params() == 0;
        self.shape.end = match tail {
            // What captures nothing is no pattern, however it was written.
            Tail::None if only_literals && !segments.is_empty() => {
                self.shape = Shape { literal: 0, count: 0, end: End::Exact };
                End::Exact
            }
            Tail::None if only_literals => return Err(Refusal::Path),
            Tail::None => End::Here,
            Tail::Any if only_literals => End::Prefix,
            Tail::Any | Tail::Captured(_) => End::Tail,
        };
        if self.params() + usize::from(self.captured) > CAPTURES_MAX {
            return Err(Refusal::Path);
        }
        Ok(())
    }

    fn params(&self) -> usize {
        usize::from(self.shape.count) - self.shape.literal.count_ones() as usize
    }

    /// The key's place in the hash trie of paths.
    pub(super) fn hash(&self, seed: Seed) -> u64 {
        key_hash(seed, self.host_kind as u8, &self.host, self.shape, &self.path)
    }

    /// The same, and the filter of its shape if it were the only key.
    pub(super) fn hash_and_filter(&self, seed: Seed) -> (u64, u32) {
        if self.shape.end == End::Exact {
            return (self.hash(seed), 0);
        }
        let mut segments = Segments::new();
        segments.take_apart(seed, &self.path);
        let filter = if self.shape.literal == 0 { u32::MAX } else { self.shape.filter_bit(&segments) };
        (hash::pair(host_hash(seed, self.host_kind, &self.host), self.shape.hash(&segments)), filter)
    }

    /// How many bytes [`Key::encode`] appends at most.
    pub(super) fn encoded_len(&self) -> usize {
        KEY_HEADER + self.host.len() + self.path.len() + self.regex.as_ref().map_or(0, |regex| 2 + regex.text.len()) + 3
    }

    /// Whether both keys match the same: they end in the same leaf, and there in the same expression.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.host_kind == other.host_kind
            && self.shape == other.shape
            && self.host == other.host
            && self.path == other.path
            && self.regex == other.regex
    }

    /// Appends the key's bytes: a header of [`KEY_HEADER`], the host, the path, of an expression the length of its
    /// literal prefix (two bytes) and its text, zeros up to a multiple of 4.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.shape.literal.to_ne_bytes());
        out.extend_from_slice(&[self.shape.count, self.shape.end as u8, self.host_kind as u8, u8::from(self.captured)]);
        out.extend_from_slice(&(self.host.len() as u16).to_ne_bytes());
        out.extend_from_slice(&(self.path.len() as u16).to_ne_bytes());
        out.extend_from_slice(&self.rule.to_ne_bytes());
        let regex = self.regex.as_ref();
        out.extend_from_slice(&regex.map_or(0, |regex| regex.text.len() as u16).to_ne_bytes());
        out.extend_from_slice(&self.host);
        out.extend_from_slice(&self.path);
        if let Some(regex) = regex {
            out.extend_from_slice(&regex.prefix.to_ne_bytes());
            out.extend_from_slice(&regex.text);
        }
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: Path) -> Result<Key, Refusal> {
        Key::of(&Rule { host: Host::Any, path }, 0)
    }

    fn pattern(text: &str, tail: Tail) -> Path {
        let segments =
            text.split('/').filter(|segment| !segment.is_empty()).map(|segment| match segment.strip_prefix('{') {
                Some(name) => Segment::Param(name.trim_end_matches('}').to_owned()),
                None => Segment::Literal(segment.into()),
            });
        Path::Pattern { segments: segments.collect(), tail }
    }

    #[test]
    fn precedence_of_shapes() {
        let captured = || Tail::Captured("rest".into());
        let order = [
            key(pattern("/a/b/{x}", Tail::None)),
            key(pattern("/a/{x}/c", Tail::None)),
            key(pattern("/a/{x}/{y}", Tail::None)),
            key(pattern("/a/{x}", Tail::None)),
            key(pattern("/a/{x}", Tail::Any)),
            key(pattern("/a", captured())),
            key(pattern("/{x}/b/c", Tail::None)),
            key(pattern("/{x}", Tail::Any)),
            key(pattern("", captured())),
            key(Path::Regex(r"^/a/b/\d".into())),
            key(Path::Regex(r"^/a/\d".into())),
            key(Path::Regex(r"\d".into())),
            key(Path::Prefix(b"/a/b".into())),
            key(Path::Prefix(b"/a".into())),
            key(Path::Prefix(b"".into())),
        ]
        .map(|key| key.unwrap().shape);
        for (i, one) in order.iter().enumerate() {
            for (j, two) in order.iter().enumerate() {
                assert_eq!(one.rank(*two), i.cmp(&j), "{one:?} {two:?}");
            }
        }
    }

    #[test]
    fn what_a_lookup_could_not_see_is_refused() {
        for path in [
            Path::Exact(b"/a\x01".into()),
            Path::Exact(b"/a\x7f".into()),
            Path::Exact([b'/'; PATH_MAX + 1].into()),
            Path::Prefix([b'/'; SEGMENTS_MAX + 1].into()),
            Path::Prefix(b"a".into()),
            Path::Regex("a\n".into()),
            Path::Regex("a".repeat(PATH_MAX + 1)),
            pattern(&"/{x}".repeat(CAPTURES_MAX + 1), Tail::None),
            pattern(&"/{x}".repeat(CAPTURES_MAX), Tail::Captured("rest".into())),
            pattern("/{x}/\u{1}", Tail::None),
            pattern("", Tail::None),
            Path::Pattern {
                segments: vec![Segment::Param("x".into()), Segment::Literal(b"a/b".into())],
                tail: Tail::None,
            },
        ] {
            assert_eq!(key(path.clone()), Err(Refusal::Path), "{path:?}");
        }
        let host = |host| Key::of(&Rule { host, path: Path::Prefix(Vec::new()) }, 0).map(|_| ());
        assert_eq!(host(Host::Exact(Vec::new())), Err(Refusal::Host));
        assert_eq!(host(Host::Exact(b"a b".into())), Err(Refusal::Host));
        assert_eq!(host(Host::Wildcard(b"a.".repeat(40))), Err(Refusal::Host));
        assert_eq!(host(Host::Exact(vec![b'a'; 254])), Err(Refusal::Host));
        assert_eq!(host(Host::Any), Ok(()));
    }

    #[test]
    fn expressions_hang_below_whole_segments() {
        for (text, path, count, prefix) in [
            (r"^/v\d+", "", 0, 2),
            (r"^/api/v\d+", "/api", 1, 6),
            (r"^/api/", "/api", 1, 5),
            (r"^/a/b", "/a", 1, 4),
            (r"^/a/b/", "/a/b", 2, 5),
            (r"^//a", "/", 1, 3),
            (r"^a/b/", "", 0, 4),
            (r"\.jpg$", "", 0, 0),
        ] {
            let key = key(Path::Regex(text.into())).unwrap();
            assert_eq!((key.path.as_slice(), key.shape.count), (path.as_bytes(), count), "{text}");
            assert_eq!(key.regex.unwrap().prefix, prefix, "{text}");
        }
        let long = format!("^{}x", "/a".repeat(40));
        assert_eq!(key(Path::Regex(long)).unwrap().shape.count, SEGMENTS_MAX as u8);
    }

    #[test]
    fn what_captures_nothing_is_no_pattern() {
        assert_eq!(key(pattern("/a/b", Tail::None)), key(Path::Exact(b"/a/b".into())));
        assert_eq!(key(pattern("/a/b", Tail::Any)), key(Path::Prefix(b"/a/b".into())));
        assert_eq!(key(pattern("", Tail::Any)), key(Path::Prefix(b"".into())));
    }
}

use super::{Path, PatternError, Segment, Tail};
use crate::router::path::hex;
use crate::router::regex::{self, Regex};

/// The longest path of a route, in bytes, decoded.
pub const PATH_MAX: usize = 1024;
/// The most parameters of one path, a captured tail included.
pub const PARAMS_MAX: usize = 16;

/// The most segments of a path with parameters or a tail; more than that have only exact paths.
pub const SEGMENTS_MAX: usize = 32;

impl Path {
    /// Reads a path of the document, decoded or percent-encoded: `/a`, `/a/*`, `/users/{id}`, `/u/{id}/*`,
    /// `/f/{*rest}`, `~^/v\d+`.
    ///
    /// A slash at the end counts: `/users/{id}/` ends in an empty literal segment.
    ///
    /// # Errors
    ///
    /// What is no path, or could never match a request, with words that say what would be right.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => return Err(PatternError::PathEmpty),
            _ if text.len() > 3 * PATH_MAX => return Err(PatternError::PathTooLong(text.len())),
            _ => {}
        }
        if let Some(regex) = text.strip_prefix('~') {
            return match Regex::new(regex) {
                Ok(_) => Ok(Self::Regex(regex.to_owned())),
                Err(why) => Err(PatternError::PathRegex(why)),
            };
        }
        let Some(inner) = text.strip_prefix('/') else {
            return Err(PatternError::PathNoSlash(format!("/{text}")));
        };

        let mut segments = Vec::new();
        let mut tail = Tail::None;
        let mut pieces = inner.split('/').peekable();
        while let Some(piece) = pieces.next() {
            let is_last = pieces.peek().is_none();
            match piece_of(piece)? {
                Piece::Literal(literal) if literal.is_empty() && !is_last => return Err(PatternError::PathDoubleSlash),
                Piece::Literal(literal) => segments.push(Segment::Literal(literal)),
                Piece::Param(name) => segments.push(Segment::Param(name)),
                Piece::Tail(_) if !is_last => return Err(PatternError::TailNotLast(piece.to_owned())),
                Piece::Tail(found) => tail = found,
            }
        }
        let path = assemble(segments, tail);
        path.limits()?;
        Ok(path)
    }

    /// The names of the parameters, a captured tail last, in the order in which a match gives their values.
    pub fn params(&self) -> impl Iterator<Item = &str> {
        let (segments, tail) = match self {
            Self::Pattern { segments, tail } => (segments.as_slice(), Some(tail)),
            Self::Exact(_) | Self::Prefix(_) | Self::Regex(_) => (&[][..], None),
        };
        let params = segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        });
        params.chain(tail.and_then(|tail| match tail {
            Tail::Captured(name) => Some(name.as_str()),
            Tail::None | Tail::Any => None,
        }))
    }

    /// What `strip_prefix` takes off a path that this one matched: all before the first parameter, without a slash at
    /// the end; all of an exact path; of an expression the whole segments that it begins with.
    #[must_use]
    pub fn literal_prefix(&self) -> Vec<u8> {
        let mut prefix = match self {
            Self::Exact(path) | Self::Prefix(path) => path.clone(),
            Self::Pattern { segments, .. } => {
                let mut prefix = Vec::new();
                for segment in segments {
                    let Segment::Literal(literal) = segment else { break };
                    prefix.push(b'/');
                    prefix.extend_from_slice(literal);
                }
                prefix
            }
            Self::Regex(text) => {
                let mut prefix = regex::literal_prefix(text);
                // The last piece may go on in the path.
                prefix.truncate(prefix.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
                prefix
            }
        };
        if prefix.last() == Some(&b'/') {
            prefix.pop();
        }
        prefix
    }

    fn limits(&self) -> Result<(), PatternError> {
        let length = match self {
            Self::Exact(path) | Self::Prefix(path) => path.len(),
            Self::Pattern { segments, .. } => segments
                .iter()
                .map(|segment| match segment {
                    Segment::Literal(literal) => literal.len() + 1,
                    Segment::Param(_) => 2,
                })
                .sum(),
            // Has bounds of its own.
            Self::Regex(_) => return Ok(()),
        };
        if length > PATH_MAX {
            return Err(PatternError::PathTooLong(length));
        }
        let segments = match self {
            Self::Exact(_) | Self::Regex(_) => 0,
            Self::Prefix(path) => path.iter().filter(|&&byte| byte == b'/').count(),
            Self::Pattern { segments, .. } => segments.len(),
        };
        if segments > SEGMENTS_MAX {
            return Err(PatternError::TooManySegments(segments));
        }
        let params: Vec<&str> = self.params().collect();
        if params.len() > PARAMS_MAX {
            return Err(PatternError::TooManyParams);
        }
        for (index, name) in params.iter().enumerate() {
            if params.iter().take(index).any(|other| other == name) {
                return Err(PatternError::ParamTwice((*name).to_owned()));
            }
        }
        Ok(())
    }
}

enum Piece {
    Literal(Vec<u8>),
    Param(String),
    Tail(Tail),
}

fn assemble(segments: Vec<Segment>, tail: Tail) -> Path {
    let is_literal = segments.iter().all(|segment| matches!(segment, Segment::Literal(_)));
    if !is_literal || matches!(tail, Tail::Captured(_)) {
        return Path::Pattern { segments, tail };
    }
    let mut path = Vec::new();
    for segment in &segments {
        if let Segment::Literal(literal) = segment {
            path.push(b'/');
            path.extend_from_slice(literal);
        }
    }
    if tail == Tail::Any { Path::Prefix(path) } else { Path::Exact(path) }
}

fn piece_of(piece: &str) -> Result<Piece, PatternError> {
    if piece == "*" {
        return Ok(Piece::Tail(Tail::Any));
    }
    if let Some(inner) = piece.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return match inner.strip_prefix('*') {
            Some(inner) => name(inner).map(|name| Piece::Tail(Tail::Captured(name))),
            None if inner.contains(['{', '}']) => Err(PatternError::PathBrace(piece.to_owned())),
            None => name(inner).map(Piece::Param),
        };
    }
    if piece.contains(['{', '}']) {
        return Err(PatternError::PathBrace(piece.to_owned()));
    }
    if piece.contains('*') {
        return Err(PatternError::PathStar(piece.to_owned()));
    }
    let literal = decode(piece)?;
    if matches!(&*literal, b"." | b"..") {
        return Err(PatternError::PathDots(piece.to_owned()));
    }
    Ok(Piece::Literal(literal))
}

fn name(text: &str) -> Result<String, PatternError> {
    let is_name = !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_name { Ok(text.to_owned()) } else { Err(PatternError::ParamName(text.to_owned())) }
}

fn decode(piece: &str) -> Result<Vec<u8>, PatternError> {
    let mut decoded = Vec::with_capacity(piece.len());
    let mut rest = piece.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'?' => return Err(PatternError::PathQuery),
            b'#' => return Err(PatternError::PathFragment),
            b'%' => match (rest.next(), rest.next()) {
                (Some(high), Some(low)) => hex(high, low).ok_or_else(|| {
                    PatternError::PathPercent(String::from_utf8_lossy(&[b'%', high, low]).into_owned())
                })?,
                _ => return Err(PatternError::PathPercent("%".to_owned())),
            },
            byte => byte,
        };
        match byte {
            b'/' => return Err(PatternError::PathEncodedSlash),
            0..0x20 | 0x7f => return Err(PatternError::PathControl(byte)),
            _ => decoded.push(byte),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(path: &str) -> Path {
        Path::Exact(path.into())
    }

    fn prefix(path: &str) -> Path {
        Path::Prefix(path.into())
    }

    /// `:a` is a parameter, everything else a literal.
    fn pattern(segments: &[&str], tail: Tail) -> Path {
        let segments = segments
            .iter()
            .map(|segment| match segment.strip_prefix(':') {
                Some(name) => Segment::Param(name.into()),
                None => Segment::Literal((*segment).into()),
            })
            .collect();
        Path::Pattern { segments, tail }
    }

    #[test]
    fn paths() {
        for (text, expected, params, strip) in [
            ("/", exact("/"), "", ""),
            ("/a", exact("/a"), "", "/a"),
            ("/a/", exact("/a/"), "", "/a"),
            ("/a/b.c", exact("/a/b.c"), "", "/a/b.c"),
            ("/a%20b", exact("/a b"), "", "/a b"),
            ("/a b", exact("/a b"), "", "/a b"),
            ("/%7Bid%7d", exact("/{id}"), "", "/{id}"),
            ("/a%2A", exact("/a*"), "", "/a*"),
            ("/100%25", exact("/100%"), "", "/100%"),
            ("/ü", exact("/ü"), "", "/ü"),
            ("/%C3%BC", exact("/ü"), "", "/ü"),
            ("/...", exact("/..."), "", "/..."),
            ("/*", prefix(""), "", ""),
            ("/a/*", prefix("/a"), "", "/a"),
            ("/a/b/*", prefix("/a/b"), "", "/a/b"),
            ("/{id}", pattern(&[":id"], Tail::None), "id", ""),
            ("/users/{id}", pattern(&["users", ":id"], Tail::None), "id", "/users"),
            ("/users/{id}/", pattern(&["users", ":id", ""], Tail::None), "id", "/users"),
            ("/u/{id}/x/{_y2}", pattern(&["u", ":id", "x", ":_y2"], Tail::None), "id _y2", "/u"),
            ("/u/{id}/*", pattern(&["u", ":id"], Tail::Any), "id", "/u"),
            ("/a/b/{*rest}", pattern(&["a", "b"], Tail::Captured("rest".into())), "rest", "/a/b"),
            ("/{*rest}", pattern(&[], Tail::Captured("rest".into())), "rest", ""),
            ("/{a}/{*rest}", pattern(&[":a"], Tail::Captured("rest".into())), "a rest", ""),
            (r"~^/api/v\d+", Path::Regex(r"^/api/v\d+".into()), "", "/api"),
            (r"~^/v\d+", Path::Regex(r"^/v\d+".into()), "", ""),
            (r"~\.jpg$", Path::Regex(r"\.jpg$".into()), "", ""),
            ("~/%20 #{1}", Path::Regex("/%20 #{1}".into()), "", ""),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(path, expected, "{text}");
            assert_eq!(Path::parse(&path.to_string()), Ok(expected), "{text}, displayed as {path}");
            assert_eq!(path.params().collect::<Vec<_>>().join(" "), params, "{text}");
            assert_eq!(path.literal_prefix(), strip.as_bytes(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_what_would_be_right() {
        for (text, part) in [
            ("", "`/*` for everything"),
            ("a", "write `/a`"),
            ("*", "write `/*`"),
            (r"~^/v\d+(", "unclosed group"),
            ("~", "must not be empty"),
            (r"~*\.jpg$", "`~(?i)`"),
            (r"~(\w{100}){100}", "too much memory"),
            ("/a//b", "write one slash"),
            ("//", "write one slash"),
            ("/a//*", "write one slash"),
            ("/a?b=c", "use `match`"),
            ("/a#b", "%23"),
            ("/a/../b", "`..` never matches"),
            ("/%2e/b", "`%2e` never matches"),
            ("/a%2fb", "%2F"),
            ("/a%", "%25"),
            ("/a%2", "%25"),
            ("/a%zz", "`%zz`"),
            ("/a%00", "0x00"),
            ("/a\n", "0x0a"),
            ("/a*", "`a*`: a star stands alone"),
            ("/a/*/b", "nothing can follow"),
            ("/a/**", "a star stands alone"),
            ("/{id", "`{id`: a parameter is a whole segment"),
            ("/{id}.json", "a parameter is a whole segment"),
            ("/v{n}", "a parameter is a whole segment"),
            ("/{a}{b}", "a parameter is a whole segment"),
            ("/{}", "no name"),
            ("/{*}", "no name"),
            ("/{1a}", "no name"),
            ("/{a-b}", "`a-b` is no name"),
            ("/{a}/x/{a}", "two parameters are called `a`"),
            ("/{a}/{*a}", "two parameters are called `a`"),
            ("/{*rest}/x", "`{*rest}` takes all"),
            (&format!("/{}", "a".repeat(1024)), "1025 bytes"),
            (&"/{x}".repeat(2000), "bytes"),
            (&format!("{}/*", "/a".repeat(33)), "33 segments"),
            (&(0..17).map(|n| format!("/{{a{n}}}")).collect::<String>(), "at most 16"),
        ] {
            let error = Path::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

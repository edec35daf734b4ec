//! Which of two routes that match one request is asked first.

use std::cmp::{Ordering, Reverse};
use std::mem::discriminant;

use super::pattern::{Host, Path, Segment, Tail};
use super::regex;

/// One way to reach a route, with all that decides between it and another one.
///
/// Candidates are ordered; the least is asked first:
///
/// 1. an exact host, then the longest wildcard, then none;
/// 2. the higher priority;
/// 3. an exact path, then patterns, then regular expressions, then the longest prefix. Among patterns the leftmost
///    segment in which they differ decides: a literal, then a parameter, then the end, then a tail, captured or not.
///    Among expressions the one that begins with more literal bytes ([`regex::literal_prefix`]);
/// 4. more conditions;
/// 5. the name.
///
/// Two hosts or paths of one rank that are not equal never match the same request, so their order is of no importance;
/// it is total all the same. Two expressions may: within one route the text decides, which is to say that nothing
/// hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The host of the rule.
    pub host: &'a Host,
    /// The path of the rule.
    pub path: &'a Path,
    /// The route's priority; higher goes first.
    pub priority: i32,
    /// How many conditions the route has beyond host and path: the entries of `match`, and one for `methods` where they
    /// are not all.
    pub conditions: usize,
    /// The route's name.
    pub name: &'a str,
}

impl Candidate<'_> {
    /// Whether nothing but the name decides between two candidates that match the very same hosts and paths.
    ///
    /// Two enabled routes with such candidates, one set of `match` entries and a method in common are an error of the
    /// document.
    #[must_use]
    pub fn is_tied_with(&self, other: &Self) -> bool {
        self.host == other.host
            && self.priority == other.priority
            && self.conditions == other.conditions
            && matches_the_same(self.path, other.path)
    }
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        by_host(self.host, other.host)
            .then_with(|| other.priority.cmp(&self.priority))
            .then_with(|| by_path(self.path, other.path))
            .then_with(|| other.conditions.cmp(&self.conditions))
            .then_with(|| self.name.cmp(other.name))
            .then_with(|| self.host.cmp(other.host))
            .then_with(|| self.path.cmp(other.path))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first step: an exact host, then the longest wildcard, then none.
#[must_use]
pub fn by_host(one: &Host, other: &Host) -> Ordering {
    fn rank(host: &Host) -> (u8, Reverse<usize>) {
        match host {
            Host::Exact(_) => (0, Reverse(0)),
            Host::Wildcard(name) => (1, Reverse(name.len())),
            Host::Any => (2, Reverse(0)),
        }
    }
    rank(one).cmp(&rank(other))
}

/// The third step: an exact path, then patterns by their leftmost difference, then expressions by the length of their
/// literal prefix, then the longest prefix.
#[must_use]
pub fn by_path(one: &Path, other: &Path) -> Ordering {
    fn rank(path: &Path) -> (u8, Reverse<usize>) {
        match path {
            Path::Exact(_) => (0, Reverse(0)),
            Path::Pattern { .. } => (1, Reverse(0)),
            Path::Regex(text) => (2, Reverse(regex::literal_prefix(text).len())),
            Path::Prefix(prefix) => (3, Reverse(prefix.len())),
        }
    }
    rank(one).cmp(&rank(other)).then_with(|| shape(one).cmp(shape(other)))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Literal,
    Param,
    End,
    Tail,
}

fn shape(path: &Path) -> impl Iterator<Item = Piece> {
    let (segments, tail) = match path {
        Path::Pattern { segments, tail } => (segments.as_slice(), tail),
        Path::Exact(_) | Path::Prefix(_) | Path::Regex(_) => (&[][..], &Tail::None),
    };
    let pieces = segments.iter().map(|segment| match segment {
        Segment::Literal(_) => Piece::Literal,
        Segment::Param(_) => Piece::Param,
    });
    pieces.chain([match tail {
        Tail::None => Piece::End,
        Tail::Captured(_) | Tail::Any => Piece::Tail,
    }])
}

fn matches_the_same(one: &Path, other: &Path) -> bool {
    let (Path::Pattern { segments: left, tail: end }, Path::Pattern { segments: right, tail: other_end }) =
        (one, other)
    else {
        return one == other;
    };
    let literals_agree = left.iter().zip(right).all(|pair| match pair {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        _ => true,
    });
    literals_agree && shape(one).eq(shape(other)) && discriminant(end) == discriminant(other_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[test]
    fn hosts() {
        let sorted = ["a.b.example", "*.a.b.example", "*.b.example", "*.example", "*"];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(by_host(&host(one), &host(other)), index.cmp(&other_index), "{one} {other}");
            }
        }
    }

    #[test]
    fn paths() {
        let sorted = [
            "/a/b/c",
            "/a/b/{c}",
            "/a/b/{*rest}",
            "/a/{b}/c",
            "/a/{b}/{c}",
            "/a/{b}",
            "/a/{b}/*",
            "/a/{*rest}",
            "/{a}/b/c",
            "/{a}/b/*",
            "/{a}/{*rest}",
            "/{*rest}",
            r"~^/a/b\d",
            r"~^/a/\d",
            r"~\d",
            "/a/b/*",
            "/a/*",
            "/*",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(by_path(&path(one), &path(other)), index.cmp(&other_index), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_captured_tail_ranks_with_one_that_is_not() {
        assert_eq!(by_path(&path("/a/{b}/*"), &path("/a/{b}/{*rest}")), Ordering::Equal);
        assert_eq!(by_path(&path("/a/*"), &path("/a/{*rest}")), Ordering::Greater, "a prefix is no pattern");
    }

    #[test]
    fn a_step_counts_only_where_all_before_it_are_equal() {
        let (exact, wildcard, any) = (host("a.example"), host("*.example"), host("*"));
        let (precise, broad) = (path("/a"), path("/*"));
        let candidate = |host, path, priority, conditions, name| Candidate { host, path, priority, conditions, name };
        let sorted = [
            candidate(&exact, &broad, 9, 0, "z"),
            candidate(&exact, &precise, 1, 2, "z"),
            candidate(&exact, &precise, 1, 1, "a"),
            candidate(&exact, &precise, 1, 1, "b"),
            candidate(&exact, &broad, 1, 3, "a"),
            candidate(&exact, &precise, -1, 9, "a"),
            candidate(&wildcard, &precise, 9, 9, "a"),
            candidate(&any, &precise, 99, 9, "a"),
        ];
        for pair in sorted.windows(2) {
            assert_eq!(pair[0].cmp(&pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(pair[1].cmp(&pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn ties() {
        let any = Host::Any;
        for (one, other, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/a/*", false),
            ("/{a}/x", "/{b}/x", true),
            ("/{a}/x", "/{b}/y", false),
            ("/{a}", "/{*b}", false),
            ("/f/{*a}", "/f/{*b}", true),
            ("/{a}/*", "/{b}/*", true),
            ("/{a}/*", "/{b}/{*c}", false),
            ("~^/a", "~^/a", true),
            ("~^/a", "~^/b", false),
            ("~^/a", "/a/*", false),
        ] {
            let (one, other) = (path(one), path(other));
            let of = |path| Candidate { host: &any, path, priority: 0, conditions: 0, name: "x" };
            assert_eq!(of(&one).is_tied_with(&of(&other)), expected, "{one} {other}");
        }
    }
}

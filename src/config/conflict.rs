//! Routes that no condition tells apart.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::document::Route;
use super::problem::{Place, Sink, quote};
use crate::router::pattern::{Host, Path, Rule, Segment, Tail};
use crate::router::settings::Condition;
use crate::types::Methods;

/// What two routes must have in common: host, path, priority, the entries of `match`, and whether methods are a
/// condition too. Of routes with other entries the one with more goes first, and then the name decides.
type Seat<'a> = (&'a Host, Vec<u8>, i32, bool, Rc<[&'a Condition]>);

/// Routes that share a place by having no method in common, each with its methods and its number.
type Owners = Vec<(Methods, usize)>;

/// Reports each pair of enabled routes that one request may reach alike (`router::order::Candidate::is_tied_with`) with
/// a method in common. `places` says of each route which number it has in the document and where it stands.
pub(super) fn report(routes: &[Route], places: &[(usize, Place)], sink: &Sink) {
    let mut taken: HashMap<Seat<'_>, Owners> = HashMap::new();
    let mut told: HashSet<(usize, usize)> = HashSet::new();
    for (number, route) in routes.iter().enumerate().filter(|(_, route)| route.enabled) {
        let mut conditions: Vec<&Condition> = route.conditions.iter().collect();
        // In whatever one order: they are a set.
        conditions.sort_by_cached_key(|condition| format!("{condition:?}"));
        let conditions: Rc<[&Condition]> = conditions.into();
        for rule in &route.rules {
            let methods = route.methods == Methods::ANY;
            let seat = (&rule.host, shape_of(&rule.path), route.priority, methods, Rc::clone(&conditions));
            let owners = taken.entry(seat).or_default();
            let owner = owners.iter().find(|(methods, _)| methods.0 & route.methods.0 != 0).map(|(_, other)| *other);
            match owner {
                // Only disjoint sets are kept, so the list stays as short as there are methods.
                None => owners.push((route.methods, number)),
                // A path twice in one route (`/u/{a}`, `/u/{b}`) is no conflict: it leads to the same route.
                Some(other) if other == number => {}
                Some(other) if !sink.is_full() && told.insert((other, number)) => {
                    if let (Some(&(index, place)), Some(owner)) = (places.get(number), places.get(other)) {
                        let owner = format!("routes[{}] (line {})", owner.0, owner.1.line);
                        sink.error(place, format!("routes[{index}]"), message(route, rule, routes.get(other), &owner));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

fn message(route: &Route, rule: &Rule, other: Option<&Route>, owner: &str) -> String {
    let host = match &rule.host {
        Host::Any => String::new(),
        host => host.to_string(),
    };
    format!(
        "{} and {} of {owner} both take {host}{}, and nothing tells them apart: give one a `priority`, or `methods` or \
         `match` of its own",
        quote(&route.name),
        quote(other.map_or("", |other| &other.name)),
        rule.path
    )
}

/// The path with its parameters' names left out: they match the same.
fn shape_of(path: &Path) -> Vec<u8> {
    let (kind, literal): (u8, &[u8]) = match path {
        Path::Exact(path) => (b'e', path),
        Path::Prefix(path) => (b'p', path),
        Path::Regex(text) => (b'r', text.as_bytes()),
        Path::Pattern { tail: Tail::None, .. } => (b'n', b""),
        Path::Pattern { tail: Tail::Any, .. } => (b'a', b""),
        Path::Pattern { tail: Tail::Captured(_), .. } => (b'c', b""),
    };
    let mut shape = vec![kind];
    shape.extend_from_slice(literal);
    if let Path::Pattern { segments, .. } = path {
        for segment in segments {
            match segment {
                // No literal holds a slash, and none is both empty and followed by something.
                Segment::Literal(literal) => {
                    shape.push(b'/');
                    shape.extend_from_slice(literal);
                }
                // Nor a control character.
                Segment::Param(_) => shape.extend_from_slice(b"/\0"),
            }
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::order::Candidate;

    #[test]
    fn paths_are_the_same_where_the_router_says_so() {
        let texts = [
            "/",
            "/*",
            "/a",
            "/a/",
            "/a/*",
            "/b",
            "/{x}",
            "/{y}",
            "/{x}/",
            "/{x}/*",
            "/{y}/*",
            "/{*x}",
            "/{*y}",
            "/a/{x}",
            "/a/{y}",
            "/a/{*y}",
            "/{x}/a",
            "/{y}/a",
            "/{x}/b",
            "/a/{x}/*",
            "/a/{x}/{*y}",
            "/a/{x}/b/{y}",
            "~^/a",
            "~^/b",
            "/a/{z}/b/{w}",
        ];
        let paths: Vec<Path> = texts.iter().map(|text| Path::parse(text).unwrap()).collect();
        let candidate = |path| Candidate { host: &Host::Any, path, priority: 0, conditions: 0, name: "" };
        for one in &paths {
            for other in &paths {
                let same = shape_of(one) == shape_of(other);
                assert_eq!(same, candidate(one).is_tied_with(&candidate(other)), "{one} {other}");
            }
        }
    }
}

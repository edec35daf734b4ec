//! Routes that no condition tells apart.

use std::collections::{HashMap, HashSet};

use super::document::Route;
use super::problem::{Place, Sink, quote};
use crate::router::pattern::{Host, Path, Segment, Tail};
use crate::types::Methods;

/// Routes that share a place by having no method in common, each with its methods and its number.
type Owners = Vec<(Methods, usize)>;

/// Reports each pair of enabled routes with the same host, path and priority and a method in common. `places` says of
/// each route which number it has in the document and where it stands.
pub(super) fn report(routes: &[Route], places: &[(usize, Place)], sink: &Sink) {
    let mut taken: HashMap<(i32, &Host, Vec<u8>), Owners> = HashMap::new();
    let mut told: HashSet<(usize, usize)> = HashSet::new();
    for (number, route) in routes.iter().enumerate().filter(|(_, route)| route.enabled) {
        for rule in &route.rules {
            let owners = taken.entry((route.priority, &rule.host, shape_of(&rule.path))).or_default();
            let other = owners.iter().find(|(methods, _)| methods.0 & route.methods.0 != 0).map(|(_, other)| *other);
            match other {
                // Only disjoint sets are kept, so the list stays as short as there are methods.
                None => owners.push((route.methods, number)),
                // A path twice in one route (`/u/{a}`, `/u/{b}`) is no conflict: it leads to the same route.
                Some(other) if other == number => {}
                Some(other) if told.insert((other, number)) && !sink.is_full() => {
                    let (Some((index, place)), Some((other_index, other_place)), Some(first)) =
                        (places.get(number), places.get(other), routes.get(other))
                    else {
                        continue;
                    };
                    let message = format!(
                        "{} and routes[{other_index}] {} (line {}) both take {}{}, and nothing tells them apart: \
                         give one a `priority`, or `methods` of its own",
                        quote(&route.name),
                        quote(&first.name),
                        other_place.line,
                        match &rule.host {
                            Host::Any => String::new(),
                            host => host.to_string(),
                        },
                        rule.path
                    );
                    sink.error(*place, format!("routes[{index}]"), message);
                }
                Some(_) => {}
            }
        }
    }
}

/// The path with its parameters' names left out: they match the same.
fn shape_of(path: &Path) -> Vec<u8> {
    let (kind, literal): (u8, &[u8]) = match path {
        Path::Exact(path) => (b'e', path),
        Path::Prefix(path) => (b'p', path),
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

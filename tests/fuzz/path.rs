//! A path's whole way: nginx, our checks, three routes (a protected one, an open one, an open one that strips its
//! prefix), what is sent, and a server that reads it as leniently as any.

use gateway::router::{path, query};

use super::model::{self, Leniency, Resolved};

/// What `normal` promises holds for a server that decodes once, what `strict` promises for the most lenient.
const NORMAL: (usize, bool) = (1, false);
const LENIENT: (usize, bool) = (2, true);

pub fn run(data: &[u8]) {
    request(data);
    made_here(data);
    // Whatever two texts come together: no panic, and strict takes nothing that normal refuses.
    let (one, two) = data.split_at(data.len() / 2);
    for (decoded, target) in [(one, two), (two, one), (data, data)] {
        let _ = path::is_verbatim(decoded, target);
        let _ = path::strip_prefix(decoded, target);
        let _ = query::is_safe(target);
        if path::check_strict(decoded, target).is_ok() {
            assert!(path::check(decoded, target).is_ok());
        }
    }
}

/// The target of a request line.
fn request(target: &[u8]) {
    let Some(parsed) = model::nginx(target) else { return };
    if path::check(&parsed.path, parsed.target).is_err() {
        return;
    }
    let is_strict = path::check_strict(&parsed.path, parsed.target).is_ok();
    let segments: Vec<&[u8]> = parsed.path[1..].split(|&byte| byte == b'/').collect();
    match segments[0] {
        // Matched the protected route: asked for credentials.
        b"admin" => {}
        b"static" => {
            let Ok(stripped) = path::strip_prefix(&parsed.path, b"/static") else { return };
            assert!(stripped.as_bytes().starts_with(b"/") && !stripped.as_bytes().starts_with(b"//"));
            let wire = escaped(stripped.as_bytes());
            // The server behind owns what is below its root, and nothing above.
            each(LENIENT, &wire, |resolved| !resolved.went_above);
        }
        _ => {
            let is_verbatim = path::is_verbatim(&parsed.path, parsed.target);
            let sent = if is_verbatim { parsed.target.to_vec() } else { escaped(&parsed.path) };
            let wire = origin(&sent);
            // nginx behind us reads what we matched.
            assert_eq!(model::nginx(&sent).map(|read| read.path), Some(parsed.path.clone()));
            let promised = if is_strict { LENIENT } else { NORMAL };
            each(promised, wire, |resolved| {
                !resolved.went_above && resolved.segments.first().is_none_or(|first| first != b"admin")
            });
        }
    }
}

/// A path that a template made.
fn made_here(made: &[u8]) {
    let wire = escaped(made);
    assert_eq!(path::escaped_len(made), wire.len());
    assert!(wire.iter().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(byte)));
    assert_eq!(model::decode(&wire), made);
    if let Ok(checked) = path::recheck(made) {
        each(LENIENT, &escaped(checked.as_bytes()), |resolved| !resolved.went_above);
        assert_eq!(path::recheck(checked.as_bytes()), Ok(checked));
    }
}

/// Asserts something of what every server up to `most` lenient makes of `wire`.
fn each(most: (usize, bool), wire: &[u8], holds: impl Fn(&Resolved) -> bool) {
    for decodes in 0..=most.0 {
        for windows_and_servlets in [false, true].into_iter().take(1 + usize::from(most.1)) {
            let resolved = model::resolve(wire, Leniency { decodes, windows_and_servlets });
            assert!(holds(&resolved), "{} {decodes} {windows_and_servlets}", String::from_utf8_lossy(wire));
        }
    }
}

/// What of a target in absolute form a server takes for the path.
fn origin(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") {
        return target;
    }
    let start = target.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let slash = target[start..].iter().position(|&byte| byte == b'/').unwrap_or(0);
    &target[start + slash..]
}

fn escaped(decoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    path::escape(decoded, &mut |piece| out.extend_from_slice(piece));
    out
}

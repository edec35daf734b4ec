//! `fallback`: what a client gets where its upstream cannot serve.

use super::answer;
use super::document::{Document, Fallback};
use super::names::Names;
use super::problem::quote;
use super::read::At;

/// What it is that a fallback does, by the fields that say so.
const WAYS: [&str; 3] = ["status", "upstream", "stale"];

/// Reads a `fallback` that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, upstreams: &Names<'_>) -> Option<Fallback> {
    let answers = ["status", "headers", "body"].into_iter().find(|name| at.get(name).is_some());
    let written: Vec<&str> =
        answers.into_iter().chain(WAYS.into_iter().skip(1).filter(|name| at.get(name).is_some())).collect();
    match written.as_slice() {
        [] => {
            at.error("needs an answer (`status`, `headers`, `body`), an `upstream`, or `stale: true`");
            None
        }
        ["upstream"] => {
            let name = at.get("upstream")?;
            upstreams.refer(&name).then(|| name.node.text().map(|name| Fallback::Upstream(name.to_owned())))?
        }
        ["stale"] => {
            let stale = at.get("stale")?;
            match stale.node.bool()? {
                true => Some(Fallback::Stale),
                false => {
                    stale.error("must be true; without `fallback` nothing is served stale");
                    None
                }
            }
        }
        [_] => Some(Fallback::Reply(answer::reply(at, 503))),
        [first, second, ..] => {
            at.error(format!("has both `{first}` and `{second}`; it is an answer, an `upstream`, or `stale: true`"));
            None
        }
    }
}

/// What holds for requests to `upstream`: what is written near it, at the upstream itself, or by `defaults`, which are not
/// meant for an upstream that they name as the resort of all others.
pub(super) fn resolve(
    upstream: &str,
    near: Option<&Fallback>,
    above: Option<&Fallback>,
    default: Option<&Fallback>,
) -> Option<Fallback> {
    let default = default.filter(|default| !matches!(default, Fallback::Upstream(other) if other == upstream));
    near.or(above).or(default).cloned()
}

/// Reports upstreams that fall back to themselves, or to one that falls back to them: of two that are each other's
/// last resort none is. Routes may say so, each for its own.
pub(super) fn report(document: &Document, upstreams: Option<&At<'_>>) {
    let resort = |name: &str| {
        let upstream = document.upstreams.iter().find(|upstream| upstream.name == name)?;
        match upstream.fallback.as_ref()? {
            Fallback::Upstream(name) => Some(name.as_str()),
            Fallback::Reply(_) | Fallback::Stale => None,
        }
    };
    for item in upstreams.iter().flat_map(|list| list.items()) {
        let (Some(name), Some(written)) = (item.text("name"), item.object("fallback")) else { continue };
        let (Some(place), Some(other)) = (written.get("upstream"), written.text("upstream")) else { continue };
        if other == name {
            place.error(format!("{} cannot fall back to itself", quote(name)));
        } else if resort(other) == Some(name) {
            place.error(format!(
                "{} falls back to {}: a route may do so, two upstreams cannot",
                quote(other),
                quote(name)
            ));
        }
    }
}

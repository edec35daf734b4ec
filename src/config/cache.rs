//! `cache`.

use super::read::At;
use super::scalar;
use crate::cache::{ANY_STATUS, Cache, Query};
use crate::types::{MILLISECOND, NAME_MAX, SECOND};

/// How long requests wait for another one's answer where nothing is written, milliseconds.
const LOCK: u32 = 5_000;

/// The most names in one of its lists: each is looked for in every request.
const NAMES_MAX: usize = 16;

/// The most statuses that `ttl` may name.
const STATUSES_MAX: usize = 32;

/// The longest `ttl`, microseconds: a year.
pub(super) const TTL_MAX: u64 = 366 * 24 * 3_600 * SECOND;

/// Reads a `cache` that the tables have checked.
pub(super) fn read(at: &At<'_>) -> Cache {
    let seconds = |name: &str| {
        let micros = at.parsed(name, scalar::duration).unwrap_or(0);
        u32::try_from(micros / SECOND).unwrap_or(u32::MAX)
    };
    let methods = at.texts("methods");
    let has = |method: &str| methods.as_ref().is_none_or(|methods| methods.iter().any(|other| other == method));
    let key = at.object("key");
    let names = |name: &str| list(key.as_ref(), name, |_| {});
    let lock = at.parsed("lock", scalar::duration).map(|micros| micros / MILLISECOND);
    Cache {
        zone: at.text("zone").unwrap_or_default().to_owned(),
        ttl: at.get("ttl").map(|at| ttl(&at)).unwrap_or_default(),
        query: key.as_ref().and_then(|key| key.object("query").map(|at| query(&at))).unwrap_or(Query::All),
        headers: list(key.as_ref(), "headers", |name| name.make_ascii_lowercase()),
        cookies: names("cookies"),
        shared: key.as_ref().and_then(|key| key.text("consumer")) == Some("shared"),
        head: has("HEAD"),
        get: has("GET"),
        stale_while_revalidate: seconds("stale_while_revalidate"),
        stale_if_error: seconds("stale_if_error"),
        lock: lock.and_then(|millis| u32::try_from(millis).ok()).unwrap_or(LOCK),
        tags: list(Some(at), "tags", |_| {}),
    }
}

/// A list of names, sorted, each once: their order means nothing.
fn list(at: Option<&At<'_>>, name: &str, fold: impl Fn(&mut String)) -> Vec<String> {
    let Some(at) = at else { return Vec::new() };
    if let Some(place) = at.get(name).filter(|place| place.node.items().len() > NAMES_MAX) {
        place.error(format!("has {} entries, at most {NAMES_MAX} are possible", place.node.items().len()));
    }
    let mut names = at.texts(name).unwrap_or_default();
    names.iter_mut().for_each(fold);
    names.sort();
    names.dedup();
    names
}

fn query(at: &At<'_>) -> Query {
    match (at.get("allow"), at.get("deny")) {
        (Some(_), None) => Query::Allow(list(Some(at), "allow", |_| {})),
        (None, Some(_)) => Query::Deny(list(Some(at), "deny", |_| {})),
        (Some(_), Some(_)) => {
            at.error("needs `allow` or `deny`, not both");
            Query::All
        }
        (None, None) => {
            at.error("needs `allow` or `deny`: a list of parameters such as `utm_*`");
            Query::All
        }
    }
}

/// One duration is that of 200, 301 and 302, as of `proxy_cache_valid`.
fn ttl(at: &At<'_>) -> Vec<(u16, u32)> {
    let seconds = |text: &str| {
        let micros = scalar::duration(text).unwrap_or(0);
        u32::try_from(micros / SECOND).unwrap_or(u32::MAX)
    };
    if let Some(text) = at.node.text() {
        return [200, 301, 302].map(|status| (status, seconds(text))).to_vec();
    }
    if at.node.entries().len() > STATUSES_MAX {
        at.error(format!("has {} entries, at most {STATUSES_MAX} are possible", at.node.entries().len()));
    }
    let entries = at.node.entries().iter();
    let read = entries.filter_map(|entry| Some((status(&entry.key)?, seconds(entry.node.text()?))));
    let mut ttl: Vec<(u16, u32)> = read.collect();
    ttl.sort();
    ttl
}

/// A status that `ttl` may name; `any` is [`ANY_STATUS`].
pub(super) fn status(text: &str) -> Option<u16> {
    if text == "any" {
        return Some(ANY_STATUS);
    }
    text.parse().ok().filter(|status| (200..=599).contains(status) && !matches!(status, 206 | 304) && text.len() == 3)
}

/// Checks the name of a zone.
pub(super) fn check_zone(text: &str) -> Result<(), String> {
    match text {
        "off" => Err("`off` is what routes without `cache` have".to_owned()),
        _ if text.is_empty() || text.len() > NAME_MAX => Err(format!("must be a name of 1 to {NAME_MAX} bytes")),
        _ if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$') => Ok(()),
        _ => Err("must be the name of a zone of `proxy_cache_path`".to_owned()),
    }
}

/// Checks the name of a header in the key.
pub(super) fn check_header(text: &str) -> Result<(), String> {
    super::shape::header(text)?;
    match &*text.to_ascii_lowercase() {
        "authorization" => Err("`consumer` says what becomes of credentials".to_owned()),
        "cookie" => Err("name the cookies that count in `cookies`".to_owned()),
        "host" => Err("the host is always in the key".to_owned()),
        _ => Ok(()),
    }
}

/// Checks the name of a cookie in the key.
pub(super) fn check_cookie(text: &str) -> Result<(), String> {
    if scalar::is_token(text) { Ok(()) } else { Err("must be the name of a cookie".to_owned()) }
}

/// Checks the name of a parameter, in the form in which it is compared.
pub(super) fn check_parameter(text: &str) -> Result<(), String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    match name {
        _ if text.is_empty() || text.len() > NAME_MAX => Err(format!("must be a name of 1 to {NAME_MAX} bytes")),
        _ if name.contains('*') => Err("a `*` stands at the end alone".to_owned()),
        _ if name.bytes().any(|byte| !byte.is_ascii_graphic() || b"&=#".contains(&byte)) => {
            Err("must be written as in a query, percent-encoded".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, right) in
            [("utm_*", true), ("*", true), ("a%20b", true), ("", false), ("a*b", false), ("a b", false), ("a=b", false)]
        {
            assert_eq!(check_parameter(text).is_ok(), right, "{text}");
        }
        for (text, right) in [("api", true), ("off", false), ("", false), ("a b", false), ("$x", false)] {
            assert_eq!(check_zone(text).is_ok(), right, "{text}");
        }
        for (text, right) in
            [("X-A", true), ("x_a", false), ("Cookie", false), ("Authorization", false), ("Host", false)]
        {
            assert_eq!(check_header(text).is_ok(), right, "{text}");
        }
        for (text, expected) in
            [("200", Some(200)), ("any", Some(0)), ("206", None), ("99", None), ("0200", None), ("600", None)]
        {
            assert_eq!(status(text), expected, "{text}");
        }
    }
}

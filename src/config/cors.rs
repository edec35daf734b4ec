//! `cors`.

use super::read::At;
use super::scalar;
use crate::cors::{Cors, Origins};
use crate::router::pattern::Host;
use crate::types::SECOND;

/// How long a browser may keep a preflight's answer where nothing is written, in seconds.
const MAX_AGE: u32 = 600;

/// The most names in one of its lists: each becomes one line of an answer.
const NAMES_MAX: usize = 64;

/// Reads a `cors` that the tables have checked.
pub(super) fn read(at: &At<'_>) -> Cors {
    let credentials = at.bool("credentials").unwrap_or(false);
    let mut origins = at.texts("origins").unwrap_or_default();
    origins.iter_mut().for_each(|origin| origin.make_ascii_lowercase());
    origins.sort();
    origins.dedup();
    let any = origins.iter().any(|origin| origin == "*");
    if let Some(place) = at.get("origins").filter(|_| any) {
        if origins.len() > 1 {
            place.error("`*` stands alone: it is every origin");
        }
        if credentials {
            place.error("`*` and `credentials: true` exclude each other: name the origins");
        }
    }
    let lower = |name: &str| {
        let names = at.texts(name).unwrap_or_default();
        names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
    };
    for name in ["methods", "headers", "expose"] {
        let place = at.get(name).filter(|place| place.node.items().len() > NAMES_MAX);
        if let Some(place) = place {
            place.error(format!("has {} entries, at most {NAMES_MAX} are possible", place.node.items().len()));
        }
    }
    let max_age = at.parsed("max_age", scalar::duration).map(|micros| micros / SECOND);
    Cors {
        origins: if any { Origins::Any } else { Origins::These(origins) },
        methods: at.texts("methods").unwrap_or_default(),
        headers: lower("headers"),
        expose: lower("expose"),
        credentials,
        max_age: max_age.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(MAX_AGE),
    }
}

/// Checks an origin (RFC 6454, 6.2): scheme, host, and a port where it is not the scheme's.
pub(super) fn check_origin(text: &str) -> Result<(), String> {
    const FORM: &str = "must be `*` or an origin such as `https://app.example.com`";
    if text == "*" {
        return Ok(());
    }
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(FORM.to_owned());
    }
    if let Some(origin) = text.strip_suffix('/') {
        return Err(format!("an origin has no path: write `{origin}`"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    match port {
        Some(port) if port == default => return Err("browsers leave the scheme's own port out".to_owned()),
        Some(port) if !port.parse::<u16>().is_ok_and(|number| number > 0) || port.starts_with(['+', '0']) => {
            return Err("the port must be 1 to 65535".to_owned());
        }
        _ => {}
    }
    match Host::parse(host) {
        Ok(Host::Exact(_) | Host::Wildcard(_)) => Ok(()),
        Ok(Host::Any) => Err(FORM.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (text, right) in [
            ("*", true),
            ("https://app.example.com", true),
            ("HTTPS://App.Example.com", true),
            ("https://*.example.com", true),
            ("http://localhost:3000", true),
            ("http://[::1]:3000", true),
            ("", false),
            ("null", false),
            ("app.example.com", false),
            ("https://app.example.com/", false),
            ("https://app.example.com/a", false),
            ("https://app.example.com:443", false),
            ("https://app.example.com:0", false),
            ("https://*", false),
            ("https://", false),
            ("ftp://a.example", false),
        ] {
            assert_eq!(check_origin(text).is_ok(), right, "for {text}");
        }
    }
}

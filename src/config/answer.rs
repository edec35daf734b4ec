//! What a route answers by itself: `reply` and `redirect`, and the answer of a `fallback`.

use super::read::At;
use super::template;
use crate::router::settings::{Part, Redirect, StaticReply, Template};

/// The longest body of a `reply`, in bytes: the tree keeps an object in one block.
const BODY_MAX: usize = 64 << 10;

/// Reads an answer that the tables have checked; `usual` is its status where none is written.
pub(super) fn reply(at: &At<'_>, usual: u16) -> StaticReply {
    let status = at.number("status").unwrap_or(usual);
    let mut headers = at.labels("headers").unwrap_or_default();
    let written = at.get("body");
    let body = match &written {
        Some(body) if body.is_object() => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
                headers.sort();
            }
            body.node.to_json().to_string()
        }
        Some(body) => body.node.text().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    if let Some(place) = &written {
        if body.len() > BODY_MAX {
            place.error(format!("has {} bytes, at most {BODY_MAX} are possible", body.len()));
        }
        // RFC 9110, 15.3.5, 15.3.6 and 15.4.5.
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            place.error(format!("an answer of status {status} has no body"));
        }
    }
    StaticReply { status, headers, body }
}

/// Reads a `redirect` that the tables have checked; `None` where something was reported.
pub(super) fn redirect(at: &At<'_>) -> Option<Redirect> {
    let status = at.number("status").unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        at.get("status").as_ref().unwrap_or(at).error("must be 301, 302, 303, 307 or 308");
    }
    Some(Redirect { to: target(at.text("to")?).ok()?, status })
}

/// Checks where a redirect leads.
pub(super) fn check_target(text: &str) -> Result<(), String> {
    target(text).map(drop)
}

fn target(text: &str) -> Result<Template, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be percent-encoded: blanks, control characters and letters beyond ASCII cannot stand in it"
            .to_owned());
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let template = template::parse(text)?;
    let Some(rest) = rest else {
        // `//host` and `/\host` are other hosts to a browser.
        return match text.strip_prefix('/') {
            Some(path) if path.starts_with(['/', '\\']) => {
                Err("`//` begins another host: write its URL with `https://`".to_owned())
            }
            Some(_) if !matches!(template.0.first(), Some(Part::Text(_))) => Err(FORM.to_owned()),
            Some(_) => Ok(template),
            None => Err(FORM.to_owned()),
        };
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains(['{', '}', '@', '\\']) {
        return Err("the host is written out: whoever sends a request must not choose where it leads".to_owned());
    }
    if authority.is_empty() {
        return Err(FORM.to_owned());
    }
    Ok(template)
}

const FORM: &str = "must be a path such as `/new/{id}` or a URL such as `https://example.com/{id}`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, right) in [
            ("/", true),
            ("/new/{id}?a=b#c", true),
            ("https://example.com", true),
            ("http://example.com:8080/{id}", true),
            ("https://example.com?x={id}", true),
            ("", false),
            ("new", false),
            ("//evil.example", false),
            ("/\\evil.example", false),
            ("{id}", false),
            ("javascript:alert(1)", false),
            ("https://", false),
            ("https://{host}/", false),
            ("https://example.com{id}/", false),
            ("https://user@example.com/", false),
            ("/a b", false),
            ("/a\r\nX: y", false),
            ("/é", false),
        ] {
            assert_eq!(check_target(text).is_ok(), right, "for {text:?}");
        }
    }
}

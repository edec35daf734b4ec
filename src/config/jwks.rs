//! `jwks` of a `jwt` entry.

use super::read::At;
use crate::auth::{Jwks, Url};

/// Reads it; `None` where something was reported.
pub(super) fn read(at: &At<'_>) -> Option<Jwks> {
    if !at.is_object() {
        return None;
    }
    let ca = at.text("ca").map(str::to_owned);
    match (at.get("file"), at.get("url")) {
        (None, None) => at.error("needs `url` or `file`"),
        (Some(_), Some(_)) => at.error("has both `url` and `file`"),
        (Some(file), None) => match at.get("ca") {
            Some(ca) => ca.error("belongs to a `url`"),
            None => return Some(Jwks::File(file.node.text().filter(|path| check_path(path).is_ok())?.to_owned())),
        },
        (None, Some(place)) => {
            let text = place.node.text()?;
            let url = Url::parse(text).ok()?;
            match (url.secure, &ca) {
                (false, Some(_)) => place.error("is `http`: there are no certificates that `ca` could be for"),
                (false, None) if !url.is_loopback() => {
                    place.warn("is `http`: whoever is on the way can hand us keys and sign tokens; write `https`");
                }
                _ => {}
            }
            return Some(Jwks::Url { url: text.to_owned(), ca });
        }
    }
    None
}

/// Checks a path.
pub(super) fn check_path(text: &str) -> Result<(), String> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(()),
        false => Err("must be an absolute path".to_owned()),
    }
}

/// Checks a URL.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    Url::parse(text).map(drop).map_err(|what| format!("must be {what}"))
}

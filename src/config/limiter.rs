//! `limiters`.

use super::read::At;
use super::scalar;
use super::shape::header;
use crate::limiter::{Cost, Event, HeaderStyle, KeyPart, Limiter, Quota, QuotaError};

/// Reads a limiter that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, name: String) -> Option<Limiter> {
    let keys = at.get("key");
    let key: Option<Vec<KeyPart>> =
        keys.iter().flat_map(At::items).map(|item| parse_key(item.node.text()?).ok()).collect();
    if let (Some(key), Some(list)) = (&key, &keys)
        && let Some(index) =
            (1..key.len()).find(|index| key.iter().take(*index).any(|part| Some(part) == key.get(*index)))
        && let Some(item) = list.items().nth(index)
    {
        item.error("stands here twice");
    }
    let rate = at.parsed("rate", scalar::rate);
    let burst = at.number("burst").or(rate.map(scalar::Rate::per_second));
    let cost = match at.text("cost") {
        Some(text) => Cost::Header(parse_cost(text).ok()?),
        None => Cost::Fixed(at.number("cost").unwrap_or(1)),
    };
    if let (Some(burst), Some(item), Cost::Fixed(cost)) = (burst, at.get("cost"), &cost)
        && *cost > burst
    {
        item.error(format!("is above the burst of {burst}, so that no request would ever pass"));
    }
    let on = match at.text("on") {
        Some("auth_failure") => Event::AuthFailure,
        Some("response") => Event::Response,
        _ => Event::Request,
    };
    if let (Event::AuthFailure, Some(list)) = (on, &keys) {
        for (item, part) in list.items().zip(key.iter().flatten()).filter(|(_, part)| part.needs_identity()) {
            let _ = part;
            item.error("is known only once auth succeeds, and this limiter counts failures");
        }
    }
    let statuses = at.get("statuses");
    if let (Some(item), Event::Request | Event::AuthFailure) = (&statuses, on) {
        item.error("needs `on: response`");
    }
    let statuses =
        statuses.iter().flat_map(At::items).filter_map(|item| item.node.integer()?.try_into().ok()).collect();
    let (rate, burst) = (rate?, burst?);
    let limiter = Limiter {
        name,
        key: key.filter(|key| !key.is_empty())?,
        count: rate.count,
        per: rate.per,
        burst,
        on,
        cost,
        statuses,
        shadow: at.text("mode") == Some("shadow"),
        headers: match at.text("headers") {
            Some("x") => HeaderStyle::X,
            Some("both") => HeaderStyle::Both,
            _ => HeaderStyle::Ietf,
        },
    };
    // Its other errors are those of one number alone, which the tables have told.
    if Quota::of(&limiter) == Err(QuotaError::TooSlow) {
        at.error("a bucket of this `burst` would take more than 50 days to fill at this `rate`");
        return None;
    }
    Some(limiter)
}

/// Checks a cost that is no number.
pub(super) fn check_cost(text: &str) -> Result<(), String> {
    parse_cost(text).map(drop)
}

fn parse_cost(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("header:").ok_or("must be a whole number or `header:NAME`")?;
    header(name).map(|()| name.to_ascii_lowercase())
}

/// Checks one part of a key.
pub(super) fn check_key(text: &str) -> Result<(), String> {
    parse_key(text).map(drop)
}

/// One part of a key.
pub(super) fn parse_key(text: &str) -> Result<KeyPart, String> {
    const FORMS: &str =
        "`ip`, `consumer`, `route`, `upstream`, `global`, `header:NAME`, `claim:NAME`, `cookie:NAME` or `path:NAME`";
    let Some((kind, name)) = text.split_once(':') else {
        return match text {
            "ip" => Ok(KeyPart::Ip),
            "consumer" => Ok(KeyPart::Consumer),
            "route" => Ok(KeyPart::Route),
            "upstream" => Ok(KeyPart::Upstream),
            "global" => Ok(KeyPart::Global),
            "header" | "claim" | "cookie" | "path" => Err(format!("needs a name: `{text}:NAME`")),
            "remote_addr" | "client_ip" | "addr" => Err("our word is `ip`".to_owned()),
            "user" => Err("our word is `consumer`".to_owned()),
            _ => Err(format!("must be {FORMS}")),
        };
    };
    match kind {
        "header" => header(name).map(|()| KeyPart::Header(name.to_ascii_lowercase())),
        "claim" => scalar::claim(name).map(|()| KeyPart::Claim(name.to_owned())),
        "cookie" if scalar::is_token(name) => Ok(KeyPart::Cookie(name.to_owned())),
        "cookie" => Err("must be `cookie:` and the name of a cookie".to_owned()),
        "path" if is_parameter(name) => Ok(KeyPart::Path(name.to_owned())),
        "path" => Err("must be `path:` and the name of a parameter, without braces".to_owned()),
        _ => Err(format!("must be {FORMS}")),
    }
}

fn is_parameter(name: &str) -> bool {
    scalar::is_token(name) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (text, expected) in [
            ("ip", Some(KeyPart::Ip)),
            ("global", Some(KeyPart::Global)),
            ("header:X-Key", Some(KeyPart::Header("x-key".into()))),
            ("claim:org.id", Some(KeyPart::Claim("org.id".into()))),
            ("cookie:Sid", Some(KeyPart::Cookie("Sid".into()))),
            ("path:id", Some(KeyPart::Path("id".into()))),
            ("", None),
            ("IP", None),
            ("header", None),
            ("header:", None),
            ("header:a b", None),
            ("header:a_b", None),
            ("claim:a..b", None),
            ("cookie:a=b", None),
            ("path:{id}", None),
            ("query:a", None),
        ] {
            assert_eq!(parse_key(text).ok(), expected, "for {text}");
        }
    }
}

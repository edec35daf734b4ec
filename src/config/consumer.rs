//! `consumers` and `roles`.

use std::collections::{HashMap, HashSet};

use super::document::{Consumer, Role};
use super::names::Names;
use super::problem::{Place, Sink};
use super::read::At;
use super::secrets::{Secrets, fetch};
use crate::auth::{KEY_MAX, KEY_MIN, digest};

/// Reads a consumer that the tables have checked.
pub(super) fn read(at: &At<'_>, name: String, roles: &Names<'_>, secrets: &dyn Secrets) -> Consumer {
    let mut seen = HashSet::new();
    for item in at.get("roles").iter().flat_map(At::items) {
        let Some(role) = item.node.text() else { continue };
        if roles.refer(&item) && !seen.insert(role) {
            item.error("stands here twice");
        }
    }
    Consumer {
        api_keys: api_keys(at, secrets),
        name,
        permissions: at.texts("permissions").unwrap_or_default(),
        roles: at.texts("roles").unwrap_or_default(),
        priority: at.number("priority").unwrap_or(0),
        labels: at.labels("labels").unwrap_or_default(),
        enabled: at.bool("enabled").unwrap_or(true),
    }
}

/// One key or a list of them, each as its hash.
fn api_keys(at: &At<'_>, secrets: &dyn Secrets) -> Vec<String> {
    let Some(written) = at.get("api_key") else { return Vec::new() };
    let mut keys: Vec<String> = match written.node.text() {
        Some(text) => api_key(&written, text, secrets).into_iter().collect(),
        None => written.items().filter_map(|at| api_key(&at, at.node.text()?, secrets)).collect(),
    };
    keys.sort();
    keys.dedup();
    keys
}

fn api_key(at: &At<'_>, text: &str, secrets: &dyn Secrets) -> Option<String> {
    let secret = match fetch(text, secrets) {
        Ok(secret) => secret,
        Err(message) => {
            at.error(message);
            return None;
        }
    };
    let hash = secret.bytes.strip_prefix(b"sha256:").map(|digits| String::from_utf8_lossy(digits).to_ascii_lowercase());
    if let Some(hash) = hash {
        if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Some(hash);
        }
        at.error("`sha256:` is followed by 64 hexadecimal digits: `gatewayctl hash-key` makes them");
        return None;
    }
    if secret.in_clear {
        at.warn("an API key in clear; write `sha256:…` (`gatewayctl hash-key`), `$env://NAME` or `$file:///path`");
    }
    match secret.bytes.len() {
        length if length < KEY_MIN => at.error(format!("the key has {length} bytes, at least {KEY_MIN} are needed")),
        length if length > KEY_MAX => at.error(format!("the key has {length} bytes, at most {KEY_MAX} are possible")),
        _ if !secret.bytes.iter().all(u8::is_ascii_graphic) => at.error("a key is made of visible ASCII characters"),
        _ => return Some(String::from_utf8_lossy(&digest(&secret.bytes)).into_owned()),
    }
    None
}

/// Reports each key that two consumers have: it would be nobody's guess whose it is.
pub(super) fn report_shared(consumers: &[Consumer], places: &[(usize, Place)], sink: &Sink) {
    let mut owners: HashMap<&str, usize> = HashMap::new();
    for (consumer, (index, place)) in consumers.iter().zip(places) {
        for key in &consumer.api_keys {
            if let Some(owner) = owners.insert(key, *index) {
                let message = format!("has an API key that consumers[{owner}] has too");
                sink.error(*place, format!("consumers[{index}].api_key"), message);
            }
        }
    }
}

/// Reads a role that the tables have checked.
pub(super) fn role(at: &At<'_>, name: String) -> Role {
    Role { name, permissions: at.texts("permissions").unwrap_or_default() }
}

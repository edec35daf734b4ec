//! `tls` of an upstream.

use crate::auth::{check_certificates, check_pair};
use crate::balancer::{ClientCertificate, PrivateKey, Tls, TlsVersion, server_name};
use crate::config::document::{HostHeader, Upstream};
use crate::config::read::At;
use crate::config::secrets::{Secrets, fetch};
use crate::router::pattern::Host;

/// Reads what the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, secrets: &dyn Secrets) -> Option<Tls> {
    let ca = content(at, "ca", secrets);
    if let (Some(Some(ca)), Some(place)) = (&ca, at.get("ca"))
        && let Err(error) = check_certificates(ca)
    {
        place.error(error.to_string());
    }
    let client = match (content(at, "cert", secrets), content(at, "key", secrets)) {
        (Some(None), Some(None)) => None,
        (Some(Some(chain)), Some(Some(key))) => {
            if let (Err(error), Some(place)) = (check_pair(&chain, &key), at.get("cert")) {
                place.error(error.to_string());
            }
            Some(ClientCertificate { chain, key: PrivateKey(key) })
        }
        (Some(one), Some(_)) => {
            let (has, lacks) = if one.is_some() { ("cert", "key") } else { ("key", "cert") };
            if let Some(place) = at.get(has) {
                place.error(format!("needs `{lacks}` beside it"));
            }
            return None;
        }
        _ => return None,
    };
    Some(Tls {
        verify: at.bool("verify").unwrap_or(true),
        sni: at.text("sni").map(str::to_ascii_lowercase),
        ca: ca?,
        client,
        min_version: match at.text("min_version") {
            Some("TLSv1.3") => TlsVersion::V1_3,
            _ => TlsVersion::V1_2,
        },
    })
}

/// What the field `name` refers to, as text: `Some(None)` where it is not written, `None` where something was reported.
fn content(at: &At<'_>, name: &str, secrets: &dyn Secrets) -> Option<Option<String>> {
    let Some(field) = at.get(name) else { return Some(None) };
    let text = field.node.text()?;
    if text.starts_with('/') {
        field.error(format!("a file is written `$file://{text}`"));
        return None;
    }
    match fetch(text, secrets) {
        Ok(secret) => {
            if secret.in_clear && name == "key" {
                field.warn("a secret in clear; write `$env://NAME` or `$file:///path`");
            }
            match String::from_utf8(secret.bytes.to_vec()) {
                Ok(text) => Some(Some(text)),
                Err(_) => {
                    field.error("not UTF-8 text");
                    None
                }
            }
        }
        Err(message) => {
            field.error(message);
            None
        }
    }
}

/// A node that is verified needs a name that its certificate is for.
pub(super) fn check_names(at: &At<'_>, upstream: &Upstream) {
    let Some(Tls { verify: true, sni: None, .. }) = upstream.tls else { return };
    if let HostHeader::Name(host) = &upstream.host
        && server_name(host).is_some()
    {
        return;
    }
    let list = at.get("nodes");
    for node in list.iter().flat_map(At::items) {
        let Some(host) = node.get("host") else { continue };
        if host.node.text().is_some_and(|text| server_name(text).is_none()) {
            host.error(
                "is an address, and a certificate is verified by a name: write `tls.sni`, or a name as the `host` of the \
                 upstream, or `tls.verify: false`",
            );
        }
    }
}

/// Checks an `sni`.
pub(in crate::config) fn check_sni(text: &str) -> Result<(), String> {
    match Host::parse(text) {
        Ok(Host::Exact(_)) if server_name(text) == Some(text) => Ok(()),
        Ok(_) => Err("must be one host name, without port and star, and no address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

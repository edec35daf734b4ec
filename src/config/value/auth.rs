//! `auth` as JSON: public keys as JWK (RFC 7518, 6; RFC 8037, 2), secrets not at all.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Fields, duration};
use crate::auth::{
    Algorithm, ApiKey, Auth, Basic, CertificateRule, Jwks, Jwt, Key, KeySource, Mark, Material, Mtls, SanKind, Scheme,
    Source,
};
use crate::types::SECOND;

/// An entry of `auth` as JSON.
pub(in crate::config) fn auth(entry: &Auth) -> Value {
    let (scheme, inner) = match &entry.scheme {
        Scheme::Jwt(settings) => ("jwt", jwt(settings)),
        Scheme::ApiKey(settings) => ("api_key", api_key(settings)),
        Scheme::Mtls(settings) => ("mtls", mtls(settings)),
        Scheme::Basic(settings) => ("basic", basic(settings)),
        Scheme::Signature(settings) => ("signature", super::signature::signature(settings)),
    };
    let mut fields = Fields::default();
    fields.put("name", entry.name.as_str());
    if entry.optional {
        fields.put("optional", true);
    }
    fields.put(scheme, inner);
    fields.done()
}

fn api_key(settings: &ApiKey) -> Value {
    let mut inner = Fields::default();
    for source in &settings.source {
        match source {
            KeySource::Header(name) => inner.put("header", name.as_str()),
            KeySource::Query(name) => inner.put("query", name.as_str()),
            KeySource::Cookie(name) => inner.put("cookie", name.as_str()),
        }
    }
    inner.done()
}

fn basic(settings: &Basic) -> Value {
    let users: Vec<(String, String)> =
        settings.users.iter().map(|(user, _)| (user.clone(), "(set)".to_owned())).collect();
    let mut inner = Fields::default();
    inner.pairs("users", &users);
    inner.done()
}

fn mtls(settings: &Mtls) -> Value {
    let rule = |CertificateRule { mark, consumer }: &CertificateRule| {
        let (field, text) = match mark {
            Mark::Subject(name) => ("subject", name.clone()),
            Mark::San(SanKind::Dns, name) => ("san", name.clone()),
            Mark::San(SanKind::Uri, name) => ("san", format!("URI:{name}")),
            Mark::San(SanKind::Email, name) => ("san", format!("email:{name}")),
            Mark::Fingerprint(digest) => {
                let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                ("fingerprint", format!("sha256:{digits}"))
            }
        };
        json!({field: text, "consumer": consumer})
    };
    let mut inner = Fields::default();
    inner.list("consumers", settings.rules.iter().map(rule));
    inner.done()
}

fn jwt(jwt: &Jwt) -> Value {
    let mut inner = Fields::default();
    if let Some(issuer) = &jwt.issuer {
        inner.put("issuer", issuer.as_str());
    }
    if let Some(audience) = &jwt.audience {
        inner.put("audience", audience.as_str());
    }
    inner.list("keys", jwt.keys.iter().map(key));
    if let Some(source) = &jwt.jwks {
        inner.put("jwks", jwks(source));
        inner.list("algorithms", jwt.algorithms.iter().map(|algorithm| algorithm.name().into()));
    }
    inner.put("leeway", duration(jwt.leeway * SECOND));
    inner.put("require", jwt.require.clone());
    if jwt.max_lifetime > 0 {
        inner.put("max_lifetime", duration(jwt.max_lifetime * SECOND));
    }
    let source = |source: &Source| match source {
        Source::Header => "header".to_owned(),
        Source::Query(name) => format!("query:{name}"),
        Source::Cookie(name) => format!("cookie:{name}"),
    };
    inner.list("source", jwt.source.iter().map(|entry| source(entry).into()));
    let mut claims = Fields::default();
    claims.put("consumer", jwt.consumer_claim.as_str());
    if let Some(claim) = &jwt.permissions_claim {
        claims.put("permissions", claim.as_str());
    }
    if let Some(claim) = &jwt.roles_claim {
        claims.put("roles", claim.as_str());
    }
    claims.pairs("headers", &jwt.headers);
    inner.put("claims", claims.done());
    if let Some(file) = &jwt.revocation_file {
        inner.put("revocation", json!({"file": file}));
    }
    inner.done()
}

fn jwks(source: &Jwks) -> Value {
    let mut fields = Fields::default();
    match source {
        Jwks::File(path) => fields.put("file", path.as_str()),
        Jwks::Url { url, ca } => {
            fields.put("url", url.as_str());
            if let Some(ca) = ca {
                fields.put("ca", ca.as_str());
            }
        }
    }
    fields.done()
}

pub(super) fn key(key: &Key) -> Value {
    let mut fields = Fields::default();
    if let Some(kid) = &key.kid {
        fields.put("kid", kid.as_str());
    }
    fields.put("alg", key.algorithm.name());
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match &key.material {
        Material::Secret(_) => fields.put("secret", "(set)"),
        Material::Rsa { n, e } => fields.put("jwk", json!({"kty": "RSA", "n": text(n), "e": text(e)})),
        Material::Ec(point) => {
            let curve = match key.algorithm {
                Algorithm::Es384 => "P-384",
                Algorithm::Es512 => "P-521",
                _ => "P-256",
            };
            let coordinates = point.get(1..).unwrap_or_default();
            let (x, y) = coordinates.split_at_checked(coordinates.len() / 2).unwrap_or_default();
            fields.put("jwk", json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)}));
        }
        Material::Ed25519(x) => fields.put("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": text(x)})),
    }
    fields.done()
}

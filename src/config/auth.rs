//! `auth`.

mod basic;
mod mtls;

use zeroize::Zeroizing;

use super::Context;
use super::jwks;
use super::read::At;
use super::scalar;
use super::secrets::{Secret, fetch};
use crate::auth::{Algorithm, ApiKey, Auth, Jwt, Key, KeyError, KeySource, Scheme, Source};
use crate::types::SECOND;

/// The names of the algorithms (RFC 7518, 3.1; RFC 8037, 3.1).
pub(super) const ALGORITHMS: [&str; Algorithm::ALL.len()] = {
    let mut names = [""; Algorithm::ALL.len()];
    let mut rest: (&mut [&str], &[Algorithm]) = (&mut names, &Algorithm::ALL);
    while let ([name, names @ ..], [algorithm, algorithms @ ..]) = rest {
        *name = algorithm.name();
        rest = (names, algorithms);
    }
    names
};

/// Reads an entry that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, name: String, context: &Context<'_>) -> Option<Auth> {
    let schemes = ["jwt", "api_key", "basic", "signature", "mtls"];
    let written: Vec<&str> = schemes.into_iter().filter(|scheme| at.get(scheme).is_some()).collect();
    match written.as_slice() {
        [] => at.error("needs a scheme: `jwt`, `api_key`, `basic`, `signature` or `mtls`"),
        [_] => {}
        [first, second, ..] => {
            at.error(format!("has both `{first}` and `{second}`; each scheme is an entry of its own"))
        }
    }
    let scheme = if let Some(at) = at.object("jwt") {
        Scheme::Jwt(jwt(&at, context)?)
    } else if let Some(at) = at.object("mtls") {
        Scheme::Mtls(mtls::read(&at)?)
    } else if let Some(at) = at.object("basic") {
        Scheme::Basic(basic::read(&at, context.secrets)?)
    } else if let Some(at) = at.object("signature") {
        Scheme::Signature(super::signature::read(&at, context)?)
    } else {
        Scheme::ApiKey(api_key(&at.object("api_key")?))
    };
    Some(Auth { name, optional: at.bool("optional").unwrap_or(false), scheme })
}

/// In the order of the fields' table; a header where nothing is written.
fn api_key(at: &At<'_>) -> ApiKey {
    let header = at.text("header").map(|name| KeySource::Header(name.to_ascii_lowercase()));
    let query = at.text("query").map(|name| KeySource::Query(name.to_owned()));
    let cookie = at.text("cookie").map(|name| KeySource::Cookie(name.to_owned()));
    let mut source: Vec<KeySource> = [header, query, cookie].into_iter().flatten().collect();
    if source.is_empty() {
        source.push(KeySource::Header("x-api-key".to_owned()));
    }
    ApiKey { source }
}

fn jwt(at: &At<'_>, context: &Context<'_>) -> Option<Jwt> {
    match (at.get("keys"), at.get("jwks")) {
        (None, None) => at.error(
            "needs `keys`: a list of `{kid, alg, secret}`, or with `pem` or `jwk` instead of `secret`; or `jwks`: \
             `{url}` or `{file}`",
        ),
        (Some(_), Some(jwks)) => jwks.error("stands beside `keys`; write another entry for other keys"),
        _ => {}
    }
    let algorithms: Option<Vec<Algorithm>> =
        at.texts("algorithms").map(|words| words.iter().filter_map(|word| Algorithm::parse(word)).collect());
    let list = at.get("keys");
    let keys: Vec<Option<Key>> =
        list.iter().flat_map(At::items).map(|at| key(&at, algorithms.as_deref(), context)).collect();
    let mut kids: Vec<&str> = Vec::new();
    for (item, key) in list.iter().flat_map(At::items).zip(&keys) {
        let Some(kid) = key.as_ref().and_then(|key| key.kid.as_deref()) else { continue };
        if kids.contains(&kid) {
            item.error("has the `kid` of a key before it");
        }
        kids.push(kid);
    }
    let issuer = at.text("issuer").map(str::to_owned);
    let audience = at.text("audience").map(str::to_owned);
    let require = at.texts("require").unwrap_or_else(|| vec!["exp".to_owned()]);
    if issuer.is_none() {
        at.warn("no `issuer`: whoever has one of the keys may issue tokens");
    }
    if audience.is_none() {
        at.warn("no `audience`: tokens that were issued for another service are accepted");
    }
    if !require.iter().any(|claim| claim == "exp") {
        at.warn("`exp` is not required: tokens without it are valid for ever");
    }
    let claims = at.get("claims");
    let claim = |name| claims.as_ref().and_then(|at| at.text(name)).map(str::to_owned);
    let headers = claims.as_ref().and_then(|at| at.labels("headers")).unwrap_or_default();
    let keys = keys.into_iter().collect::<Option<Vec<Key>>>()?;
    let jwks = match at.get("jwks") {
        Some(at) => Some(jwks::read(&at)?),
        None => None,
    };
    Some(Jwt {
        issuer,
        audience,
        keys: Some(keys).filter(|keys| jwks.is_some() == keys.is_empty())?,
        algorithms: algorithms.filter(|_| jwks.is_some()).unwrap_or_default(),
        jwks,
        leeway: at.parsed("leeway", scalar::duration).unwrap_or(60 * SECOND) / SECOND,
        require,
        max_lifetime: at.parsed("max_lifetime", scalar::duration).unwrap_or(0) / SECOND,
        source: sources(at)?,
        consumer_claim: claim("consumer").unwrap_or_else(|| "sub".to_owned()),
        permissions_claim: claim("permissions"),
        roles_claim: claim("roles"),
        headers: headers.into_iter().map(|(name, claim)| (name.to_ascii_lowercase(), claim)).collect(),
        revocation_file: revocation(at, context),
    })
}

/// The list is read and followed by whoever leads; here it is seen that it can be.
fn revocation(at: &At<'_>, context: &Context<'_>) -> Option<String> {
    let object = at.object("revocation")?;
    let Some(file) = object.get("file") else {
        object.error("needs `file`: the path of a list such as `jti ID`, `sub SUBJECT before TIME`");
        return None;
    };
    // What is no path has been reported.
    let path = file.node.text().filter(|path| path.starts_with('/'))?;
    let read = context.secrets.list(path).map_err(|error| format!("cannot read `{path}`: {error}")).and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).map_err(|_| format!("`{path}` is not UTF-8"))?;
        crate::auth::revocation::parse(text, super::time).map_err(|error| format!("`{path}`: {error}"))
    });
    if let Err(message) = read {
        file.error(message);
    }
    Some(path.to_owned())
}

fn sources(at: &At<'_>) -> Option<Vec<Source>> {
    let Some(words) = at.texts("source") else { return Some(vec![Source::Header]) };
    words.iter().map(|word| source(word).ok()).collect()
}

fn key(at: &At<'_>, allowed: Option<&[Algorithm]>, context: &Context<'_>) -> Option<Key> {
    if !at.is_object() {
        return None;
    }
    let written: Vec<&str> = ["secret", "pem", "jwk"].into_iter().filter(|name| at.get(name).is_some()).collect();
    let [form] = written.as_slice() else {
        at.error("needs exactly one of `secret`, `pem` and `jwk`");
        return None;
    };
    let kid = at.text("kid").map(str::to_owned);
    let alg = at.get("alg");
    let algorithm = at.text("alg").and_then(Algorithm::parse);
    if algorithm.is_none() && alg.is_some() {
        return None;
    }
    let value = at.get(form)?;
    let bytes = content(form, &value, context)?;
    let key = match (*form, algorithm) {
        ("secret", Some(algorithm)) => Key::from_secret(kid, algorithm, &bytes),
        ("secret", None) => Err(KeyError::AlgorithmMissing),
        ("pem", algorithm) => utf8(&bytes).and_then(|text| Key::from_pem(kid, algorithm, text)),
        (_, algorithm) => {
            utf8(&bytes).and_then(|text| Key::from_jwk(text, algorithm)).map(|key| Key { kid: kid.or(key.kid), ..key })
        }
    };
    let key = match key {
        Ok(key) => key,
        // Which key it is, the path says.
        Err(KeyError::At(_, error)) => {
            value.error(error.to_string());
            return None;
        }
        Err(error) => {
            let place = if error == KeyError::AlgorithmMissing { at } else { &value };
            place.error(error.to_string());
            return None;
        }
    };
    if allowed.is_some_and(|allowed| !allowed.contains(&key.algorithm)) {
        alg.as_ref().unwrap_or(at).error(format!("{} is not among `algorithms`", key.algorithm.name()));
    }
    Some(key)
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, KeyError> {
    std::str::from_utf8(bytes).map_err(|_| KeyError::Malformed("not UTF-8 text"))
}

/// What a `secret`, `pem` or `jwk` holds, wherever that is.
pub(super) fn content(form: &str, at: &At<'_>, context: &Context<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let fetched = match at.node.text() {
        Some(text) => fetch(text, context.secrets),
        None if at.is_object() => {
            Ok(Secret { bytes: at.node.to_json().to_string().into_bytes().into(), in_clear: true })
        }
        None => return None,
    };
    match fetched {
        Ok(secret) => {
            if secret.in_clear && is_secret(form, at) {
                at.warn("a secret in clear; write `$env://NAME` or `$file:///path`");
            }
            Some(secret.bytes)
        }
        Err(message) => {
            at.error(message);
            None
        }
    }
}

/// Whether what stands here in clear should not; public keys may, and a JWK is secret where it has a `k`.
fn is_secret(form: &str, at: &At<'_>) -> bool {
    match (form, at.node.text()) {
        ("secret", _) => true,
        ("jwk", Some(text)) => text.contains("\"k\""),
        ("jwk", None) => at.get("k").is_some(),
        _ => false,
    }
}

pub(super) use mtls::{check_fingerprint, check_san};

/// Checks one place to look for a token.
pub(super) fn check_source(text: &str) -> Result<(), String> {
    source(text).map(drop)
}

fn source(text: &str) -> Result<Source, String> {
    match text.split_once(':') {
        None if text == "header" => Ok(Source::Header),
        Some(("query", name)) if scalar::is_token(name) => Ok(Source::Query(name.to_owned())),
        Some(("cookie", name)) if scalar::is_token(name) => Ok(Source::Cookie(name.to_owned())),
        _ => Err("must be `header`, `query:NAME` or `cookie:NAME`".to_owned()),
    }
}

//! `auth`.

use super::Context;
use super::read::At;
use super::scalar;
use super::secrets::{fetch, weakness};
use crate::auth::{Algorithm, Auth, Jwt, Key, Material, Scheme, Source};
use crate::types::SECOND;

/// The names of the algorithms (RFC 7518, 3.1; RFC 8037, 3.1).
pub(super) const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

/// Reads an entry that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, name: String, context: &Context<'_>) -> Option<Auth> {
    let schemes = ["jwt", "api_key", "basic", "signature", "mtls"];
    let written: Vec<&str> = schemes.into_iter().filter(|scheme| at.get(scheme).is_some()).collect();
    match written.as_slice() {
        [] => at.error("needs a scheme: `jwt`"),
        [_] => {}
        [first, second, ..] => {
            at.error(format!("has both `{first}` and `{second}`; each scheme is an entry of its own"))
        }
    }
    let scheme = Scheme::Jwt(jwt(&at.object("jwt")?, context)?);
    Some(Auth { name, optional: at.bool("optional").unwrap_or(false), scheme })
}

fn jwt(at: &At<'_>, context: &Context<'_>) -> Option<Jwt> {
    if at.get("keys").is_none() && at.get("jwks").is_none() {
        at.error("needs `keys`: a list of `{kid, alg, secret}`, or with `pem` or `jwk` instead of `secret`");
    }
    let algorithms: Option<Vec<Algorithm>> =
        at.texts("algorithms").map(|words| words.iter().filter_map(|word| algorithm(word)).collect());
    let list = at.get("keys");
    let keys: Vec<Option<Key>> = list.iter().flat_map(At::items).map(|at| key(&at, &algorithms, context)).collect();
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
    Some(Jwt {
        issuer,
        audience,
        keys: Some(keys).filter(|keys| !keys.is_empty())?,
        leeway: at.parsed("leeway", scalar::duration).unwrap_or(60 * SECOND) / SECOND,
        require,
        max_lifetime: at.parsed("max_lifetime", scalar::duration).unwrap_or(0) / SECOND,
        source: sources(at)?,
        consumer_claim: claim("consumer").unwrap_or_else(|| "sub".to_owned()),
        permissions_claim: claim("permissions"),
        roles_claim: claim("roles"),
        headers: headers.into_iter().map(|(name, claim)| (name.to_ascii_lowercase(), claim)).collect(),
    })
}

fn sources(at: &At<'_>) -> Option<Vec<Source>> {
    let Some(words) = at.texts("source") else { return Some(vec![Source::Header]) };
    words.iter().map(|word| source(word).ok()).collect()
}

fn key(at: &At<'_>, allowed: &Option<Vec<Algorithm>>, context: &Context<'_>) -> Option<Key> {
    if !at.is_object() {
        return None;
    }
    let written = ["secret", "pem", "jwk"].into_iter().filter(|name| at.get(name).is_some()).count();
    if written != 1 {
        at.error("needs exactly one of `secret`, `pem` and `jwk`");
        return None;
    }
    let alg = at.get("alg");
    let Some(algorithm) = at.text("alg").and_then(algorithm) else {
        if alg.is_none() {
            at.error("needs `alg`, such as `HS256`");
        }
        return None;
    };
    if let (Some(allowed), Some(alg)) = (allowed, &alg)
        && !allowed.contains(&algorithm)
    {
        alg.error("is not among `algorithms`");
    }
    let is_secret = at.get("secret").is_some();
    let is_hmac = matches!(algorithm, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512);
    if is_secret && !is_hmac {
        at.error("a `secret` verifies HS256, HS384 and HS512; this algorithm takes a `pem` or a `jwk`");
        return None;
    }
    let kid = at.text("kid").map(str::to_owned);
    for name in ["pem", "jwk"] {
        if let Some(at) = at.get(name) {
            at.error("not supported yet");
            return None;
        }
    }
    let at = at.get("secret")?;
    let secret = match fetch(at.node.text()?, context.secrets) {
        Ok(secret) => secret,
        Err(message) => {
            at.error(message);
            return None;
        }
    };
    if let Some(weakness) = weakness(&secret.bytes) {
        at.error(weakness);
        return None;
    }
    if secret.in_clear {
        at.warn("a secret in clear; write `$env://NAME` or `$file:///path`");
    }
    Some(Key { kid, algorithm, material: Material::Secret(secret.bytes) })
}

fn algorithm(name: &str) -> Option<Algorithm> {
    use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let all = [Hs256, Hs384, Hs512, Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, Es512, EdDsa];
    ALGORITHMS.into_iter().zip(all).find(|(other, _)| *other == name).map(|(_, algorithm)| algorithm)
}

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

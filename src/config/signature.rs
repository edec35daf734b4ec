//! `signature` entries of `auth`.

use super::Context;
use super::auth::{content, utf8};
use super::read::At;
use super::scalar;
use crate::auth::signature::{self, Parameter, Signature, SignatureKey};
use crate::auth::{Key, KeyError};
use crate::types::SECOND;

/// The names of the algorithms (RFC 9421, 3.3).
pub(super) const ALGORITHMS: [&str; signature::ALGORITHMS.len()] = {
    let mut names = [""; signature::ALGORITHMS.len()];
    let mut rest: (&mut [&str], &[(&str, crate::auth::Algorithm)]) = (&mut names, &signature::ALGORITHMS);
    while let ([name, names @ ..], [(algorithm, _), algorithms @ ..]) = rest {
        *name = *algorithm;
        rest = (names, algorithms);
    }
    names
};

/// The names of the parameters.
pub(super) const PARAMETERS: [&str; Parameter::ALL.len()] = {
    let mut names = [""; Parameter::ALL.len()];
    let mut rest: (&mut [&str], &[Parameter]) = (&mut names, &Parameter::ALL);
    while let ([name, names @ ..], [parameter, parameters @ ..]) = rest {
        *name = parameter.name();
        rest = (names, parameters);
    }
    names
};

/// Checks a `keyid`: what can be written in one way alone, so that it can be compared as it comes.
pub(super) fn check_keyid(text: &str) -> Result<(), String> {
    match signature::is_plain(text) && text.len() <= 256 {
        true => Ok(()),
        false => Err("must be 1 to 256 visible ASCII characters without quotes and backslashes".to_owned()),
    }
}

/// Reads an entry that the tables have checked; `None` where something was reported.
pub(super) fn read(at: &At<'_>, context: &Context<'_>) -> Option<Signature> {
    let list = at.get("keys");
    let keys: Vec<Option<SignatureKey>> = list.iter().flat_map(At::items).map(|at| key(&at, context)).collect();
    let mut seen: Vec<String> = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(keyid) = item.text("keyid") else { continue };
        if seen.iter().any(|other| other == keyid) {
            item.error("has the `keyid` of a key before it");
        }
        seen.push(keyid.to_owned());
    }
    let components = at
        .texts("components")
        .unwrap_or_else(|| ["@method", "@target-uri", "content-digest"].map(str::to_owned).to_vec());
    let required: Vec<Parameter> = match at.texts("required") {
        Some(words) => {
            words.iter().filter_map(|word| Parameter::ALL.into_iter().find(|one| one.name() == word)).collect()
        }
        None => vec![Parameter::Created, Parameter::Nonce, Parameter::KeyId],
    };
    for (parameter, what) in [
        (Parameter::Created, "signatures are good for ever"),
        (Parameter::Nonce, "a request can be sent again until its signature is too old"),
    ] {
        if !required.contains(&parameter) {
            at.warn(format!("`{}` is not required: {what}", parameter.name()));
        }
    }
    let covers = |names: &[&str]| components.iter().any(|component| names.contains(&component.as_str()));
    if !covers(&["@method"]) || !covers(&["@target-uri", "@path", "@request-target"]) {
        at.warn("`components` without method and path: a signature for one request is good for another");
    }
    let keys = keys.into_iter().collect::<Option<Vec<SignatureKey>>>()?;
    Some(Signature {
        keys: Some(keys).filter(|keys| !keys.is_empty())?,
        components,
        max_age: at.parsed("max_age", scalar::duration).unwrap_or(300 * SECOND) / SECOND,
        leeway: at.parsed("leeway", scalar::duration).unwrap_or(30 * SECOND) / SECOND,
        required,
        fail_open: at.bool("fail_open").unwrap_or(false),
    })
}

fn key(at: &At<'_>, context: &Context<'_>) -> Option<SignatureKey> {
    if !at.is_object() {
        return None;
    }
    let written: Vec<&str> = ["secret", "pem"].into_iter().filter(|name| at.get(name).is_some()).collect();
    let [form] = written.as_slice() else {
        at.error("needs exactly one of `secret` and `pem`");
        return None;
    };
    let keyid = at.text("keyid")?.to_owned();
    let alg = at.text("alg")?;
    let (_, algorithm) = signature::ALGORITHMS.into_iter().find(|(name, _)| *name == alg)?;
    let consumer = at.text("consumer").unwrap_or(&keyid).to_owned();
    if let Some(place) = at.get("consumer") {
        context.names.consumers.hint(&place, &consumer);
    }
    let value = at.get(form)?;
    let bytes = content(form, &value, context)?;
    let key = match *form {
        "secret" => Key::from_secret(Some(keyid), algorithm, &bytes),
        _ => utf8(&bytes).and_then(|text| Key::from_pem(Some(keyid), Some(algorithm), text)),
    };
    match key {
        Ok(key) => Some(SignatureKey { key, consumer }),
        Err(KeyError::Kind(_)) => {
            value.error(format!("{alg} does not go with this kind of key"));
            None
        }
        Err(error) => {
            value.error(error.to_string());
            None
        }
    }
}

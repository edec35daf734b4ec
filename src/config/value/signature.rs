//! `signature` entries as JSON: public keys as PEM (RFC 7468), secrets not at all.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Fields, duration};
use crate::auth::signature::{Parameter, Signature, SignatureKey, algorithm_name};
use crate::types::SECOND;

pub(super) fn signature(settings: &Signature) -> Value {
    let mut inner = Fields::default();
    inner.list("keys", settings.keys.iter().map(key));
    inner.put("components", settings.components.clone());
    inner.put("max_age", duration(settings.max_age * SECOND));
    inner.put("leeway", duration(settings.leeway * SECOND));
    inner.list("required", settings.required.iter().map(|parameter: &Parameter| parameter.name().into()));
    if settings.fail_open {
        inner.put("fail_open", true);
    }
    inner.done()
}

fn key(entry: &SignatureKey) -> Value {
    let mut fields = Fields::default();
    if let Some(keyid) = &entry.key.kid {
        fields.put("keyid", keyid.as_str());
    }
    fields.put("alg", algorithm_name(entry.key.algorithm).unwrap_or_default());
    match entry.key.spki() {
        Some(der) => fields.put("pem", pem(&der)),
        None => fields.put("secret", "(set)"),
    }
    fields.put("consumer", entry.consumer.as_str());
    fields.done()
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der))
}

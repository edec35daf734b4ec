//! Tokens: as they come, and signed with our keys over any header and payload, against another reader of JSON and a
//! plain model of the claims.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::auth::{Algorithm, Claims, Key, Verifier};
use gateway::types::{Reason, SECOND};
use serde_json::Value;

use super::jwt::entry;

const NOW: i64 = 1_800_000_000;
const WALL: u64 = NOW as u64 * SECOND;
/// The end of the year 9999.
const LAST: i64 = 253_402_300_799;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// RFC 7515, A.3.
const POINT: [&str; 2] = ["f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"];
const PRIVATE: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

/// The key of HS256 has no name, that of ES256 is called `e`.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","kid":"e","x":"{}","y":"{}"}}"#, POINT[0], POINT[1]);
    let keys = vec![Key::from_secret(None, Algorithm::Hs256, SECRET).unwrap(), Key::from_jwk(&jwk, None).unwrap()];
    Verifier::from_settings(&entry(keys)).unwrap()
});
static ES256: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let [x, y, private] = [POINT[0], POINT[1], PRIVATE].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
    let point = [&[4], &x[..], &y].concat();
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &point).unwrap()
});

pub fn run(data: &[u8]) {
    let mut claims = Claims::new();
    if verdict(data, &mut claims).is_ok() {
        whole(data, &claims);
    }
    // No token holds a line break, so what stands before the first one is a header, and the payload behind it.
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, payload) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    for algorithm in [Algorithm::Hs256, Algorithm::Es256] {
        // Signatures of curves take their time.
        if algorithm == Algorithm::Es256 && !header.windows(5).any(|window| window == b"ES256") {
            continue;
        }
        let _ = signed(header, payload, algorithm, &mut claims);
        if let (Some(header), Some(payload)) = (read(header), read(payload))
            && let Some(expected) = model(&header, &payload, algorithm)
            && header.as_object().is_some_and(|header| header.len() < 60 && !header.values().any(is_nested))
            && depth(&payload) < 30
        {
            // Written anew, so that no member is there twice.
            let (header, payload) = (header.to_string(), payload.to_string());
            let found = signed(header.as_bytes(), payload.as_bytes(), algorithm, &mut claims);
            assert_eq!(found.is_ok(), expected, "{found:?} for {header} {payload}");
        }
    }
}

/// Of two tries, the second one with the header that is known by then.
fn verdict(token: &[u8], claims: &mut Claims) -> Result<(), Reason> {
    let first = VERIFIER.verify(token, WALL, claims);
    let second = VERIFIER.verify(token, WALL, claims);
    assert_eq!(first, second);
    if let Err(reason) = first {
        assert_eq!((reason.status(), reason.public()), (401, "auth.invalid"));
        let left = (claims.subject(), claims.id(), claims.expires(), claims.issued(), claims.string(""));
        assert_eq!(left, (None, None, None, None, None), "nothing is left");
    }
    first
}

/// An accepted token is three parts of canonical base64url, and the signature is one of ours.
fn whole(token: &[u8], claims: &Claims) {
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let [header, payload, signature] = [header, payload, signature].map(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&bytes).as_bytes(), part);
        bytes
    });
    let message = &token[..token.len() - parts[2].len() - 1];
    let alg = read(&header).map(|header| header["alg"].clone());
    match alg.as_ref().and_then(Value::as_str) {
        Some("HS256") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            assert!(hmac::verify(&key, message, &signature).is_ok());
        }
        Some("ES256") => assert_eq!(signature.len(), 64),
        other => assert!(alg.is_none(), "{other:?}"),
    }
    agrees(&payload, claims);
}

/// What a token over `header` and `payload` with a good signature comes to.
fn signed(header: &[u8], payload: &[u8], algorithm: Algorithm, claims: &mut Claims) -> Result<(), Reason> {
    let message = message(header, payload);
    let signature = match algorithm {
        Algorithm::Hs256 => {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()).as_ref().to_vec()
        }
        _ => ES256.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
    };
    let token = token(&message, &signature);
    let found = verdict(token.as_bytes(), claims);
    found?;
    if let (Some(header), Some(payload)) = (read(header), read(payload)) {
        assert_ne!(model(&header, &payload, algorithm), Some(false), "{header} {payload}");
    }
    whole(token.as_bytes(), claims);

    // One bit less or more of any part, and it is refused.
    let bit = header.iter().chain(payload).fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    let flip = |part: &[u8]| {
        let mut part = part.to_vec();
        let at = bit / 8 % part.len();
        part[at] ^= 1 << (bit % 8);
        part
    };
    let refused = |text: &str, claims: &mut Claims| assert!(verdict(text.as_bytes(), claims).is_err(), "{text}");
    refused(&self::token(&message, &flip(&signature)), claims);
    refused(&self::token(&message, &signature[1..]), claims);
    refused(&self::token(&self::message(header, &flip(payload)), &signature), claims);
    refused(&self::token(&self::message(&flip(header), payload), &signature), claims);
    refused(&format!("{token}="), claims);
    refused(&format!("{token}."), claims);
    // As a letter of the text: the last one of each part may hold bits that decode to nothing.
    let ends = [token.find('.').unwrap() - 1, message.len() - 1, token.len() - 1, bit % token.len()];
    for (at, bit) in ends.into_iter().flat_map(|at| (0..6).map(move |bit| (at, bit))) {
        let mut other = token.clone().into_bytes();
        other[at] ^= 1 << bit;
        assert!(verdict(&other, claims).is_err(), "{}", String::from_utf8_lossy(&other));
    }
    found
}

fn message(header: &[u8], payload: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

fn token(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// As another reader has it; `None` where it is none to it.
fn read(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What was accepted reads the same elsewhere.
fn agrees(payload: &[u8], claims: &Claims) {
    let other: Value = match serde_json::from_slice(payload) {
        Ok(other) => other,
        // The grammar knows no bounds of numbers.
        Err(error) => return assert!(error.to_string().contains("number out of range"), "{error}"),
    };
    assert!(other.is_object());
    assert_eq!([claims.subject(), claims.id()], ["sub", "jti"].map(|name| other[name].as_str()), "{other}");
    for (name, found) in [("exp", claims.expires()), ("iat", claims.issued())] {
        match other.get(name).map(micros) {
            // Another reader may be a last place off.
            Some(expected) => assert!(found.unwrap_or(0).abs_diff(expected) < 100, "{name}: {found:?} {other}"),
            None => assert_eq!(found, None, "{other}"),
        }
    }
    for (name, value) in other.as_object().unwrap() {
        assert_eq!(claims.string(name), value.as_str(), "{name:?} of {other}");
        assert_eq!(claims.has(name), !value.is_null(), "{name:?} of {other}");
        if let Some(text) = claims.header_value(name) {
            assert!(!text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control()), "{text:?}");
        }
        let words: Vec<&str> = claims.list(name).collect();
        let expected: Vec<&str> = match value {
            Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
            Value::Array(list) => list.iter().map(Value::as_str).collect::<Option<_>>().unwrap_or_default(),
            _ => Vec::new(),
        };
        assert_eq!(words, expected, "{name:?} of {other}");
    }
}

/// Since the epoch; what lies before it is 0.
fn micros(seconds: &Value) -> u64 {
    match seconds.as_i64() {
        Some(seconds) => u64::try_from(seconds).map_or(0, |seconds| seconds.saturating_mul(SECOND)),
        None => (seconds.as_f64().unwrap() * SECOND as f64) as u64,
    }
}

/// Whether a token of these is good; `None` where it hangs on fractions, which another reader rounds in its own way, or
/// on `typ`.
fn model(header: &Value, payload: &Value, algorithm: Algorithm) -> Option<bool> {
    let (header, payload) = (header.as_object()?, payload.as_object()?);
    let (name, kid) = if algorithm == Algorithm::Hs256 { ("HS256", None) } else { ("ES256", Some("e")) };
    // A `kid` that nobody has goes to the key without one.
    let named = header.get("kid").map(|kid| kid.as_str().unwrap_or("\n"));
    let right_key = match kid {
        Some(kid) => named == Some(kid),
        None => named.is_none_or(|named| named != "e"),
    };
    let known = header.get("kid").is_none_or(Value::is_string)
        && ["crit", "b64", "enc"].iter().all(|name| !header.contains_key(*name))
        && header.get("alg").is_some_and(|alg| alg == name);
    if header.contains_key("typ") {
        return None;
    }
    let text = |name: &str| payload.get(name).is_none_or(|value| value.as_str().is_some_and(printable));
    let audience = payload.get("aud").is_none_or(|aud| match aud {
        Value::Array(list) => list.iter().all(Value::is_string),
        aud => aud.is_string(),
    });
    let mut times = Vec::new();
    for name in ["exp", "iat", "nbf"] {
        let time = match payload.get(name) {
            Some(Value::Number(number)) if number.is_f64() => return None,
            Some(Value::Number(number)) => {
                Ok(Some(number.as_i64().filter(|time| (-LAST..=LAST).contains(time)).ok_or(())))
            }
            Some(_) => Err(()),
            None => Ok(None),
        };
        times.push(time);
    }
    let holds = |time: &Result<Option<Result<i64, ()>>, ()>, test: &dyn Fn(i64) -> bool| match time {
        Ok(None) => true,
        Ok(Some(Ok(time))) => test(*time),
        _ => false,
    };
    let in_time = holds(&times[0], &|time| time > NOW)
        && holds(&times[1], &|time| time <= NOW)
        && holds(&times[2], &|time| time <= NOW);
    Some(right_key && known && text("iss") && text("sub") && text("jti") && audience && in_time)
}

fn printable(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_control())
}

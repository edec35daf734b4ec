//! Sets of keys as an issuer or a file may give them, raw or put together from good and bad parts.

use std::collections::HashSet;

use gateway::auth::jwks::{Answer, KEEP, Refresh, Verdict, max_age, read_set};
use gateway::auth::{Algorithm, Key, KeySet, Material, Verifier};
use serde_json::Value;

use super::jwt::entry;

/// What a part of a set can be: the kind with its key.
const KINDS: [&str; 8] = [
    r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#,
    r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#,
    r#""kty":"oct","k":"a0Q4M25mMHNMMm1acTl4VmI0dFl3N2NSaDF1RWo2R2FQcA""#,
    r#""kty":"RSA","e":"AQAB","n":"3JT778xkK6PbtgHWC670nu99OhXEZwm4nzfE_zuARn9HwJQEnMaG1Fo85Apu0Drz9Qw9juefl2i-tJJUIgkDok-2pKxIhdo8Ea5TQi-Rgy83qd2xGcZfu6TqK4FbWIj3ChpnJXsFWN2VEWlNtOGfaQz75E9wBJX1lUPWsKD1LtMejLCvYSeNgu9r_VZLgBeG14sklmTKJNMiOIkwPlXZOnka0u3qNxk1hKKb1yIjbPVDG60yC31-eP3-5CxrCQS2qHMUJMkuxKYmHvxvcvH-gwEp9FVDCZXZnwYBhRYcGGObc3AMHr9bfjkdmekP4E3NBaDnxmdj5KkUdPOHOkwDXQ""#,
    // A point that is not on its curve, a secret that is too short, a kind and a curve that nobody knows.
    r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU""#,
    r#""kty":"oct","k":"c2hvcnQ""#,
    r#""kty":"XYZ""#,
    r#""kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#,
];
const MEMBERS: [&str; 16] = [
    r#","alg":"ES256""#,
    r#","alg":"RS256""#,
    r#","alg":"HS256""#,
    r#","alg":"EdDSA""#,
    r#","alg":"none""#,
    r#","use":"sig""#,
    r#","use":"enc""#,
    r#","key_ops":["verify"]"#,
    r#","key_ops":["sign"]"#,
    r#","d":"AQAB""#,
    r#","kid":7"#,
    r#","alg":"ES256","alg":"ES256""#,
    r#","x5c":["AAAA"]"#,
    r#","kty":"oct""#,
    r#","n":"AQAB""#,
    "",
];

pub fn run(data: &[u8]) {
    match data.split_first() {
        // A byte that begins no text.
        Some((0xff, parts)) => check(made(parts).as_bytes()),
        _ => check(data),
    }
    if let Ok(text) = std::str::from_utf8(data) {
        cached(text);
        for allowed in [None, Some(Algorithm::Rs256), Some(Algorithm::Hs256)] {
            let _ = Key::from_jwk(text, allowed);
            let _ = Key::from_pem(None, allowed, text);
        }
    }
}

/// A set of parts of two bytes each: which key with which name, and which member more.
fn made(parts: &[u8]) -> String {
    let keys = parts.chunks_exact(2).take(110).enumerate().map(|(index, part)| {
        let kind = KINDS[usize::from(part[0] % 8)];
        let kid = match part[0] >> 3 {
            0 => String::new(),
            name @ 1..=3 => format!(r#","kid":"k{name}""#),
            _ => format!(r#","kid":"n{index}""#),
        };
        let [one, other] = [part[1] & 15, part[1] >> 4].map(|member| MEMBERS[usize::from(member)]);
        format!("{{{kind}{kid}{one}{other}}}")
    });
    format!(r#"{{"keys":[{}]}}"#, keys.collect::<Vec<_>>().join(","))
}

fn check(body: &[u8]) {
    use Algorithm::{Es256, Hs256, Ps256, Rs256};
    let mut remote_keys = None;
    for (allowed, remote) in
        [(&[][..], true), (&[], false), (&[Es256, Hs256], false), (&[Ps256, Rs256], true), (&[Hs256], true)]
    {
        let set = read_set(body, allowed, remote);
        let mut refresh = Refresh::new(allowed.to_vec(), remote);
        refresh.started(0);
        let answer = Answer { status: 200, body: body.to_vec(), ..Answer::default() };
        let is_taken = matches!(refresh.answer(0, &answer, 0), Verdict::Set(_));
        assert_eq!([is_taken, refresh.has_set(), refresh.expire(KEEP)], [set.is_ok(); 3]);
        let Ok(set) = set else { continue };
        sound(body, &set, allowed, remote);
        match remote_keys {
            None if remote => remote_keys = Some(set.keys),
            // A list of algorithms takes no key in that is refused for what it says without one.
            Some(ref all) if remote => {
                let named = set.keys.iter().filter(|key| !matches!(key.material, Material::Rsa { .. }));
                assert!(named.clone().all(|key| all.contains(key)), "{set:?}");
            }
            _ => {}
        }
    }
}

fn sound(body: &[u8], set: &KeySet, allowed: &[Algorithm], remote: bool) {
    let document: Value = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(error) => return assert!(error.to_string().contains("number out of range"), "{error}"),
    };
    let listed = document["keys"].as_array().unwrap();
    assert_eq!(set.keys.len() + set.left_out.len(), listed.len());
    assert!((1..=100).contains(&set.keys.len()), "{set:?}");
    let secrets = set.keys.iter().filter(|key| matches!(key.material, Material::Secret(_))).count();
    assert!(secrets == 0 || secrets == set.keys.len() && !remote, "{set:?}");
    let kids: Vec<&str> = set.keys.iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!(kids.iter().collect::<HashSet<_>>().len(), kids.len(), "{set:?}");
    for key in &set.keys {
        assert!(allowed.is_empty() || allowed.contains(&key.algorithm), "{set:?}");
        // Another reader finds a key of this name that is meant for us.
        let is_ours = |jwk: &Value| {
            jwk["kid"].as_str() == key.kid.as_deref()
                && jwk.get("use").is_none_or(|purpose| purpose == "sig")
                && jwk.get("d").is_none()
                && (jwk["kty"] == "oct") == matches!(key.material, Material::Secret(_))
                && jwk.get("alg").is_none_or(|name| name == "Ed25519" || says(name) == Some(key.algorithm))
        };
        assert!(listed.iter().any(is_ours), "{key:?} of {document}");
    }
    for jwk in listed {
        assert!(jwk.get("d").is_none() || !is_private(jwk), "{jwk}");
    }
    Verifier::from_settings(&entry(set.keys.clone())).unwrap();
}

fn says(name: &Value) -> Option<Algorithm> {
    name.as_str().and_then(Algorithm::parse)
}

/// Whether a key is one that would be taken, were it not private.
fn is_private(jwk: &Value) -> bool {
    let mut public = jwk.clone();
    public.as_object_mut().unwrap().remove("d");
    Key::from_jwk(&public.to_string(), None).is_ok()
}

fn cached(header: &str) {
    let lower = header.to_ascii_lowercase();
    if let Some(age) = max_age(header) {
        assert!(lower.contains("max-age") && header.contains(&age.to_string()), "{header:?}: {age}");
        assert_eq!(max_age(&format!("{header},no-store")), None);
        assert_eq!(max_age(&format!("no-cache ,{header}")), None);
    }
    if !header.contains(['=', '"']) && !lower.contains("no-") {
        assert_eq!(max_age(&format!("{header},MAX-AGE=\"60\"")), Some(60), "{header:?}");
    }
}

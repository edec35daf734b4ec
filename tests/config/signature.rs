//! `signature` entries of `auth`.

use gateway::auth::Scheme;
use gateway::auth::signature::{Parameter, Signature};
use gateway::config::to_value;

use super::{SECRET, errors, load, warnings};

const KEY: &str = "keys: [{keyid: k, alg: hmac-sha256, secret: $env://JWT_SECRET}]";

fn entry(fields: &str) -> String {
    format!("auth: [{{name: a, signature: {{{fields}}}}}]\n")
}

fn read(fields: &str) -> Signature {
    let checked = load(&format!("version: 1\n{}", entry(fields))).unwrap();
    let Scheme::Signature(settings) = checked.document.auth.into_iter().next().unwrap().scheme else { panic!() };
    settings
}

#[test]
fn what_is_left_out_is_safe() {
    let settings = read(KEY);
    assert_eq!(settings.components, ["@method", "@target-uri", "content-digest"]);
    assert_eq!(settings.required, [Parameter::Created, Parameter::Nonce, Parameter::KeyId]);
    assert_eq!((settings.max_age, settings.leeway, settings.fail_open), (300, 30, false));
    assert_eq!(settings.keys[0].consumer, "k");
    assert_eq!(warnings(&entry(KEY)), [""; 0]);
}

#[test]
fn mistakes() {
    let at = "f:2: auth[0].signature";
    for (fields, expected) in [
        ("", ": needs `keys`"),
        ("keys: []", ".keys: "),
        ("keys: [{alg: ed25519, pem: x}]", ".keys[0]: needs `keyid`"),
        ("keys: [{keyid: k, pem: x}]", ".keys[0]: needs `alg`"),
        ("keys: [{keyid: k, alg: ed25519}]", ".keys[0]: needs exactly one of `secret` and `pem`"),
        ("keys: [{keyid: k, alg: ed25519, pem: x, secret: y}]", ".keys[0]: needs exactly one of `secret` and `pem`"),
        (
            "keys: [{keyid: 'a\"b', alg: hmac-sha256, secret: $env://JWT_SECRET}]",
            ".keys[0].keyid: must be 1 to 256 visible ASCII",
        ),
        ("keys: [{keyid: k, alg: hs256, secret: x}]", ".keys[0].alg: must be one of `hmac-sha256`, `ed25519`, "),
        ("keys: [{keyid: k, alg: hmac-sha256, secret: hunter2}]", ".keys[0].secret: the secret has 7 bytes"),
        ("keys: [{keyid: k, alg: hmac-sha256, secret: $env://CLASSIC}]", ".keys[0].secret: "),
        ("keys: [{keyid: k, alg: ed25519, secret: $env://JWT_SECRET}]", ".keys[0].secret: ed25519 does not go with"),
        ("keys: [{keyid: k, alg: ed25519, pem: x}]", ".keys[0].pem: not one PEM block"),
        (
            "keys: [{keyid: k, alg: hmac-sha256, secret: $env://JWT_SECRET}, {keyid: k, alg: hmac-sha256, secret: $env://JWT_SECRET}]",
            ".keys[1]: has the `keyid` of a key before it",
        ),
        (&format!("{KEY}, components: ['@status']"), ".components[0]: must be one of @method, "),
        (&format!("{KEY}, components: ['@query-param']"), ".components[0]: needs a name"),
        (&format!("{KEY}, components: [X-A]"), ".components[0]: must be a component"),
        (&format!("{KEY}, components: ['']"), ".components[0]: must be a component"),
        (&format!("{KEY}, required: [date]"), ".required[0]: must be one of `created`, "),
        (&format!("{KEY}, max_age: 25h"), ".max_age: "),
        (&format!("{KEY}, leeway: 2h"), ".leeway: "),
        (&format!("{KEY}, clock_skew: 3s"), ": unknown field `clock_skew`; our word is `leeway`"),
    ] {
        let found = errors(&entry(fields));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{at}{expected}")),
            "{fields}: {found:?} instead of {at}{expected}"
        );
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn what_weakens_it_is_told() {
    for (fields, expected) in [
        ("required: [nonce, keyid]", "`created` is not required: signatures are good for ever"),
        ("required: [created, keyid]", "`nonce` is not required: a request can be sent again"),
        ("components: ['@method']", "`components` without method and path"),
        ("components: ['@method', '@path']", ""),
    ] {
        let found = warnings(&entry(&format!("{KEY}, {fields}")));
        let right =
            if expected.is_empty() { found.is_empty() } else { found.len() == 1 && found[0].contains(expected) };
        assert!(right, "{fields}: {found:?}");
    }
    let with = |consumer: &str| {
        warnings(&format!(
            "{}consumers: [{{name: partner-a}}]\n",
            entry(&KEY.replace("}]", &format!(", consumer: {consumer}}}]")))
        ))
    };
    assert_eq!(with("partner-a"), [""; 0]);
    assert_eq!(with("somebody"), [""; 0]);
    let found = with("partnr-a");
    assert!(found.len() == 1 && found[0].contains("did you mean `partner-a`?"), "{found:?}");
}

#[test]
fn it_is_shown_without_secrets_and_public_keys_go_in_again() {
    let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----";
    let fields = format!(
        "keys: [{{keyid: e, alg: ed25519, pem: \"{pem}\", consumer: c}}], components: ['@method', '@path'], max_age: 9s, leeway: 0s, fail_open: true"
    );
    let document = load(&format!("version: 1\n{}", entry(&fields))).unwrap().document;
    let again = load(&to_value(&document).to_string()).unwrap().document;
    assert_eq!(again.auth, document.auth);
    let shown = to_value(&load(&format!("version: 1\n{}", entry(KEY))).unwrap().document).to_string();
    assert!(shown.contains("(set)") && !shown.contains(SECRET), "{shown}");
}

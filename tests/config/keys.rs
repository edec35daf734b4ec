//! `auth`: secrets, keys and what tokens must bring.

use super::{SECRET, assert_errors, errors, load, read_data};

#[test]
fn secrets_are_checked_and_never_shown() {
    let key =
        |fields: &str| errors(&format!("auth: [{{name: a, jwt: {{issuer: i, audience: a, keys: [{{{fields}}}]}}}}]"));
    let at = "f:2: auth[0].jwt.keys[0]";
    for (fields, expected) in [
        ("alg: HS256, secret: $env://JWT_SECRET", ""),
        ("alg: HS256, secret: \"$file:///run/secrets/jwt\"", ""),
        ("alg: HS256, secret: $env://NOPE", ".secret: the environment variable `NOPE` is not set"),
        ("alg: HS256, secret: $file:///nope", ".secret: cannot read `/nope`: No such file or directory (os error 2)"),
        ("alg: HS256, secret: \"${JWT_SECRET}\"", ".secret: a reference is written `$env://NAME` or `$file:///path`"),
        ("alg: HS256", ": needs exactly one of `secret`, `pem` and `jwk`"),
        ("alg: RS256, secret: $env://JWT_SECRET", ".secret: RS256 does not go with this kind of key"),
        ("secret: $env://JWT_SECRET", ": the key does not say its algorithm; set `alg`"),
        (
            "alg: none, secret: $env://JWT_SECRET",
            ".alg: must be one of `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, found `none`",
        ),
        (
            "alg: HS256, secret: 5",
            ".secret: must be a reference such as `$env://NAME` or `$file:///path`, found a number",
        ),
    ] {
        let expected: Vec<String> =
            Some(format!("{at}{expected}")).filter(|_| !expected.is_empty()).into_iter().collect();
        assert_eq!(key(fields), expected, "for {fields}");
    }
    for (fields, part) in [
        ("alg: HS256, secret: $env://EMPTY", "empty"),
        ("alg: HS256, secret: $env://CLASSIC", "know"),
        ("alg: HS256, secret: hunter2hunter2", "32"),
    ] {
        let found = key(fields);
        assert!(found.len() == 1 && found[0].contains(part), "for {fields}: {found:?}");
        assert!(!found[0].contains("hunter2") && !found[0].contains("your-secret-key"), "{found:?}");
    }

    let text = format!("version: 1\nauth: [{{name: a, jwt: {{keys: [{{alg: HS256, secret: {SECRET}}}]}}}}]\n");
    let shown = format!("{:?}", load(&text).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains(&format!("{:?}", SECRET.as_bytes())), "{shown}");
}

#[test]
fn public_keys() {
    let vectors: serde_json::Value = serde_json::from_str(&read_data("tests/data/own/jwks_cases.json")).unwrap();
    let rsa = &vectors["meta"]["good_key"];
    let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----";
    let keys = |fields: &str| format!("version: 1\nauth: [{{name: a, jwt: {{issuer: i, audience: a, {fields}}}}}]\n");
    let read = |fields: &str| {
        let checked = load(&keys(fields)).unwrap();
        assert_eq!(checked.warnings, [], "for {fields}");
        let gateway::auth::Scheme::Jwt(jwt) = checked.document.auth.into_iter().next().unwrap().scheme else {
            panic!()
        };
        jwt.keys.into_iter().map(|key| (key.kid.unwrap_or_default(), key.algorithm.name())).collect::<Vec<_>>()
    };
    let of = |kid: &str, name: &'static str| vec![(kid.to_owned(), name)];
    assert_eq!(read(&format!("keys: [{{jwk: {rsa}}}]")), of("rsa1", "RS256"));
    assert_eq!(read(&format!("keys: [{{jwk: '{rsa}', kid: mine}}]")), of("mine", "RS256"));
    assert_eq!(read(&format!("keys: [{{kid: e, pem: \"{pem}\"}}]")), of("e", "EdDSA"));
    for (fields, expected) in [
        (format!("algorithms: [ES256], keys: [{{jwk: {rsa}}}]"), ".keys[0]: RS256 is not among `algorithms`"),
        (
            format!("keys: [{{jwk: {rsa}, alg: PS256}}]"),
            ".keys[0].jwk: the key is for RS256, the configuration says PS256",
        ),
        (
            format!("keys: [{{kid: k, alg: RS256, pem: \"{pem}\"}}]"),
            ".keys[0].pem: RS256 does not go with this kind of key",
        ),
        (format!("keys: [{{jwk: {rsa}}}, {{jwk: {rsa}}}]"), ".keys[1]: has the `kid` of a key before it"),
        ("keys: [{pem: nonsense}]".to_owned(), ".keys[0].pem: not one PEM block"),
        ("keys: [{jwk: {kty: RSA}}]".to_owned(), ".keys[0].jwk: `n` is missing or not a string"),
        ("keys: []".to_owned(), ".keys: must have at least one entry"),
        (
            "leeway: 1s".to_owned(),
            ": needs `keys`: a list of `{kid, alg, secret}`, or with `pem` or `jwk` instead of `secret`; or `jwks`: `{url}` or `{file}`",
        ),
    ] {
        assert_eq!(load(&keys(&fields)).unwrap_err(), format!("f:2: auth[0].jwt{expected}"), "for {fields}");
    }
    let oct = "keys: [{jwk: {kty: oct, alg: HS256, k: a0Q4M25mMHNMMm1acTl4VmI0dFl3N2NSaDF1RWo2R2FQcA}}]";
    let warnings = load(&keys(oct)).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].message, "a secret in clear; write `$env://NAME` or `$file:///path`");
}

#[test]
fn the_rest_of_a_jwt_entry() {
    let text = "version: 1\nauth:\n- name: a\n  optional: true\n  jwt:\n    issuer: i\n    audience: b\n    keys: [{alg: HS256, secret: $env://JWT_SECRET}]\n    \
        leeway: 5s\n    max_lifetime: 1h\n    require: [exp, nbf]\n    source: [header, \"query:t\", \"cookie:T\"]\n    \
        claims: {consumer: client.id, roles: r, headers: {X-User: sub}}\n";
    let auth = load(text).unwrap().document.auth.remove(0);
    let gateway::auth::Scheme::Jwt(jwt) = auth.scheme else { panic!() };
    assert!(auth.optional);
    assert_eq!((jwt.leeway, jwt.max_lifetime, jwt.require.len()), (5, 3600, 2));
    use gateway::auth::Source;
    assert_eq!(jwt.source, [Source::Header, Source::Query("t".into()), Source::Cookie("T".into())]);
    assert_eq!(
        (&*jwt.consumer_claim, jwt.roles_claim.as_deref(), jwt.permissions_claim),
        ("client.id", Some("r"), None)
    );
    assert_eq!(jwt.headers, [("x-user".to_owned(), "sub".to_owned())]);
    let with = |fields: &str| {
        errors(&format!(
            "auth: [{{name: a, jwt: {{issuer: i, audience: b, keys: [{{alg: HS256, secret: $env://JWT_SECRET}}], {fields}}}}}]"
        ))
    };
    for (fields, expected) in [
        ("claims: {headers: {Host: sub}}", "claims.headers.Host: this header is not a claim's to set"),
        (
            "claims: {headers: {X_User: sub}}",
            "claims.headers.X_User: nginx drops headers with an underscore in their name; write `-`",
        ),
        (
            "claims: {headers: {X-A: sub, x-a: sub}}",
            "claims.headers.x-a: stands here twice; the case of a header's name does not count",
        ),
        ("claims: {headers: {\"a b\": sub}}", "claims.headers.`a b`: must be the name of a header"),
        (
            "claims: {consumer: a..b}",
            "claims.consumer: must be the name of a claim, dotted to walk objects, of at most 128 bytes",
        ),
        ("source: [body]", "source[0]: must be `header`, `query:NAME` or `cookie:NAME`"),
        ("max_lifetime: 0s", "max_lifetime: must be above 0"),
        ("revocation: {}", "revocation: needs `file`: the path of a list such as `jti ID`, `sub SUBJECT before TIME`"),
        ("revocation: {file: a}", "revocation.file: must be an absolute path"),
        ("revocation: {file: /none}", "revocation.file: cannot read `/none`: No such file or directory (os error 2)"),
        (
            "revocation: {file: /etc/lists/office}",
            "revocation.file: `/etc/lists/office`: line 1: must be `jti ID`, `sub SUBJECT [before TIME]` or `token sha256:HASH`, each with `until TIME` or not",
        ),
        ("revocation: {file: /etc/lists/revoked, strict: true}", "revocation.strict: `true` is not supported yet"),
    ] {
        assert_eq!(with(fields), [format!("f:2: auth[0].jwt.{expected}")], "for {fields}");
    }
    assert_errors(&[
        ("auth: [{name: a}]", &["f:2: auth[0]: needs a scheme: `jwt`, `api_key`, `basic`, `signature` or `mtls`"]),
        ("auth: [{name: a, jwt: {keys: [x]}}]", &["f:2: auth[0].jwt.keys[0]: must be an object, found text"]),
    ]);
}

#[test]
fn api_keys() {
    let consumer = |key: &str| format!("consumers: [{{name: a, api_key: {key}}}]");
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    for (key, expected) in [
        (format!("\"sha256:{hash}\""), Ok(vec![hash.to_owned()])),
        (format!("[\"sha256:{}\"]", hash.to_uppercase()), Ok(vec![hash.to_owned()])),
        ("\"sha256:abc\"".to_owned(), Err("consumers[0].api_key: `sha256:` is followed by 64 hexadecimal digits")),
        ("[short]".to_owned(), Err("consumers[0].api_key[0]: the key has 5 bytes, at least 16 are needed")),
        ("\"with a blank in the middle\"".to_owned(), Err("consumers[0].api_key: a key is made of visible ASCII")),
        ("\"$env://NOBODY\"".to_owned(), Err("consumers[0].api_key: the environment variable `NOBODY` is not set")),
        ("7".to_owned(), Err("consumers[0].api_key: must be a reference")),
    ] {
        match (super::load(&format!("version: 1\n{}", consumer(&key))), expected) {
            (Ok(checked), Ok(keys)) => assert_eq!(checked.document.consumers[0].api_keys, keys, "{key}"),
            (Err(errors), Err(expected)) => assert!(errors.to_string().contains(expected), "{key}: {errors}"),
            (found, expected) => panic!("{key}: {found:?}, not {expected:?}"),
        }
    }
    let twice = format!(
        "version: 1\nconsumers:\n  - {{name: a, api_key: \"sha256:{hash}\"}}\n  - {{name: b, api_key: [\"sha256:{hash}\"]}}"
    );
    let errors = super::load(&twice).unwrap_err().to_string();
    assert_eq!(errors, "f:4: consumers[1].api_key: has an API key that consumers[0] has too");
}

#[test]
fn sets_from_elsewhere() {
    use gateway::auth::{Algorithm, Jwks, Scheme};
    let entry = |fields: &str| format!("auth: [{{name: a, jwt: {{issuer: i, audience: b, {fields}}}}}]");
    let url = |url: &str, ca: Option<&str>| Jwks::Url { url: url.to_owned(), ca: ca.map(str::to_owned) };
    for (fields, source, algorithms, warned) in [
        ("jwks: {file: /etc/jwks.json}", Jwks::File("/etc/jwks.json".into()), &[][..], None),
        ("jwks: {url: \"https://i.example/jwks\"}", url("https://i.example/jwks", None), &[], None),
        (
            "jwks: {url: \"https://i.example/jwks\", ca: /etc/ca.pem}, algorithms: [RS256, ES256]",
            url("https://i.example/jwks", Some("/etc/ca.pem")),
            &[Algorithm::Rs256, Algorithm::Es256],
            None,
        ),
        ("jwks: {url: \"http://127.0.0.1:8080/jwks\"}", url("http://127.0.0.1:8080/jwks", None), &[], None),
        (
            "jwks: {url: \"http://i.example/jwks\"}",
            url("http://i.example/jwks", None),
            &[],
            Some(
                "f:2: auth[0].jwt.jwks.url: is `http`: whoever is on the way can hand us keys and sign tokens; write `https`",
            ),
        ),
    ] {
        let checked = load(&format!("version: 1\n{}", entry(fields))).unwrap();
        let Scheme::Jwt(jwt) = &checked.document.auth[0].scheme else { panic!() };
        assert_eq!((jwt.jwks.as_ref(), &*jwt.algorithms, jwt.keys.len()), (Some(&source), algorithms, 0), "{fields}");
        let warnings: Vec<String> = checked.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, warned.into_iter().collect::<Vec<_>>(), "{fields}");
    }
    let key = "keys: [{alg: HS256, secret: $env://JWT_SECRET}]";
    for (fields, expected) in [
        (
            "leeway: 5s",
            ": needs `keys`: a list of `{kid, alg, secret}`, or with `pem` or `jwk` instead of `secret`; or `jwks`: `{url}` or `{file}`",
        ),
        (&*format!("{key}, jwks: {{file: /a}}"), ".jwks: stands beside `keys`; write another entry for other keys"),
        ("jwks: {}", ".jwks: needs `url` or `file`"),
        ("jwks: {file: /a, url: \"https://a/\"}", ".jwks: has both `url` and `file`"),
        ("jwks: {file: a.json}", ".jwks.file: must be an absolute path"),
        ("jwks: {file: /a, ca: /b}", ".jwks.ca: belongs to a `url`"),
        ("jwks: {url: \"https://a/\", ca: b}", ".jwks.ca: must be an absolute path"),
        (
            "jwks: {url: \"http://a/\", ca: /b}",
            ".jwks.url: is `http`: there are no certificates that `ca` could be for",
        ),
        ("jwks: {url: \"ftp://a/\"}", ".jwks.url: must be a URL that begins with `https://` or `http://`"),
        ("jwks: {url: \"https://u:p@a/\"}", ".jwks.url: must be a URL without user and password"),
        ("jwks: {file: /a, uri: \"https://a/\"}", ".jwks: unknown field `uri`; our word is `url`"),
        ("jwks: https://a/", ".jwks: must be an object, found text"),
    ] {
        assert_eq!(errors(&entry(fields)), [format!("f:2: auth[0].jwt{expected}")], "for {fields}");
    }
}

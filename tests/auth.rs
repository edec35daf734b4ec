//! Tokens, keys and permissions against our own vectors, Wycheproof, the JOSE cookbook and jsonwebtoken.
// Helpers of tests are tests to us, not to clippy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/jwt.rs"]
mod jwt;

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway::auth::{
    Algorithm, ArchivedJwt, ArchivedRequirement, ArchivedSource, Claims, Jwt, Key, KeyError, KeySet, Lookup, Material,
    Requirement, Source, Verifier, allows, find_token, matches,
};
use gateway::types::{Header, Method, Protocol, Reason, Request, SECOND};
use jwt::entry;
use proptest::prelude::*;
use rkyv::rancor::Error;
use serde_json::{Value, json};

/// 2026-01-01, in microseconds.
const WALL: u64 = 1_767_225_600 * SECOND;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn attack_cases() {
    let document = own("jwt_attack_cases.json");
    let policies = document["meta"]["policies"].as_object().unwrap();
    let mut claims = Claims::new();
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let (id, name) = (case["id"].as_str().unwrap(), case["name"].as_str().unwrap());
        let policy = &policies[case["policy"].as_str().unwrap()];
        let verifier = Verifier::from_settings(&policy_settings(policy)).unwrap();
        let token = match case["token"].as_str() {
            Some(token) => token.to_owned(),
            None => case["gen"]["unit"].as_str().unwrap().repeat(case["gen"]["count"].as_u64().unwrap() as usize),
        };
        // Twice: the second time the header is known.
        let first = verifier.verify(token.as_bytes(), WALL, &mut claims);
        let second = verifier.verify(token.as_bytes(), WALL, &mut claims);
        assert_eq!(first, second, "{id} {name}");
        assert_eq!(first.is_ok(), claims.has("iss"), "{id}: claims exactly when verified");
        match (case["expect"].as_str().unwrap(), first) {
            ("accept", Ok(())) => assert_eq!(claims.subject(), Some("user-1"), "{id}"),
            ("reject", Err(reason)) => assert_eq!((reason.status(), reason.public()), (401, "auth.invalid"), "{id}"),
            ("either", Ok(())) => {}
            ("either", Err(_)) => refused.push(id),
            (expect, verdict) => wrong.push(format!("{id} {name}: expected {expect}, got {verdict:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(document["cases"].as_array().unwrap().len(), 136);
    // What the vectors leave open, and we decide: a wrong type of `sub` or `iat`, control characters in `sub`, times
    // beyond the year 9999, `b64` in any form, half surrogates, depth, foreign `typ`, anything but one line.
    assert_eq!(
        refused,
        [
            "crit-010",
            "time-022",
            "time-026",
            "time-030",
            "claim_out-000",
            "claim_out-002",
            "claim_out-004",
            "form-010",
            "form-028",
            "form-032",
            "form-042"
        ]
    );
}

#[test]
fn permission_cases() {
    let document = own("permission_cases.json");
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 25);
    let mut open = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let required = case["required"].as_str().unwrap();
        let allowed = match case.get("granted") {
            Some(granted) => granted.as_array().unwrap().iter().any(|name| matches(name.as_str().unwrap(), required)),
            // As a claim of a token: the JSON type counts.
            None => {
                let mut claims = Claims::new();
                let token = sign(&json!({"exp": far(), "p": case["granted_raw"]}));
                plain().verify(token.as_bytes(), WALL, &mut claims).unwrap();
                claims.list("p").any(|name| matches(name, required))
            }
        };
        match case["expect"].as_str().unwrap() {
            "allow" => assert!(allowed, "{id}"),
            "deny" => assert!(!allowed, "{id}"),
            _ => open.push((id, allowed)),
        }
    }
    assert_eq!(
        open,
        [
            ("permission-008", false),
            ("permission-012", false),
            ("permission-034", false),
            ("permission-040", true),
            ("permission-042", true)
        ]
    );
}

#[test]
fn requirements_of_a_route_read_in_place() {
    let requirement = Requirement::new(true, vec!["orders:read".into(), "orders:write".into()]).unwrap();
    let bytes = rkyv::to_bytes::<Error>(&requirement).unwrap();
    let archived = rkyv::access::<ArchivedRequirement, Error>(&bytes).unwrap();
    let mut claims = Claims::new();
    let token = sign(&json!({"exp": far(), "scope": "openid orders:read", "realm": {"roles": ["orders:write"]}}));
    plain().verify(token.as_bytes(), WALL, &mut claims).unwrap();
    assert!(!allows(claims.list("scope"), archived));
    assert!(allows(claims.list("scope").chain(claims.list("realm.roles")), archived));
}

#[test]
fn authorization_headers() {
    let document = own("header_cases.json");
    let sources = rkyv::to_bytes::<Error>(&vec![Source::Header]).unwrap();
    let sources = rkyv::access::<rkyv::vec::ArchivedVec<ArchivedSource>, Error>(&sources).unwrap();
    let mut seen = 0;
    for case in document["cases"].as_array().unwrap().iter().filter(|case| case["cat"] == "authorization") {
        let headers = case["headers"].as_array().unwrap().iter();
        let request = Headers(headers.map(|pair| [&pair[0], &pair[1]].map(|text| text.as_str().unwrap())).collect());
        let found = find_token(&request, sources) == Lookup::Found(b"VALID");
        assert_eq!(found, case["expect"] == "200", "{}", case["name"]);
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn sources_in_their_order() {
    let sources = vec![Source::Header, Source::Query("token".into()), Source::Cookie("jwt".into())];
    let sources = rkyv::to_bytes::<Error>(&sources).unwrap();
    let sources = rkyv::access::<rkyv::vec::ArchivedVec<ArchivedSource>, Error>(&sources).unwrap();
    for (headers, expected) in [
        (vec![["authorization", "Bearer a"], ["?", "token=b"], ["cookie", "jwt=c"]], Lookup::Found(b"a".as_slice())),
        (vec![["authorization", "Basic a"], ["?", "token=b"], ["cookie", "jwt=c"]], Lookup::Found(b"b")),
        (vec![["?", "token="], ["cookie", "jwt=c"]], Lookup::Found(b"c")),
        (vec![["authorization", "Bearer"], ["cookie", "jwt=c"]], Lookup::Malformed),
        (vec![["cookie", "jwt=c"], ["cookie", "a=b"]], Lookup::Malformed),
        (vec![], Lookup::Absent),
    ] {
        assert_eq!(find_token(&Headers(headers.clone()), sources), expected, "{headers:?}");
    }
}

/// A request of headers alone; the one called `?` is the query.
struct Headers<'a>(Vec<[&'a str; 2]>);

impl Request for Headers<'_> {
    fn method(&self) -> Method {
        Method::Get
    }
    fn host(&self) -> &[u8] {
        b""
    }
    fn path(&self) -> &[u8] {
        b"/"
    }
    fn target(&self) -> &[u8] {
        b"/"
    }
    fn query(&self) -> &[u8] {
        self.header(b"?").one().unwrap_or_default()
    }
    fn client(&self) -> std::net::IpAddr {
        std::net::Ipv4Addr::LOCALHOST.into()
    }
    fn header_lines(&self, _: &[u8], _: &mut dyn FnMut(&[u8])) {}
    fn protocol(&self) -> Protocol {
        Protocol::Http
    }
    fn header(&self, name: &[u8]) -> Header<'_> {
        let mut lines = self.0.iter().filter(|[key, _]| key.as_bytes().eq_ignore_ascii_case(name));
        match (lines.next(), lines.next()) {
            (None, _) => Header::Absent,
            (Some([_, value]), None) => Header::One(value.as_bytes()),
            _ => Header::Many,
        }
    }
}

#[test]
fn json_test_suite() {
    let Some(text) = external("jsontestsuite/test_parsing.jsonl") else { return };
    let mut document = gateway::auth::json::Document::default();
    let (mut yes, mut no) = (0, 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let bytes = match case["b64"].as_str() {
            Some(text) => STANDARD.decode(text).unwrap(),
            None => generated(&case["generate"]),
        };
        let read = document.read(&bytes, usize::MAX).is_ok();
        match name.get(..2).unwrap() {
            // RFC 8259 leaves names open, RFC 7519 does not.
            "y_" if name.starts_with("y_object_duplicated_key") => assert!(!read, "{name}"),
            "y_" => {
                assert!(read, "{name}");
                yes += 1;
            }
            "n_" => {
                assert!(!read, "{name}");
                no += 1;
            }
            _ => assert!(!read || std::str::from_utf8(&bytes).is_ok(), "{name}"),
        }
    }
    assert!(yes > 80 && no > 180, "{yes} {no}");
}

#[test]
fn wycheproof_jws() {
    let Some(text) = external("wycheproof/json_web_signature_test.json") else { return };
    let overrides: Value = serde_json::from_str(&external("wycheproof/OVERRIDES.json").unwrap()).unwrap();
    let expect = |test: &Value| {
        let id = &test["tcId"];
        let list = overrides["overrides"].as_array().unwrap();
        match list.iter().find(|entry| entry["tcId"] == *id).map(|entry| entry["use"].as_str().unwrap()) {
            Some("either") => None,
            Some(verdict) => Some(verdict == "accept"),
            // JWK algorithm `ES521` is not a registered name: the key is refused.
            None if *id == 347 || *id == 351 => Some(false),
            None => Some(test["result"] == "valid"),
        }
    };
    assert_eq!(jws_groups(&text, expect), 401);
}

#[test]
fn wycheproof_jwk_sets() {
    let Some(text) = external("wycheproof/json_web_key_test.json") else { return };
    let mut differs = Vec::new();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut claims = Claims::new();
    for group in document["testGroups"].as_array().unwrap() {
        let keys = group.get("public").or(group.get("private")).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let accepted = verifier_for(keys)
                .is_ok_and(|verifier| verifier.verify_signature(jws(test).as_bytes(), &mut claims).is_ok());
            if accepted != (test["result"] == "valid") {
                differs.push((test["tcId"].as_u64().unwrap(), test["comment"].as_str().unwrap().to_owned(), accepted));
            }
        }
    }
    assert_eq!(differs, Vec::<(u64, String, bool)>::new());
}

#[test]
fn wycheproof_signatures() {
    for (file, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363_test", Algorithm::Es256),
        ("ecdsa_secp384r1_sha384_p1363_test", Algorithm::Es384),
        ("ecdsa_secp521r1_sha512_p1363_test", Algorithm::Es512),
        ("ed25519_test", Algorithm::EdDsa),
        ("rsa_signature_2048_sha256_test", Algorithm::Rs256),
        ("rsa_pss_2048_sha256_mgf1_32_test", Algorithm::Ps256),
        ("hmac_sha256_test", Algorithm::Hs256),
        ("hmac_sha384_test", Algorithm::Hs384),
        ("hmac_sha512_test", Algorithm::Hs512),
    ] {
        let Some(text) = external(&format!("wycheproof/{file}.json")) else { continue };
        let document: Value = serde_json::from_str(&text).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        for group in document["testGroups"].as_array().unwrap() {
            for test in group["tests"].as_array().unwrap() {
                let material = wycheproof_material(group, test, algorithm);
                let signature = unhex(test.get("sig").or(test.get("tag")).unwrap());
                let verdict = gateway::auth::verify_message(algorithm, &material, &unhex(&test["msg"]), &signature);
                match (test["result"].as_str().unwrap(), verdict) {
                    // Shorter keys and truncated tags are outside JWA.
                    (_, Err(KeyError::SecretShort(..))) => continue,
                    ("valid", Ok(verdict)) if !is_truncated(algorithm, &signature) => {
                        assert!(verdict, "{file} {}", test["tcId"]);
                        valid += 1;
                    }
                    ("invalid", Ok(verdict)) => {
                        assert!(!verdict, "{file} {}", test["tcId"]);
                        invalid += 1;
                    }
                    ("acceptable" | "valid", Ok(_)) => {}
                    (result, verdict) => panic!("{file} {}: {result} {verdict:?}", test["tcId"]),
                }
            }
        }
        assert!(valid > 5 && invalid > 20, "{file}: {valid} valid, {invalid} invalid");
    }
}

#[test]
fn jose_cookbook() {
    let Some(_) = external("jose_cookbook/jws/4_1.rsa_v15_signature.json") else { return };
    let mut claims = Claims::new();
    for (file, expected) in [
        ("jws/4_1.rsa_v15_signature.json", true),
        ("jws/4_2.rsa-pss_signature.json", true),
        ("jws/4_3.ecdsa_signature.json", true),
        ("jws/4_4.hmac-sha2_integrity_protection.json", true),
        ("jws/4_5.signature_with_detached_content.json", false),
        ("jws/4_6.protecting_specific_header_fields.json", false),
        ("curve25519/jws.json", true),
        ("rfc7797/4.2.hmac-sha2_b64_false.json", false),
        ("rfc7797/hmac-sha2_b64_false.json", false),
    ] {
        let document: Value = serde_json::from_str(&external(&format!("jose_cookbook/{file}")).unwrap()).unwrap();
        let mut jwk = document["input"]["key"].clone();
        let object = jwk.as_object_mut().unwrap();
        for private in ["d", "p", "q", "dp", "dq", "qi"] {
            object.remove(private);
        }
        let algorithm = document["signing"]["protected"]["alg"].as_str().and_then(Algorithm::parse);
        object.remove("alg");
        let key = Key::from_jwk(&jwk.to_string(), algorithm).unwrap_or_else(|error| panic!("{file}: {error}"));
        let verifier = Verifier::from_settings(&Jwt { keys: vec![key], ..settings() }).unwrap();
        let token = document["output"]["compact"].as_str().unwrap_or_default();
        assert_eq!(verifier.verify_signature(token.as_bytes(), &mut claims).is_ok(), expected, "{file}");
        // The JSON serializations are no bearer tokens.
        for form in ["json", "json_flat"] {
            let text = document["output"][form].to_string();
            assert!(verifier.verify_signature(text.as_bytes(), &mut claims).is_err(), "{file}: {form}");
        }
    }
}

#[test]
fn jose_cookbook_keys() {
    let Some(_) = external("jose_cookbook/jwk/3_1.ec_public_key.json") else { return };
    for (file, algorithm) in [
        ("3_1.ec_public_key", Some(Algorithm::Es512)),
        ("3_2.ec_private_key", None),
        ("3_3.rsa_public_key", Some(Algorithm::Rs256)),
        ("3_4.rsa_private_key", None),
        ("3_5.symmetric_key_mac_computation", Some(Algorithm::Hs256)),
    ] {
        let jwk = external(&format!("jose_cookbook/jwk/{file}.json")).unwrap();
        let key = Key::from_jwk(&jwk, Some(Algorithm::Rs256).filter(|_| file.contains("rsa")));
        // A private key does not belong where keys are read: whoever put it there shall learn of it.
        assert_eq!(key.ok().map(|key| key.algorithm), algorithm, "{file}");
    }
}

#[test]
fn key_sets_of_a_fake_issuer() {
    let document = own("jwks_cases.json");
    let good = &document["meta"]["good_key"];
    for case in document["cases"].as_array().unwrap() {
        let (id, name) = (case["id"].as_str().unwrap(), case["name"].as_str().unwrap());
        let text = match &case["jwks"] {
            Value::String(text) => text.clone(),
            Value::Object(generate) if generate.contains_key("generate") => {
                let keys = (0..10_000).map(|i| {
                    let mut key = good.clone();
                    key["kid"] = json!(format!("k{i}"));
                    key
                });
                json!({"keys": keys.collect::<Vec<_>>()}).to_string()
            }
            document => document.to_string(),
        };
        let set = KeySet::from_json(&text, None, true);
        match case["expect"].as_str().unwrap() {
            "use_good" => {
                let set = set.unwrap_or_else(|error| panic!("{id} {name}: {error}"));
                assert_eq!((set.keys.len(), set.left_out.len()), (1, 1), "{id} {name}");
                assert_eq!(set.keys[0].kid.as_deref(), Some("rsa1"));
            }
            "keep_old" | "reject_set" => assert!(set.is_err(), "{id} {name}"),
            "no_key" => {
                assert!(set.is_err_and(|error| matches!(error, KeyError::None | KeyError::Malformed(_))), "{id}")
            }
            other => panic!("{id}: {other}"),
        }
    }
}

#[test]
fn claims_of_a_token() {
    let verifier = plain();
    let mut claims = Claims::new();
    let token = sign(&json!({
        "exp": far(), "iat": 1_700_000_000, "sub": "u\u{e9}", "jti": "j-1", "n": 12.50, "t": true, "none": null,
        "realm_access": {"roles": ["a", "b c"], "deep": {"x": "y"}}, "https://example.com/roles": ["r"],
        "https://example.com/o": {"k": "v"}, "scope": " read  write ", "mixed": ["a", 1], "crlf": "a\r\nX: 1",
        "bell": "a\u{7}", "quote": "say \"hi\" \\ / \u{1f600}", "empty": "", "customer": 42, "nested": [["a"]],
    }));
    verifier.verify(token.as_bytes(), WALL, &mut claims).unwrap();
    let list = |path: &str| claims.list(path).collect::<Vec<_>>();
    assert_eq!(claims.subject(), Some("u\u{e9}"));
    assert_eq!(claims.id(), Some("j-1"));
    assert_eq!(claims.expires(), Some(4_102_444_800 * SECOND));
    assert_eq!(claims.issued(), Some(1_700_000_000 * SECOND));
    assert_eq!(claims.string("realm_access.deep.x"), Some("y"));
    assert_eq!(claims.string("realm_access.deep"), None);
    assert_eq!(claims.string("quote"), Some("say \"hi\" \\ / \u{1f600}"));
    assert_eq!(claims.string("https://example.com/o.k"), Some("v"), "a name with dots, then a path");
    assert_eq!(list("realm_access.roles"), ["a", "b c"]);
    assert_eq!(list("https://example.com/roles"), ["r"]);
    assert_eq!(list("scope"), ["read", "write"]);
    for path in ["mixed", "n", "t", "none", "realm_access", "absent", "nested", "empty", "", ".", "scope.x"] {
        assert_eq!(list(path), Vec::<&str>::new(), "{path}");
    }
    assert_eq!(claims.header_value("n"), Some("12.5"));
    assert_eq!(claims.header_value("t"), Some("true"));
    assert_eq!(claims.header_value("sub"), Some("u\u{e9}"));
    for path in ["crlf", "bell", "none", "realm_access", "empty", "absent"] {
        assert_eq!(claims.header_value(path), None, "{path}");
    }
    assert_eq!(claims.consumer("customer"), Some("42"));
    assert_eq!(claims.consumer("t"), None);
    assert!(claims.has("customer") && !claims.has("none") && !claims.has("absent"));
    assert_eq!(format!("{claims:?}"), "Claims { read: true, .. }");

    assert_eq!(verifier.verify(b"a.b.c", WALL, &mut claims), Err(Reason::AuthMalformed));
    assert_eq!((claims.subject(), claims.expires(), claims.string("quote")), (None, None, None), "nothing is left");
}

#[test]
fn times_and_required_claims() {
    let now = WALL / SECOND;
    let base = Jwt { leeway: 60, require: vec!["exp".into()], ..settings() };
    let with = |change: &dyn Fn(&mut Jwt)| {
        let mut jwt = base.clone();
        change(&mut jwt);
        jwt
    };
    let lifetime = with(&|jwt| jwt.max_lifetime = 3600);
    let audience = with(&|jwt| jwt.audience = Some("api".into()));
    let issuer = with(&|jwt| jwt.issuer = Some("me".into()));
    let subject = with(&|jwt| jwt.require = vec!["sub".into()]);
    for (jwt, payload, expected) in [
        (&base, json!({"exp": now - 59}), Ok(())),
        (&base, json!({"exp": now - 60}), Err(Reason::AuthExpired)),
        (&base, json!({"exp": now as f64 - 59.5}), Ok(())),
        (&base, json!({"exp": 1e300}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now * 1000}), Err(Reason::AuthClaims)),
        (&base, json!({}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 9, "nbf": now + 60}), Ok(())),
        (&base, json!({"exp": now + 99, "nbf": now + 61}), Err(Reason::AuthNotYet)),
        (&base, json!({"exp": now + 99, "iat": now + 61}), Err(Reason::AuthNotYet)),
        (&base, json!({"exp": now + 99, "nbf": "0"}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "iat": true}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "iss": 1}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "jti": null}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "sub": "a\nb"}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "aud": ["a", 1]}), Err(Reason::AuthClaims)),
        (&base, json!({"exp": now + 99, "aud": "anybody"}), Ok(())),
        (&lifetime, json!({"exp": now + 3600, "iat": now}), Ok(())),
        (&lifetime, json!({"exp": now + 3601, "iat": now}), Err(Reason::AuthClaims)),
        (&lifetime, json!({"exp": now + 3600}), Err(Reason::AuthClaims)),
        (&audience, json!({"exp": now + 99, "aud": ["x", "api"]}), Ok(())),
        (&audience, json!({"exp": now + 99, "aud": []}), Err(Reason::AuthClaims)),
        (&audience, json!({"exp": now + 99}), Err(Reason::AuthClaims)),
        (&issuer, json!({"exp": now + 99, "iss": "me"}), Ok(())),
        (&issuer, json!({"exp": now + 99, "iss": ["me"]}), Err(Reason::AuthClaims)),
        (&issuer, json!({"exp": now + 99, "iss": "me "}), Err(Reason::AuthClaims)),
        (&subject, json!({"sub": "x"}), Ok(())),
        (&subject, json!({"exp": now + 99}), Err(Reason::AuthClaims)),
    ] {
        let verdict = Verifier::from_settings(jwt).unwrap().verify(sign(&payload).as_bytes(), WALL, &mut Claims::new());
        assert_eq!(verdict, expected, "{payload}");
    }
}

#[test]
fn a_kid_selects_the_key() {
    let key = |kid: Option<&str>, fill: u8| Key {
        kid: kid.map(str::to_owned),
        algorithm: Algorithm::Hs256,
        material: Material::Secret(vec![fill; 32]),
    };
    let verify = |keys: &[Key], kid: Option<&str>, fill: u8| {
        let jwt = Jwt { keys: keys.to_vec(), ..settings() };
        let mut header = json!({"alg": "HS256"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        let token = sign_with(&header, &json!({"exp": far()}), &[fill; 32]);
        Verifier::from_settings(&jwt).unwrap().verify(token.as_bytes(), WALL, &mut Claims::new())
    };
    let (a, b, c, d) = (key(Some("a"), 1), key(Some("b"), 2), key(None, 3), key(None, 4));
    let keys = [a, b, c, d];
    for (kid, fill, expected) in [
        (Some("a"), 1, Ok(())),
        (Some("a"), 2, Err(Reason::AuthSignature)),
        (Some("a"), 3, Err(Reason::AuthSignature)),
        (Some("x"), 3, Ok(())),
        (Some("x"), 4, Ok(())),
        (Some("x"), 1, Err(Reason::AuthSignature)),
        (None, 4, Ok(())),
        (None, 1, Err(Reason::AuthSignature)),
    ] {
        assert_eq!(verify(&keys, kid, fill), expected, "{kid:?} {fill}");
    }
    assert_eq!(verify(&keys[..2], Some("x"), 1), Err(Reason::AuthKeyUnknown));
    assert_eq!(verify(&keys[..2], None, 1), Err(Reason::AuthKeyUnknown));
    assert_eq!(verify(&keys[..1], None, 1), Ok(()));
    assert_eq!(verify(&keys[..1], Some("x"), 1), Err(Reason::AuthKeyUnknown));
}

#[test]
fn one_worker_many_verifiers() {
    // The header that one verifier accepted means nothing to the next one.
    let jwt = |fill: u8| Jwt {
        keys: vec![Key { kid: None, algorithm: Algorithm::Hs256, material: Material::Secret(vec![fill; 32]) }],
        ..settings()
    };
    let (one, two) = (Verifier::from_settings(&jwt(1)).unwrap(), Verifier::from_settings(&jwt(2)).unwrap());
    let token = |fill: u8| sign_with(&json!({"alg": "HS256"}), &json!({"exp": far()}), &[fill; 32]);
    let mut claims = Claims::new();
    for _ in 0..3 {
        assert_eq!(one.verify(token(1).as_bytes(), WALL, &mut claims), Ok(()));
        assert_eq!(one.verify(token(2).as_bytes(), WALL, &mut claims), Err(Reason::AuthSignature));
        assert_eq!(two.verify(token(1).as_bytes(), WALL, &mut claims), Err(Reason::AuthSignature));
        assert_eq!(two.verify(token(2).as_bytes(), WALL, &mut claims), Ok(()));
    }
}

#[test]
fn headers() {
    let verifier = plain();
    let payload = json!({"exp": far()});
    for (header, expected) in [
        (json!({"alg": "HS256", "typ": "application/at+JWT"}), Ok(())),
        (json!({"alg": "HS256", "typ": "JOSE"}), Err(Reason::AuthMalformed)),
        (json!({"alg": "HS256", "typ": 1}), Err(Reason::AuthMalformed)),
        (json!({"alg": "HS256", "crit": []}), Err(Reason::AuthMalformed)),
        (json!({"alg": "HS256", "b64": true}), Err(Reason::AuthMalformed)),
        (json!({"alg": "HS512"}), Err(Reason::AuthAlgorithm)),
        (json!({"alg": "none"}), Err(Reason::AuthAlgorithm)),
        (json!({"alg": "HS256", "x5t": "a", "jku": "https://evil"}), Ok(())),
        (json!({"alg": "HS256", "x": (0..70).collect::<Vec<_>>()}), Err(Reason::AuthMalformed)),
        (json!(["HS256"]), Err(Reason::AuthMalformed)),
    ] {
        let token = sign_with(&header, &payload, SECRET);
        assert_eq!(verifier.verify(token.as_bytes(), WALL, &mut Claims::new()), expected, "{header}");
    }
}

#[test]
fn secrets_stay_secret() {
    let refuse = |algorithm, secret: &[u8]| Key::from_secret(Some("k".into()), algorithm, secret).unwrap_err();
    assert_eq!(refuse(Algorithm::Hs256, b""), KeyError::SecretEmpty);
    assert_eq!(refuse(Algorithm::Hs256, &[7, 8, 9]), KeyError::SecretShort(3, 32));
    assert_eq!(refuse(Algorithm::Hs512, &SECRET[..63]), KeyError::SecretShort(63, 64));
    assert_eq!(refuse(Algorithm::Rs256, SECRET), KeyError::Kind(Algorithm::Rs256));
    for known in ["your-secret-key", "Secret", "changeme\n", "a-string-secret-at-least-256-bits-long"] {
        assert_eq!(refuse(Algorithm::Hs256, known.as_bytes()), KeyError::SecretKnown, "{known}");
    }
    assert_eq!(refuse(Algorithm::Hs256, &[0; 32]), KeyError::SecretKnown);
    let key = Key::from_secret(None, Algorithm::Hs256, SECRET).unwrap();
    let jwt = Jwt { keys: vec![key.clone()], ..settings() };
    for text in [format!("{key:?} {jwt:?}"), format!("{:?}", Verifier::from_settings(&jwt).unwrap())] {
        assert!(!text.contains("48, 49") && !text.contains("0123"), "{text}");
    }
    let error = Key::from_jwk(r#"{"kty":"oct","kid":"a","alg":"HS256","k":"c2VjcmV0LXZhbHVl"}"#, None).unwrap_err();
    assert_eq!(error.to_string(), "key \"a\": the secret has 12 bytes, the algorithm needs 32");
}

#[test]
fn keys_from_pem() {
    let Some(text) = external("wycheproof/ed25519_test.json") else { return };
    let groups = |text: &str| serde_json::from_str::<Value>(text).unwrap()["testGroups"].clone();
    let pem = groups(&text)[0]["publicKeyPem"].as_str().unwrap().to_owned();
    assert_eq!(Key::from_pem(None, None, &pem).unwrap().algorithm, Algorithm::EdDsa);
    assert!(Key::from_pem(None, Some(Algorithm::Rs256), &pem).is_err());
    for (file, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363_test", Algorithm::Es256),
        ("ecdsa_secp384r1_sha384_p1363_test", Algorithm::Es384),
        ("ecdsa_secp521r1_sha512_p1363_test", Algorithm::Es512),
        ("rsa_signature_2048_sha256_test", Algorithm::Rs256),
    ] {
        let text = external(&format!("wycheproof/{file}.json")).unwrap();
        for group in groups(&text).as_array().unwrap() {
            let pem = group["publicKeyPem"].as_str().unwrap();
            let key = Key::from_pem(None, Some(algorithm), pem).unwrap();
            let bytes = match &key.material {
                Material::Ec(point) => point.clone(),
                Material::Rsa { n, .. } => n.clone(),
                _ => panic!("{file}"),
            };
            let der = unhex(group.get("publicKeyDer").unwrap());
            assert!(der.windows(bytes.len()).any(|window| window == bytes), "{file}");
            let crlf = pem.replace('\n', "\r\n");
            assert!(Key::from_pem(None, Some(algorithm), &crlf).unwrap() == key);
            assert!(Key::from_pem(None, Some(Algorithm::Hs256), pem).is_err(), "a public key is no secret");
            assert!(Key::from_pem(None, Some(algorithm), &format!("{pem}{pem}")).is_err());
        }
        if algorithm == Algorithm::Rs256 {
            let pem = groups(&text)[0]["publicKeyPem"].as_str().unwrap().to_owned();
            assert_eq!(Key::from_pem(None, None, &pem).unwrap_err(), KeyError::AlgorithmMissing);
        }
    }
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    assert!(Key::from_pem(None, None, certificate).unwrap_err().to_string().contains("certificate"));
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    assert_eq!(Key::from_pem(None, None, private).unwrap_err(), KeyError::Private);
    for text in ["", "x", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END X-----"] {
        assert!(Key::from_pem(None, None, text).is_err(), "{text}");
    }
}

#[test]
fn an_archived_entry_verifies_as_the_entry_does() {
    let jwt = Jwt { issuer: Some("me".into()), leeway: 5, ..settings() };
    let bytes = rkyv::to_bytes::<Error>(&jwt).unwrap();
    let archived = rkyv::access::<ArchivedJwt, Error>(&bytes).unwrap();
    let verifier = Verifier::new(archived).unwrap();
    let mut claims = Claims::new();
    let good = sign(&json!({"exp": far(), "iss": "me"}));
    assert_eq!(verifier.verify(good.as_bytes(), WALL, &mut claims), Ok(()));
    let other = sign(&json!({"exp": far(), "iss": "you"}));
    assert_eq!(verifier.verify(other.as_bytes(), WALL, &mut claims), Err(Reason::AuthClaims));
    assert!(Verifier::from_settings(&Jwt { keys: Vec::new(), ..jwt }).is_err());
}

proptest! {
    #[test]
    fn agrees_with_jsonwebtoken(
        claims in prop::collection::hash_map("[a-z]{1,6}", arbitrary_json(), 0..12),
        exp in 1_000_000_000_u64..4_000_000_000,
        flip in prop::option::of(0_usize..400),
    ) {
        let mut payload = serde_json::to_value(claims).unwrap();
        for name in ["iss", "sub", "aud", "jti", "nbf", "iat"] {
            payload.as_object_mut().unwrap().remove(name);
        }
        payload["exp"] = json!(exp);
        payload["sub"] = json!("somebody");
        let mut token = sign(&payload).into_bytes();
        if let Some(at) = flip {
            let at = at % token.len();
            token[at] ^= 1;
        }
        let mut ours = Claims::new();
        let verdict = plain().verify(&token, WALL, &mut ours);
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        validation.leeway = 0;
        validation.validate_exp = false;
        let key = jsonwebtoken::DecodingKey::from_secret(SECRET);
        let theirs = jsonwebtoken::decode::<Value>(&token, &key, &validation);
        match (&verdict, &theirs) {
            (Ok(()), Ok(theirs)) => {
                prop_assert!(exp > WALL / SECOND);
                for (name, value) in theirs.claims.as_object().unwrap() {
                    prop_assert_eq!(ours.string(name), value.as_str(), "{}", name);
                    prop_assert_eq!(ours.has(name), !value.is_null());
                }
            }
            (Err(Reason::AuthExpired), Ok(_)) => prop_assert!(exp <= WALL / SECOND),
            (Err(_), Err(_)) => prop_assert!(flip.is_some()),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,100}") {
        let mut claims = Claims::new();
        let verifier = plain();
        prop_assert!(verifier.verify(&bytes, WALL, &mut claims).is_err());
        let mut document = gateway::auth::json::Document::default();
        let strict = document.read(&bytes, usize::MAX).is_ok();
        prop_assert!(!strict || serde_json::from_slice::<Value>(&bytes).is_ok());
        prop_assert!(document.read(text.as_bytes(), usize::MAX).is_err() || serde_json::from_str::<Value>(&text).is_ok());
        // Signed rubbish reaches the payload's reader.
        let signed = sign_raw(br#"{"alg":"HS256"}"#, &bytes, SECRET);
        prop_assert!(verifier.verify(signed.as_bytes(), WALL, &mut claims).is_err());
        let signed = sign_raw(&bytes, b"{}", SECRET);
        prop_assert!(verifier.verify(signed.as_bytes(), WALL, &mut claims).is_err());
        let _ = Key::from_pem(None, None, &text);
        let _ = Key::from_jwk(&text, None);
    }

    #[test]
    fn permissions_agree_with_their_definition(
        granted in "(a|b|ab|\\*|\\*\\*|)(:(a|b|\\*|\\*\\*|a\\*|)){0,4}",
        required in "(a|b|ab|)(:(a|b|ab|)){0,4}",
    ) {
        let (grants, needs) = (granted.split(':').collect::<Vec<_>>(), required.split(':').collect::<Vec<_>>());
        let (plain, rest) = match grants.split_last() {
            Some((&"**", plain)) => (plain, true),
            _ => (grants.as_slice(), false),
        };
        let length = if rest { needs.len() > plain.len() } else { needs.len() == plain.len() };
        let expected = length
            && !needs.contains(&"")
            && plain.iter().zip(&needs).all(|(grant, need)| *grant == "*" || grant == need);
        prop_assert_eq!(matches(&granted, &required), expected);
    }

    #[test]
    fn reads_what_serde_json_writes(value in arbitrary_json()) {
        let mut document = gateway::auth::json::Document::default();
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert!(document.read(text.as_bytes(), usize::MAX).is_ok(), "{}", text);
            prop_assert!(same(document.root().unwrap(), &value), "{}", text);
        }
    }
}

fn same(ours: gateway::auth::json::Value<'_>, value: &Value) -> bool {
    match value {
        Value::String(text) => ours.string() == Some(text),
        Value::Array(elements) => {
            ours.children().count() == elements.len() && ours.children().zip(elements).all(|(a, b)| same(a, b))
        }
        Value::Object(members) => {
            ours.children().count() == members.len()
                && members.iter().all(|(name, value)| ours.member(name).is_some_and(|member| same(member, value)))
        }
        other => ours.string().is_none() && other.to_string().as_str() == ours.text(),
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn far() -> u64 {
    4_102_444_800
}

fn settings() -> Jwt {
    entry(vec![Key { kid: None, algorithm: Algorithm::Hs256, material: Material::Secret(SECRET.to_vec()) }])
}

fn plain() -> Verifier {
    Verifier::from_settings(&settings()).unwrap()
}

fn sign(payload: &Value) -> String {
    jsonwebtoken::encode(
        &jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256),
        payload,
        &jsonwebtoken::EncodingKey::from_secret(SECRET),
    )
    .unwrap()
}

fn sign_with(header: &Value, payload: &Value, secret: &[u8]) -> String {
    sign_raw(header.to_string().as_bytes(), payload.to_string().as_bytes(), secret)
}

fn sign_raw(header: &[u8], payload: &[u8], secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn policy_settings(policy: &Value) -> Jwt {
    let algorithms: Vec<&str> = policy["algs"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let keys = policy["keys"].as_array().unwrap().iter().map(|jwk| {
        let algorithm = match jwk["alg"].as_str() {
            Some(_) => None,
            None => Algorithm::parse(algorithms[0]),
        };
        Key::from_jwk(&jwk.to_string(), algorithm).unwrap()
    });
    Jwt {
        issuer: Some("https://issuer.example".into()),
        audience: Some("api".into()),
        keys: keys.collect(),
        jwks: None,
        algorithms: Vec::new(),
        leeway: 60,
        require: vec!["exp".into()],
        ..settings()
    }
}

fn verifier_for(keys: &Value) -> Result<Verifier, KeyError> {
    let keys = match keys.get("keys") {
        Some(_) => KeySet::from_json(&keys.to_string(), None, false)?.keys,
        None => vec![Key::from_jwk(&keys.to_string(), None)?],
    };
    Verifier::from_settings(&Jwt { keys, ..settings() })
}

/// The token of a test; where it is given as JSON serialisation, its text, which is not a compact token.
fn jws(test: &Value) -> String {
    test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned)
}

fn jws_groups(text: &str, expect: impl Fn(&Value) -> Option<bool>) -> usize {
    let document: Value = serde_json::from_str(text).unwrap();
    let mut claims = Claims::new();
    let (mut count, mut wrong) = (0, Vec::new());
    for group in document["testGroups"].as_array().unwrap() {
        let jwk = group.get("public").or(group.get("private")).unwrap();
        let verifier = match verifier_for(jwk) {
            // Thirty-two zero bytes: no key for us, yet its tokens tell how we read base64url.
            Err(KeyError::At(_, error)) if *error == KeyError::SecretKnown => {
                let material = Material::Secret(URL_SAFE_NO_PAD.decode(jwk["k"].as_str().unwrap()).unwrap());
                let key = Key { kid: jwk["kid"].as_str().map(str::to_owned), algorithm: Algorithm::Hs256, material };
                Verifier::from_settings(&Jwt { keys: vec![key], ..settings() })
            }
            verifier => verifier,
        };
        for test in group["tests"].as_array().unwrap() {
            let verdict = match &verifier {
                Ok(verifier) => verifier
                    .verify_signature(jws(test).as_bytes(), &mut claims)
                    .map_err(|reason| reason.code().to_owned()),
                Err(error) => Err(error.to_string()),
            };
            count += 1;
            if expect(test).is_some_and(|expected| expected != verdict.is_ok()) {
                wrong.push(format!("{} {}: {verdict:?}", test["tcId"], test["comment"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    count
}

fn wycheproof_material(group: &Value, test: &Value, algorithm: Algorithm) -> Material {
    if let Some(secret) = test.get("key") {
        return Material::Secret(unhex(secret));
    }
    let key = &group["publicKey"];
    match algorithm {
        Algorithm::EdDsa => Material::Ed25519(unhex(&key["pk"])),
        Algorithm::Rs256 | Algorithm::Ps256 => {
            Material::Rsa { n: unhex(&key["modulus"]), e: unhex(&key["publicExponent"]) }
        }
        _ => Material::Ec(unhex(&key["uncompressed"])),
    }
}

fn is_truncated(algorithm: Algorithm, tag: &[u8]) -> bool {
    match algorithm {
        Algorithm::Hs256 => tag.len() < 32,
        Algorithm::Hs384 => tag.len() < 48,
        Algorithm::Hs512 => tag.len() < 64,
        _ => false,
    }
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn generated(rule: &Value) -> Vec<u8> {
    let unit = rule["unit"].as_str().or(rule["repeat"].as_str()).unwrap_or("[");
    let count = rule["count"].as_u64().or(rule["times"].as_u64()).unwrap_or(100_000);
    unit.repeat(count as usize).into_bytes()
}

fn vectors() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("GATEWAY_VECTORS").map_or_else(|| root.join("../shared/vectors"), PathBuf::from)
}

fn own(name: &str) -> Value {
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/own").join(name);
    let text = std::fs::read_to_string(vectors().join("own").join(name)).or_else(|_| std::fs::read_to_string(ours));
    serde_json::from_str(&text.unwrap()).unwrap()
}

fn external(name: &str) -> Option<String> {
    let path = vectors().join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("SKIPPED: no vectors at {}", path.display());
    }
    text
}

//! Nanoseconds per verified token, beside jsonwebtoken on the same token: `cargo bench --bench auth`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/support/jwt.rs"]
mod jwt;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use gateway::auth::{
    Algorithm, ArchivedGrants, Claims, Grants, Jwt, Key, Material, Requirement, TokenCache, Verifier, json, revocation,
};
use gateway::state::tables::revocations::Revocations;
use gateway::types::Id;
use jwt::entry;
use serde_json::Value;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const WALL: u64 = 1_767_225_600_000_000;

fn main() {
    let payload = serde_json::json!({
        "iss": "https://issuer.example", "aud": "api", "sub": "user-1234567", "exp": 4_102_444_800_u64,
        "iat": 1_767_225_000, "jti": "0f8fad5bd9cb", "scope": "orders:read orders:write",
    });
    // `-- loop N`: nothing but N verifications, for perf and callgrind.
    let mut arguments = std::env::args().skip_while(|argument| argument != "loop").skip(1);
    if let Some(rounds) = arguments.next() {
        return only(&payload, rounds.parse().unwrap());
    }
    hmac(&payload);
    parts(&payload);
    public_keys(&payload);
    tables(&payload);
}

fn only(payload: &Value, rounds: usize) {
    let signing = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), payload, &signing).unwrap();
    let material = Material::Secret(SECRET.to_vec());
    let verifier = Verifier::from_settings(&settings(vec![Key { kid: None, algorithm: Algorithm::Hs256, material }]));
    let (verifier, mut claims) = (verifier.unwrap(), Claims::new());
    for _ in 0..rounds {
        verifier.verify(black_box(token.as_bytes()), WALL, &mut claims).unwrap();
    }
}

fn hmac(payload: &Value) {
    for (name, algorithm, theirs) in [
        ("HS256", Algorithm::Hs256, jsonwebtoken::Algorithm::HS256),
        ("HS384", Algorithm::Hs384, jsonwebtoken::Algorithm::HS384),
        ("HS512", Algorithm::Hs512, jsonwebtoken::Algorithm::HS512),
    ] {
        let mut header = jsonwebtoken::Header::new(theirs);
        header.kid = Some("key-1".to_owned());
        let signing = jsonwebtoken::EncodingKey::from_secret(SECRET);
        let token = jsonwebtoken::encode(&header, payload, &signing).unwrap();
        let material = Material::Secret(SECRET.to_vec());
        let decoding = jsonwebtoken::DecodingKey::from_secret(SECRET);
        compare(name, &token, Key { kid: Some("key-1".into()), algorithm, material }, theirs, &decoding);
    }
}

fn public_keys(payload: &Value) {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::signature::KeyPair;
    use aws_lc_rs::{rand::SystemRandom, rsa, signature};
    let random = SystemRandom::new();

    let pkcs8 = signature::Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let pair = signature::Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let signing = jsonwebtoken::EncodingKey::from_ed_der(pkcs8.as_ref());
    let public = pair.public_key().as_ref().to_vec();
    let decoding = jsonwebtoken::DecodingKey::from_ed_der(&public);
    let theirs = jsonwebtoken::Algorithm::EdDSA;
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(theirs), payload, &signing).unwrap();
    unparsed("EdDSA", &signature::ED25519, &public, &token);
    let key = Key { kid: None, algorithm: Algorithm::EdDsa, material: Material::Ed25519(public) };
    compare("EdDSA", &token, key, theirs, &decoding);

    let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = signature::EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    let pair = signature::EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref()).unwrap();
    let signing = jsonwebtoken::EncodingKey::from_ec_der(pkcs8.as_ref());
    let public = pair.public_key().as_ref().to_vec();
    let decoding = jsonwebtoken::DecodingKey::from_ec_der(&public);
    let theirs = jsonwebtoken::Algorithm::ES256;
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(theirs), payload, &signing).unwrap();
    unparsed("ES256", &signature::ECDSA_P256_SHA256_FIXED, &public, &token);
    let key = Key { kid: None, algorithm: Algorithm::Es256, material: Material::Ec(public) };
    compare("ES256", &token, key, theirs, &decoding);

    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; 256];
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64};
    let message = format!("{}.{}", B64.encode(br#"{"alg":"RS256","typ":"JWT"}"#), B64.encode(payload.to_string()));
    pair.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
    let token = format!("{message}.{}", B64.encode(signature));
    let spki = pair.public_key().as_der().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki.as_ref()));
    let key = Key::from_pem(None, Some(Algorithm::Rs256), &pem).unwrap();
    unparsed("RS256", &signature::RSA_PKCS1_2048_8192_SHA256, spki.as_ref(), &token);
    let decoding = jsonwebtoken::DecodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    compare("RS256", &token, key, jsonwebtoken::Algorithm::RS256, &decoding);
}

/// What the signature alone costs, with the key parsed once and for each token.
fn unparsed(
    name: &str,
    algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm,
    public: &[u8],
    token: &str,
) {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = B64.decode(signature).unwrap();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, public);
    let parsed = key.parse().unwrap();
    let each = time(|| key.verify(black_box(message.as_bytes()), &signature).unwrap());
    let once = time(|| parsed.verify_sig(black_box(message.as_bytes()), &signature).unwrap());
    println!("{name:6} signature alone: {once:.0} ns, with the key parsed for each {each:.0} ns");
}

fn compare(name: &str, token: &str, key: Key, theirs: jsonwebtoken::Algorithm, decoding: &jsonwebtoken::DecodingKey) {
    let verifier = Verifier::from_settings(&settings(vec![key])).unwrap();
    let mut claims = Claims::new();
    verifier.verify(token.as_bytes(), WALL, &mut claims).unwrap();
    let ours = time(|| verifier.verify(black_box(token.as_bytes()), WALL, &mut claims).unwrap());
    let mut validation = jsonwebtoken::Validation::new(theirs);
    validation.set_audience(&["api"]);
    validation.set_issuer(&["https://issuer.example"]);
    #[derive(serde::Deserialize)]
    #[allow(dead_code)]
    struct Typed {
        iss: String,
        aud: String,
        sub: String,
        exp: u64,
        scope: String,
    }
    let typed = time(|| jsonwebtoken::decode::<Typed>(black_box(token), decoding, &validation).unwrap());
    let value = time(|| jsonwebtoken::decode::<Value>(black_box(token), decoding, &validation).unwrap());
    println!(
        "{name:6} {} bytes: {ours:8.0} ns; jsonwebtoken {typed:8.0} ns typed ({:.2}x), {value:8.0} ns Value ({:.2}x)",
        token.len(),
        typed / ours,
        value / ours
    );
}

fn parts(payload: &Value) {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    let text = payload.to_string();
    let encoded = B64.encode(&text);
    let mut document = json::Document::default();
    let decoded = time(|| document.decode(black_box(encoded.as_bytes()), usize::MAX).unwrap());
    let read = time(|| document.read(black_box(text.as_bytes()), usize::MAX).unwrap());
    let serde = time(|| serde_json::from_str::<Value>(black_box(&text)).unwrap());
    let skipped = time(|| serde_json::from_str::<serde::de::IgnoredAny>(black_box(&text)).unwrap());
    println!("payload of {} bytes: read {read:.0} ns, decoded and read {decoded:.0} ns", text.len());
    println!("       serde_json {serde:.0} ns Value, {skipped:.0} ns ignored");
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET);
    let message = "x".repeat(300 - 44);
    println!("HMAC-SHA256 of 256 bytes: {:.0} ns", time(|| aws_lc_rs::hmac::sign(&key, black_box(message.as_bytes()))));

    let requirement = Requirement::new(true, vec!["orders:read".into(), "orders:write".into()]).unwrap();
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&requirement).unwrap();
    let archived = rkyv::access::<gateway::auth::ArchivedRequirement, rkyv::rancor::Error>(&bytes).unwrap();
    let verifier = Verifier::from_settings(&settings(vec![Key {
        kid: None,
        algorithm: Algorithm::Hs256,
        material: Material::Secret(SECRET.to_vec()),
    }]))
    .unwrap();
    let signing = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), payload, &signing).unwrap();
    let mut claims = Claims::new();
    verifier.verify(token.as_bytes(), WALL, &mut claims).unwrap();
    println!(
        "two of two permissions: {:.0} ns",
        time(|| gateway::auth::allows(claims.list(black_box("scope")), archived))
    );
}

/// What is looked up for a token that is known, and for who sends it.
fn tables(payload: &Value) {
    let mut long = payload.clone();
    long["more"] = "x".repeat(180).into();
    let signing = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &long, &signing).unwrap();
    let (mut cache, mut claims, auth) = (TokenCache::default(), Claims::new(), Id { slot: 1, birth: 1 });
    cache.keep(auth, 1, token.as_bytes(), WALL, u64::MAX, &mut claims).unwrap();
    let known = time(|| cache.find(auth, 1, black_box(token.as_bytes()), WALL).unwrap());
    println!("a known token of {} bytes: {known:.0} ns", token.len());

    const ENTRIES: u64 = 1_000_000;
    let words: Vec<AtomicU64> = (0..2 * 1_500_000).map(|_| AtomicU64::new(0)).collect();
    let table = Revocations::new(&words);
    let key = |number: u64| revocation::key([1, 2], 3, revocation::ID, &number.to_le_bytes());
    let mut without = 0;
    for number in 0..ENTRIES {
        without += u32::from(table.put(key(number), u32::MAX, u32::MAX, 0).is_err());
    }
    let hot: Vec<u64> = (0..64).map(key).collect();
    let mut turn = 0;
    let found = time(|| {
        turn = (turn + 1) % hot.len();
        table.find(black_box(hot[turn]), 0)
    });
    // Each is asked for once, so none is in a cache.
    let asked: Vec<u64> = (0..60_000).map(|n| key(n * 7_919 % ENTRIES)).collect();
    let mut next = asked.iter().cycle();
    let cold = time(|| table.find(*black_box(next.next().unwrap()), 0));
    let mut number = ENTRIES;
    let absent = time(|| {
        number += 1;
        table.find(black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 0)
    });
    println!(
        "a revocation among {} ({without} without room): {found:.0} ns hot, {cold:.0} ns cold, {absent:.0} ns absent",
        ENTRIES
    );

    for count in [10, 10_000] {
        let names: Vec<String> = (0..count).map(|n| format!("service-{n}:{}:read", ["orders", "*"][n % 2])).collect();
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&Grants::new(&names)).unwrap();
        let grants = rkyv::access::<ArchivedGrants, rkyv::rancor::Error>(&bytes).unwrap();
        let wanted: Vec<String> = (0..count).map(|n| format!("service-{n}:orders:read")).collect();
        let mut turn = 0;
        let covered = time(|| {
            turn = (turn + 1) % wanted.len();
            assert!(grants.cover(black_box(&wanted[turn])));
        });
        println!("a permission among {count} granted: {covered:.0} ns");
    }
}

fn settings(keys: Vec<Key>) -> Jwt {
    Jwt {
        issuer: Some("https://issuer.example".into()),
        audience: Some("api".into()),
        leeway: 60,
        require: vec!["exp".into()],
        permissions_claim: Some("scope".into()),
        ..entry(keys)
    }
}

/// The best of several runs, in nanoseconds a call: the machine is shared, and noise only adds.
fn time<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..30 {
        let start = Instant::now();
        for _ in 0..2_000 {
            black_box(call());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / 2_000.0);
    }
    best
}

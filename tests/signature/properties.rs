//! What anybody signs holds, and nothing else does; all algorithms.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::auth::Key;
use gateway::auth::signature::{ALGORITHMS, Buffers, Signature, SignatureKey, SignatureVerifier, Signer};
use gateway::types::{Reason, SECOND};
use proptest::prelude::*;

use crate::support::{Fake, SECRET};
use crate::{Made, NOW};

fn verifier(key: Key) -> SignatureVerifier {
    let keys = vec![SignatureKey { key, consumer: "c".into() }];
    let settings = Signature { keys, components: vec![], max_age: 300, leeway: 30, required: vec![], fail_open: false };
    SignatureVerifier::from_settings(&settings).unwrap()
}

fn hmac_key() -> Key {
    Key::from_secret(Some("k".into()), gateway::auth::Algorithm::Hs256, SECRET.as_bytes()).unwrap()
}

fn holds(verifier: &SignatureVerifier, request: &Fake) -> Result<bool, Reason> {
    verifier.verify(request, NOW * SECOND, &mut Buffers::default()).map(|signed| signed.is_some())
}

proptest! {
    /// The test makes the base by itself, from the parts that it made the request of.
    #[test]
    fn what_is_signed_holds_and_what_is_changed_does_not(
        path in "(/[a-zA-Z0-9._~%-]{0,6}){1,4}",
        query in prop::option::of("[a-z0-9=&+%]{0,12}"),
        host in "[a-z]{1,8}(\\.[a-z]{1,5}){0,2}",
        port in prop::option::of(1u16..),
        https in any::<bool>(),
        // Each value in one line or two, with blanks around.
        fields in prop::collection::btree_map("x-[a-z]{1,5}", ("[!-~]([ -~]{0,10}[!-~])?", "[ \t]{0,3}", prop::option::of("[!-~]{1,5}")), 0..4),
        mask in 1u8..128,
        nonce in "[!#-\\[\\]-~]{1,128}",
        flip in any::<prop::sample::Index>(),
    ) {
        let scheme = if https { "https" } else { "http" };
        let written = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let own = if https { 443 } else { 80 };
        let authority = port.filter(|port| *port != own).map_or(host.clone(), |port| format!("{host}:{port}"));
        let target = query.as_ref().map_or(path.clone(), |query| format!("{path}?{query}"));
        let mut request = Fake::get(&target).host(&written.to_ascii_uppercase());
        request.scheme = scheme;
        let mut lines = Vec::new();
        for (name, (value, blanks, second)) in &fields {
            request = request.header(name, &format!("{blanks}{value}{blanks}"));
            let mut joined = value.clone();
            if let Some(second) = second {
                request = request.header(name, second);
                joined = format!("{joined}, {second}");
            }
            lines.push((format!("\"{name}\""), joined));
        }
        let derived = [
            ("@method", "GET".to_owned()),
            ("@target-uri", format!("{scheme}://{authority}{target}")),
            ("@authority", authority.clone()),
            ("@scheme", scheme.to_owned()),
            ("@request-target", target.clone()),
            ("@path", path.clone()),
            ("@query", format!("?{}", query.clone().unwrap_or_default())),
        ];
        let chosen = derived.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0);
        lines.extend(chosen.map(|(_, (name, value))| (format!("\"{name}\""), value.clone())));
        let parameters = format!(";created={NOW};keyid=\"k\";nonce=\"{nonce}\"");
        let made = Made { lines, parameters, secret: SECRET.into() };
        let verifier = verifier(hmac_key());
        prop_assert_eq!(holds(&verifier, &made.on(request.clone())), Ok(true));

        // One byte of one covered value: the signature is over what is no longer there.
        let mut other = made.clone();
        let at = flip.index(other.lines.len());
        let value = &mut other.lines[at].1;
        let place = flip.index(value.len().max(1));
        let byte = value.as_bytes().get(place).map_or(b'x', |byte| byte ^ 1);
        value.replace_range(place..(place + 1).min(value.len()), &char::from(byte).to_string());
        prop_assert_eq!(holds(&verifier, &other.on(request.clone())), Err(Reason::AuthSignature));

        // And the request, with the signature as it was.
        let mut changed = made.on(request);
        if mask & 0b111_0010 != 0 && !target.is_empty() {
            let place = flip.index(target.len());
            changed.target[place] ^= 1;
            let touches_query = query.is_some() && place >= path.len();
            let covered = if touches_query { 0b101_0010 } else { 0b011_0010 };
            // A changed question mark moves the border between the two.
            if place == path.len() || mask & covered != 0 {
                prop_assert!(holds(&verifier, &changed).is_err());
            }
        }
    }

    /// Whatever stands in the fields, it is an error and no panic.
    #[test]
    fn nonsense_is_refused(input in "[ -~]{0,80}", signature in "[ -~]{0,40}") {
        let request = Fake::get("/").header("signature-input", &input).header("signature", &signature);
        prop_assert!(holds(&verifier(hmac_key()), &request).is_err());
        let request = Fake::get("/").header("signature-input", &format!("a=({input}")).header("signature", &format!("a=:{signature}:"));
        prop_assert!(holds(&verifier(hmac_key()), &request).is_err());
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Private and public key of an algorithm, as a user has them in files.
fn pair(alg: &str) -> (Vec<u8>, Vec<u8>) {
    let both = |private: &[u8], public: &[u8]| (pem("PRIVATE KEY", private).into(), pem("PUBLIC KEY", public).into());
    let ecdsa = |curve| {
        let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, document.as_ref()).unwrap();
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        both(document.as_ref(), der.as_ref())
    };
    match alg {
        "hmac-sha256" => (SECRET.into(), SECRET.into()),
        "ed25519" => {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
            let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            both(document.as_ref(), der.as_ref())
        }
        "ecdsa-p256-sha256" => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        "ecdsa-p384-sha384" => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        _ => {
            let pair = signature::RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
            let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            both(der.as_ref(), public.as_ref())
        }
    }
}

#[test]
fn every_algorithm_and_none_for_another() {
    let request = Fake::get("/a").header("x-a", "b");
    let mut all = Vec::new();
    for (alg, algorithm) in ALGORITHMS {
        let (private, public) = pair(alg);
        let key = match alg {
            "hmac-sha256" => Key::from_secret(Some("k".into()), algorithm, &public),
            _ => Key::from_pem(Some("k".into()), Some(algorithm), std::str::from_utf8(&public).unwrap()),
        };
        let signer = Signer::new(algorithm, "k", &private).unwrap();
        let (input, signature) =
            signer.sign(&request, &["@method", "@target-uri", "x-a"], NOW, &Signer::nonce().unwrap()).unwrap();
        let signed = request.clone().header("signature-input", &input).header("signature", &signature);
        all.push((alg, verifier(key.unwrap()), signed, public));
    }
    for (alg, verifier, ..) in &all {
        for (other, _, signed, _) in &all {
            let expected = if alg == other { Ok(true) } else { Err(Reason::AuthAlgorithm) };
            assert_eq!(holds(verifier, signed), expected, "{other} with a key of {alg}");
            let mut changed = signed.clone();
            changed.headers[0].1 = b"c".to_vec();
            assert!(holds(verifier, &changed).is_err());
        }
        // Whoever knows the public key makes a MAC with it: the key decides what it verifies.
        let (.., public) = all.iter().find(|(other, ..)| other == alg).unwrap();
        let made =
            Made { secret: public.clone(), ..Made::new(&[("@method", "GET")], &format!(";created={NOW};keyid=\"k\"")) };
        let expected = if *alg == "hmac-sha256" { Ok(true) } else { Err(Reason::AuthSignature) };
        assert_eq!(holds(verifier, &made.on(request.clone())), expected, "{alg}");
    }
}

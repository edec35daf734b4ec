//! Recorded signatures of RFC 9421, and sequences of replays.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway::auth::signature::{ALGORITHMS, BodyDigest, Buffers, Signature, SignatureKey, SignatureVerifier};
use gateway::auth::{Key, Material};
use gateway::gateway::{Decision, Entry, Ticket};
use gateway::types::{Method, Now, Reason, Request, SECOND};
use serde_json::Value;

use crate::Made;
use crate::files::{bytes, own};
use crate::support::{Fake, Gateway, SECRET};

fn key(id: &str, key: &Value, alg: &str) -> Option<SignatureKey> {
    let (_, algorithm) = ALGORITHMS.into_iter().find(|(name, _)| *name == alg)?;
    let material = match key["kty"].as_str()? {
        "oct" => Material::Secret(STANDARD.decode(key["b64"].as_str()?).unwrap()),
        "OKP" => Material::Ed25519(URL_SAFE_NO_PAD.decode(key["x"].as_str()?).unwrap()),
        _ => return None,
    };
    Some(SignatureKey { key: Key { kid: Some(id.into()), algorithm, material }, consumer: id.into() })
}

#[test]
fn examples_of_rfc_9421() {
    let Some(file) = bytes("rfc9421/examples.json") else { return };
    let file: Value = serde_json::from_slice(&file).unwrap();
    let asked = &file["request"];
    let target = asked["target"].as_str().unwrap();
    let mut request =
        Fake::get(target).host("example.com").method(Method::parse(asked["method"].as_str().unwrap().as_bytes()));
    for header in asked["headers"].as_array().unwrap() {
        request = request.header(header[0].as_str().unwrap(), header[1].as_str().unwrap());
    }
    let digest = BodyDigest::parse(Request::header(&request, b"content-digest").one().unwrap()).unwrap();
    let mut hasher = digest.hasher();
    hasher.update(asked["body"].as_str().unwrap().as_bytes());
    assert!(digest.is_of(hasher));
    let (mut held, mut others) = (0, Vec::new());
    for example in file["examples"].as_array().unwrap() {
        let (id, keyid, alg) = (&example["id"], example["keyid"].as_str().unwrap(), example["alg"].as_str().unwrap());
        let Some(key) = key(keyid, &file["keys"][keyid], alg) else {
            others.push(format!("{id}: {alg}"));
            continue;
        };
        let settings = Signature {
            keys: vec![key],
            components: vec![],
            max_age: 300,
            leeway: 30,
            required: vec![],
            fail_open: false,
        };
        let verifier = SignatureVerifier::from_settings(&settings).unwrap();
        let label = example["signature_input"].as_str().unwrap().split('=').next().unwrap();
        let signed = |signature: &str| {
            let request = request.clone().header("signature-input", example["signature_input"].as_str().unwrap());
            request.header("signature", &format!("{label}=:{signature}:"))
        };
        let wall = 1_618_884_473 * SECOND;
        let signature = example["signature"].as_str().unwrap();
        let mut buffers = Buffers::default();
        let found = verifier.verify(&signed(signature), wall, &mut buffers);
        assert!(matches!(found, Ok(Some(signed)) if signed.key == 0 && signed.digest.is_none()), "{id}: {found:?}");
        let mut changed = STANDARD.decode(signature).unwrap();
        changed[7] ^= 1;
        assert_eq!(
            verifier.verify(&signed(&STANDARD.encode(changed)), wall, &mut buffers),
            Err(Reason::AuthSignature),
            "{id}"
        );
        held += 1;
    }
    assert!(held >= 2 && others.is_empty(), "{held} hold, others: {others:?}");
}

/// The request of a step, signed by the test.
fn step_request(step: &Value) -> Fake {
    let mut parameters = String::new();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if step["omit_from_signature"] != "timestamp" {
        parameters.push_str(&format!(";created={}", text(&step["ts"])));
    }
    let nonce = step["nonce"].as_str().unwrap_or("a");
    parameters.push_str(&format!(";nonce=\"{nonce}\";keyid=\"{}\"", step["key"].as_str().unwrap_or("k1")));
    let made = Made::new(&[("@method", "GET"), ("@target-uri", "https://gw.example/")], &parameters);
    // An unsigned date is worth nothing.
    made.on(Fake::get("/")).header("date", "Thu, 01 Jan 1970 00:16:40 GMT")
}

fn second(value: &Value) -> Now {
    let now = value.as_u64().unwrap_or(1_000);
    Now { mono: now * SECOND, wall: now * SECOND }
}

#[test]
fn replay_sequences() {
    let file = own("replay_sequences.json");
    let mut count = 0;
    for case in file["cases"].as_array().unwrap() {
        let id = &case["id"];
        let document = format!(
            "version: 1\nauth: [{{name: s, signature: {{keys: [{{keyid: k1, alg: hmac-sha256, secret: \"$env://SECRET\"}}], \
             components: [\"@method\", \"@target-uri\"], max_age: {}s, leeway: {}s}}}}]\n\
             routes: [{{name: r, paths: [\"/*\"], auth: [s]}}]\n",
            case["window_s"], case["skew_s"]
        );
        assert_eq!(SECRET.len(), 32);
        let mut gateway = Gateway::new(&document, 8);
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            if step["store"] == "flush" {
                // All that was kept is lost: another region, with the same document.
                gateway = Gateway::new(&document, 8);
                continue;
            }
            let (request, now) = (step_request(step), second(&step["now"]));
            let expected = step["expect"].as_str().unwrap();
            if let Some(copies) = step["parallel"].as_u64() {
                assert_eq!(expected, "exactly one ok");
                assert_eq!(at_once(&mut gateway, &request, now, copies as usize), 1, "{id}");
                continue;
            }
            let found = gateway.verdict(index % 8, &request, now);
            let right = match expected {
                "ok" => found == "forward",
                "replay" => found == "auth.replay",
                "stale" => ["auth.expired", "auth.not_yet"].contains(&found),
                "bad" => ["auth.malformed", "auth.claims"].contains(&found),
                "bad_or_stale" => ["auth.malformed", "auth.claims", "auth.expired", "auth.not_yet"].contains(&found),
                "either" => ["forward", "auth.replay"].contains(&found),
                other => panic!("{other}"),
            };
            assert!(right, "{id}, step {index}: {found} instead of {expected}");
        }
        count += 1;
    }
    assert_eq!(count, 12);
}

/// How many of so many copies get in, over all workers at once.
fn at_once(gateway: &mut Gateway, request: &Fake, now: Now, copies: usize) -> usize {
    let workers = gateway.workers.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = gateway
            .workers
            .iter_mut()
            .enumerate()
            .map(|(index, worker)| {
                scope.spawn(move || {
                    let mine = copies / workers + usize::from(index < copies % workers);
                    let forwards =
                        |_: &usize| worker.access(request, Entry::First, now, &mut Ticket::new()) == Decision::Forward;
                    (0..mine).filter(forwards).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

//! HTTP Message Signatures through the whole pipeline, and their parts where that shows more.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

#[allow(dead_code, reason = "shared with tests/router.rs")]
#[path = "router/vectors.rs"]
mod files;
#[path = "signature/properties.rs"]
mod properties;
#[path = "signature/vectors.rs"]
mod vectors;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::gateway::{Decision, Entry, Ticket};
use gateway::types::{Method, Now, Reason, SECOND};
use support::{Fake, Gateway, SECRET, at};

/// The second at which the tests begin.
pub const NOW: u64 = 1_800_001_000;

/// A signature as a test makes it, in its own way: each part can be another than it should be.
#[derive(Clone)]
pub struct Made {
    /// Component names with their values, as the test says that they are.
    pub lines: Vec<(String, String)>,
    /// What follows the list of components.
    pub parameters: String,
    pub secret: Vec<u8>,
}

impl Made {
    pub fn new(lines: &[(&str, &str)], parameters: &str) -> Self {
        Self {
            lines: lines.iter().map(|(name, value)| (format!("\"{name}\""), (*value).to_owned())).collect(),
            parameters: parameters.to_owned(),
            secret: SECRET.into(),
        }
    }

    fn covered(&self) -> String {
        let names: Vec<&str> = self.lines.iter().map(|(name, _)| name.as_str()).collect();
        format!("({}){}", names.join(" "), self.parameters)
    }

    /// RFC 9421, 2.5.
    fn base(&self) -> String {
        let lines: String = self.lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("{lines}\"@signature-params\": {}", self.covered())
    }

    pub fn on(&self, request: Fake) -> Fake {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), self.base().as_bytes());
        request
            .header("Signature-Input", &format!("sig1={}", self.covered()))
            .header("Signature", &format!("sig1=:{}:", STANDARD.encode(tag)))
    }
}

fn body_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body)))
}

const DOCUMENT: &str = r#"version: 1
auth:
  - name: signed
    signature:
      keys:
        - {keyid: k1, alg: hmac-sha256, secret: "$env://SECRET", consumer: acme}
        - {keyid: k2, alg: hmac-sha256, secret: "another secret of more than 32 bytes", consumer: gone}
        - {keyid: k3, alg: hmac-sha256, secret: "a third secret that has more than 32 bytes"}
consumers: [{name: acme, permissions: ["a:b"]}, {name: gone, enabled: false}]
routes: [{name: r, paths: ["/a/*"], auth: [signed], permissions: {any: ["a:b"]}}, {name: open, paths: ["/b"]}]
"#;

fn good(nonce: &str) -> Made {
    let digest = body_digest(b"");
    Made::new(
        &[("@method", "GET"), ("@target-uri", "https://gw.example/a/1?b=c"), ("content-digest", &digest)],
        &format!(";created={NOW};nonce=\"{nonce}\";keyid=\"k1\""),
    )
}

fn get() -> Fake {
    Fake::get("/a/1?b=c").header("content-digest", &body_digest(b""))
}

#[test]
fn who_gets_in() {
    let mut gateway = Gateway::new(DOCUMENT, 2);
    let mut number = 0;
    let mut nonce = || {
        number += 1;
        format!("n{number}")
    };
    let with = |made: Made, parameters: &str| Made { parameters: parameters.to_owned(), ..made };
    let common = format!(";created={NOW};keyid=\"k1\";nonce=");
    let mut plain = |request: Fake| (good(&nonce()), request);
    let cases: Vec<(&str, (Made, Fake), &str)> = vec![
        ("good", plain(get()), "forward"),
        ("another method", plain(get().method(Method::Post)), "auth.signature"),
        ("another method, unknown", plain(get().method(Method::Other)), "auth.malformed"),
        ("another path", plain(Fake { target: "/a/2?b=c".into(), ..get() }), "auth.signature"),
        ("the same path, spelled otherwise", plain(Fake { target: "/a/%31?b=c".into(), ..get() }), "auth.signature"),
        ("another query", plain(Fake { target: "/a/1?b=d".into(), ..get() }), "auth.signature"),
        ("no query", plain(Fake { target: "/a/1".into(), ..get() }), "auth.signature"),
        ("another host", plain(get().host("other.example")), "auth.signature"),
        ("the host in capitals, with the scheme's port", plain(get().host("GW.Example:443")), "forward"),
        ("another port", plain(get().host("gw.example:8443")), "auth.signature"),
        (
            "routed by one host, signed for another",
            plain(get().host("x.example").header("host", "gw.example")),
            "auth.malformed",
        ),
        ("another scheme", plain(Fake { scheme: "http", ..get() }), "auth.signature"),
        ("another digest", plain(Fake::get("/a/1?b=c").header("content-digest", &body_digest(b"x"))), "auth.signature"),
        ("no digest", plain(Fake::get("/a/1?b=c")), "auth.malformed"),
        ("two lines of digests", plain(get().header("content-digest", &body_digest(b"x"))), "auth.signature"),
        (
            "an unknown key",
            (with(good(""), &format!(";created={NOW};keyid=\"k9\";nonce=\"a\"")), get()),
            "auth.key_unknown",
        ),
        ("no key named", (with(good(""), &format!(";created={NOW};nonce=\"a\"")), get()), "auth.key_unknown"),
        (
            "another key's signature",
            (with(good(""), &format!(";created={NOW};keyid=\"k2\";nonce=\"a\"")), get()),
            "auth.signature",
        ),
        (
            "a consumer that is disabled",
            (
                Made {
                    secret: b"another secret of more than 32 bytes".to_vec(),
                    ..with(good(""), &format!(";created={NOW};keyid=\"k2\";nonce=\"a\""))
                },
                get(),
            ),
            "auth.consumer",
        ),
        (
            "a consumer that is not listed",
            (
                Made {
                    secret: b"a third secret that has more than 32 bytes".to_vec(),
                    ..with(good(""), &format!(";created={NOW};keyid=\"k3\";nonce=\"a\""))
                },
                get(),
            ),
            "permission.missing",
        ),
        ("no time", (with(good(""), ";keyid=\"k1\";nonce=\"b\""), get()), "auth.claims"),
        ("no nonce", (with(good(""), &format!(";created={NOW};keyid=\"k1\"")), get()), "auth.claims"),
        ("an empty nonce", (with(good(""), &format!("{common}\"\"")), get()), "auth.malformed"),
        ("a nonce with a blank", (with(good(""), &format!("{common}\"a b\"")), get()), "auth.malformed"),
        ("a long nonce", (with(good(""), &format!("{common}\"{}\"", "x".repeat(128))), get()), "forward"),
        ("one too long", (with(good(""), &format!("{common}\"{}\"", "x".repeat(129))), get()), "auth.malformed"),
        (
            "too old",
            (with(good(""), &format!(";created={};keyid=\"k1\";nonce=\"c\"", NOW - 331)), get()),
            "auth.expired",
        ),
        (
            "just not too old",
            (with(good(""), &format!(";created={};keyid=\"k1\";nonce=\"c\"", NOW - 330)), get()),
            "forward",
        ),
        (
            "too new",
            (with(good(""), &format!(";created={};keyid=\"k1\";nonce=\"d\"", NOW + 31)), get()),
            "auth.not_yet",
        ),
        (
            "just not too new",
            (with(good(""), &format!(";created={};keyid=\"k1\";nonce=\"d\"", NOW + 30)), get()),
            "forward",
        ),
        (
            "expired",
            (with(good(""), &format!(";created={};expires={};keyid=\"k1\";nonce=\"e\"", NOW - 60, NOW - 31)), get()),
            "auth.expired",
        ),
        (
            "expires before it was made",
            (with(good(""), &format!(";created={NOW};expires={};keyid=\"k1\";nonce=\"e\"", NOW - 1)), get()),
            "auth.malformed",
        ),
        (
            "not expired",
            (with(good(""), &format!(";created={};expires={NOW};keyid=\"k1\";nonce=\"e\"", NOW - 60)), get()),
            "forward",
        ),
        ("its algorithm", (with(good(""), &format!("{common}\"f\";alg=\"hmac-sha256\"")), get()), "forward"),
        ("another algorithm", (with(good(""), &format!("{common}\"g\";alg=\"ed25519\"")), get()), "auth.algorithm"),
        ("no algorithm", (with(good(""), &format!("{common}\"g\";alg=\"none\"")), get()), "auth.algorithm"),
        (
            "unknown parameters are signed like the others",
            (with(good(""), &format!("{common}\"h\";tag=\"t\";x;y=1")), get()),
            "forward",
        ),
        ("nothing covered", (Made { lines: vec![], ..good("i") }, get()), "auth.claims"),
        ("the body is not covered", (Made { lines: good("").lines[..2].to_vec(), ..good("i") }, get()), "auth.claims"),
    ];
    for (what, (made, request), expected) in &cases {
        assert_eq!(gateway.verdict(0, &made.on(request.clone()), at(1_000.0)), *expected, "{what}");
    }
    let unsigned = get();
    let half = |name: &str| {
        let mut request = good("half").on(get());
        request.headers.retain(|(other, _)| other != name);
        request
    };
    for (what, request, expected) in [
        ("not signed", unsigned.clone(), "auth.missing"),
        ("not signed, where nobody must", Fake::get("/b"), "forward"),
        ("no signature", half("signature"), "auth.malformed"),
        ("no input", half("signature-input"), "auth.malformed"),
        ("twice the same", good("j").on(good("j").on(get())), "auth.malformed"),
        ("much too long", good("k").on(get()).header("signature-input", &"x".repeat(8_192)), "auth.malformed"),
    ] {
        assert_eq!(gateway.verdict(1, &request, at(1_000.0)), expected, "{what}");
    }
    let (_, ticket) = gateway.access(0, &good("last").on(get()), at(1_000.0));
    assert_eq!((ticket.consumer(), ticket.is_authenticated()), ("acme", true));
    let digest = ticket.body_digest().unwrap();
    assert!(digest.is_of(digest.hasher()), "that of an empty body");
    let (decision, ticket) = gateway.access(0, &good("last").on(get()), at(1_000.0));
    let Decision::Reply(reply) = decision else { panic!() };
    assert_eq!((reply.reason, reply.challenges.iter().collect::<Vec<_>>()), (Reason::AuthReplay, vec!["Signature"]));
    assert_eq!(ticket.body_digest(), None);
}

#[test]
fn of_several_signatures_the_first_with_a_known_key_decides() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    let made = good("several").on(get());
    let value = |name: &str| {
        let line = made.headers.iter().find(|(other, _)| other == name).unwrap();
        String::from_utf8(line.1.clone()).unwrap()
    };
    let (input, signature) = (value("signature-input"), value("signature"));
    let foreign = r#"p=("@status";req);keyid="proxy""#;
    let bad = input.replace("sig1=", "sig0=");
    for (what, inputs, signatures, expected) in [
        ("a known key in front, without a signature", format!("{bad}, {input}"), signature.clone(), "auth.malformed"),
        ("an unknown one in front", format!("{foreign}, {input}"), format!("p=:YQ==:, {signature}"), "forward"),
        ("and again", format!("{foreign}, {input}"), format!("p=:YQ==:, {signature}"), "auth.replay"),
        ("a stray word", format!("{foreign}, {input}, x"), signature.clone(), "auth.malformed"),
        (
            "nine of them",
            (0..9).map(|n| foreign.replace("p=", &format!("p{n}="))).collect::<Vec<_>>().join(","),
            signature.clone(),
            "auth.malformed",
        ),
    ] {
        let request = get().header("signature-input", &inputs).header("signature", &signatures);
        assert_eq!(gateway.verdict(0, &request, at(1_000.0)), expected, "{what}");
    }
    // Several lines are one list.
    let again = good("lines").on(get());
    let mut request = get().header("signature-input", foreign).header("signature", "p=:YQ==:");
    request.headers.extend(again.headers.into_iter().filter(|(name, _)| name.starts_with("signature")));
    assert_eq!(gateway.verdict(0, &request, at(1_000.0)), "forward");
}

#[test]
fn derived_components_and_fields() {
    let document = DOCUMENT.replace("signature:\n", "signature:\n      components: []\n");
    let mut gateway = Gateway::new(&document, 1);
    let request = Fake::get("/a/%7Eb/?q=1&v=a+b&v2=%e2&q2")
        .host("gw.example:8443")
        .header("x-one", "  a ")
        .header("x-one", "b,c")
        .header("x-empty", "");
    let request = Fake { path: b"/a/~b/".to_vec(), ..request };
    let mut number = 0;
    let mut verdict = |name: &str, value: &str| {
        number += 1;
        let parameters = format!(";created={NOW};nonce=\"d{number}\";keyid=\"k1\"");
        let made = Made { lines: vec![(name.to_owned(), value.to_owned())], parameters, secret: SECRET.into() };
        gateway.verdict(0, &made.on(request.clone()), at(1_000.0))
    };
    for (name, value, expected) in [
        (r#""@method""#, "GET", "forward"),
        (r#""@method""#, "get", "auth.signature"),
        (r#""@target-uri""#, "https://gw.example:8443/a/%7Eb/?q=1&v=a+b&v2=%e2&q2", "forward"),
        (r#""@authority""#, "gw.example:8443", "forward"),
        (r#""@scheme""#, "https", "forward"),
        (r#""@request-target""#, "/a/%7Eb/?q=1&v=a+b&v2=%e2&q2", "forward"),
        (r#""@path""#, "/a/%7Eb/", "forward"),
        (r#""@query""#, "?q=1&v=a+b&v2=%e2&q2", "forward"),
        (r#""@query-param";name="q""#, "1", "forward"),
        (r#""@query-param";name="v""#, "a%20b", "forward"),
        (r#""@query-param";name="v2""#, "%E2", "forward"),
        (r#""@query-param";name="q2""#, "", "forward"),
        (r#""@query-param";name="none""#, "", "auth.malformed"),
        (r#""@query-param""#, "1", "auth.malformed"),
        (r#""x-one""#, "a, b,c", "forward"),
        (r#""x-empty""#, "", "forward"),
        (r#""x-none""#, "", "auth.malformed"),
        (r#""X-One""#, "a, b,c", "auth.malformed"),
        (r#""x-one";sf"#, "a, b, c", "auth.malformed"),
        (r#""x-one";bs"#, ":YQ==:, :YixjCg==:", "auth.malformed"),
        (r#""x-one";key="a""#, "a", "auth.malformed"),
        (r#""@method";req"#, "GET", "auth.malformed"),
        (r#""x-one";name="a""#, "a", "auth.malformed"),
        (r#""@status""#, "200", "auth.malformed"),
        (r#""@signature-params""#, "", "auth.malformed"),
        (r#""""#, "", "auth.malformed"),
    ] {
        assert_eq!(verdict(name, value), expected, "{name}");
    }
}

#[test]
fn the_same_request_after_an_internal_redirect_is_not_sent_again() {
    let mut gateway = Gateway::new(DOCUMENT, 2);
    let request = good("redirected").on(get());
    let mut ticket = Ticket::new();
    assert_eq!(gateway.workers[0].access(&request, Entry::First, at(1_000.0), &mut ticket), Decision::Forward);
    // nginx serves error pages as GET, whatever was asked for.
    let later = request.clone().method(Method::Head);
    assert_eq!(gateway.workers[0].access(&later, Entry::Again, at(1_400.0), &mut ticket), Decision::Forward);
    assert_eq!(ticket.consumer(), "acme");
    assert!(ticket.body_digest().is_some());
    assert_eq!(gateway.verdict(1, &request, at(1_001.0)), "auth.replay");
    gateway.load(&DOCUMENT.replace("{name: acme,", "{name: acme, enabled: false,"), at(1_001.0));
    let decision = gateway.workers[0].access(&request, Entry::Again, at(1_001.0), &mut ticket);
    assert!(matches!(decision, Decision::Reply(reply) if reply.reason == Reason::AuthConsumer));
}

#[test]
fn a_full_store_refuses_unless_it_is_to_fail_open() {
    // As many nonces as no table of so small a zone holds.
    for (document, expected) in [
        (DOCUMENT.to_owned(), "auth.nonce_store"),
        (DOCUMENT.replace("signature:\n", "signature:\n      fail_open: true\n"), "forward"),
    ] {
        let mut gateway = Gateway::sized(&document, 1, 1 << 20);
        let mut found = std::collections::HashSet::new();
        for n in 0..6_000 {
            found.insert(gateway.verdict(0, &good(&n.to_string()).on(get()), at(1_000.0)));
        }
        assert!(found.contains(expected) && found.contains("forward") && found.len() <= 2, "{found:?}");
        // When all are over, there is room again.
        let later = Now { mono: at(1_000.0).mono, wall: (NOW + 331) * SECOND };
        let made = Made { parameters: format!(";created={};nonce=\"x\";keyid=\"k1\"", NOW + 331), ..good("") };
        assert_eq!(gateway.verdict(0, &made.on(get()), later), "forward");
    }
    assert_eq!((Reason::AuthNonceStore.status(), Reason::AuthNonceStore.public()), (503, "auth.nonce_store"));
}

#[test]
fn an_edit_of_the_keys_acts_on_the_next_request() {
    let mut gateway = Gateway::new(DOCUMENT, 1);
    assert_eq!(gateway.verdict(0, &good("1").on(get()), at(1_000.0)), "forward");
    gateway.load(&DOCUMENT.replace("keyid: k1", "keyid: k7"), at(1_000.0));
    assert_eq!(gateway.verdict(0, &good("2").on(get()), at(1_000.0)), "auth.key_unknown");
    // The same key under another name: its nonces are its own.
    let made = Made { parameters: good("1").parameters.replace("k1", "k7"), ..good("1") };
    assert_eq!(gateway.verdict(0, &made.on(get()), at(1_000.0)), "auth.replay");
}

#[test]
fn what_was_signed_before_the_store_was_made_may_have_been_seen() {
    for (document, expected) in [
        (DOCUMENT.to_owned(), "auth.nonce_store"),
        (DOCUMENT.replace("signature:\n", "signature:\n      fail_open: true\n"), "forward"),
    ] {
        let mut gateway = Gateway::new(&document, 1);
        let made = |created: u64, nonce: &str| {
            let parameters = format!(";created={created};nonce=\"{nonce}\";keyid=\"k1\"");
            Made { parameters, ..good("") }.on(get())
        };
        let born = at(0.0).wall / SECOND;
        assert_eq!(gateway.verdict(0, &made(born - 1, "a"), at(2.0)), expected);
        assert_eq!(gateway.verdict(0, &made(born, "b"), at(2.0)), "forward");
        // An edit, or a reload, is no beginning.
        gateway.load(&document.replace("acme", "acme-2"), at(3.0));
        assert_eq!(gateway.verdict(0, &made(born + 1, "c"), at(4.0)), "forward");
        // The wall clock is set back by an hour.
        let back = Now { wall: at(4.0).wall - 3_600 * SECOND, ..at(4.0) };
        gateway.load(&document, at(3.0));
        assert_eq!(gateway.verdict(0, &made(born - 3_600, "d"), back), "forward");
        assert_eq!(gateway.verdict(0, &made(born - 3_601, "e"), back), expected);
    }
}

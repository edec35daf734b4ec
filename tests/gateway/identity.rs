//! Auth and permissions in the order of one request.

use serde_json::{Value, json};

use gateway::gateway::Decision;

use crate::support::{Fake, Gateway, SECRET, at};
use crate::{document, reply, sign, token};

const DOCUMENT: &str = r#"
roles: [{name: reader, permissions: ["orders:read", "items:*"]}]
consumers:
  - {name: acme, permissions: ["orders:*"]}
  - {name: shop, roles: [reader]}
  - {name: gone, permissions: ["**"], enabled: false}
routes:
  - {name: open, paths: ["/open"]}
  - {name: closed, paths: ["/closed"], auth: [staff]}
  - {name: either, paths: ["/either"], auth: [staff, by-cookie]}
  - {name: perhaps, paths: ["/perhaps"], auth: [maybe]}
  - {name: perhaps-read, paths: ["/perhaps-read"], auth: [maybe], permissions: {any: ["orders:read"]}}
  - {name: any, paths: ["/any"], auth: [staff], permissions: {any: ["orders:read", "items:1:read"]}}
  - {name: all, paths: ["/all"], auth: [staff], permissions: {all: ["orders:read", "items:read"]}}
"#;

fn other(sub: &str) -> String {
    sign(&json!({"iss": "https://b", "aud": "api", "sub": sub, "exp": 4_000_000_000_u64}))
}

#[test]
fn who_gets_in() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let plain = || token("anna", json!({}));
    let with = |permissions: Value| token("anna", json!({ "permissions": permissions }));
    let get = Fake::get;
    let cases: Vec<(&str, Fake, &str)> = vec![
        ("everybody", get("/open"), "forward"),
        ("everybody, whatever is shown", get("/open").bearer("x"), "forward"),
        ("nothing shown", get("/closed"), "auth.missing"),
        ("a token", get("/closed").bearer(&plain()), "forward"),
        ("no token", get("/closed").bearer("x.y.z"), "auth.malformed"),
        ("two headers", get("/closed").bearer(&plain()).bearer(&plain()), "auth.malformed"),
        ("a token and a stray word", get("/closed").bearer(&format!("{} x", plain())), "auth.malformed"),
        ("a letter that no token has", get("/closed").bearer(&plain().replacen('.', "%2e", 1)), "auth.malformed"),
        ("another issuer", get("/closed").bearer(&other("anna")), "auth.claims"),
        ("expired", get("/closed").bearer(&token("anna", json!({"exp": 1}))), "auth.expired"),
        ("the first of two", get("/either").bearer(&plain()), "forward"),
        ("the second of two", get("/either").header("cookie", &format!("sid={}", other("b"))), "forward"),
        (
            "the first refuses, the second knows",
            get("/either").bearer("x.y.z").header("cookie", &format!("sid={}", other("b"))),
            "forward",
        ),
        ("the second refuses", get("/either").header("cookie", "sid=x.y.z"), "auth.malformed"),
        ("neither", get("/either"), "auth.missing"),
        ("anonymous, and may be", get("/perhaps"), "forward"),
        ("optional is no way around a bad token", get("/perhaps").bearer("x.y.z"), "auth.malformed"),
        ("anonymous where permission is needed: asked for credentials", get("/perhaps-read"), "auth.missing"),
        ("permitted where it may be anonymous", get("/perhaps-read").bearer(&with(json!(["orders:read"]))), "forward"),
        ("no permission", get("/any").bearer(&plain()), "permission.missing"),
        ("without a token nobody learns of permissions", get("/any"), "auth.missing"),
        ("nor with a bad one", get("/any").bearer("x.y.z"), "auth.malformed"),
        ("one of any", get("/any").bearer(&with(json!(["orders:read"]))), "forward"),
        ("a list in one string", get("/any").bearer(&with(json!("a:b orders:*"))), "forward"),
        ("the other of any, by wildcards", get("/any").bearer(&with(json!(["items:**"]))), "forward"),
        ("a wrong type grants nothing", get("/any").bearer(&with(json!({"orders:read": true}))), "permission.missing"),
        ("one of all is not all", get("/all").bearer(&with(json!(["orders:read"]))), "permission.missing"),
        ("all", get("/all").bearer(&with(json!(["orders:read", "items:read"]))), "forward"),
        ("a role of the token", get("/all").bearer(&token("anna", json!({"roles": ["reader"]}))), "forward"),
        ("no such role", get("/all").bearer(&token("anna", json!({"roles": ["writer"]}))), "permission.missing"),
        ("a consumer", get("/any").bearer(&token("acme", json!({}))), "forward"),
        ("a consumer's half", get("/all").bearer(&token("acme", json!({}))), "permission.missing"),
        (
            "half from the consumer, half from the token",
            get("/all").bearer(&token("acme", json!({"permissions": ["items:read"]}))),
            "forward",
        ),
        ("a consumer's role", get("/all").bearer(&token("shop", json!({}))), "forward"),
        ("a disabled consumer, where all is granted", get("/all").bearer(&token("gone", json!({}))), "auth.consumer"),
        (
            "a disabled consumer, where nothing is needed",
            get("/closed").bearer(&token("gone", json!({}))),
            "auth.consumer",
        ),
    ];
    for (index, (what, request, expected)) in cases.iter().enumerate() {
        // The second time, on another worker, keys and headers are known or not: it decides the same.
        for worker in [index % 2, 1 - index % 2, index % 2] {
            assert_eq!(gateway.verdict(worker, request, at(1.0)), *expected, "{what}");
        }
    }
}

#[test]
fn a_401_tells_nothing() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for bad in ["x", "x.y.z", &token("gone", json!({})), &token("a", json!({"exp": 1})), &other("a")] {
        let refused = reply(gateway.access(0, &Fake::get("/all").bearer(bad), at(0.0)).0);
        assert_eq!((refused.reason.status(), refused.reason.public()), (401, "auth.invalid"));
        assert_eq!((refused.retry_after, refused.allow), (0, gateway::types::Methods::NONE));
    }
}

#[test]
fn identity_is_shown_for_the_request_that_was_looked_at_last_alone() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let identity = |gateway: &Gateway| -> Vec<(Vec<u8>, Vec<u8>)> {
        gateway.workers[0].request_headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    let (_, ticket) = gateway.access(0, &Fake::get("/closed").bearer(&token("anna", json!({}))), at(0.0));
    assert_eq!((ticket.consumer(), ticket.is_authenticated()), ("anna", true));
    assert_eq!(identity(&gateway), [(b"x-user".to_vec(), b"anna".to_vec())]);
    for request in [Fake::get("/open"), Fake::get("/closed"), Fake::get("/closed").bearer("x.y.z"), Fake::get("/none")]
    {
        let (_, ticket) = gateway.access(0, &request, at(0.0));
        assert_eq!((ticket.consumer(), ticket.is_authenticated()), ("", false));
        assert_eq!(identity(&gateway), []);
    }
    for (name, reserved) in [("x-user", true), ("X-USER", true), ("x_user", true), ("X_User", true), ("x-use", false)] {
        assert_eq!(gateway.workers[0].is_replaced(name.as_bytes()), reserved, "{name}");
    }
}

#[test]
fn a_token_that_is_known_is_known_no_longer_than_it_is_good() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let wall = at(0.0).wall / 1_000_000;
    let good = token("anna", json!({"exp": wall + 10}));
    let request = Fake::get("/closed").bearer(&good);
    for _ in 0..3 {
        assert_eq!(gateway.verdict(0, &request, at(0.0)), "forward");
    }
    // The last character of the signature, and one inside the payload.
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let flipped = String::from_utf8(flipped).unwrap();
    assert_ne!(gateway.verdict(0, &Fake::get("/closed").bearer(&flipped), at(0.0)), "forward");
    assert_ne!(gateway.verdict(0, &Fake::get("/closed").bearer(&good[..good.len() - 1]), at(0.0)), "forward");
    // Each route's own entries decide: another issuer's entry does not know it.
    assert_eq!(
        gateway.verdict(0, &Fake::get("/either").header("cookie", &format!("sid={good}")), at(0.0)),
        "auth.claims"
    );
    // 60 s of leeway, and then no more.
    assert_eq!(gateway.verdict(0, &request, at(69.0)), "forward");
    assert_eq!(gateway.verdict(0, &request, at(70.0)), "auth.expired");

    // An edit of the entry acts on the next request: the same keys under another audience.
    assert_eq!(gateway.verdict(0, &request, at(1.0)), "forward");
    gateway.load(&document(DOCUMENT).replace("audience: api", "audience: other"), at(1.0));
    assert_eq!(gateway.verdict(0, &request, at(1.0)), "auth.claims");
}

#[test]
fn api_keys() {
    let mut gateway = Gateway::new(
        &document(
            r#"  - {name: partners, api_key: {header: X-API-Key, query: key, cookie: k}}
roles: [{name: reader, permissions: ["orders:read"]}]
consumers:
  - {name: acme, api_key: ["$env://SECRET", "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"], roles: [reader]}
  - {name: gone, api_key: another-key-of-them, enabled: false}
limiters: [{name: mine, key: [consumer], rate: 1/h, burst: 2}]
routes:
  - {name: keys, paths: ["/keys"], auth: [partners], permissions: {any: ["orders:read"]}}
  - {name: writes, paths: ["/writes"], auth: [partners], permissions: {any: ["orders:write"]}}
  - {name: either, paths: ["/either"], auth: [staff, partners], limits: [mine]}
"#,
        ),
        1,
    );
    let bearer = token("anna", json!({}));
    for (request, expected) in [
        (Fake::get("/keys"), "auth.missing"),
        (Fake::get("/keys").header("X-API-Key", SECRET), "forward acme"),
        (Fake::get("/keys").header("x-api-key", "secret"), "forward acme"),
        (Fake::get(&format!("/keys?key={SECRET}")), "forward acme"),
        (Fake::get("/keys").header("Cookie", &format!("a=b; k={SECRET}")), "forward acme"),
        (Fake::get("/keys?key=").header("X-API-Key", ""), "auth.missing"),
        (Fake::get("/keys").header("X-API-Key", "not-a-key-of-anybody"), "auth.key_unknown"),
        (Fake::get("/keys").header("X-API-Key", "no key"), "auth.malformed"),
        (Fake::get("/keys").header("X-API-Key", SECRET).header("X-API-Key", SECRET), "auth.malformed"),
        (Fake::get("/keys").header("X-API-Key", "another-key-of-them"), "auth.consumer"),
        (Fake::get("/writes").header("X-API-Key", SECRET), "permission.missing"),
        (Fake::get("/either").bearer(&bearer), "forward anna"),
        (Fake::get("/either").header("X-API-Key", SECRET), "forward acme"),
        // A key after a bad token: any of them lets a request in.
        (Fake::get("/either").bearer("x.y.z").header("X-API-Key", SECRET), "forward acme"),
        (Fake::get("/either").bearer("x.y.z"), "auth.malformed"),
        (Fake::get("/either").header("X-API-Key", SECRET), "limit.exceeded"),
    ] {
        let (decision, ticket) = gateway.access(0, &request, at(0.0));
        let found = match decision {
            Decision::Reply(reply) => reply.reason.code().to_owned(),
            _ => format!("forward {}", ticket.consumer()),
        };
        assert_eq!(found, expected, "{:?} {:?}", request.target, request.headers);
        // What a token said of the last caller is not said of this one.
        let named = gateway.workers[0].request_headers().count();
        assert_eq!(named, usize::from(found == "forward anna"), "{expected}");
    }
}

#[test]
fn certificates() {
    const PEM: &str = include_str!("../../src/auth/mtls/acme.pem");
    let mut gateway = Gateway::new(
        &document(
            r#"  - {name: devices, mtls: {consumers: [{subject: "CN=acme,O=Acme", consumer: acme}, {san: acme.example, consumer: named}, {subject: "CN=gone", consumer: gone}]}}
  - {name: perhaps, optional: true, mtls: {consumers: [{fingerprint: "sha256:0aef3ae9bdb91ee7b9aa37cf2ecbf58deea875b8fb87e6ae6efe4eabcacdf5ef", consumer: printed}]}}
consumers: [{name: acme, permissions: ["orders:read"]}, {name: gone, enabled: false}]
routes:
  - {name: devices, paths: ["/devices"], auth: [devices], permissions: {any: ["orders:read"]}}
  - {name: maybe, paths: ["/maybe"], auth: [perhaps]}
  - {name: named, paths: ["/named"], auth: [devices]}
  - {name: either, paths: ["/either"], auth: [devices, staff]}
"#,
        ),
        1,
    );
    let with = |path: &str, subject: Option<&str>| Fake {
        certificate: Some((subject.map(str::to_owned), PEM)),
        ..Fake::get(path)
    };
    let bearer = token("anna", json!({}));
    for (request, expected) in [
        (Fake::get("/devices"), "auth.missing"),
        (with("/devices", None), "auth.certificate"),
        (with("/devices", Some("CN=acme,O=Acme")), "forward acme"),
        (with("/devices", Some("CN=acme,O=Other")), "permission.missing"),
        (with("/named", Some("CN=acme,O=Other")), "forward named"),
        (with("/named", Some("CN=gone")), "forward named"),
        (Fake { certificate: Some((Some("CN=gone".into()), "")), ..Fake::get("/named") }, "auth.consumer"),
        (Fake { certificate: Some((Some("CN=none".into()), "")), ..Fake::get("/named") }, "auth.certificate"),
        (Fake::get("/maybe"), "forward "),
        (with("/maybe", None), "auth.certificate"),
        (with("/maybe", Some("CN=x")), "forward printed"),
        (Fake::get("/either").bearer(&bearer), "forward anna"),
        // Another entry may know who a certificate does not name.
        (with("/either", None).bearer(&bearer), "forward anna"),
        (with("/either", Some("CN=acme,O=Acme")).bearer("x.y.z"), "forward acme"),
    ] {
        let (decision, ticket) = gateway.access(0, &request, at(0.0));
        let found = match decision {
            Decision::Reply(reply) => reply.reason.code().to_owned(),
            _ => format!("forward {}", ticket.consumer()),
        };
        assert_eq!(found, expected, "{:?} {:?}", request.target, request.certificate.map(|(subject, _)| subject));
    }
}

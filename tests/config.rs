//! Documents as people write them, and the lines that they are told.
// One JSON value with every field of the document.
#![recursion_limit = "512"]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "config/canary.rs"]
mod canary;
#[path = "config/errors.rs"]
mod errors;
#[path = "config/fields.rs"]
mod fields;
#[path = "config/keys.rs"]
mod keys;
#[path = "config/policies.rs"]
mod policies;
#[path = "config/references.rs"]
mod references;
#[path = "config/signature.rs"]
mod signature;

use gateway::config::{Checked, HostHeader, Secrets, parse};
use gateway::cors::Origins;
use gateway::limiter::{Cost, HeaderStyle, KeyPart};
use gateway::router::pattern::{Host, Path};
use gateway::types::{Method, Methods, Protocol, SECOND};

const SECRET: &str = "kD83nf0sL2mZq9xVb4tYw7cRh1uEj6GaPp";

struct Fixed;

impl Secrets for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        match name {
            "JWT_SECRET" => Some(SECRET.to_owned()),
            "EMPTY" => Some(String::new()),
            "CLASSIC" => Some("your-secret-key".to_owned()),
            _ => None,
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "/etc/lists/office" => Ok(b"10.0.0.0/9\n10.128.0.0/9 # both\n".to_vec()),
            "/etc/lists/revoked" => Ok(b"jti 7\nsub anna before 2026-01-01T00:00:00Z\n".to_vec()),
            "/etc/htpasswd" => Ok(b"ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n".to_vec()),
            "/etc/lists/wrong" => Ok(b"10.0.0.0/8\n10.0.0.1/8\n".to_vec()),
            "/certificate" => Ok(include_bytes!("../src/auth/certificate/ec.pem").to_vec()),
            "/key" => Ok(include_bytes!("../src/auth/certificate/ec.key.pem").to_vec()),
            "/run/secrets/jwt" => Ok(format!("{SECRET}\n").into_bytes()),
            _ => Err("No such file or directory (os error 2)".to_owned()),
        }
    }
}

fn load(text: &str) -> Result<Checked, String> {
    parse(text, "f", &Fixed).map_err(|errors| errors.to_string())
}

/// The lines of errors for a document that begins with `version: 1` in line 1.
fn errors(rest: &str) -> Vec<String> {
    match load(&format!("version: 1\n{rest}")) {
        Ok(_) => Vec::new(),
        Err(lines) => lines.lines().map(str::to_owned).collect(),
    }
}

fn warnings(rest: &str) -> Vec<String> {
    let checked = load(&format!("version: 1\n{rest}")).unwrap();
    checked.warnings.iter().map(ToString::to_string).collect()
}

/// Compares the errors of each document with what is expected, all of the table at once.
#[track_caller]
fn assert_errors(table: &[(&str, &[&str])]) {
    let mut wrong = String::new();
    for (text, expected) in table {
        let found = errors(text);
        if found != *expected {
            wrong.push_str(&format!("--- for\n{text}\n  found    {found:#?}\n  expected {expected:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn read_data(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_example_loads() {
    let checked = load(&read_data("conf/gateway.yaml")).unwrap();
    assert_eq!(checked.warnings, []);
    let document = checked.document;
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    let [site, orders, legacy] = document.routes.as_slice() else { panic!() };
    assert_eq!(site.rules.len(), 1);
    assert_eq!((&site.rules[0].host, &site.rules[0].path), (&Host::Any, &Path::Prefix(vec![])));
    assert_eq!((site.upstream.as_deref(), &site.limits), (Some("site"), &names(&["per-ip"])));
    assert_eq!(site.methods, Methods::ANY);
    assert!(site.protocols.contains(Protocol::Grpc) && site.enabled && !site.strip_prefix);
    assert_eq!((site.timeouts.connect, site.timeouts.send, site.timeouts.read), (SECOND, 30 * SECOND, 30 * SECOND));

    assert_eq!(orders.rules.len(), 2);
    assert!(orders.rules.iter().all(|rule| rule.host == Host::Exact(b"api.example.com".to_vec())));
    assert_eq!(orders.methods, Methods::NONE.with(Method::Get).with(Method::Post));
    assert_eq!((&orders.auth, &orders.limits), (&names(&["staff", "partners"]), &names(&["per-ip", "per-user"])));
    let permissions = orders.permissions.as_ref().unwrap();
    assert_eq!((permissions.all, &permissions.required), (false, &names(&["orders:read"])));
    let cors = orders.cors.as_ref().unwrap();
    assert_eq!((&cors.origins, cors.credentials), (&Origins::These(names(&["https://app.example.com"])), false));
    let cache = site.cache.as_ref().unwrap();
    assert_eq!((&*cache.zone, &cache.ttl), ("api", &vec![(200, 300), (301, 300), (302, 300)]));
    assert_eq!((cache.stale_if_error, cache.stale_while_revalidate, cache.lock), (3_600, 0, 5_000));
    assert!(cache.get && cache.head && !cache.shared && orders.cache.is_none());
    assert!(site.cors.is_none() && site.canary.is_none());
    let canary = orders.canary.as_ref().unwrap();
    let variants = canary.variants.iter().map(|variant| (&*variant.name, variant.weight, &*variant.upstream));
    assert_eq!(variants.collect::<Vec<_>>(), [("stable", 95, "orders"), ("v2", 5, "orders-v2")]);
    assert_eq!((&canary.rules.key, &*canary.rules.salt.text), (&gateway::canary::Key::User, "orders"));
    assert_eq!((orders.retries.attempts, orders.retries.budget, orders.retries.on.statuses), (2, 200, 0b110));

    assert_eq!((legacy.upstream.as_deref(), legacy.limits.len()), (None, 0));

    let upstream = &document.upstreams[0];
    assert_eq!(
        upstream.nodes.iter().map(|node| (node.weight, node.priority)).collect::<Vec<_>>(),
        [(2, 0), (1, 0), (1, 1)]
    );
    let breaker = upstream.breaker.as_ref().unwrap();
    assert_eq!(
        (breaker.failures, breaker.window, breaker.open_for, breaker.probes, breaker.closes_after),
        (10, 10 * SECOND, 30 * SECOND, 5, 5)
    );
    assert_eq!(upstream.host, HostHeader::Preserve);
    assert!(document.upstreams[1].breaker.is_none() && document.upstreams[1].retries.is_none());

    let limiter = &document.limiters[1];
    assert_eq!(limiter.key, [KeyPart::Consumer, KeyPart::Route]);
    assert_eq!((limiter.count, limiter.per, limiter.burst, limiter.cost.clone()), (10, SECOND, 20, Cost::Fixed(1)));
    assert!(!limiter.shadow && limiter.headers == HeaderStyle::Ietf);

    assert_eq!(document.consumers[0].permissions, names(&["orders:*"]));
    assert!(document.consumers[0].enabled);
    let gateway::auth::Scheme::Jwt(jwt) = &document.auth[0].scheme else { panic!() };
    assert_eq!((jwt.leeway, jwt.max_lifetime, &*jwt.consumer_claim, &jwt.require), (60, 0, "sub", &names(&["exp"])));
    assert!(!document.auth[0].optional);
}

#[test]
fn the_full_example_is_refused_for_what_is_not_built_alone() {
    let lines = load(&read_data("tests/data/config/example.yaml")).unwrap_err();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        ["f:27: upstreams[0].health.active: not supported yet", "f:47: routes[1].transform: not supported yet",]
    );
}

#[test]
fn json_is_read_the_same_way() {
    let yaml = load(&read_data("conf/gateway.yaml")).unwrap().document;
    let json = serde_json::json!({
        "version": 1,
        "defaults": {"timeouts": {"connect": "1s", "send": "30s", "read": "30s"}, "limits": ["per-ip"]},
        "auth": [{"name": "staff", "jwt": {
            "issuer": "https://login.example.com", "audience": "api",
            "keys": [{"kid": "k1", "alg": "HS256", "secret": "$env://JWT_SECRET"}],
            "claims": {"consumer": "sub", "permissions": "permissions"}
        }}, {"name": "partners", "api_key": {"header": "X-API-Key"}}],
        "consumers": [{
            "name": "acme", "permissions": ["orders:*"],
            "api_key": "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        }],
        "limiters": [
            {"name": "per-ip", "key": ["ip"], "rate": "50/s", "burst": 100},
            {"name": "per-user", "key": ["consumer", "route"], "rate": "10/s", "burst": 20}
        ],
        "upstreams": [
            {"name": "orders", "algorithm": "adaptive", "nodes": [
                {"host": "10.0.0.11", "port": 8080, "weight": 2}, {"host": "10.0.0.12", "port": 8080},
                {"host": "10.0.0.13", "port": 8080, "priority": 1}
            ],
            "slow_start": "30s",
            "health": {"passive": {"failures": 2, "window": "10s"}},
            "retries": {"attempts": 2, "on": ["error", "timeout", "http_502", "http_503"], "budget": "20%"},
            "breaker": {"failures": 10, "window": "10s", "open_for": "30s", "probes": 5}},
            {"name": "orders-v2", "nodes": [{"host": "10.0.0.21", "port": 8443}], "tls": {"sni": "v2.example.com"}},
            {"name": "site", "nodes": [{"host": "10.0.0.31", "port": 8080}]}
        ],
        "routes": [
            {"name": "site", "paths": ["/*"], "upstream": "site", "cache": {"zone": "api", "ttl": "5m", "stale_if_error": "1h"}},
            {"name": "orders", "hosts": ["api.example.com"], "paths": ["/orders/*", "/orders/{id}/items"],
             "methods": ["GET", "POST"], "upstream": "orders", "auth": ["staff", "partners"],
             "permissions": {"any": ["orders:read"]}, "limits": ["per-ip", "per-user"],
             "cors": {"origins": ["https://app.example.com"]},
             "canary": {"variants": [{"name": "stable", "weight": 95, "upstream": "orders"},
                                     {"name": "v2", "weight": 5, "upstream": "orders-v2"}],
                        "overrides": {"header": "X-Canary: true", "cookie": "canary=true"}, "key": "user"},
             "fallback": {"status": 503, "body": {"error": "try again soon"}}},
            {"name": "legacy", "paths": ["/legacy/*"], "auth": ["staff"], "limits": []}
        ]
    });
    for text in [
        json.to_string(),
        serde_json::to_string_pretty(&json).unwrap(),
        serde_json::to_string_pretty(&json).unwrap().replace("  ", "\t"),
    ] {
        assert!(load(&text).unwrap().document == yaml);
    }
}

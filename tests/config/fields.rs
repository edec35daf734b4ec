//! No field is accepted and then forgotten: a document that uses every built field of the tables differs from the same
//! document without any one of them.

use gateway::config::shape::{Resource, Shape};
use gateway::config::tables;
use serde_json::{Value, json};

use super::load;

/// Fields that say what is done anyway: only this one value is built.
const ALREADY_SO: [&str; 4] = ["levels", "store", "strict", "on_store_error"];

fn canary() -> Value {
    json!({
        "variants": [{"name": "a", "weight": 1}, {
            "name": "b", "weight": 2, "upstream": "w", "timeouts": {"connect": "7s", "send": "8s", "read": "9s"},
            "retries": {"attempts": 5, "on": ["http_404"], "methods": "all", "budget": "9%", "per_try_timeout": "3s"}, "fallback": {"upstream": "cached"}
        }, {"name": "c", "weight": 3, "fallback": {"stale": true}},
        {"name": "d", "weight": 4, "fallback": {"status": 201, "headers": {"X-A": "b"}, "body": "x"}}],
        "overrides": {"header": "X-C: a", "cookie": "c=a", "users": ["anna"], "permission": "canary:use"},
        "key": "ip", "salt": "s", "mirror": {"upstream": "cached", "percent": "12.5%"}
    })
}

fn promote() -> Value {
    json!({
        "steps": ["1%", "2.25%"], "every": "5s", "minimum_requests": 11, "max_error_rate": "0.5%", "max_latency": "10%",
        "cool_down": "1s", "on_failure": "hold"
    })
}

fn promoted() -> Value {
    json!({
            "name": "promoted", "hosts": ["p.example"], "paths": ["/p"], "timeouts": {"connect": "4s"}, "upstream": "u",
            "canary": {"variants": [{"name": "a", "weight": 1}, {"name": "b", "upstream": "w"}], "promote": promote()}
    })
}

fn everything() -> Value {
    let timeouts = json!({"connect": "1s", "send": "2s", "read": "3s"});
    let cache = json!({
        "zone": "api", "ttl": {"200": "5m", "any": "1s"}, "methods": ["GET"], "stale_while_revalidate": "5s",
        "stale_if_error": "6s", "lock": "1s", "tags": ["t"], "levels": ["nginx"],
        "key": {"query": {"deny": ["utm_*"]}, "headers": ["X-A"], "cookies": ["c"], "consumer": "shared"}
    });
    let retries = json!({"attempts": 3, "on": ["http_500"], "methods": "all", "budget": "7%", "per_try_timeout": "4s"});
    let breaker = json!({
        "failures": 1, "failure_ratio": "5%", "minimum_calls": 1, "slow_call": "1s", "window": "1s", "open_for": "1s",
        "open_for_max": "2s", "jitter": "5%", "probes": 1, "closes_after": 1
    });
    let answers = json!({"status": 200, "headers": {"X-A": "b"}, "body": "x"});
    let answers_otherwise = json!({"status": 203, "headers": {"X-A": "b"}, "body": "x"});
    json!({
        "version": 1,
        "defaults": {"hosts": ["d.example"], "timeouts": {"connect": "9s"}},
        "auth": [{"name": "staff", "optional": true, "jwt": {
            "issuer": "i", "audience": "a", "algorithms": ["HS256"], "leeway": "5s", "require": ["nbf"], "max_lifetime": "1h",
            "source": ["cookie:t"],
            "keys": [
                {"kid": "k", "alg": "HS256", "secret": "$env://JWT_SECRET"},
            ],
            "claims": {"consumer": "c", "permissions": "p", "roles": "r", "headers": {"X-User": "sub"}},
            "revocation": {"file": "/etc/lists/revoked", "strict": false}
        }},
        {"name": "idp", "jwt": {"issuer": "i", "audience": "a", "jwks": {"url": "https://i.example/jwks", "ca": "/etc/ca.pem"}}},
        {"name": "own", "jwt": {"issuer": "i", "audience": "a", "jwks": {"file": "/etc/jwks.json"}}}, {"name": "partners", "api_key": {"header": "X-K", "query": "k", "cookie": "c"}},
        {"name": "logins", "basic": {"file": "/etc/htpasswd", "users": {"bob": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}}}, {"name": "devices", "mtls": {"consumers": [
            {"subject": "CN=a", "consumer": "a"}, {"san": "a.example", "consumer": "b"},
            {"fingerprint": "sha256:0aef3ae9bdb91ee7b9aa37cf2ecbf58deea875b8fb87e6ae6efe4eabcacdf5ef", "consumer": "c"}
        ]}},
        {"name": "signed", "signature": {
            "keys": [{"keyid": "k", "alg": "hmac-sha256", "secret": "$env://JWT_SECRET", "consumer": "acme"}],
            "components": ["@method"], "max_age": "5s", "leeway": "1s", "required": ["created"], "fail_open": true
        }}],
        "consumers": [{
            "name": "acme", "api_key": ["$env://JWT_SECRET"], "permissions": ["a"], "roles": ["admin"], "priority": 3, "labels": {"a": "b"}, "enabled": false
        }],
        "roles": [{"name": "admin", "permissions": ["**"]}],
        "limiters": [{
            "name": "l", "key": ["ip"], "rate": "1/s", "burst": 9, "cost": "header:x-cost", "on": "response", "statuses": [200, 404], "store": "local", "strict": false,
            "on_store_error": "local", "mode": "shadow", "headers": "x"
        }],
        "upstreams": [{
            "name": "u", "host": "h.example", "algorithm": "random", "slow_start": "5s", "max_in_flight": 9,
            "nodes": [{"host": "h", "port": 1, "weight": 2, "priority": 1, "labels": {"zone": "a"}}],
            "health": {"passive": {"failures": 2, "window": "1s"}}, "max_ejection_percent": 20,
            "overload": {"mode": "shadow", "min": 3, "max": 30, "tolerance": 4}, "outlier": {"consecutive_5xx": 6, "error_ratio": "10%", "minimum_calls": 7},
            "breaker": breaker,
            "retries": retries, "timeouts": timeouts,
            "tls": {"verify": false, "sni": "s.example", "ca": "$file:///certificate", "cert": "$file:///certificate",
                    "key": "$file:///key", "min_version": "TLSv1.3"},
            "fallback": answers
        }, {
            "name": "resort", "nodes": [{"host": "h", "port": 2}], "fallback": {"upstream": "u"}
        }, {
            "name": "cached", "nodes": [{"host": "h", "port": 3}], "fallback": {"stale": true}
        }, {"name": "keyed", "algorithm": "hash", "hash_on": ["ip"], "nodes": [{"host": "h", "port": 1}]}, {"name": "w", "nodes": [{"host": "w", "port": 1}]}],
        "routes": [{
            "name": "r", "hosts": ["a.example"], "paths": ["/a"], "methods": ["GET"], "priority": 1, "enabled": false,
            "upstream": "u", "strip_prefix": true, "auth": ["staff"], "permissions": {"any": ["a"]}, "limits": ["l"], "max_in_flight": 8,
            "max_body": "64k", "location": "@elsewhere",
            "path_policy": "strict", "protocols": ["http"], "labels": {"a": "b"},
            "timeouts": {"connect": "4s", "send": "5s", "read": "6s"},
            "retries": {"attempts": 4, "on": ["http_429"], "methods": "idempotent", "budget": "8%", "per_try_timeout": "2s"},
            "match": [
                {"header": "X-A", "equals": "a", "not": true}, {"query": "q", "in": ["a", "b"]},
                {"cookie": "c", "regex": "^a"}, {"header": "X-B", "exists": true}
            ],
            "fallback": answers_otherwise,
            "canary": canary(),
            "headers": {"X-Set": "v"}, "allow": ["office"], "deny": ["10.0.0.1"],
            "cors": {
                "origins": ["https://a.example"], "methods": ["GET"], "headers": ["X-A"], "expose": ["X-B"],
                "credentials": true, "max_age": "5s"
            },
            "cache": cache
        }, {
            "name": "elsewhere", "hosts": ["e.example"], "timeouts": {"connect": "4s"}, "paths": ["/elsewhere"], "upstream": "u", "fallback": {"upstream": "resort"}
        }, {
            "name": "kept", "hosts": ["k.example"], "timeouts": {"connect": "4s"}, "paths": ["/kept"], "upstream": "u", "fallback": {"stale": true}
        }, {
            "name": "fixed", "hosts": ["f.example"], "paths": ["/fixed"], "timeouts": {"connect": "4s"}, "rewrite": "/other",
            "reply": {"status": 201, "headers": {"X-A": "b"}, "body": {"a": 1}}
        }, {
            "name": "moved", "hosts": ["m.example"], "paths": ["/moved/{id}"], "timeouts": {"connect": "4s"}, "redirect": {"to": "/new/{id}", "status": 301}
        }, promoted()],
        "lists": [{"name": "office", "cidrs": ["10.0.0.0/8"]}, {"name": "file", "file": "/etc/lists/office"}],
        "bans": [{"cidr": "10.0.0.2", "until": "2026-12-31T00:00:00Z", "reason": "r"}]
    })
}

/// Calls `visit` with the place of every field of every object in `value`.
fn fields(value: &Value, at: &str, visit: &mut impl FnMut(String)) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let at = format!("{at}/{key}");
                fields(value, &at, visit);
                visit(at);
            }
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| fields(value, &format!("{at}/{index}"), visit));
        }
        _ => {}
    }
}

#[test]
fn every_field_that_is_written_matters() {
    let everything = everything();
    let full = load(&everything.to_string()).unwrap().document;
    let mut places = Vec::new();
    fields(&everything, "", &mut |at| places.push(at));
    for place in places {
        let (parent, field) = place.rsplit_once('/').unwrap();
        let mut less = everything.clone();
        less.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        let matters = load(&less.to_string()).map_or(true, |checked| checked.document != full);
        // `algorithms` refuses keys, and `defaults` yield to what the route says itself; both are tested elsewhere.
        let elsewhere = field == "algorithms" || place.starts_with("/defaults");
        assert_eq!(matters, !(ALREADY_SO.contains(&field) && !place.contains("retries") || elsewhere), "{place}");
    }
}

#[test]
fn every_field_that_is_built_is_written() {
    let everything = everything();
    let mut places = Vec::new();
    fields(&everything, "", &mut |at| {
        places.push(at.split('/').filter(|part| part.parse::<u8>().is_err()).collect::<Vec<_>>().join("/"))
    });
    let mut missing = Vec::new();
    let mut tell = |place: String| {
        // Keys other than secrets have tests of their own.
        if !places.contains(&place)
            && !["pem", "jwk", "all"].contains(&place.rsplit('/').next().unwrap())
            && !place.ends_with("/query/allow")
        {
            missing.push(place);
        }
    };
    walk(&tables::DOCUMENT, "", &mut tell);
    assert_eq!(missing, [""; 0]);
}

fn walk(resource: &Resource, at: &str, tell: &mut impl FnMut(String)) {
    for field in resource.fields {
        let place = format!("{at}/{}", field.name);
        match &field.shape {
            Shape::Unbuilt => continue,
            Shape::Object(inner) | Shape::ObjectOrFalse(inner) | Shape::List(Shape::Object(inner), _) => {
                walk(inner, &place, tell)
            }
            _ => {}
        }
        tell(place);
    }
}

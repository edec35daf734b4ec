//! The fields of every resource, in the order of DOCUMENT.md. This is the one list of them.

use super::scalar;
use super::shape::Shape::{
    Bool, Choice, Duration, Headers, Integer, IntegerOr, Jwk, Labels, List, NameOr, Nameless, Object, OnlyFalse,
    Secret, Text, Unbuilt,
};
use super::shape::{Field, Form, Resource, Shape};
use crate::router::pattern::{Host, Path};
use crate::types::{MILLISECOND, SECOND};

const DAY: u64 = 24 * 3_600 * SECOND;

/// The document.
pub static DOCUMENT: Resource = Resource {
    fields: &[
        needed("version", Integer { min: 1, max: 1 }),
        field("defaults", Nameless(&ROUTE)),
        field("auth", List(&Object(&AUTH), true)),
        field("consumers", List(&Object(&CONSUMER), true)),
        field("roles", List(&Object(&ROLE), true)),
        field("lists", Unbuilt),
        field("limiters", List(&Object(&LIMITER), true)),
        field("upstreams", List(&Object(&UPSTREAM), true)),
        field("routes", List(&Object(&ROUTE), true)),
        field("transforms", Unbuilt),
        field("versions", Unbuilt),
        field("graphql", Unbuilt),
        field("bans", Unbuilt),
    ],
    hints: &[
        ("services", "there are no services: an upstream is one (`upstreams`)"),
        ("service", "there are no services: an upstream is one (`upstreams`)"),
        ("plugins", POLICIES),
        ("global_rules", "what holds for all routes stands in `defaults`"),
        ("plugin_configs", "what holds for all routes stands in `defaults`"),
        ("plugin_metadata", POLICIES),
        ("consumer_groups", "groups are `roles`"),
        ("targets", "servers are the `nodes` of an upstream"),
        ("certificates", "listeners and their certificates are nginx's"),
        ("ssls", "listeners and their certificates are nginx's"),
        ("snis", "listeners and their certificates are nginx's"),
        ("stream_routes", "HTTP only"),
        ("_format_version", "write `version: 1`"),
        ("apisix", "this is the document alone; the server is configured in nginx.conf"),
    ],
};

const POLICIES: &str = "policies are fields of a route: `auth`, `permissions`, `limits`, `timeouts`, `retries`";

/// A route; without its name, `defaults`.
pub static ROUTE: Resource = Resource {
    fields: &[
        needed("name", NAME),
        field("hosts", List(&Text(&HOST), false)),
        field("paths", List(&Text(&PATH), false)),
        field("methods", List(&METHOD, false)),
        field("match", Unbuilt),
        field("priority", PRIORITY),
        field("enabled", Bool),
        field("upstream", NameOr(&UPSTREAM)),
        field("reply", Unbuilt),
        field("redirect", Unbuilt),
        field("location", Unbuilt),
        field("strip_prefix", Bool),
        field("rewrite", Unbuilt),
        field("auth", List(&NameOr(&AUTH), true)),
        field("permissions", Object(&PERMISSIONS)),
        field("limits", List(&NameOr(&LIMITER), true)),
        field("cors", Unbuilt),
        field("allow", Unbuilt),
        field("deny", Unbuilt),
        field("max_body", Unbuilt),
        field("max_in_flight", Unbuilt),
        field("path_policy", Choice(&["normal"], &["strict"])),
        field("canary", Unbuilt),
        field("transform", Unbuilt),
        field("graphql", Unbuilt),
        field("version", Unbuilt),
        field("cache", Unbuilt),
        field("timeouts", Object(&TIMEOUTS)),
        field("retries", Object(&RETRIES)),
        field("headers", Unbuilt),
        field("fallback", Unbuilt),
        field("protocols", List(&Choice(&["http", "websocket", "grpc"], &[]), false)),
        field("labels", Labels),
    ],
    hints: &[
        ("uri", "paths are a list, `paths`"),
        ("uris", "our word is `paths`"),
        ("service", "there are no services: name an `upstream`"),
        ("service_id", "there are no services: name an `upstream`"),
        ("upstream_id", "our word is `upstream`, with the upstream's name"),
        ("proxy_pass", "our word is `upstream`"),
        ("plugins", POLICIES),
        ("plugin_config_id", POLICIES),
        ("vars", "our word is `match`"),
        ("filter_func", "the document holds no code"),
        ("script", "the document holds no code"),
        ("remote_addr", "our word is `allow`"),
        ("remote_addrs", "our word is `allow`"),
        ("strip_path", "our word is `strip_prefix`"),
        ("preserve_host", "the `host` of the upstream says so"),
        ("regex_priority", "our word is `priority`"),
        ("status", "our word is `enabled`"),
        ("timeout", "our word is `timeouts`"),
        ("tags", "our word is `labels`"),
        ("desc", "our word is `labels`"),
        ("id", "our word is `name`"),
        ("jwt", "our word is `auth`, with the names of entries of `auth`"),
        ("rate_limit", "our word is `limits`, with the names of `limiters`"),
        ("rate", "our word is `limits`, with the names of `limiters`"),
        ("breaker", "a breaker belongs to its upstream"),
        ("roles", "a route requires `permissions`; `roles` grant them"),
        ("consumer_groups", "a route requires `permissions`; `roles` grant them"),
    ],
};

/// What a route requires.
pub static PERMISSIONS: Resource = Resource {
    fields: &[
        field("any", List(&Text(&Form { words: "a permission", check: scalar::required }), false)),
        field("all", List(&Text(&Form { words: "a permission", check: scalar::required }), false)),
    ],
    hints: &[],
};

/// A limiter.
pub static LIMITER: Resource = Resource {
    fields: &[
        needed("name", NAME),
        needed("key", List(&Text(&Form { words: "a key such as `ip`", check: super::limiter::check_key }), false)),
        needed("rate", Text(&Form { words: "a rate such as `10/s`", check: |text| scalar::rate(text).map(drop) })),
        field("burst", Integer { min: 1, max: u32::MAX as i64 }),
        field("cost", IntegerOr(0, u32::MAX as i64, "header:")),
        field("on", Choice(&["request"], &["auth_failure", "response"])),
        field("store", Choice(&["local"], &["redis"])),
        field("strict", OnlyFalse),
        field("on_store_error", Choice(&["local"], &["allow", "deny"])),
        field("mode", Choice(&["enforce", "shadow"], &[])),
        field("headers", Choice(&["ietf", "x", "both"], &[])),
    ],
    hints: &[
        ("limit", "our word is `rate`, such as `10/s`"),
        ("count", "our word is `rate`, such as `10/s`"),
        ("second", "write `rate: 10/s`"),
        ("minute", "write `rate: 10/m`"),
        ("hour", "write `rate: 10/h`"),
        ("time_window", "our word is `rate`, such as `600/m`"),
        ("window", "our word is `rate`, such as `600/m`"),
        ("window_size", "our word is `rate`, such as `600/m`"),
        ("limit_by", "our word is `key`"),
        ("key_type", "our word is `key`, such as `[ip]`"),
        ("policy", "our word is `store`"),
        ("allow_degradation", "our word is `on_store_error`"),
        ("fault_tolerant", "our word is `on_store_error`"),
        ("rejected_code", "a refusal by a limiter is always 429"),
    ],
};

/// An upstream.
pub static UPSTREAM: Resource = Resource {
    fields: &[
        needed("name", NAME),
        needed("nodes", List(&Object(&NODE), false)),
        field("discovery", Unbuilt),
        field("host", Text(&Form { words: "`preserve` or a host", check: super::upstream::check_host_header })),
        field("pool", Unbuilt),
        field("algorithm", Choice(&["adaptive"], &["round_robin", "least_conn", "p2c_ewma", "hash", "random"])),
        field("hash_on", Unbuilt),
        field("overload", Unbuilt),
        field("slow_start", Unbuilt),
        field("health", Unbuilt),
        field("outlier", Unbuilt),
        field("breaker", Object(&BREAKER)),
        field("retries", Object(&RETRIES)),
        field("timeouts", Object(&TIMEOUTS)),
        field("fallback", Unbuilt),
        field("tls", Unbuilt),
        field("max_in_flight", Unbuilt),
        field("max_ejection_percent", Unbuilt),
    ],
    hints: &[
        ("targets", "our word is `nodes`"),
        ("servers", "our word is `nodes`"),
        ("type", "our word is `algorithm`"),
        ("checks", "our word is `health`"),
        ("healthchecks", "our word is `health`"),
        ("timeout", "our word is `timeouts`"),
        ("pass_host", "our word is `host`: `preserve` or a name"),
        ("upstream_host", "our word is `host`"),
        ("scheme", "https is on where `tls` is there"),
        ("keepalive_pool", "connections are kept by `keepalive` in nginx.conf"),
        ("service_name", "our word is `discovery`"),
        ("discovery_type", "our word is `discovery`"),
        ("circuit_breaker", "our word is `breaker`"),
        ("desc", "write a comment"),
        ("id", "our word is `name`"),
    ],
};

/// A server of an upstream.
pub static NODE: Resource = Resource {
    fields: &[
        needed("host", Text(&Form { words: "a host name or an address", check: super::upstream::check_node_host })),
        needed("port", Integer { min: 1, max: 65_535 }),
        field("weight", Integer { min: 1, max: 1_000_000 }),
        field("priority", Integer { min: 0, max: 255 }),
        field("labels", Labels),
    ],
    hints: &[
        ("ip", "our word is `host`"),
        ("address", "our words are `host` and `port`"),
        ("target", "our words are `host` and `port`"),
        ("backup", "write `priority: 1`"),
        ("metadata", "our word is `labels`"),
    ],
};

/// A breaker.
pub static BREAKER: Resource = Resource {
    fields: &[
        field("failures", Integer { min: 1, max: 1_000_000 }),
        field("window", SPAN),
        field("failure_ratio", Unbuilt),
        field("minimum_calls", Unbuilt),
        field("slow_call", Unbuilt),
        field("open_for", SPAN),
        field("open_for_max", Unbuilt),
        field("jitter", Unbuilt),
        field("probes", Integer { min: 1, max: crate::breaker::PROBES_MAX as i64 }),
        field("closes_after", Integer { min: 1, max: 1_000_000 }),
    ],
    hints: &[
        ("threshold", "our word is `failures`"),
        ("failure_threshold", "our word is `failures`"),
        ("max_failures", "our word is `failures`"),
        ("success_threshold", "our word is `closes_after`"),
        ("timeout", "our word is `open_for`"),
        ("break_response_code", "an open breaker answers 503"),
        ("max_breaker_sec", "our word is `open_for`"),
        ("half_open_requests", "our word is `probes`"),
    ],
};

/// When to try again.
pub static RETRIES: Resource = Resource {
    fields: &[
        field("attempts", Integer { min: 1, max: 16 }),
        field("on", List(&RETRY_ON, false)),
        field("methods", Choice(&["idempotent", "all"], &[])),
        field("per_try_timeout", Unbuilt),
        field(
            "budget",
            Text(&Form { words: "a percentage such as `20%`", check: |text| scalar::percentage(text).map(drop) }),
        ),
    ],
    hints: &[
        ("count", "our word is `attempts`, the first included"),
        ("tries", "our word is `attempts`, the first included"),
        ("num_retries", "our word is `attempts`, the first included"),
        ("retry_on", "our word is `on`"),
    ],
};

/// Timeouts towards an upstream.
pub static TIMEOUTS: Resource = Resource {
    fields: &[field("connect", SPAN), field("send", SPAN), field("read", SPAN)],
    hints: &[
        ("connect_timeout", "our word is `connect`"),
        ("write", "our word is `send`"),
        ("write_timeout", "our word is `send`"),
        ("send_timeout", "our word is `send`"),
        ("read_timeout", "our word is `read`"),
    ],
};

/// A way to authenticate.
pub static AUTH: Resource = Resource {
    fields: &[
        needed("name", NAME),
        field("optional", Bool),
        field("jwt", Object(&JWT)),
        field("api_key", Unbuilt),
        field("basic", Unbuilt),
        field("signature", Unbuilt),
        field("mtls", Unbuilt),
    ],
    hints: &[
        ("key_auth", "our word is `api_key`"),
        ("key-auth", "our word is `api_key`"),
        ("jwt_auth", "our word is `jwt`"),
        ("jwt-auth", "our word is `jwt`"),
        ("basic_auth", "our word is `basic`"),
        ("basic-auth", "our word is `basic`"),
        ("hmac_auth", "our word is `signature`"),
        ("hmac-auth", "our word is `signature`"),
        ("anonymous", "write `optional: true`"),
        ("type", "the scheme is a field of its own: `jwt: {…}`"),
    ],
};

/// JSON Web Tokens.
pub static JWT: Resource = Resource {
    fields: &[
        field("issuer", SOME_TEXT),
        field("audience", SOME_TEXT),
        field("keys", List(&Object(&KEY), false)),
        field("jwks", Unbuilt),
        field("algorithms", List(&ALGORITHM, false)),
        field("leeway", Duration { min: 0, max: DAY, step: SECOND }),
        field("require", List(&Text(&CLAIM), true)),
        field("max_lifetime", Duration { min: SECOND, max: 36_500 * DAY, step: SECOND }),
        field(
            "source",
            List(
                &Text(&Form { words: "`header`, `query:NAME` or `cookie:NAME`", check: super::auth::check_source }),
                false,
            ),
        ),
        field("claims", Object(&CLAIMS)),
        field("revocation", Unbuilt),
    ],
    hints: &[
        ("secret", "our word is `keys`, a list of `{kid, alg, secret}`"),
        ("key", "our word is `keys`, a list of `{kid, alg, secret}`"),
        ("public_key", "our word is `keys`, a list of `{kid, alg, pem}`"),
        ("algorithm", "each of `keys` has its `alg`"),
        ("iss", "our word is `issuer`"),
        ("aud", "our word is `audience`"),
        ("claims_to_verify", "our word is `require`"),
        ("key_claim_name", "our word is `claims: {consumer: …}`"),
        ("clock_skew", "our word is `leeway`"),
        ("lifetime_grace_period", "our word is `leeway`"),
        ("maximum_expiration", "our word is `max_lifetime`"),
        ("jwks_uri", "our word is `jwks`"),
    ],
};

/// A key of JSON Web Tokens.
pub static KEY: Resource = Resource {
    fields: &[
        field("kid", SOME_TEXT),
        field("alg", ALGORITHM),
        field("secret", Secret),
        field("pem", Secret),
        field("jwk", Jwk),
    ],
    hints: &[
        ("algorithm", "our word is `alg`"),
        ("id", "our word is `kid`"),
        ("keyid", "our word is `kid`"),
        ("public_key", "our word is `pem`"),
        ("key", "our words are `secret`, `pem` and `jwk`"),
    ],
};

/// What is taken from a token's claims.
pub static CLAIMS: Resource = Resource {
    fields: &[
        field("consumer", Text(&CLAIM)),
        field("permissions", Text(&CLAIM)),
        field("roles", Text(&CLAIM)),
        field("headers", Headers),
    ],
    hints: &[("groups", "our word is `roles`"), ("scope", "write `permissions: scope`")],
};

/// A consumer.
pub static CONSUMER: Resource = Resource {
    fields: &[
        needed("name", Text(&Form { words: "text", check: scalar::consumer })),
        field("api_key", Unbuilt),
        field("permissions", List(&Text(&GRANTED), true)),
        field("roles", List(&SOME_TEXT, true)),
        field("priority", PRIORITY),
        field("labels", Labels),
        field("enabled", Bool),
    ],
    hints: &[
        ("username", "our word is `name`"),
        ("custom_id", "our word is `name`"),
        ("id", "our word is `name`"),
        ("group", "groups are `roles`"),
        ("groups", "groups are `roles`"),
        ("group_id", "groups are `roles`"),
        ("consumer_groups", "groups are `roles`"),
        ("acls", "groups are `roles`"),
        ("plugins", POLICIES),
        ("key", "our word is `api_key`"),
        ("keyauth_credentials", "our word is `api_key`"),
        ("tags", "our word is `labels`"),
        ("desc", "our word is `labels`"),
    ],
};

/// A role.
pub static ROLE: Resource = Resource {
    fields: &[
        needed("name", Text(&Form { words: "text", check: scalar::consumer })),
        needed("permissions", List(&Text(&GRANTED), true)),
    ],
    hints: &[("id", "our word is `name`")],
};

const NAME: Shape = Text(&Form { words: "text", check: scalar::name });
const SOME_TEXT: Shape = Text(&Form { words: "text", check: some_text });
const PRIORITY: Shape = Integer { min: i32::MIN as i64, max: i32::MAX as i64 };
/// nginx counts in milliseconds.
const SPAN: Shape = Duration { min: MILLISECOND, max: DAY, step: 0 };
const METHOD: Shape = Choice(&["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"], &[]);
const RETRY_ON: Shape = Choice(
    &["error", "timeout", "http_500", "http_502", "http_503", "http_504", "http_403", "http_404", "http_429"],
    &[],
);
const ALGORITHM: Shape = Choice(&super::auth::ALGORITHMS, &[]);
static HOST: Form = Form {
    words: "a host such as `api.example.com`",
    check: |text| Host::parse(text).map(drop).map_err(|error| error.to_string()),
};
static PATH: Form = Form {
    words: "a path such as `/orders/*`",
    check: |text| Path::parse(text).map(drop).map_err(|error| error.to_string()),
};
static CLAIM: Form = Form { words: "the name of a claim", check: scalar::claim };
static GRANTED: Form = Form { words: "a permission such as `orders:*`", check: scalar::granted };

fn some_text(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        length if length > 1_024 => Err("must be at most 1024 bytes long".to_owned()),
        _ => Ok(()),
    }
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, needed: false }
}

const fn needed(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, needed: true }
}

//! The fields of every resource, in the order of DOCUMENT.md. This is the one list of them.

mod auth;
mod cache;
mod canary;
mod limiter;
mod lists;
mod route;
mod signature;
mod upstream;

pub use auth::{API_KEY, AUTH, BASIC, CERTIFICATE, CLAIMS, CONSUMER, JWKS, JWT, KEY, MTLS, REVOCATION, ROLE};
pub use cache::{CACHE, CACHE_KEY, CACHE_QUERY};
pub use canary::{CANARY, MIRROR, OVERRIDES, PROMOTE, VARIANT};
pub use limiter::LIMITER;
pub use lists::{BAN, LIST};
pub use route::{CORS, FALLBACK, MATCH, REDIRECT, REPLY};
pub use signature::{SIGNATURE, SIGNATURE_KEY};
pub use upstream::{BREAKER, HEALTH, NODE, OUTLIER, OVERLOAD, PASSIVE, RETRIES, TIMEOUTS, TLS, UPSTREAM};

use super::scalar;
use super::shape::Shape::{
    Bool, Choice, Duration, HeaderTexts, Integer, Labels, List, NameOr, Nameless, Object, Size, Text, Unbuilt,
};
use super::shape::{Field, Form, REQUEST_RESERVED, Resource, Shape};
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
        field("lists", List(&Object(&LIST), true)),
        field("limiters", List(&Object(&LIMITER), true)),
        field("upstreams", List(&Object(&UPSTREAM), true)),
        field("routes", List(&Object(&ROUTE), true)),
        field("transforms", Unbuilt),
        field("versions", Unbuilt),
        field("graphql", Unbuilt),
        field("bans", List(&Object(&BAN), true)),
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
        field("match", List(&Object(&MATCH), true)),
        field("priority", PRIORITY),
        field("enabled", Bool),
        field("upstream", NameOr(&UPSTREAM)),
        field("reply", Object(&REPLY)),
        field("redirect", Object(&REDIRECT)),
        field("location", Text(&route::LOCATION)),
        field("strip_prefix", Bool),
        field("rewrite", Text(&route::REWRITE)),
        field("auth", List(&NameOr(&AUTH), true)),
        field("permissions", Object(&PERMISSIONS)),
        field("limits", List(&NameOr(&LIMITER), true)),
        field("cors", Object(&CORS)),
        field("allow", List(&Text(&lists::SOURCE), true)),
        field("deny", List(&Text(&lists::SOURCE), true)),
        field("max_body", BODY_SIZE),
        field("max_in_flight", Integer { min: 1, max: 1_000_000 }),
        field("path_policy", Choice(&["normal", "strict"], &[])),
        field("canary", Object(&CANARY)),
        field("transform", Unbuilt),
        field("graphql", Unbuilt),
        field("version", Unbuilt),
        field("cache", Object(&CACHE)),
        field("timeouts", Object(&TIMEOUTS)),
        field("retries", Object(&RETRIES)),
        field("headers", HeaderTexts(&route::HEADER_VALUE, &REQUEST_RESERVED)),
        field("fallback", Object(&FALLBACK)),
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
        ("allowed_payload_size", "our word is `max_body`"),
        ("max_body_size", "our word is `max_body`"),
        ("client_max_body_size", "our word is `max_body`"),
        ("tags", "our word is `labels`"),
        ("desc", "our word is `labels`"),
        ("id", "our word is `name`"),
        ("jwt", "our word is `auth`, with the names of entries of `auth`"),
        ("rate_limit", "our word is `limits`, with the names of `limiters`"),
        ("traffic_split", "our word is `canary`"),
        ("traffic-split", "our word is `canary`"),
        ("weighted_upstreams", "our word is `canary`, with `variants`"),
        ("limit_conn", "our word is `max_in_flight`"),
        ("max_connections", "our word is `max_in_flight`"),
        ("max_requests", "our word is `max_in_flight`"),
        ("rate", "our word is `limits`, with the names of `limiters`"),
        ("breaker", "a breaker belongs to its upstream"),
        ("proxy_cache", "our word is `cache`"),
        ("proxy-cache", "our word is `cache`"),
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

const NAME: Shape = Text(&Form { words: "text", check: scalar::name });
const SOME_TEXT: Shape = Text(&Form { words: "text", check: some_text });
const PRIORITY: Shape = Integer { min: i32::MIN as i64, max: i32::MAX as i64 };
/// nginx counts in milliseconds.
const BODY_SIZE: Shape = Size { min: 1 };
const SPAN: Shape = Duration { min: MILLISECOND, max: DAY, step: 0 };
const METHOD: Shape = Choice(&["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"], &[]);
const METHOD_READ: Shape = Choice(&["GET", "HEAD"], &[]);
const SOME_NAME: Shape = Text(&Form { words: "a name", check: scalar::name });
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

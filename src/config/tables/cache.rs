use super::{DAY, METHOD_READ, SOME_NAME, field, needed};
use crate::config::cache;
use crate::config::shape::Shape::{Choice, Duration, Lifetimes, List, Object, Text};
use crate::config::shape::{Form, Resource};
use crate::types::SECOND;

const KEY: &str = "our word is `key`, with `query`, `headers`, `cookies` and `consumer`";
const TTL: &str = "our word is `ttl`, a duration or one for each status";

/// A route's cache.
pub static CACHE: Resource = Resource {
    fields: &[
        needed("zone", Text(&ZONE)),
        field("ttl", Lifetimes),
        field("key", Object(&CACHE_KEY)),
        field("methods", List(&METHOD_READ, false)),
        field("stale_while_revalidate", Duration { min: 0, max: 366 * DAY, step: SECOND }),
        field("stale_if_error", Duration { min: 0, max: 366 * DAY, step: SECOND }),
        field("lock", Duration { min: 0, max: DAY, step: 0 }),
        field("tags", List(&SOME_NAME, false)),
        field("levels", List(&Choice(&["nginx"], &["redis"]), false)),
    ],
    hints: &[
        ("cache_zone", "our word is `zone`, the name in `keys_zone` of `proxy_cache_path`"),
        ("cache_ttl", TTL),
        ("max_age", TTL),
        ("valid", TTL),
        ("cache_http_status", TTL),
        ("response_code", TTL),
        ("cache_key", KEY),
        ("vary_headers", KEY),
        ("vary_query_params", KEY),
        ("ignore_uri_case", "paths are compared as they are"),
        ("consumer_isolation", "write `key: {consumer: auto}` or `shared`"),
        ("cache_method", "our word is `methods`"),
        ("request_method", "our word is `methods`"),
        ("cache_strategy", "our word is `levels`"),
        ("strategy", "our word is `levels`"),
        ("cache_control", "what an answer says of itself always counts"),
        ("cache_set_cookie", "an answer that sets a cookie is never kept"),
        ("use_stale", "write `stale_if_error: 1h` and `stale_while_revalidate: 10s`"),
        ("content_type", "an answer is kept whatever its type"),
    ],
};

/// What tells requests apart.
pub static CACHE_KEY: Resource = Resource {
    fields: &[
        field("query", Object(&CACHE_QUERY)),
        field("headers", List(&Text(&Form { words: "the name of a header", check: cache::check_header }), false)),
        field("cookies", List(&Text(&Form { words: "the name of a cookie", check: cache::check_cookie }), false)),
        field("consumer", Choice(&["auto", "shared"], &[])),
    ],
    hints: &[
        ("uri", "the path as it is sent on is always in the key"),
        ("path", "the path as it is sent on is always in the key"),
        ("host", "the host is always in the key"),
        ("method", "`GET` and `HEAD` share an entry"),
        ("args", "our word is `query`"),
        ("vary", "our word is `headers`; what an answer's `Vary` names counts anyway"),
    ],
};

/// Which parameters of the query tell requests apart.
pub static CACHE_QUERY: Resource = Resource {
    fields: &[field("allow", List(&Text(&PARAMETER), false)), field("deny", List(&Text(&PARAMETER), false))],
    hints: &[
        ("include", "our word is `allow`"),
        ("exclude", "our word is `deny`"),
        ("ignore", "our word is `deny`"),
        ("only", "our word is `allow`"),
    ],
};

static ZONE: Form = Form { words: "the name of a zone of `proxy_cache_path`", check: cache::check_zone };
static PARAMETER: Form =
    Form { words: "the name of a query parameter, or the beginning of one and a `*`", check: cache::check_parameter };

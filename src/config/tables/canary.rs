use super::{DAY, NAME, SOME_TEXT, field, needed};
use super::{FALLBACK, RETRIES, TIMEOUTS};
use crate::config::canary::{check_key, check_mark};
use crate::config::scalar;
use crate::config::shape::Shape::{Choice, Duration, Integer, List, Object, ObjectOrFalse, Text};
use crate::config::shape::{Form, Resource, Shape};
use crate::types::SECOND;

/// The variants of a route and how one is chosen.
pub static CANARY: Resource = Resource {
    fields: &[
        needed("variants", List(&Object(&VARIANT), false)),
        field("overrides", ObjectOrFalse(&OVERRIDES)),
        field("key", Text(&Form { words: "a key such as `user`", check: check_key })),
        field("salt", SOME_TEXT),
        field("mirror", Object(&MIRROR)),
        field("promote", Object(&PROMOTE)),
    ],
    hints: &[
        ("rules", "our word is `variants`"),
        ("weighted_upstreams", "our word is `variants`"),
        ("percentage", "write `variants`, each with a `weight`"),
        ("weight", "each of the `variants` has its own"),
        ("hash", "our word is `key`"),
        ("hash_header", "write `key: header:NAME`"),
        ("upstream_host", "name upstreams in `variants`"),
        ("canary_by_header_name", "write `overrides: {header: NAME}`"),
        ("groups", "write `overrides: {users: […]}`"),
        ("steps", "our word is `promote`, with `steps`"),
        ("analysis", "our word is `promote`"),
        ("stepWeight", "our word is `promote`, with `steps`"),
        ("maxWeight", "our word is `promote`, with `steps`"),
        ("setWeight", "our word is `promote`, with `steps`"),
        ("trafficRouting", "write `variants`, each with a `weight`"),
        ("canaryService", "our word is `variants`: the last is the candidate"),
        ("stableService", "our word is `variants`: the first is the baseline"),
        ("match", "our word is `overrides`"),
        ("sticky", "callers stay by `key` and `salt`"),
    ],
};

/// One version of a service.
pub static VARIANT: Resource = Resource {
    fields: &[
        needed("name", NAME),
        field("weight", Integer { min: 0, max: 1_000_000 }),
        field("upstream", NAME),
        field("timeouts", Object(&TIMEOUTS)),
        field("retries", Object(&RETRIES)),
        field("fallback", Object(&FALLBACK)),
    ],
    hints: &[
        ("upstream_id", "our word is `upstream`, with the upstream's name"),
        ("service", "there are no services: name an `upstream`"),
        ("percentage", "our word is `weight`"),
        ("percent", "our word is `weight`"),
    ],
};

/// Who is sent a copy of requests.
pub static MIRROR: Resource = Resource {
    fields: &[needed("upstream", NAME), field("percent", Text(&PART))],
    hints: &[
        ("host", "name an `upstream`"),
        ("sample_ratio", "our word is `percent`"),
        ("percentage", "our word is `percent`"),
        ("weight", "our word is `percent`"),
        ("path", "a copy has the path of what is copied"),
    ],
};

/// How a candidate is promoted.
pub static PROMOTE: Resource = Resource {
    fields: &[
        field("steps", List(&Text(&PART), false)),
        field("every", REST),
        field("minimum_requests", Integer { min: 10, max: 1_000_000_000 }),
        field("max_error_rate", Text(&PART)),
        field("max_latency", Text(&PART)),
        field("cool_down", REST),
        field("on_failure", Choice(&["rollback", "hold"], &[])),
    ],
    hints: &[
        ("interval", "our word is `every`"),
        ("duration", "our word is `every`"),
        ("pause", "our word is `every`"),
        ("stepWeight", "our word is `steps`: a list of shares"),
        ("stepWeights", "our word is `steps`"),
        ("maxWeight", "our word is `steps`: its last share"),
        ("threshold", "errors and latencies are compared with the baseline's: `max_error_rate`, `max_latency`"),
        ("metrics", "errors and latencies are compared with the baseline's: `max_error_rate`, `max_latency`"),
        ("count", "our word is `minimum_requests`"),
        ("minimum_sample", "our word is `minimum_requests`"),
        ("cooldown", "our word is `cool_down`"),
    ],
};

static PART: Form = Form {
    words: "a percentage of at most two decimals, such as `25%` or `0.25%`",
    check: |text| scalar::hundredths(text).map(drop),
};
const REST: Shape = Duration { min: SECOND, max: 30 * DAY, step: 0 };

/// Who is let through to a variant by name.
pub static OVERRIDES: Resource = Resource {
    fields: &[
        field(
            "header",
            Text(&Form { words: "a header such as `X-Canary: true`", check: |text| check_mark(text, ':') }),
        ),
        field("cookie", Text(&Form { words: "a cookie such as `canary=true`", check: |text| check_mark(text, '=') })),
        field("users", List(&SOME_TEXT, false)),
        field("permission", Text(&Form { words: "a permission", check: scalar::required })),
    ],
    hints: &[
        ("headers", "our word is `header`"),
        ("cookies", "our word is `cookie`"),
        ("user", "our word is `users`"),
        ("consumers", "our word is `users`"),
        ("permissions", "our word is `permission`"),
        ("exact", "write `header: \"NAME: value\"`"),
    ],
};

use super::{FALLBACK, RETRIES, TIMEOUTS};
use super::{NAME, SOME_TEXT, field, needed};
use crate::config::canary::{check_key, check_mark};
use crate::config::scalar;
use crate::config::shape::Shape::{Integer, List, Object, ObjectOrFalse, Text, Unbuilt};
use crate::config::shape::{Form, Resource};

/// The variants of a route and how one is chosen.
pub static CANARY: Resource = Resource {
    fields: &[
        needed("variants", List(&Object(&VARIANT), false)),
        field("overrides", ObjectOrFalse(&OVERRIDES)),
        field("key", Text(&Form { words: "a key such as `user`", check: check_key })),
        field("salt", SOME_TEXT),
        field("mirror", Unbuilt),
        field("promote", Unbuilt),
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

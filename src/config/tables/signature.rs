use super::{DAY, SOME_TEXT, field, needed};
use crate::auth::signature::check_component;
use crate::config::shape::Shape::{Bool, Choice, Duration, List, Object, Secret, Text};
use crate::config::shape::{Form, Resource};
use crate::config::signature::{ALGORITHMS, PARAMETERS, check_keyid};
use crate::types::SECOND;

/// HTTP Message Signatures.
pub static SIGNATURE: Resource = Resource {
    fields: &[
        needed("keys", List(&Object(&SIGNATURE_KEY), false)),
        field(
            "components",
            List(&Text(&Form { words: "a component or the name of a header", check: check_component }), true),
        ),
        field("max_age", Duration { min: SECOND, max: DAY, step: SECOND }),
        field("leeway", Duration { min: 0, max: 3_600 * SECOND, step: SECOND }),
        field("required", List(&Choice(&PARAMETERS, &[]), true)),
        field("fail_open", Bool),
    ],
    hints: &[
        ("secret", "our word is `keys`, a list of `{keyid, alg, secret}`"),
        ("clock_skew", "our word is `leeway`"),
        ("signed_headers", "our word is `components`"),
        ("headers", "our word is `components`"),
        ("enforce_headers", "our word is `components`"),
        ("algorithms", "each of `keys` has its `alg`"),
        ("validate_request_body", "put `content-digest` among `components`"),
    ],
};

/// A key that requests are signed with.
pub static SIGNATURE_KEY: Resource = Resource {
    fields: &[
        needed("keyid", Text(&Form { words: "visible ASCII without quotes and backslashes", check: check_keyid })),
        needed("alg", Choice(&ALGORITHMS, &[])),
        field("secret", Secret),
        field("pem", Secret),
        field("consumer", SOME_TEXT),
    ],
    hints: &[
        ("algorithm", "our word is `alg`"),
        ("id", "our word is `keyid`"),
        ("kid", "our word is `keyid`"),
        ("key_id", "our word is `keyid`"),
        ("public_key", "our word is `pem`"),
        ("key", "our words are `secret` and `pem`"),
    ],
};

use super::{SOME_TEXT, field, needed};
use crate::config::lists;
use crate::config::shape::Shape::{List, Text};
use crate::config::shape::{Form, Resource};

/// A list of addresses.
pub static LIST: Resource = Resource {
    fields: &[
        needed("name", Text(&Form { words: "text", check: lists::check_name })),
        field("cidrs", List(&Text(&CIDR), true)),
        field("file", Text(&Form { words: "an absolute path", check: lists::check_file })),
    ],
    hints: &[
        ("ips", "our word is `cidrs`"),
        ("addresses", "our word is `cidrs`"),
        ("whitelist", "our word is `cidrs`; routes say whether to `allow` or `deny` the list"),
        ("blacklist", "our word is `cidrs`; routes say whether to `allow` or `deny` the list"),
        ("path", "our word is `file`"),
    ],
};

/// Addresses that are refused.
pub static BAN: Resource = Resource {
    fields: &[
        needed("cidr", Text(&CIDR)),
        field("until", Text(&Form { words: "a time such as `2026-12-31T23:59:59Z`", check: lists::check_time })),
        field("reason", SOME_TEXT),
    ],
    hints: &[
        ("ip", "our word is `cidr`"),
        ("address", "our word is `cidr`"),
        ("expires", "our word is `until`"),
        ("ttl", "our word is `until`, a time"),
    ],
};

static CIDR: Form = Form { words: "an address or a block such as `10.0.0.0/8`", check: lists::check_cidr };
pub(super) static SOURCE: Form =
    Form { words: "an address, a block such as `10.0.0.0/8` or the name of a list", check: lists::check_source };

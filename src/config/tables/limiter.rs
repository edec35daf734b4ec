use super::{NAME, field, needed};
use crate::config::limiter::{check_cost, check_key};
use crate::config::scalar;
use crate::config::shape::Shape::{Choice, Integer, IntegerOr, List, OnlyFalse, Text};
use crate::config::shape::{Form, Resource};

static COST: Form = Form { words: "the count in a header such as `header:X-Cost`", check: check_cost };

/// A limiter.
pub static LIMITER: Resource = Resource {
    fields: &[
        needed("name", NAME),
        needed("key", List(&Text(&Form { words: "a key such as `ip`", check: check_key }), false)),
        needed("rate", Text(&Form { words: "a rate such as `10/s`", check: |text| scalar::rate(text).map(drop) })),
        field("burst", Integer { min: 1, max: u32::MAX as i64 }),
        field("cost", IntegerOr(0, u32::MAX as i64, &COST)),
        field("on", Choice(&["request", "auth_failure", "response"], &[])),
        field("statuses", List(&Integer { min: 100, max: 599 }, false)),
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
        ("status", "our word is `statuses`, with `on: response`"),
        ("rejected_code", "a refusal by a limiter is always 429"),
    ],
};

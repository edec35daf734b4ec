use super::{DAY, FALLBACK, NAME, RETRY_ON, SPAN, field, needed};
use crate::config::scalar;
use crate::config::shape::Shape::{self, Bool, Choice, Duration, Integer, Labels, List, Object, Secret, Text, Unbuilt};
use crate::config::shape::{Form, Resource};
use crate::config::upstream::{check_hash_key, check_host_header, check_node_host, check_sni};

/// Weights may also be whole at once.
const RAMP: Shape = Duration { min: 0, max: DAY, step: 0 };

/// An upstream.
pub static UPSTREAM: Resource = Resource {
    fields: &[
        needed("name", NAME),
        needed("nodes", List(&Object(&NODE), false)),
        field("discovery", Unbuilt),
        field("host", Text(&Form { words: "`preserve` or a host", check: check_host_header })),
        field("pool", Unbuilt),
        field("algorithm", Choice(&["adaptive", "round_robin", "least_conn", "p2c_ewma", "hash", "random"], &[])),
        field("hash_on", List(&Text(&Form { words: "a key such as `header:x-user`", check: check_hash_key }), false)),
        field("overload", Object(&OVERLOAD)),
        field("slow_start", RAMP),
        field("health", Object(&HEALTH)),
        field("outlier", Object(&OUTLIER)),
        field("breaker", Object(&BREAKER)),
        field("retries", Object(&RETRIES)),
        field("timeouts", Object(&TIMEOUTS)),
        field("fallback", Object(&FALLBACK)),
        field("tls", Object(&TLS)),
        field("max_in_flight", Integer { min: 1, max: 1_000_000 }),
        field("max_ejection_percent", Integer { min: 0, max: 100 }),
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
        ("outlier_detection", "our words are `outlier` and `max_ejection_percent`"),
        ("health_checks", "our word is `health`"),
        ("backup", "a node with `priority: 1` is a backup; another upstream is a `fallback`"),
        ("hash_by", "our word is `hash_on`, such as `[header:x-user]`"),
        ("key", "our word is `hash_on`, such as `[header:x-user]`"),
        ("hash_on_header", "write `hash_on: [header:NAME]`"),
        ("hash_on_cookie", "write `hash_on: [cookie:NAME]`"),
        ("hash_policy", "our word is `hash_on`, such as `[header:x-user]`"),
        ("lb_policy", "our word is `algorithm`"),
        ("slow_start_config", "our word is `slow_start`"),
        ("max_conns", "our word is `max_in_flight`"),
        ("max_requests", "our word is `max_in_flight`"),
        ("desc", "write a comment"),
        ("id", "our word is `name`"),
    ],
};

/// A server of an upstream.
pub static NODE: Resource = Resource {
    fields: &[
        needed("host", Text(&Form { words: "a host name or an address", check: check_node_host })),
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
        ("max_conns", "write `max_in_flight` beside `nodes`"),
        ("slow_start", "write `slow_start` beside `nodes`"),
    ],
};

/// How much an upstream is sent at once.
pub static OVERLOAD: Resource = Resource {
    fields: &[
        needed("mode", Choice(&["off", "shadow", "enforce"], &[])),
        field("min", Integer { min: 1, max: 1_000_000 }),
        field("max", Integer { min: 1, max: 1_000_000 }),
        field("tolerance", Integer { min: 2, max: 100 }),
    ],
    hints: &[
        ("min_limit", "our word is `min`"),
        ("min_concurrency", "our word is `min`"),
        ("max_limit", "our word is `max`"),
        ("max_concurrency_limit", "our word is `max`"),
        ("enabled", "our word is `mode`: `off`, `shadow` or `enforce`"),
        ("rtt_tolerance", "our word is `tolerance`"),
    ],
};

/// How an upstream's nodes are watched.
pub static HEALTH: Resource = Resource {
    fields: &[field("active", Unbuilt), field("passive", Object(&PASSIVE))],
    hints: &[("unhealthy", "our words are `passive.failures` and `passive.window`")],
};

/// What requests tell of a node.
pub static PASSIVE: Resource = Resource {
    fields: &[field("failures", Integer { min: 1, max: 10_000 }), field("window", SPAN)],
    hints: &[
        ("max_fails", "our word is `failures`"),
        ("fail_timeout", "our word is `window`"),
        ("unhealthy", "our words are `failures` and `window`"),
        ("healthy", "a node that was left out is tried again after 30 s, later each time"),
    ],
};

/// What a node's peers tell of it.
pub static OUTLIER: Resource = Resource {
    fields: &[
        field("consecutive_5xx", Integer { min: 1, max: 10_000 }),
        field(
            "error_ratio",
            Text(&Form { words: "a percentage such as `20%`", check: |text| scalar::percentage(text).map(drop) }),
        ),
        field("minimum_calls", Integer { min: 1, max: 1_000_000 }),
    ],
    hints: &[
        ("consecutive_gateway_failure", "our word is `consecutive_5xx`"),
        ("consecutive_errors", "our word is `consecutive_5xx`"),
        ("failure_percentage_threshold", "our word is `error_ratio`"),
        ("success_rate_minimum_hosts", "two nodes with `minimum_calls` are compared"),
        ("success_rate_request_volume", "our word is `minimum_calls`"),
        ("failure_percentage_request_volume", "our word is `minimum_calls`"),
        ("max_ejection_percent", "it stands beside `outlier`"),
        ("interval", "nodes are compared every 10 s"),
        ("base_ejection_time", "a node is left out for 30 s, longer each time"),
        ("max_ejection_time", "a node is left out for 300 s at most"),
    ],
};

/// TLS towards the nodes of an upstream.
pub static TLS: Resource = Resource {
    fields: &[
        field("verify", Bool),
        field("sni", Text(&Form { words: "a host name", check: check_sni })),
        field("ca", Secret),
        field("cert", Secret),
        field("key", Secret),
        field("min_version", Choice(&["TLSv1.2", "TLSv1.3"], &[])),
    ],
    hints: &[
        ("tls_verify", "our word is `verify`"),
        ("client_cert", "our word is `cert`"),
        ("client_key", "our word is `key`"),
        ("client_certificate", "our word is `cert`"),
        ("ca_certificates", "our word is `ca`"),
        ("server_name", "our word is `sni`"),
        ("protocols", "our word is `min_version`"),
    ],
};

/// A breaker.
pub static BREAKER: Resource = Resource {
    fields: &[
        field("failures", Integer { min: 1, max: 1_000_000 }),
        field("window", SPAN),
        field("failure_ratio", Text(&RATIO)),
        field("minimum_calls", Integer { min: 1, max: 1_000_000 }),
        field("slow_call", SPAN),
        field("open_for", SPAN),
        field("open_for_max", SPAN),
        field("jitter", Text(&PERCENTAGE)),
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
        ("error_ratio", "our word is `failure_ratio`"),
        ("failure_rate_threshold", "our word is `failure_ratio`"),
        ("failure_percentage_threshold", "our word is `failure_ratio`"),
        ("min_requests", "our word is `minimum_calls`"),
        ("request_volume", "our word is `minimum_calls`"),
        ("slow_call_duration", "our word is `slow_call`"),
        ("max_ejection_time", "our word is `open_for_max`"),
        ("base_ejection_time", "our word is `open_for`"),
    ],
};

static PERCENTAGE: Form =
    Form { words: "a percentage such as `20%`", check: |text| scalar::percentage(text).map(drop) };
static RATIO: Form = Form {
    words: "a percentage such as `50%`",
    check: |text| match scalar::percentage(text)? {
        0 => Err("must be above 0%".to_owned()),
        _ => Ok(()),
    },
};

/// When to try again.
pub static RETRIES: Resource = Resource {
    fields: &[
        field("attempts", Integer { min: 1, max: 16 }),
        field("on", List(&RETRY_ON, false)),
        field("methods", Choice(&["idempotent", "all"], &[])),
        field("per_try_timeout", SPAN),
        field("budget", Text(&PERCENTAGE)),
    ],
    hints: &[
        ("count", "our word is `attempts`, the first included"),
        ("tries", "our word is `attempts`, the first included"),
        ("num_retries", "our word is `attempts`, the first included"),
        ("retry_on", "our word is `on`"),
        ("timeout", "our word is `per_try_timeout`"),
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

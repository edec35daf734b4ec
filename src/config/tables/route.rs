use super::{DAY, METHOD, field, needed};
use crate::config::shape::Shape::{Bool, Duration, HeaderTexts, Integer, List, Text, TextOrObject};
use crate::config::shape::{Form, Resource, header};
use crate::config::{answer, cors, scalar, template};
use crate::types::{NAME_MAX, SECOND};

/// A condition of a route.
pub static MATCH: Resource = Resource {
    fields: &[
        field("header", Text(&Form { words: "the name of a header", check: header })),
        field("query", Text(&Form { words: "the name of a query parameter", check: query_name })),
        field("cookie", Text(&Form { words: "the name of a cookie", check: cookie_name })),
        field("equals", Text(&VALUE)),
        field("in", List(&Text(&VALUE), false)),
        field("regex", Text(&Form { words: "a regular expression", check: scalar::regex })),
        field("exists", Bool),
        field("not", Bool),
    ],
    hints: &[
        ("value", "our word is `equals`"),
        ("name", "write `header: NAME`, `query: NAME` or `cookie: NAME`"),
        ("prefix", "our word is `regex`"),
        ("present", "our word is `exists`"),
        ("invert", "our word is `not`"),
    ],
};

/// An answer without an upstream.
pub static REPLY: Resource = Resource {
    fields: &[
        field("status", Integer { min: 200, max: 599 }),
        field("headers", HeaderTexts(&REPLY_VALUE, &REPLY_RESERVED)),
        field("body", TextOrObject),
    ],
    hints: &[
        ("code", "our word is `status`"),
        ("status_code", "our word is `status`"),
        ("message", "our word is `body`"),
        ("content_type", "write `headers: {Content-Type: …}`"),
    ],
};

/// A named location of nginx.conf.
pub static LOCATION: Form = Form { words: "the name of a location such as `@grpc`", check: location };

fn location(text: &str) -> Result<(), String> {
    match text.strip_prefix('@') {
        Some(name) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err("must be the name of a location, such as `@grpc`".to_owned()),
    }
}

/// What is done where an upstream cannot serve.
pub static FALLBACK: Resource = Resource {
    fields: &[
        field("status", Integer { min: 200, max: 599 }),
        field("headers", HeaderTexts(&REPLY_VALUE, &REPLY_RESERVED)),
        field("body", TextOrObject),
        field("upstream", Text(&Form { words: "the name of an upstream", check: scalar::name })),
        field("stale", Bool),
    ],
    hints: &[
        ("code", "our word is `status`"),
        ("status_code", "our word is `status`"),
        ("message", "our word is `body`"),
        ("content_type", "write `headers: {Content-Type: …}`"),
        ("reply", "`status`, `headers` and `body` stand here themselves"),
        ("nodes", "name an upstream of the list `upstreams`"),
        ("cache", "write `stale: true`"),
    ],
};

/// A redirect.
pub static REDIRECT: Resource = Resource {
    fields: &[
        needed("to", Text(&Form { words: "a path or a URL", check: answer::check_target })),
        field("status", Integer { min: 301, max: 308 }),
    ],
    hints: &[
        ("uri", "our word is `to`"),
        ("url", "our word is `to`"),
        ("location", "our word is `to`"),
        ("ret_code", "our word is `status`"),
        ("code", "our word is `status`"),
    ],
};

/// What browsers of other origins may do.
pub static CORS: Resource = Resource {
    fields: &[
        needed("origins", List(&Text(&Form { words: "an origin", check: cors::check_origin }), false)),
        field("methods", List(&METHOD, false)),
        field("headers", List(&Text(&HEADER), false)),
        field("expose", List(&Text(&HEADER), false)),
        field("credentials", Bool),
        field("max_age", Duration { min: 0, max: DAY, step: SECOND }),
    ],
    hints: &[
        ("allow_origins", "our word is `origins`"),
        ("allow_methods", "our word is `methods`"),
        ("allow_headers", "our word is `headers`"),
        ("expose_headers", "our word is `expose`"),
        ("exposed_headers", "our word is `expose`"),
        ("allow_credential", "our word is `credentials`"),
        ("allow_credentials", "our word is `credentials`"),
    ],
};

pub(super) static REWRITE: Form =
    Form { words: "a path such as `/orders/{id}`", check: |text| template::path(text).map(drop) };
pub(super) static HEADER_VALUE: Form = Form { words: "text", check: |text| template::header(text).map(drop) };
static HEADER: Form = Form { words: "the name of a header", check: cors_header };
static VALUE: Form = Form { words: "text", check: value };
static REPLY_VALUE: Form = Form { words: "text", check: template::header_text };

const REPLY_RESERVED: [&str; 9] =
    ["connection", "content-length", "transfer-encoding", "trailer", "upgrade", "keep-alive", "date", "server", "te"];

fn value(text: &str) -> Result<(), String> {
    match text.len() {
        length if length > 1_024 => Err("must be at most 1024 bytes long".to_owned()),
        _ if text.chars().any(char::is_control) => Err("cannot hold control characters".to_owned()),
        _ => Ok(()),
    }
}

fn query_name(text: &str) -> Result<(), String> {
    match text.is_empty() || text.len() > NAME_MAX {
        true => Err(format!("must be the name of a query parameter, of 1 to {NAME_MAX} bytes")),
        false => Ok(()),
    }
}

fn cookie_name(text: &str) -> Result<(), String> {
    match scalar::is_token(text) {
        true => Ok(()),
        false => Err("must be the name of a cookie".to_owned()),
    }
}

fn cors_header(text: &str) -> Result<(), String> {
    match scalar::is_token(text) {
        true => Ok(()),
        false => Err("must be the name of a header".to_owned()),
    }
}

//! What a resource may hold, as data: checked here, and read again by whoever describes the document (JSON Schema).

use super::node::Kind;
use super::problem::quote;
use super::read::At;
use super::{cache, scalar};
use crate::types::SECOND;

/// A kind of object in the document.
pub struct Resource {
    /// Every field that DOCUMENT.md gives it, built or not.
    pub fields: &'static [Field],
    /// Words of other gateways, and what ours is.
    pub hints: &'static [(&'static str, &'static str)],
}

/// A field of a resource.
pub struct Field {
    /// As written.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Whether it must be there.
    pub needed: bool,
}

/// What a field holds.
pub enum Shape {
    /// Belongs to the document, but this version cannot do it.
    Unbuilt,
    /// A boolean.
    Bool,
    /// A boolean of which `true` is not built.
    OnlyFalse,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A whole number, or a text of some form.
    IntegerOr(i64, i64, &'static Form),
    /// A duration, in microseconds.
    Duration {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// What it must be a multiple of.
        step: u64,
    },
    /// A number of bytes.
    Size {
        /// The least.
        min: u64,
    },
    /// A duration in whole seconds, or an object of statuses and such durations.
    Lifetimes,
    /// A text of some form.
    Text(&'static Form),
    /// One of several words.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A list; whether it may be empty.
    List(&'static Shape, bool),
    /// An object with these fields.
    Object(&'static Resource),
    /// An object with these fields, or `false` where there is to be none.
    ObjectOrFalse(&'static Resource),
    /// An object with these fields apart from its name.
    Nameless(&'static Resource),
    /// The name of an object, or the object itself without a name.
    NameOr(&'static Resource),
    /// An object with free names and texts.
    Labels,
    /// Names of request headers to names of claims.
    Headers,
    /// Names of headers to texts of some form, apart from the names that may not be set (lower case).
    HeaderTexts(&'static Form, &'static [&'static str]),
    /// A text, or an object that is kept as JSON.
    TextOrObject,
    /// A secret or a key, in clear or by reference; never shown.
    Secret,
    /// One of them, or a list of them.
    Secrets,
    /// A JSON Web Key as an object, or by reference.
    Jwk,
}

/// A form that a text must have.
pub struct Form {
    /// What it is, to complete "must be …".
    pub words: &'static str,
    /// Says what is wrong.
    pub check: fn(&str) -> Result<(), String>,
}

impl Shape {
    /// What would be right, to complete "must be …".
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Unbuilt => "left out".to_owned(),
            Self::Bool | Self::OnlyFalse => "true or false".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::IntegerOr(_, _, form) => format!("a whole number or {}", form.words),
            Self::Duration { .. } => "a duration such as `10s`".to_owned(),
            Self::Size { .. } => "a size such as `64k` or `10m`".to_owned(),
            Self::Lifetimes => "a duration such as `5m`, or an object of statuses and durations".to_owned(),
            Self::Text(form) => form.words.to_owned(),
            Self::Choice(built, _) => match built {
                [only] => format!("`{only}`"),
                _ => format!("one of {}", built.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
            },
            Self::List(item, _) => match item {
                Self::NameOr(_) => "a list of names or objects".to_owned(),
                Self::Object(_) => "a list of objects".to_owned(),
                _ => "a list".to_owned(),
            },
            Self::Object(_) | Self::Nameless(_) => "an object".to_owned(),
            Self::ObjectOrFalse(_) => "an object, or `false`".to_owned(),
            Self::NameOr(_) => "a name or an object".to_owned(),
            Self::Labels => "an object of names and texts".to_owned(),
            Self::Headers => "an object of header names and claims".to_owned(),
            Self::HeaderTexts(..) => "an object of header names and texts".to_owned(),
            Self::TextOrObject => "text or an object".to_owned(),
            Self::Secret => "a reference such as `$env://NAME` or `$file:///path`".to_owned(),
            Self::Secrets => {
                "a reference such as `$env://NAME` or `$file:///path`, a hash such as `sha256:…`, or a list of them"
                    .to_owned()
            }
            Self::Jwk => "a JSON Web Key as an object, or a reference to one".to_owned(),
        }
    }

    const fn accepts(&self, kind: Kind) -> bool {
        match self {
            Self::Unbuilt => true,
            Self::Bool | Self::OnlyFalse => matches!(kind, Kind::Bool),
            Self::Integer { .. } => matches!(kind, Kind::Integer),
            Self::IntegerOr(..) | Self::Size { .. } => matches!(kind, Kind::Integer | Kind::Text),
            Self::Duration { .. } | Self::Text(_) | Self::Choice(..) | Self::Secret => matches!(kind, Kind::Text),
            Self::List(..) => matches!(kind, Kind::List),
            Self::Secrets => matches!(kind, Kind::Text | Kind::List),
            Self::Object(_) | Self::Nameless(_) | Self::Labels | Self::Headers | Self::HeaderTexts(..) => {
                matches!(kind, Kind::Map)
            }
            Self::ObjectOrFalse(_) => matches!(kind, Kind::Map | Kind::Bool),
            Self::NameOr(_) | Self::Jwk | Self::TextOrObject | Self::Lifetimes => {
                matches!(kind, Kind::Map | Kind::Text)
            }
        }
    }
}

/// Reports everything in `at` that `shape` does not allow.
pub(super) fn check(at: &At<'_>, shape: &Shape) {
    if at.sink.is_full() {
        return;
    }
    let kind = at.node.kind();
    if !shape.accepts(kind) {
        return at.error(format!("must be {}, found {}", shape.words(), kind.words()));
    }
    match shape {
        Shape::Unbuilt => at.error("not supported yet"),
        Shape::Bool => {}
        Shape::OnlyFalse if at.node.bool() == Some(true) => at.error("`true` is not supported yet"),
        Shape::OnlyFalse => {}
        Shape::Integer { min, max } => integer(at, *min, *max),
        Shape::IntegerOr(min, max, form) => match at.node.text() {
            Some(text) => {
                if let Err(message) = (form.check)(text) {
                    at.error(message);
                }
            }
            None => integer(at, *min, *max),
        },
        Shape::Duration { min, max, step } => duration(at, *min, *max, *step),
        Shape::Size { min } => match scalar::size(at.node.scalar().unwrap_or_default()) {
            Ok(size) if size < *min => at.error(format!("must be at least {min}")),
            Ok(_) => {}
            Err(message) => at.error(message),
        },
        Shape::Text(form) => {
            if let Some(Err(message)) = at.node.text().map(form.check) {
                at.error(message);
            }
        }
        Shape::Choice(built, unbuilt) => choice(at, shape, built, unbuilt),
        Shape::List(item, may_be_empty) => {
            if at.node.items().is_empty() && !may_be_empty {
                at.error("must have at least one entry");
            }
            at.items().for_each(|at| check(&at, item));
        }
        Shape::Object(resource) => object(at, resource, false),
        Shape::ObjectOrFalse(resource) if kind == Kind::Map => object(at, resource, false),
        Shape::ObjectOrFalse(_) if at.node.bool() == Some(true) => at.error("must be an object, or `false`"),
        Shape::ObjectOrFalse(_) => {}
        Shape::Nameless(resource) => object(at, resource, true),
        Shape::NameOr(resource) if kind == Kind::Map => object(at, resource, true),
        // That the name is somebody's is seen when all names are known.
        Shape::NameOr(_) | Shape::Secret | Shape::Jwk | Shape::TextOrObject => {}
        Shape::Secrets => at.items().for_each(|at| check(&at, &Shape::Secret)),
        Shape::Lifetimes => lifetimes(at),
        Shape::Labels => labels(at),
        Shape::Headers => headers(at),
        Shape::HeaderTexts(form, reserved) => header_texts(at, form, reserved),
    }
}

/// Reports what `resource` does not have or lacks; `nameless` where an object stands in the place of a name.
pub(super) fn object(at: &At<'_>, resource: &Resource, nameless: bool) {
    for (entry, inner) in at.fields() {
        if at.sink.is_full() {
            return;
        }
        let Some(field) = resource.fields.iter().find(|field| field.name == &*entry.key) else {
            at.error_in(entry.place, unknown(at, resource, &entry.key));
            continue;
        };
        match field.shape {
            // Where the field begins, not where its value does: it is the field that must go.
            Shape::Unbuilt => inner.error_in(entry.place, "not supported yet"),
            _ if nameless && field.name == "name" => {
                inner.error_in(entry.place, "must be left out here; what has a name stands in the list of its kind");
            }
            _ => check(&inner, &field.shape),
        }
    }
    for field in resource.fields.iter().filter(|field| field.needed && !(nameless && field.name == "name")) {
        if at.get(field.name).is_none() {
            at.error(format!("needs `{}`: {}", field.name, field.shape.words()));
        }
    }
}

fn unknown(at: &At<'_>, resource: &Resource, key: &str) -> String {
    let hint = resource.hints.iter().find(|(word, _)| *word == key);
    let tail = match hint {
        Some((_, ours)) => format!("; {ours}"),
        None if key == "<<" => "; merge keys are not part of YAML 1.2, use aliases or `defaults`".to_owned(),
        None => at.sink.suggestion(key, resource.fields.iter().map(|field| field.name)),
    };
    format!("unknown field {}{tail}", quote(key))
}

fn integer(at: &At<'_>, min: i64, max: i64) {
    match at.node.integer() {
        Some(number) if number < min && min == 1 => at.error("must be above 0"),
        Some(number) if number < min && min == 0 => at.error("must not be negative"),
        Some(number) if number < min => at.error(format!("must be at least {min}")),
        Some(number) if number <= max => {}
        // More than an i64 holds, in either direction.
        None if at.node.scalar().is_some_and(|text| text.starts_with('-')) => {
            at.error(format!("must be at least {min}"))
        }
        Some(_) | None => at.error(format!("must be at most {max}")),
    }
}

fn duration(at: &At<'_>, min: u64, max: u64, step: u64) {
    let shown = |micros: u64| match micros {
        _ if micros.is_multiple_of(3_600 * SECOND) => format!("{}h", micros / (3_600 * SECOND)),
        _ if micros.is_multiple_of(SECOND) => format!("{}s", micros / SECOND),
        _ => format!("{}ms", micros / 1_000),
    };
    match at.node.text().map(scalar::duration) {
        Some(Err(message)) => at.error(message),
        Some(Ok(0)) if min > 0 => at.error("must be above 0"),
        Some(Ok(micros)) if micros < min => at.error(format!("must be at least `{}`", shown(min))),
        Some(Ok(micros)) if micros > max => at.error(format!("must be at most `{}`", shown(max))),
        Some(Ok(micros)) if step > 0 && !micros.is_multiple_of(step) => at.error("must be whole seconds"),
        _ => {}
    }
}

fn lifetimes(at: &At<'_>) {
    let check = |at: &At<'_>| duration(at, SECOND, cache::TTL_MAX, SECOND);
    if at.node.kind() != Kind::Map {
        return check(at);
    }
    for (entry, inner) in at.fields() {
        if cache::status(&entry.key).is_none() {
            let message =
                format!("{} must be a status from 200 to 599 other than 206 and 304, or `any`", quote(&entry.key));
            inner.error_in(entry.place, message);
        }
        match entry.node.kind() {
            Kind::Text => check(&inner),
            other => inner.error(format!("must be a duration such as `10s`, found {}", other.words())),
        }
    }
}

fn choice(at: &At<'_>, shape: &Shape, built: &[&str], unbuilt: &[&str]) {
    let Some(text) = at.node.text() else { return };
    if built.contains(&text) {
        return;
    }
    if unbuilt.contains(&text) {
        return at.error(format!("`{text}` is not supported yet"));
    }
    let other_case = built.iter().find(|word| word.eq_ignore_ascii_case(text));
    let tail = match other_case {
        Some(word) => format!(", did you mean `{word}`?"),
        None => at.sink.suggestion(text, built.iter().copied()),
    };
    at.error(format!("must be {}, found {}{tail}", shape.words(), quote(text)));
}

fn labels(at: &At<'_>) {
    for (entry, inner) in at.fields() {
        if entry.key.is_empty() || entry.key.len() > crate::types::NAME_MAX || entry.key.chars().any(char::is_control) {
            at.error_in(entry.place, format!("{} cannot be a label's name", quote(&entry.key)));
        }
        if entry.node.scalar().is_none() {
            inner.error(format!("must be text, found {}", entry.node.kind().words()));
        }
    }
}

/// Headers by which nginx passes a request on, and those that we set ourselves.
pub(super) const REQUEST_RESERVED: [&str; 15] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-request-id",
];

/// Whether a header decides where a request goes, where it ends or who is asked; a claim has no say in that.
fn reserved(name: &str) -> bool {
    REQUEST_RESERVED.contains(&name) || matches!(name, "authorization" | "cookie") || name.starts_with("proxy-")
}

fn headers(at: &At<'_>) {
    let mut seen = std::collections::HashSet::new();
    for (entry, inner) in at.fields() {
        let lower = entry.key.to_ascii_lowercase();
        if let Err(message) = header(&entry.key) {
            inner.error_in(entry.place, message);
        } else if reserved(&lower) {
            inner.error_in(entry.place, "this header is not a claim's to set");
        } else if !seen.insert(lower) {
            inner.error_in(entry.place, "stands here twice; the case of a header's name does not count");
        }
        match entry.node.text().map(scalar::claim) {
            None => inner.error(format!("must be the name of a claim, found {}", entry.node.kind().words())),
            Some(Err(message)) => inner.error(message),
            Some(Ok(())) => {}
        }
    }
}

fn header_texts(at: &At<'_>, form: &Form, reserved: &[&str]) {
    let mut seen = std::collections::HashSet::new();
    for (entry, inner) in at.fields() {
        let lower = entry.key.to_ascii_lowercase();
        if let Err(message) = header(&entry.key) {
            inner.error_in(entry.place, message);
        } else if reserved.contains(&&*lower) {
            inner.error_in(entry.place, "this header is set by nginx or the gateway");
        } else if !seen.insert(lower) {
            inner.error_in(entry.place, "stands here twice; the case of a header's name does not count");
        }
        match entry.node.text().map(form.check) {
            None => inner.error(format!("must be {}, found {}", form.words, entry.node.kind().words())),
            Some(Err(message)) => inner.error(message),
            Some(Ok(())) => {}
        }
    }
}

/// Checks the name of a header that nginx lets through.
pub(super) fn header(name: &str) -> Result<(), String> {
    if !scalar::is_token(name) {
        return Err("must be the name of a header".to_owned());
    }
    if name.contains('_') {
        return Err("nginx drops headers with an underscore in their name; write `-`".to_owned());
    }
    Ok(())
}

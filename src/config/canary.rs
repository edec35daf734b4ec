//! A route's `canary`.

use super::document::{Canary, Fallback, Mirror, Variant};
use super::read::At;
use super::shape::header;
use super::upstream::{WrittenRetries, timeouts, timeouts_or};
use super::{Context, fallback, scalar};
use crate::auth::Requirement;
use crate::balancer::Timeouts;
use crate::canary::{BUCKETS, Key, Mark, Overrides, Promote, Rules, STEPS_MAX, Salt, VARIANTS_MAX};
use crate::types::SECOND;

/// As far as it is written.
#[derive(Clone)]
pub(super) struct Written {
    variants: Vec<WrittenVariant>,
    overrides: Option<Box<Overrides>>,
    permission: Option<Requirement>,
    key: Option<Key>,
    salt: Option<String>,
    promote: Option<Promote>,
    mirror: Option<Mirror>,
}

#[derive(Clone)]
struct WrittenVariant {
    name: String,
    weight: u32,
    upstream: Option<String>,
    timeouts: Timeouts,
    retries: WrittenRetries,
    fallback: Option<Fallback>,
}

/// What a route says for all its variants, and what `defaults` do.
pub(super) struct Around<'a> {
    pub name: &'a str,
    pub upstream: &'a str,
    pub timeouts: Timeouts,
    pub retries: &'a WrittenRetries,
    pub fallback: Option<&'a Fallback>,
    pub default_timeouts: Timeouts,
    pub default_retries: &'a WrittenRetries,
    pub default_fallback: Option<&'a Fallback>,
}

/// Reads what the tables have checked.
pub(super) fn read(at: &At<'_>, context: &Context<'_>) -> Written {
    let promote = at.object("promote").map(|at| promote(&at));
    let list = at.get("variants");
    let last = list.iter().flat_map(At::items).count().saturating_sub(1);
    let mut variants: Vec<WrittenVariant> = Vec::new();
    for (index, item) in list.iter().flat_map(At::items).enumerate().filter(|(_, item)| item.is_object()) {
        let name = item.text("name").unwrap_or_default().to_owned();
        if variants.iter().any(|other| other.name == name)
            && let Some(at) = item.get("name")
        {
            at.error("is the name of another variant too");
        }
        let is_promoted = promote.is_some() && index == last && index > 0;
        match item.get("weight") {
            None if !is_promoted => item.error("needs `weight`: a share, relative to the other variants'"),
            Some(at) if is_promoted => at.error("is what `promote` says, as this is the last variant; leave it out"),
            _ => {}
        }
        let upstream = item.get("upstream").filter(|at| context.names.upstreams.refer(at));
        variants.push(WrittenVariant {
            name,
            weight: item.number("weight").unwrap_or(0),
            upstream: upstream.and_then(|at| at.node.text().map(str::to_owned)),
            timeouts: item.get("timeouts").map(|at| timeouts(&at)).unwrap_or_default(),
            retries: item.get("retries").map(|at| WrittenRetries::read(&at)).unwrap_or_default(),
            fallback: item.object("fallback").and_then(|at| fallback::read(&at, &context.names.upstreams)),
        });
    }
    weigh(list.as_ref().unwrap_or(at), &variants);
    let overrides = at.object("overrides");
    Written {
        variants,
        overrides: overrides.as_ref().map(|at| {
            if ["header", "cookie", "users"].into_iter().all(|name| at.get(name).is_none()) {
                at.error("needs `header`, `cookie` or `users`; `overrides: false` lets nobody choose");
            }
            let mut users = at.texts("users").unwrap_or_default();
            users.sort();
            users.dedup();
            let mark = |name, between| at.text(name).and_then(|text| mark(text, between).ok());
            let header = mark("header", ':').map(|mark| Mark { name: mark.name.to_ascii_lowercase(), ..mark });
            Box::new(Overrides { header, cookie: mark("cookie", '='), users })
        }),
        permission: overrides
            .as_ref()
            .and_then(|at| Requirement::new(false, vec![at.text("permission")?.to_owned()]).ok()),
        key: at.parsed("key", parse_key),
        salt: at.text("salt").map(str::to_owned),
        promote,
        mirror: at.object("mirror").and_then(|at| mirror(&at, context)),
    }
}

fn mirror(at: &At<'_>, context: &Context<'_>) -> Option<Mirror> {
    let upstream = at.get("upstream").filter(|at| context.names.upstreams.refer(at))?;
    let share = at.parsed("percent", scalar::hundredths).unwrap_or(BUCKETS as u32);
    match (u16::try_from(share), at.get("percent")) {
        (Ok(share @ 1..=10_000), _) => Some(Mirror { upstream: upstream.node.text()?.to_owned(), share }),
        (_, Some(at)) => {
            at.error("must be above 0 and at most 100%");
            None
        }
        (_, None) => None,
    }
}

fn promote(at: &At<'_>) -> Promote {
    let span = |name, default| at.parsed(name, scalar::duration).unwrap_or(default);
    let part = |name, default| at.parsed(name, scalar::hundredths).unwrap_or(default);
    let list = at.get("steps");
    let mut steps: Vec<u16> = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(Ok(share)) = item.node.text().map(scalar::hundredths) else { continue };
        match u16::try_from(share) {
            Ok(0) => item.error("must be above 0"),
            Ok(share) if u64::from(share) > BUCKETS => item.error("must be at most 100%"),
            Ok(share) if steps.last().is_some_and(|before| *before >= share) => {
                item.error("must be above the share before it");
            }
            Ok(share) => steps.push(share),
            Err(_) => item.error("must be at most 100%"),
        }
    }
    if let Some(list) = list.as_ref().filter(|_| steps.len() > STEPS_MAX) {
        list.error(format!("{} steps, at most {STEPS_MAX} are possible", steps.len()));
    }
    Promote {
        steps: if list.is_some() { steps } else { vec![500, 2_500, 5_000, 10_000] },
        every: span("every", 600 * SECOND),
        minimum_requests: at.number("minimum_requests").unwrap_or(100),
        max_error_rate: part("max_error_rate", 100),
        max_latency: part("max_latency", 5_000),
        cool_down: span("cool_down", 1_800 * SECOND),
        hold: at.text("on_failure") == Some("hold"),
    }
}

/// Whether the weights are shares of something.
fn weigh(at: &At<'_>, variants: &[WrittenVariant]) {
    let total: u64 = variants.iter().map(|variant| u64::from(variant.weight)).sum();
    match variants.len() {
        0 => return,
        1 => at.error("needs at least two variants"),
        count if count > VARIANTS_MAX => at.error(format!("{count} variants, at most {VARIANTS_MAX} are possible")),
        _ if total == 0 => at.error("all weights are 0, so nobody would be served"),
        _ => {}
    }
    for (variant, at) in variants.iter().zip(at.items()) {
        if variant.weight > 0 && u64::from(variant.weight) * BUCKETS < total {
            at.error("its share is below 0.01 %, the least that is possible");
        }
    }
}

impl Written {
    /// The canary of a route.
    pub(super) fn resolve(self, around: &Around<'_>, context: &Context<'_>) -> Canary {
        let variant = |variant: WrittenVariant| {
            let upstream = variant.upstream.unwrap_or_else(|| around.upstream.to_owned());
            let above = context.upstreams.get(&upstream).cloned().unwrap_or_default();
            let nearest = timeouts_or(variant.timeouts, around.timeouts);
            let retries = variant.retries.or(around.retries).or(&above.retries).or(around.default_retries);
            // A route may send all that fails to the one variant that is left; that one has nowhere to go.
            let near = variant.fallback.as_ref().or(around.fallback);
            let near = near.filter(|near| !matches!(near, Fallback::Upstream(other) if *other == upstream));
            let fallback = fallback::resolve(&upstream, near, above.fallback.as_ref(), around.default_fallback);
            Variant {
                name: variant.name,
                weight: variant.weight,
                upstream,
                timeouts: timeouts_or(timeouts_or(nearest, above.timeouts), around.default_timeouts),
                retries: retries.resolve(),
                fallback,
            }
        };
        Canary {
            variants: self.variants.into_iter().map(variant).collect(),
            rules: Rules {
                overrides: self.overrides,
                key: self.key.unwrap_or_default(),
                salt: Salt::new(self.salt.unwrap_or_else(|| around.name.to_owned())),
            },
            permission: self.permission,
            promote: self.promote,
            mirror: self.mirror,
        }
    }

    /// Tells, at a route without `auth`, of what needs to know the caller.
    pub(super) fn needs_auth(&self, at: &At<'_>) {
        if self.permission.is_some() {
            at.error("its `overrides` ask for a `permission` and need `auth`: without it nobody is permitted anything");
        } else if self.overrides.as_ref().is_some_and(|overrides| !overrides.users.is_empty()) {
            at.warn("its `overrides` name `users`, whom nobody knows on a route without `auth`");
        }
        if self.key == Some(Key::User) {
            at.warn("its `key` is `user`, whom nobody knows on a route without `auth`: addresses count");
        }
    }
}

/// Checks a header or a cookie that chooses, `NAME` or a name and a value with `between` between them.
pub(super) fn check_mark(text: &str, between: char) -> Result<(), String> {
    mark(text, between).map(drop)
}

fn mark(text: &str, between: char) -> Result<Mark, String> {
    let (name, value) = match text.split_once(between) {
        Some((name, value)) => (name, Some(value.trim())),
        None => (text, None),
    };
    if between == ':' {
        header(name)?;
    } else if !scalar::is_token(name) {
        return Err("must be the name of a cookie, or `NAME=value`".to_owned());
    }
    if value.is_some_and(|value| value.is_empty() || value.len() > 1_024 || value.chars().any(char::is_control)) {
        return Err("needs a value of 1 to 1024 bytes behind the name, without control characters".to_owned());
    }
    Ok(Mark { name: name.to_owned(), value: value.map(str::to_owned) })
}

/// Checks what callers are told apart by.
pub(super) fn check_key(text: &str) -> Result<(), String> {
    parse_key(text).map(drop)
}

fn parse_key(text: &str) -> Result<Key, String> {
    const FORMS: &str = "must be `user`, `ip`, `header:NAME` or `cookie:NAME`";
    match text.split_once(':') {
        None if text == "user" => Ok(Key::User),
        None if text == "ip" => Ok(Key::Ip),
        None if text == "consumer" => Err("our word is `user`".to_owned()),
        None if matches!(text, "remote_addr" | "client_ip") => Err("our word is `ip`".to_owned()),
        Some(("header", name)) => header(name).map(|()| Key::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) if scalar::is_token(name) => Ok(Key::Cookie(name.to_owned())),
        _ => Err(FORMS.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_marks() {
        for (text, expected) in [
            ("user", Some(Key::User)),
            ("ip", Some(Key::Ip)),
            ("header:X-Id", Some(Key::Header("x-id".into()))),
            ("cookie:sid", Some(Key::Cookie("sid".into()))),
            ("consumer", None),
            ("header:", None),
            ("header:a_b", None),
            ("cookie:a=b", None),
            ("claim:x", None),
            ("", None),
        ] {
            assert_eq!(parse_key(text).ok(), expected, "{text}");
        }
        let found = |text, between| mark(text, between).ok().map(|mark| (mark.name, mark.value));
        let owned = |name: &str, value: Option<&str>| Some((name.to_owned(), value.map(str::to_owned)));
        assert_eq!(found("X-Canary: true", ':'), owned("X-Canary", Some("true")));
        assert_eq!(found("X-Canary:true", ':'), owned("X-Canary", Some("true")));
        assert_eq!(found("X-Canary", ':'), owned("X-Canary", None));
        assert_eq!(found("canary=a=b", '='), owned("canary", Some("a=b")));
        for (text, between) in
            [("", ':'), ("X-Canary:", ':'), ("a b: c", ':'), ("X_Y: c", ':'), ("=x", '='), ("a=", '=')]
        {
            assert_eq!(found(text, between), None, "{text}");
        }
    }
}

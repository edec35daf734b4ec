//! `routes`, and `defaults`, which hold the same fields.

use std::collections::HashSet;
use std::hash::Hash;

use super::canary::Around;
use super::document::{Fallback, Labels, PathPolicy, Permissions, Protocols, Route, Sources};
use super::node::Entry;
use super::problem::quote;
use super::read::At;
use super::upstream::{WrittenRetries, timeouts, timeouts_or};
use super::{
    Context, answer, auth, cache, canary, condition, cors, fallback, limiter, lists, scalar, template, upstream,
};
use crate::balancer::Timeouts;
use crate::cache::Cache;
use crate::cors::Cors;
use crate::limiter::{Event, KeyPart};
use crate::router::pattern::{Host, Path, Rule, Segment};
use crate::router::settings::{Answer, Condition, Template};
use crate::types::{Method, Methods};

/// The most bytes that a route's pairs of a host and a path may take: the tree keeps them in one block of 256 KiB.
const RULES_BYTES_MAX: usize = 256_000;

/// The most limits of one route: a request charges them as one decision, on the stack.
pub const LIMITS_MAX: usize = 16;

/// The most of them that count failures of auth or answers: a request remembers those until then.
pub const EVENTS_MAX: usize = 4;

/// A route's fields as far as they are written.
#[derive(Default)]
pub(super) struct Fields {
    hosts: Option<Vec<Host>>,
    paths: Option<Vec<Path>>,
    methods: Option<Methods>,
    priority: Option<i32>,
    enabled: Option<bool>,
    conditions: Option<Vec<Condition>>,
    target: Option<Target>,
    rewrite: Option<Template>,
    max_body: Option<u64>,
    location: Option<String>,
    headers: Option<Vec<(String, Template)>>,
    canary: Option<canary::Written>,
    cors: Option<Cors>,
    cache: Option<Cache>,
    allow: Option<Sources>,
    deny: Option<Sources>,
    path_policy: Option<PathPolicy>,
    auth: Option<Vec<String>>,
    permissions: Option<Permissions>,
    limits: Option<Vec<String>>,
    max_in_flight: Option<u32>,
    timeouts: Timeouts,
    retries: WrittenRetries,
    fallback: Option<Fallback>,
    strip_prefix: Option<bool>,
    protocols: Option<Protocols>,
    labels: Option<Labels>,
}

/// Where requests go.
#[derive(Clone)]
enum Target {
    Upstream(String),
    Answer(Answer),
}

impl Fields {
    /// Reads fields that the tables have checked. `owner` begins the names of objects that stand in the place of a
    /// name.
    pub(super) fn read(at: &At<'_>, owner: &str, context: &mut Context<'_>) -> Self {
        Self {
            hosts: patterns(at, "hosts", |text| Host::parse(text).ok()),
            paths: patterns(at, "paths", |text| Path::parse(text).ok()),
            methods: at.texts("methods").map(|names| {
                let methods = names.iter().map(|name| Method::parse(name.as_bytes()));
                methods.fold(Methods::NONE, Methods::with)
            }),
            priority: at.number("priority"),
            enabled: at.bool("enabled"),
            conditions: at.get("match").map(|at| condition::read(&at)),
            target: target(at, owner, context),
            rewrite: at.parsed("rewrite", template::path),
            max_body: at.get("max_body").and_then(|at| scalar::size(at.node.scalar()?).ok()),
            location: at.text("location").map(str::to_owned),
            headers: at.get("headers").map(|at| headers(&at)),
            canary: at.object("canary").map(|at| canary::read(&at, context)),
            cors: at.object("cors").map(|at| cors::read(&at)),
            cache: at.object("cache").map(|at| cache::read(&at)),
            allow: at.get("allow").map(|at| lists::sources(&at, &context.names.lists)),
            deny: at.get("deny").map(|at| lists::sources(&at, &context.names.lists)),
            path_policy: at.text("path_policy").map(|word| match word {
                "strict" => PathPolicy::Strict,
                _ => PathPolicy::Normal,
            }),
            auth: references(at, "auth", owner, context),
            permissions: at.object("permissions").and_then(|at| permissions(&at)),
            limits: references(at, "limits", owner, context),
            max_in_flight: at.number("max_in_flight"),
            timeouts: at.get("timeouts").map(|at| timeouts(&at)).unwrap_or_default(),
            retries: at.get("retries").map(|at| WrittenRetries::read(&at)).unwrap_or_default(),
            fallback: at.object("fallback").and_then(|at| fallback::read(&at, &context.names.upstreams)),
            strip_prefix: at.bool("strip_prefix"),
            protocols: at.texts("protocols").map(|words| {
                let has = |word: &str| words.iter().any(|other| other == word);
                Protocols { http: has("http"), websocket: has("websocket"), grpc: has("grpc") }
            }),
            labels: at.labels("labels"),
        }
    }

    /// The route that these fields make together with `defaults`.
    pub(super) fn route(self, at: &At<'_>, name: String, defaults: &Self, context: &mut Context<'_>) -> Option<Route> {
        let (upstream, answer) = match self.target.or_else(|| defaults.target.clone()) {
            Some(Target::Upstream(name)) => (Some(name), None),
            Some(Target::Answer(answer)) => (None, Some(answer)),
            None => (None, None),
        };
        // Variants inherit from their own upstreams.
        let has_variants = upstream.is_some() && (self.canary.is_some() || defaults.canary.is_some());
        let above = upstream.as_deref().filter(|_| !has_variants).and_then(|name| context.upstreams.get(name));
        let above = above.cloned().unwrap_or_default();
        // By `defaults` it is for routes that lead somewhere.
        let by_default = defaults.canary.clone().filter(|_| upstream.is_some());
        let written = self.canary.or(by_default);
        if let Some(written) = &written {
            let place = at.get("canary");
            let place = place.as_ref().unwrap_or(at);
            if upstream.is_none() {
                place.error("needs the route's `upstream`: where no variant goes elsewhere");
            }
            if self.auth.as_ref().or(defaults.auth.as_ref()).is_none_or(Vec::is_empty) {
                written.needs_auth(place);
            }
        }
        let canary = written.zip(upstream.as_deref()).map(|(written, upstream)| {
            let around = Around {
                name: &name,
                upstream,
                timeouts: self.timeouts,
                retries: &self.retries,
                fallback: self.fallback.as_ref(),
                default_timeouts: defaults.timeouts,
                default_retries: &defaults.retries,
                default_fallback: defaults.fallback.as_ref(),
            };
            written.resolve(&around, context)
        });
        let fallback = match (&canary, upstream.as_deref()) {
            // Each variant has its own.
            (Some(_), _) => None,
            (None, Some(name)) => {
                fallback::resolve(name, self.fallback.as_ref(), above.fallback.as_ref(), defaults.fallback.as_ref())
            }
            (None, None) => self.fallback,
        };
        let route = Route {
            rules: rules(
                at,
                self.hosts.or_else(|| defaults.hosts.clone()),
                self.paths.or_else(|| defaults.paths.clone()),
                context,
            )?,
            methods: self.methods.or(defaults.methods).unwrap_or(Methods::ANY),
            priority: self.priority.or(defaults.priority).unwrap_or(0),
            enabled: self.enabled.or(defaults.enabled).unwrap_or(true),
            conditions: self.conditions.or_else(|| defaults.conditions.clone()).unwrap_or_default(),
            upstream,
            rewrite: self.rewrite.or_else(|| defaults.rewrite.clone()),
            max_body: self.max_body.or(defaults.max_body),
            location: self.location.or_else(|| defaults.location.clone()),
            headers: self.headers.or_else(|| defaults.headers.clone()).unwrap_or_default(),
            canary,
            cors: self.cors.or_else(|| defaults.cors.clone()),
            // What the route answers by itself is not fetched from anybody.
            cache: self.cache.or_else(|| defaults.cache.clone().filter(|_| answer.is_none())),
            answer,
            allow: self.allow.or_else(|| defaults.allow.clone()).unwrap_or_default(),
            deny: self.deny.or_else(|| defaults.deny.clone()).unwrap_or_default(),
            auth: self.auth.or_else(|| defaults.auth.clone()).unwrap_or_default(),
            permissions: self.permissions.or_else(|| defaults.permissions.clone()),
            limits: self.limits.or_else(|| defaults.limits.clone()).unwrap_or_default(),
            timeouts: timeouts_or(timeouts_or(self.timeouts, above.timeouts), defaults.timeouts),
            retries: self.retries.or(&above.retries).or(&defaults.retries).resolve(),
            fallback,
            max_in_flight: self.max_in_flight.or(defaults.max_in_flight),
            strip_prefix: self.strip_prefix.or(defaults.strip_prefix).unwrap_or(false),
            path_policy: self.path_policy.or(defaults.path_policy).unwrap_or_default(),
            protocols: self.protocols.or(defaults.protocols).unwrap_or(Protocols::ALL),
            labels: self.labels.or_else(|| defaults.labels.clone()).unwrap_or_default(),
            name,
        };
        agree(at, &route, context);
        Some(route)
    }
}

/// Fields that are right each by itself may still not fit together.
fn agree(at: &At<'_>, route: &Route, context: &Context<'_>) {
    if route.permissions.is_some() && route.auth.is_empty() {
        match at.get("permissions") {
            Some(at) => at.error("need `auth`: without it nobody is permitted anything"),
            None => {
                at.error("has `permissions` by `defaults` and needs `auth`: without it nobody is permitted anything")
            }
        }
    }
    if route.rewrite.is_some() && route.strip_prefix {
        let place = at.get("rewrite").or_else(|| at.get("strip_prefix"));
        place.as_ref().unwrap_or(at).error("`rewrite` and `strip_prefix` exclude each other");
    }
    if route.answer.is_some()
        && let Some(place) = at.get("location")
    {
        place.error("a route that answers by itself passes nothing on");
    }
    if let (Some(fallback), Some(place)) = (&route.fallback, at.get("fallback")) {
        match (&route.upstream, fallback) {
            (None, _) => place.error("is for what an `upstream` cannot serve, and the route has none"),
            (Some(name), Fallback::Upstream(other)) if name == other => {
                let place = place.get("upstream").unwrap_or(place);
                place.error(format!("the route's upstream is {} already: it cannot fall back to itself", quote(name)));
            }
            _ => {}
        }
    }
    if let (Some(place), Some(_)) = (at.get("cache"), &route.answer) {
        place.error(
            "has no meaning beside `reply` and `redirect`: what the route answers by itself is fetched from nobody",
        );
    }
    templates(at, route);
    let written = at.get("limits");
    if route.limits.len() > LIMITS_MAX {
        let message = format!("{} limits on one route, at most {LIMITS_MAX} are possible", route.limits.len());
        written.as_ref().unwrap_or(at).error(message);
    }
    let events =
        |event: Event| route.limits.iter().filter(move |limit| context.limiter_events.get(*limit) == Some(&event));
    let later = events(Event::AuthFailure).count() + events(Event::Response).count();
    if later > EVENTS_MAX {
        let message = format!("{later} of its limits count failures of auth or answers, at most {EVENTS_MAX} can");
        written.as_ref().unwrap_or(at).error(message);
    }
    if let (Some(limit), true) = (events(Event::AuthFailure).next(), route.auth.is_empty()) {
        let message = format!("{} counts failures of auth, and the route has no `auth`", quote(limit));
        written.as_ref().unwrap_or(at).warn(message);
    }
    for (index, limit) in route.limits.iter().enumerate() {
        for part in context.limiter_keys.get(limit).into_iter().flatten() {
            let Some(why) = unknown(route, part) else { continue };
            let message = format!("{why}: all such requests share one bucket");
            match written.as_ref().and_then(|at| at.items().nth(index)) {
                Some(at) => at.warn(message),
                None => at.warn(format!("limits[{index}] (by `defaults`) {message}")),
            }
        }
    }
}

/// Every parameter of a template is one of every path, or some requests would go out with a hole.
fn templates(at: &At<'_>, route: &Route) {
    let tell = |field: &str, inner: Option<&str>, template: &Template| {
        for name in template::params(template) {
            let lacks = |rule: &&Rule| rule.path.params().all(|other| other != name);
            let Some(rule) = route.rules.iter().find(lacks) else { continue };
            let message = format!("needs the parameter `{name}`, which {} does not have", rule.path);
            let outer = at.get(field);
            match (&outer, inner) {
                (Some(outer), Some(inner)) => outer.get(inner).as_ref().unwrap_or(outer).error(message),
                (Some(outer), None) => outer.error(message),
                (None, _) => at.error(format!("{field} (by `defaults`) {message}")),
            }
        }
    };
    if let Some(rewrite) = &route.rewrite {
        tell("rewrite", None, rewrite);
    }
    for (name, value) in &route.headers {
        tell("headers", Some(name), value);
    }
    if let Some(Answer::Redirect(redirect)) = &route.answer {
        tell("redirect", Some("to"), &redirect.to);
    }
}

/// Why a limiter of `route` cannot know what it counts by.
fn unknown(route: &Route, part: &KeyPart) -> Option<String> {
    match part {
        KeyPart::Path(name) => {
            let lacks = |rule: &&Rule| rule.path.params().all(|other| other != name);
            let rule = route.rules.iter().find(lacks)?;
            Some(format!("counts by the parameter `{name}`, which {} does not have", rule.path))
        }
        KeyPart::Upstream if route.upstream.is_none() => Some("counts by upstream, and the route has none".to_owned()),
        _ if part.needs_identity() && route.auth.is_empty() => {
            Some("counts by who the caller is, which nobody knows on a route without `auth`".to_owned())
        }
        _ => None,
    }
}

fn rules(
    at: &At<'_>,
    hosts: Option<Vec<Host>>,
    paths: Option<Vec<Path>>,
    context: &mut Context<'_>,
) -> Option<Vec<Rule>> {
    if hosts.is_none() && paths.is_none() && at.get("hosts").is_none() && at.get("paths").is_none() {
        at.error("needs `paths`, `hosts` or both; `paths: [\"/*\"]` takes every request");
        return None;
    }
    let hosts = hosts.unwrap_or_else(|| vec![Host::Any]);
    let paths = paths.unwrap_or_else(|| vec![Path::Prefix(Vec::new())]);
    let count = hosts.len().saturating_mul(paths.len());
    let host_bytes: usize = hosts.iter().map(|host| size_of_host(host) + KEY_BYTES).sum();
    let path_bytes: usize = paths.iter().map(size_of_path).sum();
    let bytes = host_bytes.saturating_mul(paths.len()).saturating_add(path_bytes.saturating_mul(hosts.len()));
    if bytes > RULES_BYTES_MAX {
        at.error(format!(
            "its {count} pairs of a host and a path take {bytes} bytes, at most {RULES_BYTES_MAX} are possible: make \
             several routes of it"
        ));
        return None;
    }
    if !context.spend_rules(at, count) {
        return None;
    }
    let pairs = hosts.iter().flat_map(|host| paths.iter().map(|path| Rule { host: host.clone(), path: path.clone() }));
    Some(pairs.collect())
}

/// Bytes of a pair beside its host and its path.
const KEY_BYTES: usize = 24;

const fn size_of_host(host: &Host) -> usize {
    match host {
        Host::Any => 0,
        Host::Wildcard(name) | Host::Exact(name) => name.len(),
    }
}

fn size_of_path(path: &Path) -> usize {
    match path {
        Path::Exact(path) | Path::Prefix(path) => path.len(),
        // Beside the text the tree keeps its literal prefix, which is no longer than that.
        Path::Regex(text) => 2 * text.len(),
        Path::Pattern { segments, .. } => segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(literal) => 1 + literal.len(),
                Segment::Param(_) => 2,
            })
            .sum(),
    }
}

/// One of `upstream`, `reply` and `redirect`.
fn target(at: &At<'_>, owner: &str, context: &mut Context<'_>) -> Option<Target> {
    let written: Vec<&str> =
        ["upstream", "reply", "redirect"].into_iter().filter(|name| at.get(name).is_some()).collect();
    if let [first, second, ..] = written.as_slice() {
        at.error(format!("has both `{first}` and `{second}`; a route has one of `upstream`, `reply` and `redirect`"));
    }
    let upstream = at.get("upstream").and_then(|at| upstream_name(&at, owner, context)).map(Target::Upstream);
    let reply = at.object("reply").map(|at| Target::Answer(Answer::Reply(answer::reply(&at, 200))));
    let redirect = at.object("redirect").and_then(|at| answer::redirect(&at));
    upstream.or(reply).or(redirect.map(|redirect| Target::Answer(Answer::Redirect(redirect))))
}

fn headers(at: &At<'_>) -> Vec<(String, Template)> {
    let read = |entry: &Entry| Some((entry.key.to_string(), template::header(entry.node.text()?).ok()?));
    let mut headers: Vec<_> = at.node.entries().iter().filter_map(read).collect();
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    headers
}

/// What stands in the list `name`, each once.
fn patterns<T: Clone + Eq + Hash>(at: &At<'_>, name: &str, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let list = at.get(name)?;
    let mut seen = HashSet::new();
    let mut patterns = Vec::new();
    for item in list.items() {
        let Some(pattern) = item.node.text().and_then(parse) else { continue };
        if !seen.insert(pattern.clone()) {
            item.error("stands here twice");
        }
        patterns.push(pattern);
    }
    Some(patterns).filter(|patterns| !patterns.is_empty())
}

fn permissions(at: &At<'_>) -> Option<Permissions> {
    match (at.texts("any"), at.texts("all")) {
        (Some(required), None) => Permissions::new(false, required).ok(),
        (None, Some(required)) => Permissions::new(true, required).ok(),
        (Some(_), Some(_)) => {
            at.error("needs `any` or `all`, not both");
            None
        }
        (None, None) => {
            // What is written and no list has been reported.
            if at.get("any").is_none() && at.get("all").is_none() {
                at.error("needs `any` or `all`: a list of permissions such as `orders:read`");
            }
            None
        }
    }
}

/// The names in the list `list`; an object in the place of a name is given a made one.
fn references(at: &At<'_>, list: &str, owner: &str, context: &mut Context<'_>) -> Option<Vec<String>> {
    let list_at = at.get(list)?;
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for (index, item) in list_at.items().enumerate() {
        let is_auth = list == "auth";
        if let Some(name) = item.node.text() {
            let known = if is_auth { &context.names.auth } else { &context.names.limiters };
            if known.refer(&item) {
                if !seen.insert(name) {
                    item.error("stands here twice");
                }
                names.push(name.to_owned());
            }
            continue;
        }
        if !item.is_object() {
            continue;
        }
        let Some(name) = made_name(&item, format!("{owner}/{list}[{index}]")) else { continue };
        if is_auth {
            let entry = auth::read(&item, name.clone(), context);
            context.keep_auth(&item, entry);
        } else {
            let entry = limiter::read(&item, name.clone());
            context.keep_limiter(&item, entry);
        }
        names.push(name);
    }
    Some(names)
}

fn upstream_name(at: &At<'_>, owner: &str, context: &mut Context<'_>) -> Option<String> {
    if let Some(name) = at.node.text() {
        return context.names.upstreams.refer(at).then(|| name.to_owned());
    }
    let name = made_name(at, format!("{owner}/upstream")).filter(|_| at.is_object())?;
    let entry = upstream::read(at, name.clone(), context);
    context.keep_upstream(at, entry);
    Some(name)
}

fn made_name(at: &At<'_>, name: String) -> Option<String> {
    if name.len() > crate::types::NAME_MAX {
        at.error("the route's name is too long to name this after it; give it a name in the list of its kind");
        return None;
    }
    Some(name)
}

//! A checked document as JSON again, in one canonical form.
//!
//! [`parse`](super::parse) of it gives an equal document, but for secrets: they are shown as `"(set)"`. Defaults are
//! written out in each route, and lists that came from files are written as blocks. The one loss: an object that stood
//! in the place of a name in `defaults`, where every route overrides it.

mod address;
mod auth;
mod cache;
mod signature;

use serde_json::{Map, Value, json};

use super::collection::Collection;
use super::document::{
    Canary, Consumer, Document, Fallback, HostHeader, PathPolicy, Protocols, Role, Route, Sources, Upstream,
};
use crate::balancer::{Algorithm, Ejection, Policy, Retries, RetryOn, Timeouts, Tls, TlsVersion};
use crate::breaker::Breaker;
use crate::canary::{Key, Mark};
use crate::cors::{Cors, Origins};
use crate::limiter::{Cost, Event, HeaderStyle, KeyPart, Limiter};
use crate::lists::{Ban, List};
use crate::overload::Mode;
use crate::router::pattern::{Host, Path};
use crate::router::settings::{Answer, Condition, Field, Part, StaticReply, Template, Test};
use crate::types::{MILLISECOND, Method, Methods, SECOND};

pub use address::rfc3339;
pub(super) use auth::auth;

/// The document as JSON, for an admin API and for comparing.
#[must_use]
pub fn to_value(document: &Document) -> Value {
    let mut value = Fields::default();
    value.put("version", document.version);
    let defaults = defaults(document);
    if !defaults.is_empty() {
        value.put("defaults", Value::Object(defaults));
    }
    value.list("auth", document.auth.iter().filter(|auth| !is_made(&auth.name)).map(auth));
    value.list("consumers", document.consumers.iter().map(consumer));
    value.list("roles", document.roles.iter().map(role));
    value.list("lists", document.lists.iter().map(list));
    value.list("limiters", document.limiters.iter().filter(|limiter| !is_made(&limiter.name)).map(limiter));
    value.list("upstreams", document.upstreams.iter().filter(|upstream| !is_made(&upstream.name)).map(upstream));
    value.list("routes", document.routes.iter().map(|entry| inlined(route(entry), entry, document)));
    value.list("bans", address::joined(&document.bans).map(|(cidr, entry)| ban(&cidr, entry)));
    value.done()
}

/// The fields of an object; what is empty is left out.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn list(&mut self, name: &str, values: impl Iterator<Item = Value>) {
        let values: Vec<Value> = values.collect();
        if !values.is_empty() {
            self.put(name, values);
        }
    }

    fn texts(&mut self, name: &str, texts: &[String]) {
        self.list(name, texts.iter().map(|text| text.as_str().into()));
    }

    fn pairs(&mut self, name: &str, pairs: &[(String, String)]) {
        if !pairs.is_empty() {
            let pairs = pairs.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str())));
            self.put(name, Value::Object(pairs.collect()));
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// The objects of `collection`, each as it stands in the document; what `defaults` give to a route stands in it.
#[must_use]
pub fn resources(document: &Document, collection: Collection) -> Vec<Value> {
    let Value::Object(mut all) = to_value(document) else { return Vec::new() };
    let defaults = all.remove("defaults");
    let Some(Value::Array(mut list)) = all.remove(collection.name()) else { return Vec::new() };
    if let (Collection::Routes, Some(Value::Object(defaults))) = (collection, defaults) {
        for fields in list.iter_mut().filter_map(Value::as_object_mut) {
            for (name, value) in &defaults {
                fields.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    list
}

/// Whether no document can write `name`: it was made for an object that stands in the place of a name.
#[must_use]
pub fn is_made(name: &str) -> bool {
    name.contains('/')
}

/// What `defaults` must say so that the objects in it get their names again.
fn defaults(document: &Document) -> Map<String, Value> {
    let mut fields = Map::new();
    let made = |names: &[String]| names.iter().any(|name| name.starts_with("defaults/"));
    if let Some(route) = document.routes.iter().find(|route| made(&route.auth)) {
        fields.insert("auth".to_owned(), references(&route.auth, document));
    }
    if let Some(route) = document.routes.iter().find(|route| made(&route.limits)) {
        fields.insert("limits".to_owned(), references(&route.limits, document));
    }
    if let Some(found) = document.upstreams.iter().find(|upstream| upstream.name == "defaults/upstream") {
        fields.insert("upstream".to_owned(), nameless(upstream(found)));
    }
    fields
}

/// Puts made objects where they stood, and leaves out what is said by `defaults`.
fn inlined(mut value: Value, route: &Route, document: &Document) -> Value {
    let Some(fields) = value.as_object_mut() else { return value };
    for (field, names) in [("auth", &route.auth), ("limits", &route.limits)] {
        if names.iter().any(|name| name.starts_with("defaults/")) {
            fields.remove(field);
        } else {
            // An empty list is written too: `defaults` may say something else.
            fields.insert(field.to_owned(), references(names, document));
        }
    }
    if let Some(name) = route.upstream.as_deref().filter(|name| is_made(name)) {
        fields.remove("upstream");
        if name != "defaults/upstream"
            && let Some(found) = document.upstreams.iter().find(|upstream| upstream.name == name)
        {
            fields.insert("upstream".to_owned(), nameless(upstream(found)));
        }
    }
    value
}

fn references(names: &[String], document: &Document) -> Value {
    let object = |name: &String| {
        let made = is_made(name).then(|| {
            let found = document.limiters.iter().find(|entry| entry.name == *name).map(limiter);
            found.or_else(|| document.auth.iter().find(|entry| entry.name == *name).map(auth)).map(nameless)
        });
        made.flatten().unwrap_or_else(|| name.as_str().into())
    };
    names.iter().map(object).collect()
}

fn nameless(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("name");
    }
    value
}

/// A consumer as JSON.
pub(super) fn consumer(entry: &Consumer) -> Value {
    let mut fields = Fields::default();
    fields.put("name", entry.name.as_str());
    fields.list("api_key", entry.api_keys.iter().map(|hash| format!("sha256:{hash}").into()));
    fields.texts("permissions", &entry.permissions);
    fields.texts("roles", &entry.roles);
    if entry.priority != 0 {
        fields.put("priority", entry.priority);
    }
    fields.pairs("labels", &entry.labels);
    if !entry.enabled {
        fields.put("enabled", false);
    }
    fields.done()
}

/// A role as JSON.
pub(super) fn role(entry: &Role) -> Value {
    json!({"name": entry.name, "permissions": entry.permissions})
}

/// A list as JSON.
pub(super) fn list(entry: &List) -> Value {
    json!({"name": entry.name, "cidrs": address::blocks(&entry.ranges)})
}

fn ban(cidr: &str, entry: &Ban) -> Value {
    let mut fields = Fields::default();
    fields.put("cidr", cidr);
    if entry.until > 0 {
        fields.put("until", rfc3339(entry.until));
    }
    if !entry.reason.is_empty() {
        fields.put("reason", entry.reason.as_str());
    }
    fields.done()
}

/// The bans as JSON, each with its block.
pub(super) fn bans(document: &Document) -> Vec<(String, Value)> {
    address::joined(&document.bans)
        .map(|(cidr, entry)| {
            let value = ban(&cidr, entry);
            (cidr, value)
        })
        .collect()
}

/// A limiter as JSON.
pub(super) fn limiter(entry: &Limiter) -> Value {
    let mut fields = Fields::default();
    fields.put("name", entry.name.as_str());
    fields.list("key", entry.key.iter().map(|part| key_part(part).into()));
    let unit = match entry.per / SECOND {
        1 => "s",
        60 => "m",
        _ => "h",
    };
    fields.put("rate", format!("{}/{unit}", entry.count));
    fields.put("burst", entry.burst);
    match &entry.cost {
        Cost::Fixed(cost) => fields.put("cost", *cost),
        Cost::Header(name) => fields.put("cost", format!("header:{name}")),
    }
    match entry.on {
        Event::Request => {}
        Event::AuthFailure => fields.put("on", "auth_failure"),
        Event::Response => fields.put("on", "response"),
    }
    fields.list("statuses", entry.statuses.iter().map(|status| (*status).into()));
    if entry.shadow {
        fields.put("mode", "shadow");
    }
    match entry.headers {
        HeaderStyle::Ietf => {}
        HeaderStyle::X => fields.put("headers", "x"),
        HeaderStyle::Both => fields.put("headers", "both"),
    }
    fields.done()
}

fn key_part(part: &KeyPart) -> String {
    match part {
        KeyPart::Ip => "ip".to_owned(),
        KeyPart::Consumer => "consumer".to_owned(),
        KeyPart::Route => "route".to_owned(),
        KeyPart::Upstream => "upstream".to_owned(),
        KeyPart::Global => "global".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Claim(name) => format!("claim:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
        KeyPart::Path(name) => format!("path:{name}"),
    }
}

/// An upstream as JSON.
pub(super) fn upstream(entry: &Upstream) -> Value {
    let mut fields = Fields::default();
    fields.put("name", entry.name.as_str());
    fields.list(
        "nodes",
        entry.nodes.iter().enumerate().map(|(index, node)| {
            let mut fields = Fields::default();
            fields.put("host", node.host.as_str());
            fields.put("port", node.port);
            fields.put("weight", node.weight);
            fields.put("priority", node.priority);
            fields.pairs("labels", entry.node_labels.get(index).map_or(&[][..], Vec::as_slice));
            fields.done()
        }),
    );
    if let HostHeader::Name(name) = &entry.host {
        fields.put("host", name.as_str());
    }
    let Policy { algorithm, max_in_flight, slow_start } = entry.policy;
    if algorithm != Algorithm::default() {
        fields.put("algorithm", algorithm.word());
    }
    fields.list("hash_on", entry.hash_on.iter().map(|part| key_part(part).into()));
    if slow_start > 0 {
        fields.put("slow_start", duration(slow_start));
    }
    if max_in_flight > 0 {
        fields.put("max_in_flight", max_in_flight);
    }
    put_ejection(&mut fields, &entry.ejection);
    if let Some(overload) = &entry.overload {
        let mode = match overload.mode {
            Mode::Off => "off",
            Mode::Shadow => "shadow",
            Mode::Enforce => "enforce",
        };
        let (min, max, tolerance) = (overload.min, overload.max, overload.tolerance);
        fields.put("overload", json!({"mode": mode, "min": min, "max": max, "tolerance": tolerance}));
    }
    if let Some(written) = &entry.breaker {
        fields.put("breaker", breaker(written));
    }
    if let Some(written) = &entry.retries {
        fields.put("retries", retries(written));
    }
    put_timeouts(&mut fields, entry.timeouts);
    if let Some(written) = &entry.fallback {
        fields.put("fallback", fallback(written));
    }
    if let Some(settings) = &entry.tls {
        fields.put("tls", tls(settings));
    }
    fields.done()
}

fn fallback(fallback: &Fallback) -> Value {
    match fallback {
        Fallback::Reply(reply) => static_reply(reply),
        Fallback::Upstream(name) => json!({"upstream": name}),
        Fallback::Stale => json!({"stale": true}),
    }
}

fn static_reply(reply: &StaticReply) -> Value {
    let mut fields = Fields::default();
    fields.put("status", reply.status);
    fields.pairs("headers", &reply.headers);
    if !reply.body.is_empty() {
        fields.put("body", reply.body.as_str());
    }
    fields.done()
}

/// TLS as JSON: certificates as PEM, the key not at all.
fn tls(settings: &Tls) -> Value {
    let mut fields = Fields::default();
    fields.put("verify", settings.verify);
    if let Some(name) = &settings.sni {
        fields.put("sni", name.as_str());
    }
    if let Some(ca) = &settings.ca {
        fields.put("ca", ca.as_str());
    }
    if let Some(client) = &settings.client {
        fields.put("cert", client.chain.as_str());
        fields.put("key", "(set)");
    }
    let version = match settings.min_version {
        TlsVersion::V1_2 => "TLSv1.2",
        TlsVersion::V1_3 => "TLSv1.3",
    };
    fields.put("min_version", version);
    fields.done()
}

fn put_ejection(fields: &mut Fields, ejection: &Ejection) {
    let default = Ejection::default();
    if (ejection.failures, ejection.window) != (default.failures, default.window) {
        let passive = json!({"failures": ejection.failures, "window": duration(ejection.window)});
        fields.put("health", json!({"passive": passive}));
    }
    if ejection.consecutive > 0 {
        let mut outlier = Fields::default();
        outlier.put("consecutive_5xx", ejection.consecutive);
        if ejection.error_ratio > 0 {
            outlier.put("error_ratio", percentage(ejection.error_ratio));
            outlier.put("minimum_calls", ejection.minimum_calls);
        }
        fields.put("outlier", outlier.done());
    }
    if ejection.most != default.most {
        fields.put("max_ejection_percent", ejection.most);
    }
}

fn breaker(breaker: &Breaker) -> Value {
    let mut fields = Fields::default();
    if breaker.failures > 0 {
        fields.put("failures", breaker.failures);
    }
    if breaker.weighs() {
        fields.put("failure_ratio", percentage(breaker.failure_ratio));
        fields.put("minimum_calls", breaker.minimum_calls);
    }
    if breaker.slow_call > 0 {
        fields.put("slow_call", duration(breaker.slow_call));
    }
    fields.put("window", duration(breaker.window));
    fields.put("open_for", duration(breaker.open_for));
    fields.put("open_for_max", duration(breaker.open_for_max));
    fields.put("jitter", percentage(breaker.jitter));
    fields.put("probes", breaker.probes);
    fields.put("closes_after", breaker.closes_after);
    fields.done()
}

/// Tenths of a percent as they are written.
fn percentage(tenths: u16) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenth) => format!("{whole}.{tenth}%"),
    }
}

fn retries(retries: &Retries) -> Value {
    let mut on = Vec::new();
    if retries.on.error {
        on.push("error".to_owned());
    }
    if retries.on.timeout {
        on.push("timeout".to_owned());
    }
    let statuses = RetryOn::STATUSES.iter().enumerate().filter(|(bit, _)| retries.on.statuses & 1 << bit != 0);
    on.extend(statuses.map(|(_, status)| format!("http_{status}")));
    let methods = if retries.idempotent_only { "idempotent" } else { "all" };
    let mut fields = Fields::default();
    fields.put("attempts", retries.attempts);
    fields.put("on", on);
    fields.put("methods", methods);
    fields.put("budget", percentage(retries.budget));
    if retries.per_try > 0 {
        fields.put("per_try_timeout", duration(retries.per_try));
    }
    fields.done()
}

fn put_timeouts(fields: &mut Fields, timeouts: Timeouts) {
    let mut inner = Fields::default();
    for (name, micros) in [("connect", timeouts.connect), ("send", timeouts.send), ("read", timeouts.read)] {
        if micros > 0 {
            inner.put(name, duration(micros));
        }
    }
    if !inner.0.is_empty() {
        fields.put("timeouts", inner.done());
    }
}

fn duration(micros: u64) -> String {
    match micros.is_multiple_of(SECOND) {
        true => format!("{}s", micros / SECOND),
        false => format!("{}ms", micros / MILLISECOND),
    }
}

/// A route as JSON, with the names of made objects as they are.
pub(super) fn route(entry: &Route) -> Value {
    let mut fields = Fields::default();
    fields.put("name", entry.name.as_str());
    let mut hosts: Vec<&Host> = Vec::new();
    let mut paths: Vec<&Path> = Vec::new();
    // Each host with each path, hosts outside.
    if let Some(first) = entry.rules.first() {
        paths.extend(entry.rules.iter().take_while(|rule| rule.host == first.host).map(|rule| &rule.path));
        hosts.extend(entry.rules.iter().step_by(paths.len().max(1)).map(|rule| &rule.host));
    }
    if hosts != [&Host::Any] {
        fields.list("hosts", hosts.iter().map(|host| host.to_string().into()));
    }
    fields.list("paths", paths.iter().map(|path| path.to_string().into()));
    if entry.methods != Methods::ANY {
        let methods = Method::ALL.into_iter().filter(|method| entry.methods.0 & 1 << *method as u16 != 0);
        fields.list("methods", methods.map(|method| method.name().into()));
    }
    fields.list("match", entry.conditions.iter().map(condition));
    if entry.priority != 0 {
        fields.put("priority", entry.priority);
    }
    if !entry.enabled {
        fields.put("enabled", false);
    }
    if let Some(name) = &entry.upstream {
        fields.put("upstream", name.as_str());
    }
    match &entry.answer {
        Some(Answer::Reply(reply)) => fields.put("reply", static_reply(reply)),
        Some(Answer::Redirect(redirect)) => {
            fields.put("redirect", json!({"to": template(&redirect.to, false), "status": redirect.status}));
        }
        None => {}
    }
    if entry.strip_prefix {
        fields.put("strip_prefix", true);
    }
    if let Some(rewrite) = &entry.rewrite {
        fields.put("rewrite", template(rewrite, true));
    }
    if let Some(most) = entry.max_body {
        fields.put("max_body", most);
    }
    if let Some(location) = &entry.location {
        fields.put("location", location.as_str());
    }
    fields.texts("auth", &entry.auth);
    if let Some(permissions) = &entry.permissions {
        let word = if permissions.all { "all" } else { "any" };
        fields.put("permissions", json!({word: permissions.required}));
    }
    fields.texts("limits", &entry.limits);
    if let Some(settings) = &entry.canary {
        fields.put("canary", canary(settings));
    }
    if let Some(most) = entry.max_in_flight {
        fields.put("max_in_flight", most);
    }
    if let Some(settings) = &entry.cors {
        fields.put("cors", cors(settings));
    }
    if let Some(settings) = &entry.cache {
        fields.put("cache", cache::cache(settings));
    }
    put_sources(&mut fields, "allow", &entry.allow);
    put_sources(&mut fields, "deny", &entry.deny);
    if entry.path_policy == PathPolicy::Strict {
        fields.put("path_policy", "strict");
    }
    put_timeouts(&mut fields, entry.timeouts);
    fields.put("retries", retries(&entry.retries));
    if let Some(written) = &entry.fallback {
        fields.put("fallback", fallback(written));
    }
    if !entry.headers.is_empty() {
        let pairs = entry.headers.iter().map(|(name, value)| (name.clone(), Value::from(template(value, false))));
        fields.put("headers", Value::Object(pairs.collect()));
    }
    if entry.protocols != Protocols::ALL {
        let Protocols { http, websocket, grpc } = entry.protocols;
        let words = [(http, "http"), (websocket, "websocket"), (grpc, "grpc")];
        fields.list("protocols", words.into_iter().filter(|(has, _)| *has).map(|(_, word)| word.into()));
    }
    fields.pairs("labels", &entry.labels);
    fields.done()
}

fn canary(canary: &Canary) -> Value {
    let mut fields = Fields::default();
    fields.list(
        "variants",
        canary.variants.iter().enumerate().map(|(index, variant)| {
            let mut fields = Fields::default();
            fields.put("name", variant.name.as_str());
            if canary.promote.is_none() || index + 1 < canary.variants.len() {
                fields.put("weight", variant.weight);
            }
            // A made one is the route's.
            if !is_made(&variant.upstream) {
                fields.put("upstream", variant.upstream.as_str());
            }
            put_timeouts(&mut fields, variant.timeouts);
            fields.put("retries", retries(&variant.retries));
            if let Some(written) = &variant.fallback {
                fields.put("fallback", fallback(written));
            }
            fields.done()
        }),
    );
    if let Some(mirror) = &canary.mirror {
        let percent = format!("{}.{:02}%", mirror.share / 100, mirror.share % 100);
        fields.put("mirror", json!({"upstream": mirror.upstream, "percent": percent}));
    }
    let rules = &canary.rules;
    if let Some(overrides) = &rules.overrides {
        let mut inner = Fields::default();
        let mark = |mark: &Mark, between: &str| match &mark.value {
            Some(value) => format!("{}{between}{value}", mark.name),
            None => mark.name.clone(),
        };
        if let Some(header) = &overrides.header {
            inner.put("header", mark(header, ": "));
        }
        if let Some(cookie) = &overrides.cookie {
            inner.put("cookie", mark(cookie, "="));
        }
        inner.texts("users", &overrides.users);
        if let Some(permission) = canary.permission.as_ref().and_then(|permission| permission.required.first()) {
            inner.put("permission", permission.as_str());
        }
        fields.put("overrides", inner.done());
    }
    match &rules.key {
        Key::User => {}
        Key::Ip => fields.put("key", "ip"),
        Key::Header(name) => fields.put("key", format!("header:{name}")),
        Key::Cookie(name) => fields.put("key", format!("cookie:{name}")),
    }
    fields.put("salt", rules.salt.text.as_str());
    if let Some(promote) = &canary.promote {
        let part = |part: u32| format!("{}.{:02}%", part / 100, part % 100);
        let steps: Vec<String> = promote.steps.iter().map(|step| part(u32::from(*step))).collect();
        let word = if promote.hold { "hold" } else { "rollback" };
        fields.put(
            "promote",
            json!({
                "steps": steps, "every": duration(promote.every), "minimum_requests": promote.minimum_requests,
                "max_error_rate": part(promote.max_error_rate), "max_latency": part(promote.max_latency),
                "cool_down": duration(promote.cool_down), "on_failure": word,
            }),
        );
    }
    fields.done()
}

fn condition(condition: &Condition) -> Value {
    let mut fields = Fields::default();
    match &condition.field {
        Field::Header(name) => fields.put("header", name.as_str()),
        Field::Query(name) => fields.put("query", name.as_str()),
        Field::Cookie(name) => fields.put("cookie", name.as_str()),
    }
    match &condition.test {
        Test::Equals(text) => fields.put("equals", text.as_str()),
        Test::In(texts) => fields.texts("in", texts),
        Test::Regex(text) => fields.put("regex", text.as_str()),
        Test::Exists => fields.put("exists", !condition.not),
    }
    if condition.not && condition.test != Test::Exists {
        fields.put("not", true);
    }
    fields.done()
}

/// A template as it is written; `decoded` ones hold what a path writes percent-encoded.
fn template(template: &Template, decoded: bool) -> String {
    let mut text = String::new();
    for part in &template.0 {
        match part {
            Part::Param(name) => text.push_str(&format!("{{{name}}}")),
            Part::Text(literal) if decoded => literal.chars().for_each(|found| match found {
                '%' | '{' | '}' | '?' | '#' => text.push_str(&format!("%{:02X}", found as u32)),
                _ => text.push(found),
            }),
            Part::Text(literal) => text.push_str(literal),
        }
    }
    text
}

fn cors(cors: &Cors) -> Value {
    let mut fields = Fields::default();
    match &cors.origins {
        Origins::Any => fields.put("origins", json!(["*"])),
        Origins::These(origins) => fields.texts("origins", origins),
    }
    fields.texts("methods", &cors.methods);
    fields.texts("headers", &cors.headers);
    fields.texts("expose", &cors.expose);
    if cors.credentials {
        fields.put("credentials", true);
    }
    fields.put("max_age", format!("{}s", cors.max_age));
    fields.done()
}

fn put_sources(fields: &mut Fields, name: &str, sources: &Sources) {
    let blocks = address::blocks(&sources.ranges);
    fields.list(name, blocks.iter().chain(&sources.lists).map(|text| text.as_str().into()));
}

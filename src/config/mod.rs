//! The document: read, checked, and turned into what the tree stores.
//!
//! Text becomes a tree of nodes that know their line; the tables ([`tables`]) say what each object may
//! hold, and everything that they do not allow is reported; then each resource is read into the types of its
//! capability, and what must fit together is compared. All problems are told at once, and a document with one is no
//! document.

mod answer;
mod auth;
mod cache;
mod canary;
mod collection;
mod condition;
mod conflict;
mod consumer;
mod cors;
mod diff;
mod document;
mod fallback;
mod jwks;
mod limiter;
mod lists;
mod names;
mod node;
mod problem;
mod read;
mod redact;
mod route;
pub mod scalar;
mod schema;
mod secrets;
pub mod shape;
mod signature;
pub mod tables;
mod template;
mod upstream;
mod value;
mod yaml;

use std::collections::HashMap;

pub use collection::Collection;
pub use condition::CONDITIONS_MAX;
pub use diff::{Change, How, diff};
pub use document::{
    Canary, Consumer, Document, Fallback, HostHeader, Labels, Mirror, PathPolicy, Permissions, Protocols, Role, Route,
    Sources, Upstream, Variant,
};
pub use lists::{LIST_MAX, ban_range, ranges, time};
pub use problem::{Errors, Problem};
pub use redact::{HIDDEN, redact, redact_resource, restore_document, restore_resource};
pub use route::{EVENTS_MAX, LIMITS_MAX};
pub use scalar::spelled;
pub use schema::schema;
pub use secrets::{Secrets, SystemSecrets};
pub use value::{is_made, resources, rfc3339, to_value};
pub use yaml::{ALIASED_MAX, DEPTH_MAX, SIZE_MAX, VALUES_MAX};

use crate::balancer::Timeouts;
use crate::limiter::{Event, KeyPart, Limiter};
use names::Names;
use problem::{Place, Sink};
use read::At;
use route::Fields;
use upstream::WrittenRetries;

/// The most pairs of a host and a path in a document.
const RULES_MAX: usize = 2_000_000;

/// A document that is right, and what is worth a thought all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The document.
    pub document: Document,
    /// In the order of lines.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a document, YAML 1.2 or JSON. `file` names it in messages; `env` is asked for what
/// `$env://NAME` and `$file:///path` refer to.
///
/// # Errors
///
/// Everything that is wrong, each with line, field and what would be right. Values of secrets are never shown.
pub fn parse(text: &str, file: &str, env: &dyn Secrets) -> Result<Checked, Errors> {
    let sink = Sink::new(file);
    let document = yaml::read(text, &sink).and_then(|root| read_document(&At::root(&root, &sink), env));
    if document.is_none() && !sink.has_errors() {
        sink.error(Place::default(), String::new(), "the document is empty; it begins with `version: 1`".to_owned());
    }
    let warnings = sink.finish()?;
    match document {
        Some(document) => Ok(Checked { document, warnings }),
        // Without an error there is a document; an empty one is no answer to the contrary.
        None => Err(Errors::internal("the document")),
    }
}

/// Reads a document, YAML 1.2 or JSON, as a value, and checks nothing but that it is one.
///
/// # Errors
///
/// Why it is neither.
pub fn read_value(text: &str, file: &str) -> Result<serde_json::Value, Errors> {
    let sink = Sink::new(file);
    let root = yaml::read(text, &sink);
    sink.finish()?;
    root.map(|root| root.to_json()).ok_or_else(|| Errors::internal(file))
}

/// What is known while resources are read.
struct Context<'c> {
    secrets: &'c dyn Secrets,
    names: &'c AllNames<'c>,
    document: Document,
    /// What routes inherit from their upstream, by its name.
    upstreams: HashMap<String, Inherited>,
    /// What limiters count by, as far as not every route knows it, by the limiter's name.
    limiter_keys: HashMap<String, Vec<KeyPart>>,
    /// What limiters count that do not count requests, by the limiter's name.
    limiter_events: HashMap<String, Event>,
    rules: usize,
}

/// What routes inherit from their upstream where they are silent.
#[derive(Clone, Default)]
struct Inherited {
    timeouts: Timeouts,
    retries: WrittenRetries,
    fallback: Option<Fallback>,
}

struct AllNames<'a> {
    auth: Names<'a>,
    limiters: Names<'a>,
    lists: Names<'a>,
    upstreams: Names<'a>,
    roles: Names<'a>,
    consumers: Names<'a>,
}

fn read_document(at: &At<'_>, secrets: &dyn Secrets) -> Option<Document> {
    if at.node.kind() == node::Kind::Null {
        return None;
    }
    shape::check(at, &shape::Shape::Object(&tables::DOCUMENT));
    let names = AllNames {
        auth: Names::collect(at, "auth", "entry of `auth`"),
        limiters: Names::collect(at, "limiters", "limiter"),
        lists: Names::collect(at, "lists", "list"),
        upstreams: Names::collect(at, "upstreams", "upstream"),
        roles: Names::collect(at, "roles", "role"),
        consumers: Names::collect(at, "consumers", "consumer"),
    };
    // These are not referred to, yet each name stands for one.
    Names::collect(at, "routes", "route");

    let mut context = Context {
        secrets,
        names: &names,
        document: Document {
            version: 1,
            auth: Vec::new(),
            consumers: Vec::new(),
            roles: Vec::new(),
            limiters: Vec::new(),
            upstreams: Vec::new(),
            lists: Vec::new(),
            bans: Vec::new(),
            routes: Vec::new(),
        },
        upstreams: HashMap::new(),
        limiter_keys: HashMap::new(),
        limiter_events: HashMap::new(),
        rules: 0,
    };
    each(at, "auth", |at, name| {
        let entry = auth::read(at, name, &context);
        context.keep_auth(at, entry);
    });
    each(at, "limiters", |at, name| context.keep_limiter(at, limiter::read(at, name)));
    each(at, "upstreams", |at, name| {
        let entry = upstream::read(at, name, &context);
        context.keep_upstream(at, entry);
    });
    fallback::report(&context.document, at.get("upstreams").as_ref());
    each(at, "lists", |at, name| match lists::list(at, name, secrets) {
        Some(list) => context.document.lists.push(list),
        None => unread(at),
    });
    each(at, "bans", |at, _| context.document.bans.extend(lists::bans(at)));
    each(at, "roles", |at, name| context.document.roles.push(consumer::role(at, name)));
    let mut consumers = Vec::new();
    each(at, "consumers", |at, name| {
        consumers.push((consumers.len(), at.place()));
        context.document.consumers.push(consumer::read(at, name, &names.roles, secrets));
    });
    consumer::report_shared(&context.document.consumers, &consumers, at.sink);

    let defaults = at.object("defaults").map(|at| Fields::read(&at, "defaults", &mut context)).unwrap_or_default();
    let mut places = Vec::new();
    let list = at.get("routes");
    for (index, at) in list.iter().flat_map(At::items).enumerate().filter(|(_, at)| at.is_object()) {
        if at.sink.is_full() {
            break;
        }
        let name = at.text("name").unwrap_or_default();
        if name == "defaults" {
            at.error("a route cannot be called `defaults`");
        }
        let fields = Fields::read(&at, name, &mut context);
        match fields.route(&at, name.to_owned(), &defaults, &mut context) {
            Some(route) => {
                context.document.routes.push(route);
                places.push((index, at.place()));
            }
            None => unread(&at),
        }
    }
    for (route, (index, place)) in context.document.routes.iter().zip(&places) {
        identity_headers(route, &context.document.auth, |name, auth| {
            let message = format!("is set from a claim by `auth` {}: nobody else may set it", problem::quote(auth));
            at.sink.error(*place, format!("routes[{index}].headers.{name}"), message);
        });
    }
    if context.rules <= RULES_MAX {
        conflict::report(&context.document.routes, &places, at.sink);
    }
    Some(context.document)
}

impl Context<'_> {
    fn keep_auth(&mut self, at: &At<'_>, entry: Option<crate::auth::Auth>) {
        match entry {
            Some(entry) => self.document.auth.push(entry),
            None => unread(at),
        }
    }

    fn keep_limiter(&mut self, at: &At<'_>, entry: Option<Limiter>) {
        let Some(entry) = entry else { return unread(at) };
        let is_particular =
            |part: &&KeyPart| part.needs_identity() || matches!(part, KeyPart::Path(_) | KeyPart::Upstream);
        let particular: Vec<KeyPart> = entry.key.iter().filter(is_particular).cloned().collect();
        if !particular.is_empty() {
            self.limiter_keys.insert(entry.name.clone(), particular);
        }
        if entry.on != Event::Request {
            self.limiter_events.insert(entry.name.clone(), entry.on);
        }
        self.document.limiters.push(entry);
    }

    fn keep_upstream(&mut self, at: &At<'_>, entry: Option<(Upstream, WrittenRetries)>) {
        let Some((entry, retries)) = entry else { return unread(at) };
        let inherited = Inherited { timeouts: entry.timeouts, retries, fallback: entry.fallback.clone() };
        self.upstreams.insert(entry.name.clone(), inherited);
        self.document.upstreams.push(entry);
    }

    /// Counts `count` pairs of a host and a path; the memory that a document takes must not outgrow its text by far.
    fn spend_rules(&mut self, at: &At<'_>, count: usize) -> bool {
        let before = self.rules;
        self.rules = self.rules.saturating_add(count);
        if before <= RULES_MAX && self.rules > RULES_MAX {
            at.error(format!("with this route the document has more than {RULES_MAX} pairs of a host and a path"));
        }
        self.rules <= RULES_MAX
    }
}

/// Tells of each header that `route` sets and that says who the caller is, in whatever spelling, on any route.
fn identity_headers(route: &Route, auth: &[crate::auth::Auth], mut tell: impl FnMut(&str, &str)) {
    for (name, _) in &route.headers {
        let is_same = |other: &str| scalar::spelled(other) == scalar::spelled(name);
        let owner = auth.iter().find(|auth| auth.headers().iter().any(|(other, _)| is_same(other)));
        if let Some(owner) = owner {
            tell(name, &owner.name);
        }
    }
}

/// Calls `read` with each object of the list `list` and its name.
fn each(document: &At<'_>, list: &str, mut read: impl FnMut(&At<'_>, String)) {
    let list = document.get(list);
    let objects = list.iter().flat_map(At::items).filter(At::is_object);
    for at in objects.take_while(|at| !at.sink.is_full()) {
        read(&at, at.text("name").unwrap_or_default().to_owned());
    }
}

/// What cannot be read has been reported. Should it ever not have been, a document with a hole must not pass.
fn unread(at: &At<'_>) {
    if !at.sink.has_errors() {
        at.error("cannot be read");
    }
}

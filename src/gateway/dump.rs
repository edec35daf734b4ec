//! The document that is live, written from the tree: what an admin API shows is what decides.

use std::collections::HashMap;
use std::fmt;

use rkyv::Portable;
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Error;

use super::object::{ApiKey, ArchivedAddresses, Canary, Consumer, Fallback, Role, Route, Upstream, Variant};
use super::publish::written_bans;
use super::route::parameters;
use crate::auth::Auth;
use crate::config::{self, Collection, Document, HostHeader, PathPolicy, Protocols, Sources};
use crate::limiter::Limiter;
use crate::lists::{List, Set};
use crate::state::{Blob, Tree};
use crate::types::{ArchivedId, Id, Object};

/// An object of the tree that cannot be read back: the region is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpError {
    /// Its name.
    pub name: String,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" cannot be read back from the region", self.name)
    }
}

impl std::error::Error for DumpError {}

/// The document that `tree` holds. Made live once more it changes nothing.
///
/// Routes that are not enabled are no part of it, bans that overlap come as what they amount to, and of a route's limits
/// those that need no identity come first.
///
/// # Errors
///
/// What cannot be read back.
pub fn dump(tree: &Tree<'_>) -> Result<Document, DumpError> {
    let mut document = empty();
    document.auth = all::<Auth>(tree)?.into_iter().map(|(_, auth)| auth).collect();
    document.limiters = all::<Limiter>(tree)?.into_iter().map(|(_, limiter)| limiter).collect();
    let mut keys = api_keys(tree, None)?;
    for blob in tree.each() {
        document.consumers.push(read_consumer(tree, &blob, &mut keys)?);
    }
    for (name, Role { permissions }) in all(tree)? {
        document.roles.push(config::Role { name, permissions: permissions.into_names() });
    }
    for blob in tree.each() {
        document.upstreams.push(read_upstream(tree, &blob)?);
    }
    for list in tree.each::<Set>() {
        document.lists.push(read_list(&list));
    }
    document.bans = written_bans(tree);
    for route in tree.each::<Route>() {
        document.routes.push(read_route(tree, &route)?);
    }
    Ok(document)
}

/// One object of `collection` as a document of its own, with whatever stands in it in the place of a name; `None` where
/// there is none of that name. It costs what that object does, however many others there are.
///
/// # Errors
///
/// As [`dump`].
pub fn dump_one(tree: &Tree<'_>, collection: Collection, name: &str) -> Result<Option<Document>, DumpError> {
    let mut document = empty();
    let found = match collection {
        Collection::Auth => tree.named::<Auth>(name).map(|blob| blob.id()),
        Collection::Consumers => tree.named::<Consumer>(name).map(|blob| blob.id()),
        Collection::Roles => tree.named::<Role>(name).map(|blob| blob.id()),
        Collection::Limiters => tree.named::<Limiter>(name).map(|blob| blob.id()),
        Collection::Upstreams => tree.named::<Upstream>(name).map(|blob| blob.id()),
        Collection::Routes => tree.named::<Route>(name).map(|blob| blob.id()),
        Collection::Lists => tree.named::<Set>(name).map(|blob| blob.id()),
        Collection::Bans => {
            let asked = config::ban_range(name);
            document.bans = written_bans(tree).into_iter().filter(|ban| asked.contains(&ban.range)).collect();
            return Ok((!document.bans.is_empty()).then_some(document));
        }
    };
    match found {
        Some(id) => add_one(tree, collection, id, &mut document).map(|()| Some(document)),
        None => Ok(None),
    }
}

/// Objects of `collection` from the place `from` on, at most `most` of them, each a document of its own, and the place
/// that the next one has where there are more. A place is an object's for as long as it lives.
///
/// # Errors
///
/// As [`dump`].
pub fn dump_page(
    tree: &Tree<'_>,
    collection: Collection,
    from: u32,
    most: usize,
) -> Result<(Vec<Document>, Option<u32>), DumpError> {
    let mut page = Vec::new();
    if collection == Collection::Bans {
        let bans = written_bans(tree);
        let rest = bans.get(from as usize..).unwrap_or_default();
        for ban in rest.iter().take(most) {
            page.push(Document { bans: vec![ban.clone()], ..empty() });
        }
        let next = (rest.len() > most).then_some(from.saturating_add(most as u32));
        return Ok((page, next));
    }
    let made = |id: &Id| collection.has_made() && tree.name_of(*id).is_some_and(config::is_made);
    let ids: Vec<Id> = match collection {
        Collection::Auth => places(tree.each::<Auth>(), from, most, made),
        Collection::Consumers => places(tree.each::<Consumer>(), from, most, made),
        Collection::Roles => places(tree.each::<Role>(), from, most, made),
        Collection::Limiters => places(tree.each::<Limiter>(), from, most, made),
        Collection::Upstreams => places(tree.each::<Upstream>(), from, most, made),
        Collection::Routes => places(tree.each::<Route>(), from, most, made),
        Collection::Lists => places(tree.each::<Set>(), from, most, made),
        Collection::Bans => Vec::new(),
    };
    let next = ids.get(most).map(|id| id.slot);
    for id in ids.into_iter().take(most) {
        let mut document = empty();
        add_one(tree, collection, id, &mut document)?;
        page.push(document);
    }
    Ok((page, next))
}

/// The ids of one more than `most` objects.
fn places<'v, T: Object>(
    all: impl Iterator<Item = Blob<'v, T>>,
    from: u32,
    most: usize,
    is_made: impl Fn(&Id) -> bool,
) -> Vec<Id> {
    let ids = all.map(|blob| blob.id()).filter(|id| id.slot >= from && !is_made(id));
    ids.take(most.saturating_add(1)).collect()
}

/// How many objects of `collection` there are.
#[must_use]
pub fn count(tree: &Tree<'_>, collection: Collection) -> usize {
    let named = |kind| tree.names(kind).filter(|name| !(collection.has_made() && config::is_made(name))).count();
    match collection {
        Collection::Auth => named(Auth::KIND),
        Collection::Consumers => named(Consumer::KIND),
        Collection::Roles => named(Role::KIND),
        Collection::Limiters => named(Limiter::KIND),
        Collection::Upstreams => named(Upstream::KIND),
        Collection::Routes => named(Route::KIND),
        Collection::Lists => named(Set::KIND),
        Collection::Bans => written_bans(tree).len(),
    }
}

fn empty() -> Document {
    Document {
        version: 1,
        auth: Vec::new(),
        consumers: Vec::new(),
        roles: Vec::new(),
        limiters: Vec::new(),
        upstreams: Vec::new(),
        lists: Vec::new(),
        bans: Vec::new(),
        routes: Vec::new(),
    }
}

/// Adds the object with `id`, and what was made of objects that stand in it.
fn add_one(tree: &Tree<'_>, collection: Collection, id: Id, document: &mut Document) -> Result<(), DumpError> {
    match collection {
        Collection::Auth => {
            if let Some(blob) = tree.object::<Auth>(id) {
                document.auth.push(read(&blob)?);
            }
        }
        Collection::Consumers => {
            if let Some(blob) = tree.object(id) {
                let mut keys = api_keys(tree, Some(id))?;
                document.consumers.push(read_consumer(tree, &blob, &mut keys)?);
            }
        }
        Collection::Roles => {
            if let Some(blob) = tree.object::<Role>(id) {
                let Role { permissions } = read(&blob)?;
                document
                    .roles
                    .push(config::Role { name: blob.name().to_owned(), permissions: permissions.into_names() });
            }
        }
        Collection::Limiters => {
            if let Some(blob) = tree.object::<Limiter>(id) {
                document.limiters.push(read(&blob)?);
            }
        }
        Collection::Upstreams => {
            if let Some(blob) = tree.object(id) {
                document.upstreams.push(read_upstream(tree, &blob)?);
            }
        }
        Collection::Lists => {
            if let Some(blob) = tree.object::<Set>(id) {
                document.lists.push(read_list(&blob));
            }
        }
        Collection::Routes => {
            let Some(blob) = tree.object::<Route>(id) else { return Ok(()) };
            let route = read_route(tree, &blob)?;
            let named = |name: &String| config::is_made(name);
            for name in route.auth.iter().filter(|name| named(name)) {
                if let Some(blob) = tree.named::<Auth>(name) {
                    document.auth.push(read(&blob)?);
                }
            }
            for name in route.limits.iter().filter(|name| named(name)) {
                if let Some(blob) = tree.named::<Limiter>(name) {
                    document.limiters.push(read(&blob)?);
                }
            }
            let variants = route.canary.iter().flat_map(|canary| &canary.variants).map(|variant| &variant.upstream);
            for name in route.upstream.iter().chain(variants).filter(|name| named(name)) {
                if let Some(blob) = tree.named::<Upstream>(name) {
                    document.upstreams.push(read_upstream(tree, &blob)?);
                }
            }
            document.routes.push(route);
        }
        Collection::Bans => {}
    }
    Ok(())
}

/// The digests of API keys by the name of their consumer: of all, or of one.
fn api_keys(tree: &Tree<'_>, of: Option<Id>) -> Result<HashMap<String, Vec<String>>, DumpError> {
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for blob in tree.each::<ApiKey>() {
        let id = blob.get().consumer.id();
        if of.is_some_and(|of| of != id) {
            continue;
        }
        let owner = tree.name_of(id).ok_or_else(|| DumpError { name: blob.name().to_owned() })?;
        keys.entry(owner.to_owned()).or_default().push(blob.name().to_owned());
    }
    keys.values_mut().for_each(|keys| keys.sort());
    Ok(keys)
}

fn read_consumer(
    tree: &Tree<'_>,
    blob: &Blob<'_, Consumer>,
    keys: &mut HashMap<String, Vec<String>>,
) -> Result<config::Consumer, DumpError> {
    let name = blob.name().to_owned();
    let Consumer { permissions, roles, enabled, priority, labels } = read(blob)?;
    let roles = names(tree, &name, &roles)?;
    let api_keys = keys.remove(&name).unwrap_or_default();
    let permissions = permissions.into_names();
    Ok(config::Consumer { name, api_keys, permissions, roles, priority, labels, enabled })
}

fn read_list(list: &Blob<'_, Set>) -> List {
    List { name: list.name().to_owned(), ranges: list.ranges().collect() }
}

fn read_upstream(tree: &Tree<'_>, blob: &Blob<'_, Upstream>) -> Result<config::Upstream, DumpError> {
    let name = blob.name().to_owned();
    let Upstream {
        policy,
        hash_on,
        host,
        ejection,
        overload,
        breaker,
        nodes,
        node_labels,
        retries,
        timeouts,
        tls,
        fallback,
        ..
    } = read(blob)?;
    let fallback = read_fallback(tree, &name, fallback)?;
    Ok(config::Upstream {
        name,
        nodes,
        node_labels,
        policy,
        hash_on,
        host: host.map_or(HostHeader::Preserve, HostHeader::Name),
        ejection,
        overload: overload.map(|overload| overload.settings),
        breaker,
        retries,
        timeouts,
        fallback,
        tls,
    })
}

fn read_route(tree: &Tree<'_>, blob: &Blob<'_, Route>) -> Result<config::Route, DumpError> {
    let sources = |addresses: Option<&ArchivedAddresses>| match addresses {
        None => Ok(Sources::default()),
        Some(addresses) => {
            let lists: Vec<Id> = addresses.lists.iter().map(ArchivedId::id).collect();
            Ok(Sources { ranges: addresses.set.ranges().collect(), lists: names(tree, blob.name(), &lists)? })
        }
    };
    let (allow, deny) = (sources(blob.get().allow.as_deref())?, sources(blob.get().deny.as_deref())?);
    let route: Route = read(blob)?;
    let [http, websocket, grpc] = route.protocols;
    Ok(config::Route {
        rules: tree.rules(blob, |rule| parameters(blob, rule)),
        methods: blob.methods(),
        priority: blob.priority(),
        enabled: true,
        conditions: route.conditions,
        upstream: match route.upstream.is_some() {
            true => names(tree, blob.name(), &[route.upstream])?.pop(),
            false => None,
        },
        answer: route.answer.map(|answer| *answer),
        fallback: read_fallback(tree, blob.name(), route.fallback)?,
        rewrite: route.rewrite.map(|template| *template),
        max_body: route.max_body,
        location: route.location.map(|name| *name),
        headers: route.headers,
        canary: route.canary.map(|canary| read_canary(tree, blob.name(), *canary)).transpose()?,
        cors: route.cors.map(|cors| *cors),
        cache: route.cache.map(|cached| cached.cache),
        allow,
        deny,
        auth: names(tree, blob.name(), &route.auth)?,
        permissions: route.permissions,
        limits: names(tree, blob.name(), &route.limits)?,
        max_in_flight: route.in_flight.map(|in_flight| in_flight.most),
        timeouts: route.timeouts,
        retries: route.retries,
        strip_prefix: !route.strip.is_empty(),
        path_policy: if route.strict { PathPolicy::Strict } else { PathPolicy::Normal },
        protocols: Protocols { http, websocket, grpc },
        labels: route.labels,
        name: route.name,
    })
}

fn read_fallback(
    tree: &Tree<'_>,
    owner: &str,
    fallback: Option<Box<Fallback>>,
) -> Result<Option<config::Fallback>, DumpError> {
    Ok(match fallback.map(|fallback| *fallback) {
        None => None,
        Some(Fallback::Reply(reply)) => Some(config::Fallback::Reply(reply)),
        Some(Fallback::Upstream(id)) => names(tree, owner, &[id])?.pop().map(config::Fallback::Upstream),
        Some(Fallback::Stale) => Some(config::Fallback::Stale),
    })
}

fn read_canary(tree: &Tree<'_>, owner: &str, canary: Canary) -> Result<config::Canary, DumpError> {
    let ids: Vec<Id> = canary.variants.iter().map(|variant| variant.upstream).collect();
    let upstreams = names(tree, owner, &ids)?;
    let variants = canary.variants.into_iter().zip(upstreams).map(|(variant, upstream)| {
        let Variant { name, weight, timeouts, retries, fallback, .. } = variant;
        let fallback = read_fallback(tree, owner, fallback)?;
        Ok(config::Variant { name, weight, upstream, timeouts, retries, fallback })
    });
    Ok(config::Canary {
        variants: variants.collect::<Result<_, _>>()?,
        rules: canary.rules,
        permission: canary.permission,
        promote: canary.promote,
        mirror: match canary.mirror {
            Some(id) => {
                names(tree, owner, &[id])?.pop().map(|upstream| config::Mirror { upstream, share: canary.mirror_share })
            }
            None => None,
        },
    })
}

/// Every object of one kind with its name, in the order of slots.
fn all<T>(tree: &Tree<'_>) -> Result<Vec<(String, T)>, DumpError>
where
    T: Object,
    T::Archived: Portable + rkyv::Deserialize<T, HighDeserializer<Error>>,
{
    let mut all = Vec::new();
    for blob in tree.each::<T>() {
        all.push((blob.name().to_owned(), read(&blob)?));
    }
    Ok(all)
}

fn read<T>(blob: &Blob<'_, T>) -> Result<T, DumpError>
where
    T: Object,
    T::Archived: rkyv::Deserialize<T, HighDeserializer<Error>>,
{
    rkyv::deserialize::<T, Error>(blob.get()).map_err(|_| DumpError { name: blob.name().to_owned() })
}

/// The names behind `ids`, which belong to the object called `owner`.
fn names(tree: &Tree<'_>, owner: &str, ids: &[Id]) -> Result<Vec<String>, DumpError> {
    let name = |id: &Id| tree.name_of(*id).map(str::to_owned).ok_or_else(|| DumpError { name: owner.to_owned() });
    ids.iter().map(name).collect()
}

//! The document that is live, written from the tree: what an admin API shows is what decides.

use std::collections::HashMap;
use std::fmt;

use rkyv::Portable;
use rkyv::api::high::HighDeserializer;
use rkyv::rancor::Error;

use super::object::{ApiKey, ArchivedAddresses, BANS, Canary, Consumer, Fallback, Role, Route, Upstream, Variant};
use super::route::parameters;
use crate::auth::Auth;
use crate::config::{self, Document, HostHeader, PathPolicy, Protocols, Sources};
use crate::limiter::Limiter;
use crate::lists::{Bans, List, Set};
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
    let mut document = Document {
        version: 1,
        auth: all::<Auth>(tree)?.into_iter().map(|(_, auth)| auth).collect(),
        consumers: Vec::new(),
        roles: Vec::new(),
        limiters: all::<Limiter>(tree)?.into_iter().map(|(_, limiter)| limiter).collect(),
        upstreams: Vec::new(),
        lists: Vec::new(),
        bans: Vec::new(),
        routes: Vec::new(),
    };
    let mut keys: HashMap<String, Vec<String>> = HashMap::new();
    for (digest, key) in all::<ApiKey>(tree)? {
        let owner = tree.name_of(key.consumer).ok_or_else(|| DumpError { name: digest.clone() })?;
        keys.entry(owner.to_owned()).or_default().push(digest);
    }
    keys.values_mut().for_each(|keys| keys.sort());
    for (name, Consumer { permissions, roles, enabled, priority, labels }) in all(tree)? {
        let roles = names(tree, &name, &roles)?;
        let api_keys = keys.remove(&name).unwrap_or_default();
        let permissions = permissions.into_names();
        document.consumers.push(config::Consumer { name, api_keys, permissions, roles, priority, labels, enabled });
    }
    for (name, Role { permissions }) in all(tree)? {
        document.roles.push(config::Role { name, permissions: permissions.into_names() });
    }
    for (name, upstream) in all::<Upstream>(tree)? {
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
        } = upstream;
        let host = host.map_or(HostHeader::Preserve, HostHeader::Name);
        let fallback = read_fallback(tree, &name, fallback)?;
        document.upstreams.push(config::Upstream {
            name,
            nodes,
            node_labels,
            policy,
            hash_on,
            host,
            ejection,
            overload: overload.map(|overload| overload.settings),
            breaker,
            retries,
            timeouts,
            fallback,
            tls,
        });
    }
    for list in tree.each::<Set>() {
        document.lists.push(List { name: list.name().to_owned(), ranges: list.ranges().collect() });
    }
    if let Some(bans) = tree.named::<Bans>(BANS) {
        document.bans = bans.bans().collect();
    }
    for route in tree.each::<Route>() {
        document.routes.push(read_route(tree, &route)?);
    }
    Ok(document)
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

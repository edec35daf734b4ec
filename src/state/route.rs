//! Which routes a request reaches, in order of precedence. Pure, and allocates nothing.
//!
//! Host exact, then wildcards, the longest first, then routes without a host; within a host the exact path, then each
//! shape that fits in the order of the host record. A regular expression is a shape too, of the whole segments that it
//! begins with, so that only those below the request's own segments are met; whether it matches is for the caller to
//! say, since its compiled form cannot live here. Where routes of a host differ in priority, all its candidates are
//! collected first and offered by priority.

use std::ops::ControlFlow;

use crate::router::pattern::Rule;
use crate::types::{Id, Method, Methods, Object};

use super::block::host::{self, Listed};
use super::block::{self, Entry, Place, Root, StoredKey, blob};
use super::hash::{SEGMENTS_MAX, Seed, Segments, pair, same};
use super::key::{CAPTURES_MAX, End, HOST_MAX, HostKind, LABELS_MAX, PARAM, Shape, exact_hash, host_hash};
use super::mem::{Memory, Ref};
use super::tree::{Blob, Tree};

/// What the parameters of a pattern caught: spans of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captures {
    spans: [(u16, u16); CAPTURES_MAX],
    count: u8,
}

impl Captures {
    /// Nothing caught.
    #[must_use]
    pub const fn new() -> Self {
        Self { spans: [(0, 0); CAPTURES_MAX], count: 0 }
    }

    /// Start and end in the path of each parameter, in the pattern's order, the captured tail last.
    #[must_use]
    pub fn spans(&self) -> &[(u16, u16)] {
        self.spans.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// What parameter `index` caught in `path`.
    #[must_use]
    pub fn get<'p>(&self, index: usize, path: &'p [u8]) -> Option<&'p [u8]> {
        let (start, end) = *self.spans().get(index)?;
        path.get(usize::from(start)..usize::from(end))
    }

    fn push(&mut self, start: u16, end: u16) {
        if let Some(span) = self.spans.get_mut(usize::from(self.count)) {
            *span = (start, end);
            self.count += 1;
        }
    }
}

impl Default for Captures {
    fn default() -> Self {
        Self::new()
    }
}

/// A route that a request reaches, by one of its rules.
#[derive(Clone, Copy)]
pub struct RouteRef<'v> {
    memory: Memory,
    entry: Entry,
    held: std::marker::PhantomData<&'v ()>,
}

impl<'v> RouteRef<'v> {
    /// The route's id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> Id {
        blob::id(&self.memory, self.entry.blob)
    }

    /// Which of the route's rules matched.
    #[must_use]
    #[inline]
    pub fn rule(&self) -> u16 {
        StoredKey::of(&self.memory, self.entry).rule
    }

    /// The regular expression by which the route is reached, if it is: nobody has looked yet whether it matches.
    #[must_use]
    #[inline]
    pub fn regex(&self) -> Option<&'v str> {
        let (_, text) = StoredKey::of(&self.memory, self.entry).regex(&self.memory)?;
        std::str::from_utf8(text).ok()
    }

    /// Whether the route has conditions; methods are one.
    #[must_use]
    #[inline]
    pub fn has_conditions(&self) -> bool {
        blob::conditions(&self.memory, self.entry.blob) != 0
    }

    /// The rule by which the route is reached, with `params` for the names of its parameters. Allocates.
    #[must_use]
    pub fn to_rule<'n>(&self, params: impl Iterator<Item = &'n str>) -> Rule {
        StoredKey::of(&self.memory, self.entry).decode(&self.memory).to_rule(params)
    }

    /// The methods that the route answers to.
    #[must_use]
    #[inline]
    pub fn methods(&self) -> Methods {
        Methods(self.entry.methods)
    }

    /// The route itself.
    #[must_use]
    #[inline]
    pub fn object<T: Object>(&self) -> Option<Blob<'v, T>> {
        Blob::new(self.memory, self.entry.blob)
    }
}

impl std::fmt::Debug for RouteRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteRef").field("id", &self.id()).field("rule", &self.rule()).finish()
    }
}

/// What a look-up found.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'v> {
    /// The route that takes the request.
    Found(RouteRef<'v>),
    /// Routes would have taken it with one of these methods.
    MethodNotAllowed(Methods),
    /// No route.
    None,
}

impl<'v> Lookup<'v> {
    /// The route, where one was found.
    #[must_use]
    #[inline]
    pub fn found(self) -> Option<RouteRef<'v>> {
        match self {
            Self::Found(route) => Some(route),
            _ => None,
        }
    }
}

impl<'v> Tree<'v> {
    /// Offers the routes that `host`, `path` and `method` reach to `accept`, in order of precedence; the first yes
    /// wins and fills `captures`. When none does, routes that have other methods are offered once more, for the
    /// methods that would have been allowed.
    ///
    /// Of a route that is reached by [`RouteRef::regex`] it is `accept` that says whether the expression matches.
    ///
    /// `host` is in lower case, without port and trailing dot; `path` decoded and normalised.
    #[inline]
    pub fn route(
        &self,
        host: &[u8],
        path: &[u8],
        method: Method,
        captures: &mut Captures,
        mut accept: impl FnMut(RouteRef<'v>) -> bool,
    ) -> Lookup<'v> {
        let walk = Walk::new(self, host, path);
        let wanted = Methods::NONE.with(method).0;
        let mut missed = false;
        let mut offer = |entry: Entry| {
            if entry.methods & wanted == 0 {
                missed = true;
                return ControlFlow::Continue(());
            }
            match accept(self.reference(entry)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        captures.count = 0;
        // Most requests end here: at the exact path of the host that is asked first.
        let first = walk.first();
        if let Some(at) = first
            && let Some(entry) = walk.offer_exact(at, &mut offer)
        {
            return Lookup::Found(self.reference(entry));
        }
        if let Some(entry) = walk.run(first, captures, &mut offer) {
            return Lookup::Found(self.reference(entry));
        }
        if !missed {
            return Lookup::None;
        }
        match walk.allowed(&mut |entry| entry.methods & wanted == 0 && accept(self.reference(entry))) {
            Methods::NONE => Lookup::None,
            allowed => Lookup::MethodNotAllowed(allowed),
        }
    }

    /// Shows every route whose host and path a request reaches to `each`, in order of precedence, whatever its methods;
    /// as in [`Tree::route`], an expression has yet to be searched for.
    pub fn candidates(&self, host: &[u8], path: &[u8], each: &mut dyn FnMut(RouteRef<'v>)) {
        Walk::new(self, host, path).run(None, &mut Captures::new(), &mut |entry: Entry| {
            each(self.reference(entry));
            ControlFlow::Continue(())
        });
    }

    /// The rules of a route, in their order, with `params` for the names of the parameters of the rule with the index
    /// given. Of rules that match the same only the first is there. Allocates.
    #[must_use]
    pub fn rules<T: Object, N: AsRef<str>>(&self, route: &Blob<'v, T>, params: impl Fn(u16) -> Vec<N>) -> Vec<Rule> {
        let mut rules: Vec<(u16, Rule)> = Vec::new();
        for key in route.stored_keys() {
            let names = params(key.rule);
            rules.push((key.rule, key.decode(&self.memory).to_rule(names.iter().map(AsRef::as_ref))));
        }
        rules.sort_by_key(|(index, _)| *index);
        rules.into_iter().map(|(_, rule)| rule).collect()
    }

    #[inline(always)]
    fn reference(&self, entry: Entry) -> RouteRef<'v> {
        RouteRef { memory: self.memory, entry, held: std::marker::PhantomData }
    }
}

/// Stops the walk, or has it go on to the next candidate.
type Flow = ControlFlow<()>;

/// One request's way through the tree.
struct Walk<'t> {
    memory: Memory,
    root: &'t Root,
    host: &'t [u8],
    path: &'t [u8],
    exact: u64,
    seed: Seed,
}

/// The path taken apart, which is done when a host with shapes is met.
struct Apart {
    segments: Segments,
    /// Whether it was tried, and could be.
    done: Option<bool>,
}

impl Apart {
    #[inline(always)]
    const fn new() -> Self {
        Self { segments: Segments::new(), done: None }
    }

    #[inline(always)]
    fn of(&mut self, seed: Seed, path: &[u8]) -> Option<&Segments> {
        let done = match self.done {
            Some(done) => done,
            None => *self.done.insert(self.segments.take_apart(seed, path)),
        };
        done.then_some(&self.segments)
    }
}

/// The host record being walked, or for exact paths just a host.
#[derive(Clone, Copy)]
struct At<'h> {
    kind: HostKind,
    name: &'h [u8],
    hash: u64,
}

impl<'t> Walk<'t> {
    #[inline(always)]
    fn new(tree: &'t Tree<'_>, host: &'t [u8], path: &'t [u8]) -> Self {
        // No host is longer, and the labels of one that were would cost.
        let host = if host.len() > HOST_MAX { &[] } else { host };
        let seed = tree.memory.seed();
        Self { memory: tree.memory, root: &tree.root, host, path, exact: exact_hash(seed, path), seed }
    }

    /// The host whose exact path wins whatever else there is, which is so where nothing has a priority.
    #[inline(always)]
    fn first(&self) -> Option<At<'t>> {
        let root = self.root;
        match (root.prioritised, self.asks_hosts(), root.any) {
            (0, true, _) => Some(self.at(HostKind::Exact, self.host)),
            (0, false, any) if any != 0 => Some(self.at(HostKind::Any, &[])),
            _ => None,
        }
    }

    #[inline(always)]
    fn asks_hosts(&self) -> bool {
        !self.host.is_empty() && self.root.hosts != 0
    }

    #[inline(always)]
    fn at(&self, kind: HostKind, name: &'t [u8]) -> At<'t> {
        At { kind, name, hash: host_hash(self.seed, kind, name) }
    }

    /// Calls `offer` with one candidate after the other and returns the one at which it broke off; the exact path of
    /// `first` was offered already.
    #[inline(never)]
    fn run(
        &self,
        first: Option<At<'t>>,
        captures: &mut Captures,
        offer: &mut impl FnMut(Entry) -> Flow,
    ) -> Option<Entry> {
        let mut apart = Apart::new();
        let entry = self.hosts(first, &mut apart, offer)?;
        self.capture(entry, &apart.segments, captures);
        Some(entry)
    }

    #[inline(always)]
    fn hosts(&self, first: Option<At<'t>>, apart: &mut Apart, offer: &mut impl FnMut(Entry) -> Flow) -> Option<Entry> {
        let root = self.root;
        if self.asks_hosts() {
            let at = first.unwrap_or_else(|| self.at(HostKind::Exact, self.host));
            if let Some(record) = self.record(at)
                && let Some(entry) = self.host(at, record, first.is_some(), apart, offer)
            {
                return Some(entry);
            }
            if root.wildcards != 0
                && let Some(entry) = self.wildcards(apart, offer)
            {
                return Some(entry);
            }
        }
        if root.any == 0 {
            return None;
        }
        let at = self.at(HostKind::Any, &[]);
        self.host(at, root.any, first.is_some_and(|first| first.kind == HostKind::Any), apart, offer)
    }

    #[inline(always)]
    fn record(&self, at: At<'_>) -> Option<Ref> {
        let memory = &self.memory;
        block::find_record(memory, self.root.hosts, at.hash, |record| host::is(memory, record, at.kind, at.name))
    }

    /// The methods of every candidate that `accept` takes.
    #[cold]
    fn allowed(&self, accept: &mut dyn FnMut(Entry) -> bool) -> Methods {
        let mut allowed = Methods::NONE;
        self.hosts(None, &mut Apart::new(), &mut |entry: Entry| {
            if accept(entry) {
                allowed = allowed.union(Methods(entry.methods));
            }
            ControlFlow::Continue(())
        });
        allowed
    }

    fn wildcards(&self, apart: &mut Apart, offer: &mut impl FnMut(Entry) -> Flow) -> Option<Entry> {
        let root = self.root;
        let labels = 1 + self.host.iter().filter(|&&byte| byte == b'.').count();
        let mut rest = self.host;
        for left in (1..labels).rev() {
            let dot = rest.iter().position(|&byte| byte == b'.')?;
            rest = rest.get(dot + 1..)?;
            // `*.` is one label at least, and a label is not empty.
            if rest.len() + 1 == self.host.len() || left > LABELS_MAX || root.label_counts >> left & 1 == 0 {
                continue;
            }
            let at = self.at(HostKind::Wildcard, rest);
            if let Some(record) = self.record(at)
                && let Some(entry) = self.host(at, record, false, apart, offer)
            {
                return Some(entry);
            }
        }
        None
    }

    /// Walks one host; `exact_done` when its exact path was offered already.
    fn host(
        &self,
        at: At<'_>,
        record: Ref,
        exact_done: bool,
        apart: &mut Apart,
        offer: &mut impl FnMut(Entry) -> Flow,
    ) -> Option<Entry> {
        let memory = &self.memory;
        if host::prioritised(memory, record) != 0 {
            return self.by_priority(at, record, apart, offer);
        }
        if !exact_done
            && host::exact(memory, record) != 0
            && let Some(entry) = self.offer_exact(at, offer)
        {
            return Some(entry);
        }
        if host::shapes(memory, record) == 0 {
            return None;
        }
        let segments = apart.of(self.seed, self.path)?;
        host::fitting(memory, record, segments.count, |listed| {
            let place = self.shaped(at, listed, segments)?;
            self.offer_place(place, listed.shape.end, segments, offer)
        })
    }

    /// Collects every place of the host that matches and merges them by priority; at one priority the earlier place
    /// is the better one.
    #[cold]
    fn by_priority(
        &self,
        at: At<'_>,
        record: Ref,
        apart: &mut Apart,
        offer: &mut impl FnMut(Entry) -> Flow,
    ) -> Option<Entry> {
        let memory = &self.memory;
        let mut places: [(Place, u32); host::SHAPES_MAX + 1] = [(Place(0), 0); host::SHAPES_MAX + 1];
        let mut count = 0;
        let mut add = |place: Option<Place>| {
            if let (Some(place), Some(free)) = (place, places.get_mut(count)) {
                *free = (place, 0);
                count += 1;
            }
        };
        add(self.exact_place(at));
        if let Some(segments) = apart.of(self.seed, self.path) {
            for listed in host::iter(memory, record) {
                add(self.shaped(at, listed, segments));
            }
        }
        let places = places.get_mut(..count)?;
        loop {
            let mut best: Option<(i32, usize, Entry)> = None;
            for (index, (place, next)) in places.iter().enumerate() {
                if *next as usize >= place.count(memory) {
                    continue;
                }
                let entry = place.entry(memory, *next as usize);
                let priority = blob::priority(memory, entry.blob);
                if best.is_none_or(|(highest, ..)| priority > highest) {
                    best = Some((priority, index, entry));
                }
            }
            let (_, index, entry) = best?;
            if let Some((_, next)) = places.get_mut(index) {
                *next += 1;
            }
            if fits(memory, entry, self.path, &apart.segments) && offer(entry).is_break() {
                return Some(entry);
            }
        }
    }

    #[inline(always)]
    fn offer_exact(&self, at: At<'_>, offer: &mut impl FnMut(Entry) -> Flow) -> Option<Entry> {
        let place = self.exact_place(at)?;
        let memory = &self.memory;
        (0..place.count(memory)).map(|index| place.entry(memory, index)).find(|entry| offer(*entry).is_break())
    }

    #[inline(always)]
    fn exact_place(&self, at: At<'_>) -> Option<Place> {
        let memory = &self.memory;
        block::find(memory, self.root.paths, pair(at.hash, self.exact), |word| {
            StoredKey::is_exact(memory, Place(word).entry(memory, 0), at.kind, at.name, self.path)
        })
        .map(Place)
    }

    /// Where a shape leads the request.
    #[inline(always)]
    fn shaped(&self, at: At<'_>, Listed { shape, filter, .. }: Listed, segments: &Segments) -> Option<Place> {
        if filter & shape.filter_bit(segments) == 0 {
            return None;
        }
        let count = usize::from(shape.count);
        let all = ((1_u64 << count) - 1) as u32;
        let fits = match shape.end {
            End::Exact => false,
            End::Here => segments.count == count,
            End::Tail | End::Prefix => segments.count >= count,
            // Its whole segments are those that a slash ends.
            End::Regex => segments.count > count,
        };
        // A parameter is never empty.
        if !fits || segments.empty & all & !shape.literal != 0 {
            return None;
        }
        let hash = shape.hash(segments);
        let memory = &self.memory;
        block::find(memory, self.root.paths, pair(at.hash, hash), |word| {
            let key = StoredKey::of(memory, Place(word).entry(memory, 0));
            key.shape == shape
                && key.host_kind == at.kind as u8
                && same(key.host(memory), at.name)
                && self.has_literals(shape, key.path(memory), segments)
        })
        .map(Place)
    }

    /// Whether `key`, which is of that shape, is the request's path with a mark for each parameter. What stands
    /// between two parameters is compared at once, slashes and all.
    #[inline(always)]
    fn has_literals(&self, shape: Shape, key: &[u8], segments: &Segments) -> bool {
        let starts = &segments.starts;
        let mut params = !shape.literal & ((1_u64 << shape.count) - 1) as u32;
        let mut from = 0;
        let mut rest = key;
        while params != 0 {
            let index = params.trailing_zeros() as usize;
            params &= params - 1;
            let (Some(&start), Some(&next)) = (starts.get(index), starts.get(index + 1)) else { return false };
            let run = self.path.get(from..usize::from(start)).unwrap_or_default();
            match rest.split_at_checked(run.len()) {
                Some((literal, [PARAM, behind @ ..])) if same(literal, run) => rest = behind,
                _ => return false,
            }
            from = usize::from(next) - 1;
        }
        let end = usize::from(starts.get(usize::from(shape.count)).copied().unwrap_or(0)).saturating_sub(1);
        self.path.get(from..end).is_some_and(|run| same(rest, run))
    }

    #[inline(always)]
    fn offer_place(
        &self,
        place: Place,
        end: End,
        segments: &Segments,
        offer: &mut impl FnMut(Entry) -> Flow,
    ) -> Option<Entry> {
        let memory = &self.memory;
        let takes =
            |entry: &Entry| (end != End::Tail || fits(memory, *entry, self.path, segments)) && offer(*entry).is_break();
        (0..place.count(memory)).map(|index| place.entry(memory, index)).find(takes)
    }

    #[inline(always)]
    fn capture(&self, entry: Entry, segments: &Segments, captures: &mut Captures) {
        let key = StoredKey::of(&self.memory, entry);
        let shape = key.shape;
        if !matches!(shape.end, End::Here | End::Tail) {
            return;
        }
        let mut params = !shape.literal & ((1_u64 << shape.count) - 1) as u32;
        while params != 0 {
            let index = params.trailing_zeros() as usize;
            params &= params - 1;
            if let (Some(&start), Some(&next)) = (segments.starts.get(index), segments.starts.get(index + 1)) {
                captures.push(start, next - 1);
            }
        }
        if key.is_captured
            && let Some(start) = tail(shape, self.path, segments)
        {
            captures.push(start, self.path.len() as u16);
        }
    }
}

/// Whether a captured tail has something to capture.
fn fits(memory: &Memory, entry: Entry, path: &[u8], segments: &Segments) -> bool {
    let key = StoredKey::of(memory, entry);
    !key.is_captured || tail(key.shape, path, segments).is_some()
}

/// Where the captured tail begins.
fn tail(shape: Shape, path: &[u8], segments: &Segments) -> Option<u16> {
    let count = usize::from(shape.count);
    let start = *segments.starts.get(count)?;
    (segments.count > count && usize::from(start) < path.len()).then_some(start)
}

const _: () = assert!(SEGMENTS_MAX <= 32, "shapes are masks of 32 bits");

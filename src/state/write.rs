//! The writer: the one process that changes the policy, and its transactions.

use std::fmt;

use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::router::pattern::Rule;
use crate::types::{Id, Kind, Methods, NAME_MAX, Object};

use super::arena::{Arena, NoRoom};
use super::block::{Entry, Root, blob, offset, table};
use super::draft::{Draft, KeyError};
use super::epoch;
use super::identity::Identity;
use super::key::Key;
use super::mark::{Corrupt, mark};
use super::mem::{Ref, Region};
use super::tree::Tree;

/// Why an object was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The arena has no room.
    Room,
    /// The arena has no room as long as a reader stays in an old generation; later it may have.
    Held,
    /// A name is empty or longer than [`NAME_MAX`].
    Name,
    /// A host is empty, longer than 253 bytes or 32 labels (below a wildcard), or holds control bytes.
    Host,
    /// A path is longer than 4,096 bytes, 32 segments (where it is no exact path) or 16 parameters, or holds control
    /// bytes.
    Path,
    /// The keys of one route take more than 256 KiB.
    Keys,
    /// The patterns and prefixes of one host have more than 128 different shapes.
    Shapes,
    /// The value cannot be archived.
    Value,
}

/// The transaction cannot go on: nothing of it will be committed, and the live policy is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes that would have been needed at least; for [`Refusal::Room`] and [`Refusal::Held`]. How many a whole
    /// document takes, a transaction in a larger region says ([`Stats::live`], [`Region::size_for`]).
    pub needed: usize,
    /// Bytes that are free, some of them in pieces that are too small.
    pub free: usize,
    /// Why.
    pub why: Refusal,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, free) = (self.needed, self.free);
        match self.why {
            Refusal::Room => write!(f, "the zone is full: {needed} more bytes are needed and {free} are free"),
            Refusal::Held => write!(
                f,
                "the zone is full until a worker leaves an old generation: {needed} more bytes are needed and {free} are free"
            ),
            Refusal::Name => write!(f, "a name must have 1 to {NAME_MAX} bytes"),
            Refusal::Host => f.write_str("a host is longer than 253 bytes or 32 labels, or holds control bytes"),
            Refusal::Path => {
                f.write_str("a path is longer than 4096 bytes, 32 segments or 16 parameters, or holds control bytes")
            }
            Refusal::Keys => f.write_str("a route has too many hosts and paths: they take more than 256 KiB"),
            Refusal::Shapes => f.write_str("the patterns and prefixes of one host have more than 128 shapes"),
            Refusal::Value => f.write_str("the value cannot be archived"),
        }
    }
}

impl std::error::Error for Full {}

/// How the arena is used; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The published generation.
    pub generation: u32,
    /// Named objects in it.
    pub objects: usize,
    /// Bytes of the arena.
    pub arena: usize,
    /// Bytes that the published tree takes, rounded up to sizes of blocks.
    pub live: usize,
    /// Bytes that were replaced and wait for readers of old generations.
    pub waiting: usize,
    /// Bytes that are free.
    pub free: usize,
    /// How many generations have such bytes.
    pub batches: usize,
    /// How many generations the oldest reader is behind.
    pub behind: u32,
}

/// The lease, and with it the right to change the policy.
///
/// It is kept until it is dropped; when its process dies, the next one takes it over and finds the tree as the last
/// commit left it. Do not drop it in a child that was forked meanwhile.
pub struct Writer {
    region: Region,
    identity: Identity,
    draft: Draft,
    /// The published root record; 0 = none.
    published: Ref,
    generation: u32,
}

impl Writer {
    /// Takes the lease if nobody alive has it (`None`: somebody has), and finds out what the tree uses. That takes
    /// time in proportion to the tree (some 20 ms for 100,000 routes), so the lease should stay where it is.
    ///
    /// Memory that the last writer had not given back is free again only when no reader is in a generation before
    /// the published one; until then a transaction may be refused with [`Refusal::Held`].
    pub fn take(region: Region, identity: Identity) -> Result<Option<Self>, Corrupt> {
        if !epoch::take_lease(region.lease(), identity.word(), |word| Identity::from_word(word).is_alive()) {
            return Ok(None);
        }
        let word = epoch::Word::load(region.current(), std::sync::atomic::Ordering::Acquire);
        let recovered = match word {
            0 => Ok(Self::empty(region, identity)),
            word => Self::recover(region, identity, word),
        };
        if recovered.is_err() {
            region.corruptions().fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            epoch::release_lease(region.lease(), identity.word());
        }
        recovered.map(Some)
    }

    /// Takes the lease as [`Writer::take`] does and gives up whatever tree there is: for one that is [`Corrupt`].
    /// Readers find no policy until the next commit.
    pub fn reset(region: Region, identity: Identity) -> Option<Self> {
        if !epoch::take_lease(region.lease(), identity.word(), |word| Identity::from_word(word).is_alive()) {
            return None;
        }
        use std::sync::atomic::Ordering::{Acquire, SeqCst};
        let word = region.current().load(Acquire);
        if word != 0 {
            region.floor().store(epoch::generation(word).into(), SeqCst);
            epoch::publish(region.current(), 0);
        }
        Some(Self::empty(region, identity))
    }

    fn empty(region: Region, identity: Identity) -> Self {
        let generation = region.floor().load(std::sync::atomic::Ordering::Acquire) as u32;
        let arena = Arena::new(region.plan.arena.0, region.plan.arena.1);
        let root = Root { generation, ..Root::default() };
        // A reader may still be in the last generation of a tree that was given up.
        let draft = Draft::new(region, arena, root, generation.wrapping_add(1));
        let mut writer = Self { region, identity, draft, published: 0, generation };
        writer.reclaim();
        writer
    }

    fn recover(region: Region, identity: Identity, word: u64) -> Result<Self, Corrupt> {
        let generation = epoch::generation(word);
        let published = word as Ref;
        let blocks = mark(&region, published, generation)?;
        let arena = Arena::with(region.plan.arena.0, region.plan.arena.1, &blocks)
            .ok_or(Corrupt("blocks are in each other's way"))?;
        let root = Root::read(&region.memory, published);
        let draft = Draft::new(region, arena, root, generation);
        let mut writer = Self { region, identity, draft, published, generation };
        writer.reclaim();
        Ok(writer)
    }

    /// Begins a transaction. Dropped without [`Transaction::commit`] it leaves no trace.
    pub fn begin(&mut self) -> Transaction<'_> {
        self.draft.reclaim();
        let before = self.draft.root;
        // 0 stands for "no policy": after four thousand million generations they begin anew at 1.
        self.draft.root.generation = self.generation.wrapping_add(1).max(1);
        // The record of the new root is had first, so that a commit needs nothing that could be refused.
        self.draft.removing = true;
        let record = self.draft.allocate(Root::SIZE);
        self.draft.removing = false;
        let failed = match record {
            Ok(_) => None,
            Err(NoRoom) => Some(Refusal::Room),
        };
        Transaction { record: record.unwrap_or(0), before, failed, is_over: false, reserved: Vec::new(), writer: self }
    }

    /// Frees what no reader can see any more. A commit does so too; call it now and then when nothing changes.
    pub fn reclaim(&mut self) {
        self.draft.reclaim();
    }

    /// How the arena is used.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let used = self.draft.arena.used();
        let waiting = self.draft.waiting();
        let oldest = self.region.seats().filter_map(|seat| seat.generation);
        let behind = oldest.map(|held| self.generation.wrapping_sub(held)).filter(|&behind| behind < 1 << 31).max();
        Stats {
            generation: self.generation,
            objects: self.draft.root.objects as usize,
            arena: self.draft.arena.capacity(),
            live: used - waiting,
            waiting,
            free: self.draft.arena.capacity() - used,
            batches: self.draft.batches(),
            behind: behind.unwrap_or(0),
        }
    }

    /// The policy as it is published, or empty where there is none yet.
    #[must_use]
    pub fn view(&self) -> Tree<'_> {
        self.draft.tree()
    }

    /// Compares the allocator with the tree: each block is reached once, none of them is free or waits to be, and
    /// together they are the arena. For tests and for doubts; takes as long as a takeover.
    pub fn check(&self) -> Result<(), Corrupt> {
        let blocks = match self.published {
            0 => Vec::new(),
            published => mark(&self.region, published, self.generation)?,
        };
        let arena = &self.draft.arena;
        let reached: usize = blocks.iter().map(|&(_, size)| arena.takes(size)).sum();
        let (free, slack) = arena.count_free();
        if reached + self.draft.waiting() != arena.used() {
            return Err(Corrupt("bytes in use do not add up"));
        }
        if arena.used() + free + slack != arena.capacity() {
            return Err(Corrupt("bytes of the arena do not add up"));
        }
        let mut others: std::collections::HashSet<Ref> = arena.free_blocks().collect();
        let count = others.len();
        others.extend(self.draft.waiting_blocks());
        if others.len() != count + self.draft.waiting_blocks().count() {
            return Err(Corrupt("a block waits and is free, or does so twice"));
        }
        if blocks.iter().any(|(block, _)| others.contains(block)) {
            return Err(Corrupt("a block is reached and free"));
        }
        Ok(())
    }

    /// Gives the lease back, as dropping it does.
    pub fn release(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        epoch::release_lease(self.region.lease(), self.identity.word());
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("stats", &self.stats()).finish()
    }
}

/// Changes that all readers will see at once, or never.
///
/// After the first refusal every further change is refused with the same reason, and a commit commits nothing.
pub struct Transaction<'w> {
    writer: &'w mut Writer,
    record: Ref,
    before: Root,
    failed: Option<Refusal>,
    is_over: bool,
    /// Names that were given an id before their object.
    reserved: Vec<(Kind, String, Id)>,
}

/// What `put_any` makes an object of.
struct Value<'a> {
    kind: Kind,
    name: &'a str,
    payload: AlignedVec,
    digest: u64,
    keys: &'a [Key],
    methods: Methods,
    priority: i32,
    conditions: u16,
}

impl Transaction<'_> {
    /// The id of `name`, made when it is new; its object may follow later in the transaction. One that gets none
    /// loses its name at the commit.
    pub fn id(&mut self, kind: Kind, name: &str) -> Result<Id, Full> {
        self.go_on()?;
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(self.fail(Refusal::Name, 0));
        }
        match self.writer.draft.id(kind, name) {
            Ok((id, is_new)) => {
                if is_new {
                    self.reserved.push((kind, name.to_owned(), id));
                }
                Ok(id)
            }
            Err(NoRoom) => Err(self.fail(Refusal::Room, name.len())),
        }
    }

    /// Stores an object under a name, in place of the one that had it. `digest` is kept beside it for later
    /// comparisons.
    pub fn put<T: Object>(&mut self, name: &str, value: &T, digest: u64) -> Result<Id, Full> {
        let payload = self.archive(value)?;
        self.put_any(Value::plain::<T>(name, payload, digest), |_, _| Ok(0))
    }

    /// Stores a route and the rules by which it is reached, in place of the one that had the name, and its rules.
    /// `conditions` is as of `router::order::Candidate`: how many the caller will ask besides, and one for `methods`
    /// where they are not all; of routes that are equal otherwise the one with more is offered first.
    #[allow(clippy::too_many_arguments)]
    pub fn put_route<T: Object>(
        &mut self,
        name: &str,
        value: &T,
        digest: u64,
        rules: &[Rule],
        methods: Methods,
        priority: i32,
        conditions: u16,
    ) -> Result<Id, Full> {
        let payload = self.archive(value)?;
        let mut keys: Vec<Key> = Vec::with_capacity(rules.len());
        for (index, rule) in rules.iter().enumerate() {
            let index = u16::try_from(index).map_err(|_| self.fail(Refusal::Keys, 0))?;
            let key = Key::of(rule, index).map_err(|why| self.fail(why, 0))?;
            // Two rules that differ in the names of their parameters alone are one, by the first of them; and where a
            // tail need not be captured it covers one that must.
            if !keys.iter().any(|other| other.same_place(&key) && (key.captured || !other.captured)) {
                keys.push(key);
            }
        }
        self.put_any(
            Value { keys: &keys, methods, priority, conditions, ..Value::plain::<T>(name, payload, digest) },
            |_, _| Ok(0),
        )
    }

    /// Stores an object with a mutable block of `words`. As long as `fingerprint` and the number of words stay the
    /// same the block is carried over as it is, whatever was written into it meanwhile.
    pub fn put_with_table<T: Object>(
        &mut self,
        name: &str,
        value: &T,
        digest: u64,
        fingerprint: u64,
        words: &[u64],
    ) -> Result<Id, Full> {
        let payload = self.archive(value)?;
        self.put_any(Value::plain::<T>(name, payload, digest), |draft, old| {
            let memory = draft.memory;
            let carried = old.map(|old| blob::table(&memory, old)).filter(|&carried| {
                carried != 0
                    && table::fingerprint(&memory, carried) == fingerprint
                    && table::count(&memory, carried) == words.len()
            });
            match carried {
                Some(carried) => Ok(carried),
                None => {
                    let block = draft.allocate(table::size(words.len()))?;
                    table::write(&memory, block, fingerprint, words);
                    Ok(block)
                }
            }
        })
    }

    /// Takes an object away, with its name and its rules; false when there is none.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Result<bool, Full> {
        self.go_on()?;
        let draft = &mut self.writer.draft;
        let Some(id) = draft.tree().id_of(kind, name) else { return Ok(false) };
        draft.removing = true;
        let removed = remove(draft, kind, name, id);
        draft.removing = false;
        match removed {
            Ok(()) => Ok(true),
            Err(error) => Err(self.fail_key(error, 0)),
        }
    }

    /// The policy as the transaction would leave it.
    #[must_use]
    pub fn view(&self) -> Tree<'_> {
        self.writer.draft.tree()
    }

    /// Publishes the changes; the new generation. After a refusal nothing is published and the generation is the
    /// one that was there before.
    pub fn commit(mut self) -> u32 {
        if self.failed.is_some() {
            return self.writer.generation;
        }
        let writer = &mut *self.writer;
        let draft = &mut writer.draft;
        draft.removing = true;
        for (kind, name, id) in self.reserved.drain(..) {
            if draft.tree().id_of(kind, &name) == Some(id) && draft.tree().blob_of(id).is_none() {
                // A name that stays for want of room is found and used again, or removed, later.
                let _ = draft.remove_name(kind, &name);
            }
        }
        draft.removing = false;
        let generation = draft.root.generation;
        draft.root.write(&draft.memory, self.record);
        if writer.published != 0 {
            draft.release(writer.published);
        }
        let replaced = draft.settle();
        epoch::publish(writer.region.current(), u64::from(generation) << 32 | u64::from(self.record));
        writer.generation = generation;
        writer.published = self.record;
        draft.wait(generation, replaced);
        self.is_over = true;
        generation
    }

    fn archive<T: Object>(&mut self, value: &T) -> Result<AlignedVec, Full> {
        self.go_on()?;
        rkyv::to_bytes::<rancor::Error>(value).map_err(|_| self.fail(Refusal::Value, 0))
    }

    fn put_any(
        &mut self,
        value: Value<'_>,
        table: impl FnOnce(&mut Draft, Option<Ref>) -> Result<Ref, NoRoom>,
    ) -> Result<Id, Full> {
        let id = self.id(value.kind, value.name)?;
        let mut keys = Vec::new();
        let mut places = Vec::with_capacity(value.keys.len());
        for key in value.keys {
            places.push(((blob::HEADER + keys.len()) / 4) as u16);
            key.encode(&mut keys);
            if keys.len() > blob::KEYS_MAX {
                return Err(self.fail(Refusal::Keys, keys.len()));
            }
        }
        let draft = &mut self.writer.draft;
        let size = blob::HEADER + keys.len() + value.name.len() + value.payload.len() + 16;
        let put = || -> Result<(), KeyError> {
            let old = draft.tree().blob_of(id);
            let table = table(draft, old)?;
            let parts = blob::Parts {
                kind: value.kind as u8,
                id,
                seq: draft.root.generation,
                digest: value.digest,
                table,
                priority: value.priority,
                methods: value.methods.0,
                conditions: value.conditions,
                keys: &keys,
                key_count: value.keys.len() as u16,
                name: value.name.as_bytes(),
                payload: &value.payload,
            };
            let block = draft.allocate(parts.size())?;
            parts.write(&draft.memory, block);
            let entry = |key: u16| Entry { blob: block, methods: value.methods.0, key };
            let old_keys = old.map(|old| draft.keys_of(old)).unwrap_or_default();
            let ranks_alike = old.is_some_and(|old| {
                blob::priority(&draft.memory, old) == value.priority
                    && blob::conditions(&draft.memory, old) == value.conditions
                    && old_keys.len() == value.keys.len()
                    && old_keys.iter().zip(value.keys).all(|((old, _), new)| old.same_place(new))
            });
            if let Some(old) = old {
                for (key, place) in old_keys.iter().filter(|_| !ranks_alike) {
                    draft.remove_key(key, *place, old)?;
                }
                for (key, &place) in value.keys.iter().zip(&places).filter(|_| ranks_alike) {
                    draft.swap_key(key, old, entry(place))?;
                }
            }
            for (key, &place) in value.keys.iter().zip(&places).filter(|_| !ranks_alike) {
                draft.add_key(key, entry(place))?;
            }
            draft.set_blob(id, block, value.kind as u8)?;
            Ok(())
        };
        match put() {
            Ok(()) => Ok(id),
            Err(error) => Err(self.fail_key(error, size)),
        }
    }

    fn go_on(&mut self) -> Result<(), Full> {
        match self.failed {
            None => Ok(()),
            Some(why) => Err(self.fail(why, 0)),
        }
    }

    fn fail_key(&mut self, error: KeyError, needed: usize) -> Full {
        match error {
            KeyError::NoRoom => self.fail(Refusal::Room, needed),
            KeyError::Shapes => self.fail(Refusal::Shapes, needed),
        }
    }

    fn fail(&mut self, why: Refusal, needed: usize) -> Full {
        let draft = &self.writer.draft;
        // What waits for readers might have been enough.
        let why = match why {
            Refusal::Room if draft.is_held() || draft.waiting() > needed => Refusal::Held,
            other => other,
        };
        self.failed = Some(why);
        let free = draft.arena.capacity() - draft.arena.used();
        Full { needed, free, why }
    }
}

impl<'a> Value<'a> {
    fn plain<T: Object>(name: &'a str, payload: AlignedVec, digest: u64) -> Self {
        Self { kind: T::KIND, name, payload, digest, keys: &[], methods: Methods::NONE, priority: 0, conditions: 0 }
    }
}

fn remove(draft: &mut Draft, kind: Kind, name: &str, id: Id) -> Result<(), KeyError> {
    if let Some(block) = draft.tree().blob_of(id) {
        for (key, place) in draft.keys_of(block) {
            draft.remove_key(&key, place, block)?;
        }
        draft.clear_blob(id)?;
    }
    draft.remove_name(kind, name)?;
    Ok(())
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.writer.draft.forget(self.before);
        }
    }
}

const _: () = assert!(offset(1) == 16);

//! Transactions: many changes that become visible with one store.

use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::{Full, Refusal, Writer};
use crate::router::pattern::Rule;
use crate::state::arena::NoRoom;
use crate::state::block::{Entry, Root, blob, table};
use crate::state::draft::{Draft, KeyError};
use crate::state::epoch;
use crate::state::key::Key;
use crate::state::mem::Ref;
use crate::state::tree::Tree;
use crate::types::{Id, Kind, Methods, NAME_MAX, Object};

/// What most objects take at most, so that their bytes need not move as they grow.
const PAYLOAD: usize = 512;

/// Changes that all readers will see at once, or never.
///
/// After the first refusal every further change is refused with the same reason, and a commit commits nothing.
pub struct Transaction<'w> {
    writer: &'w mut Writer,
    record: Ref,
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

impl<'w> Transaction<'w> {
    pub(super) fn new(writer: &'w mut Writer) -> Self {
        let draft = &mut writer.draft;
        // Nothing, unless a transaction was leaked.
        draft.forget(writer.committed);
        draft.reclaim_of_the_living();
        // 0 stands for "no policy": after four thousand million generations they begin anew at 1.
        draft.root.generation = writer.generation.wrapping_add(1).max(1);
        // The record of the new root is had first, so that a commit needs nothing that could be refused.
        draft.removing = true;
        let record = draft.allocate(Root::SIZE);
        draft.removing = false;
        let failed = record.err().map(|NoRoom| Refusal::Room);
        Self { writer, record: record.unwrap_or(0), failed, is_over: false, reserved: Vec::new() }
    }
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
            // A name is nothing without its object.
            Err(NoRoom) => Err(self.fail(Refusal::Room, blob::HEADER + name.len())),
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
        self.put_route_with_table(name, value, digest, rules, (methods, priority, conditions), (0, &[]))
    }

    /// The same, with a mutable block as of [`Transaction::put_with_table`]: fingerprint and words.
    pub fn put_route_with_table<T: Object>(
        &mut self,
        name: &str,
        value: &T,
        digest: u64,
        rules: &[Rule],
        (methods, priority, conditions): (Methods, i32, u16),
        table: (u64, &[u64]),
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
            |draft, old| carried(draft, old, table),
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
        self.put_any(Value::plain::<T>(name, payload, digest), |draft, old| carried(draft, old, (fingerprint, words)))
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

    /// The generation that a commit begins.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.writer.draft.root.generation
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
        writer.committed = draft.root;
        draft.wait(generation, replaced);
        self.is_over = true;
        generation
    }

    fn archive<T: Object>(&mut self, value: &T) -> Result<AlignedVec, Full> {
        self.go_on()?;
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(value, AlignedVec::with_capacity(PAYLOAD))
            .map_err(|_| self.fail(Refusal::Value, 0))
    }

    fn put_any(
        &mut self,
        value: Value<'_>,
        table: impl FnOnce(&mut Draft, Option<Ref>) -> Result<Ref, NoRoom>,
    ) -> Result<Id, Full> {
        let id = self.id(value.kind, value.name)?;
        let mut keys = Vec::with_capacity(value.keys.iter().map(Key::encoded_len).sum());
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

/// The block of the object that is replaced, where it goes on, else a new one; none where there are no words.
fn carried(draft: &mut Draft, old: Option<Ref>, (fingerprint, words): (u64, &[u64])) -> Result<Ref, NoRoom> {
    if words.is_empty() {
        return Ok(0);
    }
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
            self.writer.draft.forget(self.writer.committed);
        }
    }
}

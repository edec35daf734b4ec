//! The keys of routes: leaves, and the host records that say which shapes a host has.

use std::cmp::Ordering;

use super::Draft;
use crate::state::arena::NoRoom;
use crate::state::block::host::{self, Listed};
use crate::state::block::{self, Entry, Place, StoredKey, blob, leaf};
use crate::state::hash;
use crate::state::key::{End, HostKind, Key, host_hash};
use crate::state::mem::{Memory, Ref};

/// Why a key cannot be added.
#[derive(Clone, Copy, Debug)]
pub(in crate::state) enum KeyError {
    NoRoom,
    /// Its host has as many shapes as a lookup walks.
    Shapes,
}

impl From<NoRoom> for KeyError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

impl Draft {
    /// Has `key` lead to the route in `entry`, whose blob is written already.
    pub(in crate::state) fn add_key(&mut self, key: &Key, entry: Entry) -> Result<(), KeyError> {
        let (hash, filter) = key.hash_and_filter(self.memory.seed());
        let priority = blob::priority(&self.memory, entry.blob);
        self.count_key(key, filter, priority, true)?;
        match self.find_place(key, hash) {
            None => self.root.paths = self.insert(self.root.paths, hash, entry.word(), hash_of_path)?,
            Some(old) => {
                let mut entries = self.entries_of(old);
                let place = entries.partition_point(|other| self.order(*other, entry).is_le());
                entries.insert(place, entry);
                self.rewrite(hash, old, &entries)?;
            }
        }
        Ok(())
    }

    /// `key`, which stands at `at` in the route at `route`, does not lead there any more.
    pub(in crate::state) fn remove_key(&mut self, key: &Key, at: u16, route: Ref) -> Result<(), KeyError> {
        let (hash, filter) = key.hash_and_filter(self.memory.seed());
        let Some(old) = self.find_place(key, hash) else { return Ok(()) };
        let mut entries = self.entries_of(old);
        let before = entries.len();
        entries.retain(|entry| entry.blob != route || entry.key != at);
        if entries.len() == before {
            return Ok(());
        }
        self.rewrite(hash, old, &entries)?;
        self.count_key(key, filter, blob::priority(&self.memory, route), false)
    }

    /// `key` leads to `entry` where it led to the route at `old`: both have the same rank and the same keys.
    pub(in crate::state) fn swap_key(&mut self, key: &Key, old: Ref, entry: Entry) -> Result<(), KeyError> {
        let hash = key.hash(self.memory.seed());
        let Some(place) = self.find_place(key, hash) else { return Ok(()) };
        let mut entries = self.entries_of(place);
        for other in entries.iter_mut().filter(|other| other.blob == old && other.key == entry.key) {
            *other = entry;
        }
        self.rewrite(hash, place, &entries)?;
        Ok(())
    }

    /// The keys of the route at `route`, with where each stands in its blob.
    pub(in crate::state) fn keys_of(&self, route: Ref) -> Vec<(Key, u16)> {
        let memory = &self.memory;
        let mut keys = Vec::new();
        let mut at = blob::HEADER;
        for _ in 0..blob::key_count(memory, route) {
            let place = (at / 4) as u16;
            let stored = StoredKey::of(memory, Entry { blob: route, methods: 0, key: place });
            keys.push((stored.decode(memory), place));
            at += stored.size();
        }
        keys
    }

    /// Has the key of `hash` lead to `entries` instead of `old`.
    fn rewrite(&mut self, hash: u64, old: Place, entries: &[Entry]) -> Result<(), NoRoom> {
        let new = match (entries, old.block()) {
            ([] | [_], block) => {
                if let Some(block) = block {
                    self.release(block);
                }
                entries.first().map(|entry| Place(entry.word()))
            }
            (_, None) => Some(Place::leaf(self.allocate(leaf::size(entries.len()))?)),
            (_, Some(block)) => {
                let before = leaf::count(&self.memory, block);
                Some(Place::leaf(self.replace(block, leaf::size(before), leaf::size(entries.len()))?))
            }
        };
        if let Some(block) = new.and_then(Place::block) {
            leaf::write(&self.memory, block, entries);
        }
        self.root.paths = match new {
            Some(new) => self.exchange(self.root.paths, hash, old.0, new.0)?,
            None => self.remove(self.root.paths, hash, old.0)?,
        };
        Ok(())
    }

    fn find_place(&self, key: &Key, hash: u64) -> Option<Place> {
        let memory = &self.memory;
        let word = block::find(memory, self.root.paths, hash, |word| {
            let stored = StoredKey::of(memory, Place(word).entry(memory, 0));
            stored.shape == key.shape
                && stored.host_kind == key.host_kind as u8
                && stored.host(memory) == key.host
                && stored.path(memory) == key.path
        });
        word.map(Place)
    }

    fn entries_of(&self, place: Place) -> Vec<Entry> {
        (0..place.count(&self.memory)).map(|index| place.entry(&self.memory, index)).collect()
    }

    /// Higher priority, then of expressions the longer literal prefix, then more conditions, then the name, then the
    /// expression.
    fn order(&self, one: Entry, two: Entry) -> Ordering {
        let memory = &self.memory;
        let regex = |entry: Entry| StoredKey::of(memory, entry).regex(memory).unwrap_or_default();
        let rank = |entry: Entry| {
            let conditions = blob::conditions(memory, entry.blob);
            (blob::priority(memory, entry.blob), regex(entry).0, conditions)
        };
        rank(two)
            .cmp(&rank(one))
            .then_with(|| blob::name(memory, one.blob).cmp(blob::name(memory, two.blob)))
            .then_with(|| regex(one).1.cmp(regex(two).1))
    }

    /// Counts a key in or out in the record of its host.
    fn count_key(&mut self, key: &Key, filter: u32, priority: i32, is_in: bool) -> Result<(), KeyError> {
        let memory = self.memory;
        let hash = host_hash(self.memory.seed(), key.host_kind, &key.host);
        let record = match (key.host_kind, self.root.any) {
            (HostKind::Any, 0) => None,
            (HostKind::Any, record) => Some(record),
            _ => block::find_record(&memory, self.root.hosts, hash, |record| {
                host::is(&memory, record, key.host_kind, &key.host)
            }),
        };
        let step = |count: u32| if is_in { count + 1 } else { count.saturating_sub(1) };
        let mut counts = record.map_or([0, 0], |record| [host::exact, host::prioritised].map(|of| of(&memory, record)));
        let is_exact = key.shape.end == End::Exact;
        let [exact, prioritised] = &mut counts;
        if priority != 0 {
            *prioritised = step(*prioritised);
            self.root.prioritised = step(self.root.prioritised);
        }
        if is_exact {
            *exact = step(*exact);
        }
        if let Some(record) = record
            && let Some(own) = self.count_in_place(record, key, filter, counts, is_in)?
        {
            match key.host_kind {
                HostKind::Any => self.root.any = own,
                _ => self.root.hosts = self.exchange(self.root.hosts, hash, record.into(), own.into())?,
            }
            return Ok(());
        }
        let mut shapes: Vec<Listed> = record.map_or_else(Vec::new, |record| host::iter(&memory, record).collect());
        if !is_exact {
            match shapes.binary_search_by(|listed| listed.shape.rank(key.shape)) {
                Ok(index) => {
                    if let Some(listed) = shapes.get_mut(index) {
                        listed.keys = step(listed.keys);
                    }
                }
                Err(_) if shapes.len() >= host::SHAPES_MAX => return Err(KeyError::Shapes),
                Err(index) => {
                    shapes.insert(index, Listed { shape: key.shape, keys: 1, filter });
                }
            }
            shapes.retain(|listed| listed.keys > 0);
        }
        let wanted = counts[0] > 0 || !shapes.is_empty();
        let new = match (record, wanted) {
            (None, false) => return Ok(()),
            (Some(record), false) => {
                if key.host_kind != HostKind::Any {
                    self.root.hosts = self.remove(self.root.hosts, hash, record.into())?;
                }
                self.release(record);
                0
            }
            (None, true) => self.allocate(host::size(shapes.len(), key.host.len()))?,
            (Some(record), true) => {
                let old = host::size_of(&memory, record);
                self.replace(record, old, host::size(shapes.len(), key.host.len()))?
            }
        };
        if new != 0 {
            host::write(&memory, new, key.host_kind, &key.host, counts, &shapes);
        }
        match (key.host_kind, record) {
            (HostKind::Any, _) => self.root.any = new,
            (_, None) => self.root.hosts = self.insert(self.root.hosts, hash, new.into(), hash_of_host)?,
            (_, Some(old)) if new != 0 => {
                self.root.hosts = self.exchange(self.root.hosts, hash, old.into(), new.into())?
            }
            _ => {}
        }
        if key.host_kind == HostKind::Wildcard && record.is_none() != (new == 0) {
            self.count_wildcard(&key.host, is_in);
        }
        Ok(())
    }

    /// Counts a key where that leaves the record its shapes; the record, or `None` where it does not.
    fn count_in_place(
        &mut self,
        record: Ref,
        key: &Key,
        filter: u32,
        counts: [u32; 2],
        is_in: bool,
    ) -> Result<Option<Ref>, NoRoom> {
        let memory = self.memory;
        let found = match key.shape.end {
            End::Exact => None,
            _ => {
                let found = host::iter(&memory, record).enumerate().find(|(_, listed)| listed.shape == key.shape);
                let Some((index, mut listed)) = found else { return Ok(None) };
                listed.keys = if is_in { listed.keys + 1 } else { listed.keys.saturating_sub(1) };
                listed.filter |= filter;
                Some((index, listed))
            }
        };
        let is_emptied = found.is_some_and(|(_, listed)| listed.keys == 0);
        if is_emptied || counts[0] == 0 && host::shapes(&memory, record) == 0 {
            return Ok(None);
        }
        let own = self.own(record, host::size_of(&memory, record))?;
        host::set_counts(&memory, own, counts);
        if let Some((index, listed)) = found {
            host::set_listed(&memory, own, index, listed);
        }
        Ok(Some(own))
    }

    fn count_wildcard(&mut self, name: &[u8], is_in: bool) {
        let labels = 1 + name.iter().filter(|&&byte| byte == b'.').count();
        if is_in {
            self.root.wildcards += 1;
            self.root.label_counts |= 1 << labels.min(63);
        } else {
            self.root.wildcards -= 1;
        }
        if self.root.wildcards == 0 {
            self.root.label_counts = 0;
        }
    }
}

fn hash_of_path(memory: &Memory, word: u64) -> u64 {
    StoredKey::of(memory, Place(word).entry(memory, 0)).hash(memory)
}

fn hash_of_host(memory: &Memory, word: u64) -> u64 {
    let record = word as Ref;
    hash::bytes(memory.seed(), host::kind(memory, record).into(), host::name(memory, record))
}

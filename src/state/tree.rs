//! Reading the policy tree below one root: ids, names, objects. Pure, and allocates nothing.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;

use rkyv::Portable;

use crate::types::{Id, Kind, Object};

use super::block::{self, Entry, Root, StoredKey, blob, ids, name, table};
use super::mem::{Memory, Ref, UNIT};

/// The tree of one generation, or of a transaction as it stands. Whoever made it holds the blocks below it: a reader
/// by its announcement, a transaction by the lease.
#[derive(Clone, Copy)]
pub struct Tree<'v> {
    pub(super) memory: Memory,
    pub(super) root: Root,
    held: PhantomData<&'v ()>,
}

impl<'v> Tree<'v> {
    /// The tree below `root`. The caller sees to it that `'v` ends before its blocks may be freed.
    #[inline(always)]
    pub(super) fn new(memory: Memory, root: Root) -> Self {
        Self { memory, root, held: PhantomData }
    }

    /// The generation that it belongs to.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u32 {
        self.root.generation
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.root.objects as usize
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.objects == 0
    }

    /// The object behind `id`; `None` when it is gone, whoever has its slot now, or when it is of another kind.
    #[must_use]
    #[inline]
    pub fn object<T: Object>(&self, id: Id) -> Option<Blob<'v, T>> {
        let leaf = ids::leaf(&self.memory, self.root.ids, self.root.levels, id.slot)?;
        let (blob, birth) = ids::entry(&self.memory, leaf, id.slot as usize % ids::LEAF);
        if birth != id.birth || birth == 0 {
            return None;
        }
        Blob::new(self.memory, blob)
    }

    /// The object that has slot `slot` now, whenever it got it.
    #[must_use]
    pub fn at<T: Object>(&self, slot: u32) -> Option<Blob<'v, T>> {
        let leaf = ids::leaf(&self.memory, self.root.ids, self.root.levels, slot)?;
        let (blob, birth) = ids::entry(&self.memory, leaf, slot as usize % ids::LEAF);
        if birth == 0 { None } else { Blob::new(self.memory, blob) }
    }

    /// The object that has `name` among those of its kind.
    #[must_use]
    pub fn named<T: Object>(&self, name: &str) -> Option<Blob<'v, T>> {
        self.object(self.id_of(T::KIND, name)?)
    }

    /// The id that `name` has among the objects of `kind`.
    #[must_use]
    pub fn id_of(&self, kind: Kind, name: &str) -> Option<Id> {
        self.name_record(kind, name).map(|record| name::id(&self.memory, record))
    }

    /// The name of whatever has `id`; `None` when it is gone.
    #[must_use]
    pub fn name_of(&self, id: Id) -> Option<&'v str> {
        self.blob_of(id).map(|blob| text(blob::name(&self.memory, blob)))
    }

    /// The digest with which the object of that kind and name was put.
    #[must_use]
    pub fn digest_of(&self, kind: Kind, name: &str) -> Option<u64> {
        let blob = self.blob_of(self.id_of(kind, name)?)?;
        Some(blob::digest(&self.memory, blob))
    }

    /// Every object of one kind, in the order of their slots.
    pub fn each<T: Object>(&self) -> impl Iterator<Item = Blob<'v, T>> + use<'v, T> {
        let memory = self.memory;
        self.blobs(T::KIND).filter_map(move |blob| Blob::new(memory, blob))
    }

    /// The names of every object of one kind, in the order of their slots.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &'v str> + use<'v> {
        let memory = self.memory;
        self.blobs(kind).map(move |block| text(blob::name(&memory, block)))
    }

    /// The mutable block that belongs to an object; its words may change at any time.
    #[must_use]
    #[inline]
    pub fn pick_table<T>(&self, object: &Blob<'v, T>) -> Option<&'v [AtomicU64]> {
        object.table()
    }

    pub(super) fn name_record(&self, kind: Kind, name: &str) -> Option<Ref> {
        let hash = name::hash(self.memory.seed(), kind as u8, name.as_bytes());
        block::find_record(&self.memory, self.root.names, hash, |record| {
            name::is(&self.memory, record, kind as u8, name.as_bytes())
        })
    }

    pub(super) fn blob_of(&self, id: Id) -> Option<Ref> {
        let leaf = ids::leaf(&self.memory, self.root.ids, self.root.levels, id.slot)?;
        let (blob, birth) = ids::entry(&self.memory, leaf, id.slot as usize % ids::LEAF);
        (birth == id.birth && blob != 0).then_some(blob)
    }

    fn blobs(&self, kind: Kind) -> impl Iterator<Item = Ref> + use<'v> {
        let Self { memory, root, .. } = *self;
        (0..root.next_slot.div_ceil(ids::LEAF as u32))
            .filter_map(move |leaf| ids::leaf(&memory, root.ids, root.levels, leaf * ids::LEAF as u32))
            .flat_map(move |leaf| {
                let kinds = ids::kinds(&memory, leaf).into_iter().enumerate();
                kinds.filter(move |(_, found)| *found == kind as u8).map(move |(index, _)| (leaf, index))
            })
            .map(move |(leaf, index)| ids::entry(&memory, leaf, index).0)
            .filter(|blob| *blob != 0)
    }
}

impl fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("generation", &self.root.generation).field("objects", &self.root.objects).finish()
    }
}

/// An object where it stands in the region; dereferences to its archived form.
pub struct Blob<'v, T> {
    memory: Memory,
    block: Ref,
    /// Where its value stands; found once, as words of the region are read anew each time that they are asked for.
    payload: &'v [u8],
    object: PhantomData<fn() -> T>,
}

impl<T> Clone for Blob<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Blob<'_, T> {}

impl<'v, T: Object> Blob<'v, T> {
    /// The object at `block` if there is one and it is of T's kind.
    #[inline(always)]
    pub(super) fn new(memory: Memory, block: Ref) -> Option<Self> {
        const { assert!(align_of::<T::Archived>() <= UNIT, "payloads are aligned to 16 bytes") };
        if block == 0 || blob::kind(&memory, block) != T::KIND as u8 {
            return None;
        }
        let payload = blob::payload(&memory, block);
        (payload.len() >= size_of::<T::Archived>()).then_some(Self { memory, block, payload, object: PhantomData })
    }

    /// The archived value, for as long as the view lives.
    #[must_use]
    #[inline(always)]
    pub fn get(&self) -> &'v T::Archived {
        // SAFETY: `new` checked the kind, and every kind has exactly one type (`Object`); only `Transaction::put` of
        // that type wrote the payload, at an offset of 16 bytes from a base that is aligned to 64. The block lives
        // and does not change as long as the view ('v) does.
        unsafe { access::<T::Archived>(self.payload) }
    }
}

/// # Safety
///
/// `payload` is what rkyv made of a value whose archived type is `A`, and suitably aligned.
#[inline(always)]
unsafe fn access<A: Portable>(payload: &[u8]) -> &A {
    // SAFETY: the caller's promise.
    unsafe { rkyv::access_unchecked(payload) }
}

impl<'v, T> Blob<'v, T> {
    /// Its id.
    #[must_use]
    #[inline]
    pub fn id(&self) -> Id {
        blob::id(&self.memory, self.block)
    }

    /// The generation that wrote it: `(id, seq)` never means anything else, so it keys what a worker derives from it.
    #[must_use]
    #[inline]
    pub fn seq(&self) -> u32 {
        blob::seq(&self.memory, self.block)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'v str {
        text(blob::name(&self.memory, self.block))
    }

    /// Its name as bytes, for who copies it and need not know that it is UTF-8.
    #[must_use]
    #[inline]
    pub fn name_bytes(&self) -> &'v [u8] {
        blob::name(&self.memory, self.block)
    }

    /// The digest with which it was put.
    #[must_use]
    pub fn digest(&self) -> u64 {
        blob::digest(&self.memory, self.block)
    }

    /// The methods that its rules answer to, when it is a route.
    #[must_use]
    pub fn methods(&self) -> crate::types::Methods {
        crate::types::Methods(blob::methods(&self.memory, self.block))
    }

    /// The keys by which it is reached, when it is a route.
    pub(super) fn stored_keys(&self) -> impl Iterator<Item = StoredKey> {
        let Self { memory, block, .. } = *self;
        let mut at = blob::HEADER;
        (0..blob::key_count(&memory, block)).map(move |_| {
            let key = StoredKey::of(&memory, Entry { blob: block, methods: 0, key: (at / 4) as u16 });
            at += key.size();
            key
        })
    }

    /// Its priority, when it is a route.
    #[must_use]
    pub fn priority(&self) -> i32 {
        blob::priority(&self.memory, self.block)
    }

    /// Whether its bytes are what was written; for tests and doubts, not for requests.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        blob::is_intact(&self.memory, self.block)
    }

    /// The mutable block that belongs to it; its words may change at any time.
    #[must_use]
    #[inline]
    pub fn table(&self) -> Option<&'v [AtomicU64]> {
        let block = blob::table(&self.memory, self.block);
        let words = || self.memory.words_at(block::offset(block) + table::HEADER, table::count(&self.memory, block));
        (block != 0).then(words)
    }
}

impl<T: Object> Deref for Blob<'_, T> {
    type Target = T::Archived;

    #[inline(always)]
    fn deref(&self) -> &T::Archived {
        self.get()
    }
}

impl<T> fmt::Debug for Blob<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("name", &self.name()).field("id", &self.id()).field("seq", &self.seq()).finish()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

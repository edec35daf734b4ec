/// What names a route, an upstream or a limiter across generations: a slot of the id table and the generation in
/// which the name got that slot.
///
/// The slot is kept as long as the name lives, through any number of edits. Slots are used again later, but never
/// with the same birth, so whoever still holds an old id (a request in flight, a counter) finds nothing rather than
/// a stranger.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Id {
    /// Index into the id table.
    pub slot: u32,
    /// Generation in which the name came to life; 0 = no id.
    pub birth: u32,
}

impl Id {
    /// The id of nothing.
    pub const NONE: Self = Self { slot: 0, birth: 0 };

    /// Whether this is the id of something.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.birth != 0
    }

    /// Both halves in one word, for table keys.
    #[must_use]
    pub const fn word(self) -> u64 {
        (self.birth as u64) << 32 | self.slot as u64
    }
}

impl ArchivedId {
    /// The id in the machine's own byte order.
    #[must_use]
    pub fn id(&self) -> Id {
        Id { slot: self.slot.to_native(), birth: self.birth.to_native() }
    }
}

use rkyv::api::high::HighSerializer;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

/// The kinds of named objects that the policy tree holds; names are unique within a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Settings = 1,
    Route = 2,
    Upstream = 3,
    Limiter = 4,
    Auth = 5,
    Consumer = 6,
    Role = 7,
    List = 8,
    Bans = 9,
    ApiKey = 10,
    KeySet = 11,
    CacheTag = 12,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Settings,
        Self::Route,
        Self::Upstream,
        Self::Limiter,
        Self::Auth,
        Self::Consumer,
        Self::Role,
        Self::List,
        Self::Bans,
        Self::ApiKey,
        Self::KeySet,
        Self::CacheTag,
    ];
}

/// Something that the policy tree stores under a name and reads in place.
///
/// The tree writes `KIND` beside the bytes and hands them back only as the type of that kind; each kind therefore
/// has exactly one type.
pub trait Object: Archive + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>> {
    /// The kind under which objects of this type are stored.
    const KIND: Kind;
}

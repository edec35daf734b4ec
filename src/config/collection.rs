//! The lists of a document whose entries are resources: each has a name by which it can be asked for and changed.

/// One of the document's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collection {
    /// `auth`.
    Auth,
    /// `consumers`.
    Consumers,
    /// `roles`.
    Roles,
    /// `lists`.
    Lists,
    /// `limiters`.
    Limiters,
    /// `upstreams`.
    Upstreams,
    /// `routes`.
    Routes,
    /// `bans`, whose name is their block.
    Bans,
}

impl Collection {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 8] = [
        Self::Auth,
        Self::Consumers,
        Self::Roles,
        Self::Lists,
        Self::Limiters,
        Self::Upstreams,
        Self::Routes,
        Self::Bans,
    ];

    /// What the list is called in the document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Consumers => "consumers",
            Self::Roles => "roles",
            Self::Lists => "lists",
            Self::Limiters => "limiters",
            Self::Upstreams => "upstreams",
            Self::Routes => "routes",
            Self::Bans => "bans",
        }
    }

    /// The list that is called `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.name() == name)
    }

    /// The field by which an entry is known.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Bans => "cidr",
            _ => "name",
        }
    }

    /// Whether an object of this kind may stand in the place of a name, so that there are some with names that were
    /// made.
    #[must_use]
    pub const fn has_made(self) -> bool {
        matches!(self, Self::Auth | Self::Limiters | Self::Upstreams)
    }

    /// The resource's fields.
    #[must_use]
    pub const fn fields(self) -> &'static super::shape::Resource {
        use super::tables;
        match self {
            Self::Auth => &tables::AUTH,
            Self::Consumers => &tables::CONSUMER,
            Self::Roles => &tables::ROLE,
            Self::Lists => &tables::LIST,
            Self::Limiters => &tables::LIMITER,
            Self::Upstreams => &tables::UPSTREAM,
            Self::Routes => &tables::ROUTE,
            Self::Bans => &tables::BAN,
        }
    }
}

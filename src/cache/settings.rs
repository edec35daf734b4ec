use rkyv::{Archive, Deserialize, Serialize};

/// Stands for every status that `ttl` does not name.
pub const ANY_STATUS: u16 = 0;

/// How many groups paths are purged in: a purge of one path also takes the others of its group, one in so many.
pub const BUCKETS: usize = 1_024;

/// Which parameters of the query are part of a request; the others are neither in the key nor sent on.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// All.
    All,
    /// These alone; a `*` at the end of a name stands for whatever follows.
    Allow(Vec<String>),
    /// All but these, likewise.
    Deny(Vec<String>),
}

/// A route's `cache`, checked.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cache {
    /// The name of the zone of `proxy_cache_path`.
    pub zone: String,
    /// Seconds for which an answer is fresh that does not say so itself, by status, in the order of statuses; with
    /// [`ANY_STATUS`] for the rest.
    pub ttl: Vec<(u16, u32)>,
    /// Parameters of the query.
    pub query: Query,
    /// Request headers in the key, lower case.
    pub headers: Vec<String>,
    /// Cookies in the key.
    pub cookies: Vec<String>,
    /// Whether callers share answers.
    pub shared: bool,
    /// Whether answers to `HEAD` are kept and given.
    pub head: bool,
    /// Whether answers to `GET` are.
    pub get: bool,
    /// For so many seconds after its time an answer is given while a new one is fetched, unless it says itself how long.
    pub stale_while_revalidate: u32,
    /// For so many seconds after its time an answer is given when no new one can be had, likewise.
    pub stale_if_error: u32,
    /// For so many milliseconds requests wait for another one's answer to the same; 0 = they do not.
    pub lock: u32,
    /// Names under which its entries are purged.
    pub tags: Vec<String>,
}

impl ArchivedCache {
    /// Seconds for which an answer with `status` is fresh that does not say so itself, and whether the status is named.
    #[must_use]
    pub fn ttl(&self, status: u16) -> Option<(u32, bool)> {
        let of = |wanted: u16| self.ttl.iter().find(|entry| entry.0 == wanted).map(|entry| entry.1.to_native());
        of(status).map(|ttl| (ttl, true)).or_else(|| of(ANY_STATUS).map(|ttl| (ttl, false)))
    }
}

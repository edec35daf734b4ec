use crate::types::{Methods, Reason, SECOND};

/// What `access` says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it through; the ticket says where to and under which conditions.
    Forward,
    /// Answer it here.
    Reply(Reply),
    /// Something remote must be known first: fetch it without blocking, then call `resume`.
    Ask(Ask),
}

/// A refusal and what its answer must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Why.
    pub reason: Reason,
    /// Seconds for `Retry-After`; 0 = no such header.
    pub retry_after: u32,
    /// For 405: what `Allow` lists.
    pub allow: Methods,
}

impl Reply {
    /// A refusal without further headers.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, retry_after: 0, allow: Methods::NONE }
    }

    /// A refusal that may be over in `micros` microseconds; the header counts whole seconds, at least one.
    #[must_use]
    pub fn later(reason: Reason, micros: u64) -> Self {
        let seconds = micros.div_ceil(SECOND).clamp(1, 86_400);
        Self { retry_after: u32::try_from(seconds).unwrap_or(86_400), ..Self::new(reason) }
    }
}

/// The remote fact that a policy waits for. Every policy of this version decides from the region alone, so there is
/// no value of this type yet; adapters already match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {}

/// What came back for an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {}

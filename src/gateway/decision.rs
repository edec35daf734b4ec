use crate::auth::ArchivedScheme;
use crate::types::{Methods, Reason, SECOND};

/// What `access` says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it through; the ticket says where to and under which conditions.
    Forward,
    /// Refuse it.
    Reply(Reply),
    /// Answer it with what the document says: status, headers and body can be read from the worker.
    Respond(Respond),
    /// Something remote must be known first: fetch it without blocking, then call `resume`.
    Ask(Ask),
}

/// Whose answer it is that an adapter gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respond {
    /// That of a route that needs no upstream. The request has passed what stands in its way here; others, such as the
    /// server's own access rules, may still refuse it, so it is for the content phase.
    Route,
    /// That to a CORS preflight: before auth of any kind, since a browser sends no credentials with it.
    Preflight,
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
    /// For 401: what `WWW-Authenticate` asks for.
    pub challenges: Challenges,
}

/// Ways to authenticate that a route takes, as `WWW-Authenticate` names them (RFC 9110, 11.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Challenges(u8);

impl Challenges {
    /// In the order of their bits: RFC 6750, for API keys the name that Kong gives them, and RFC 9421 has none.
    const NAMES: [&str; 3] = ["Bearer", "Key", "Signature"];

    /// With that of `scheme`.
    #[must_use]
    pub fn with(self, scheme: &ArchivedScheme) -> Self {
        Self(
            self.0
                | match scheme {
                    ArchivedScheme::Jwt(_) => 1,
                    ArchivedScheme::ApiKey(_) => 2,
                    ArchivedScheme::Signature(_) => 4,
                },
        )
    }

    /// A value for each line.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & 1 << bit != 0).map(|(_, name)| name)
    }
}

impl Reply {
    /// A refusal without further headers.
    #[must_use]
    pub const fn new(reason: Reason) -> Self {
        Self { reason, retry_after: 0, allow: Methods::NONE, challenges: Challenges(0) }
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

use crate::auth::{ArchivedScheme, Login, LoginAnswer, LoginQuestion};
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
    /// That of a route that needs no upstream, or that it falls back to where its upstream cannot serve. The request has passed what stands in its way here; others, such as the
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
    /// In the order of their bits: RFC 6750, RFC 7617, for API keys the name that Kong gives them, and for certificates and
    /// signatures, which have no registered names, what is wanted.
    const NAMES: [&str; 5] =
        ["Bearer", "Key", "Certificate", "Basic realm=\"gateway\", charset=\"UTF-8\"", "Signature"];

    /// With that of `scheme`.
    #[must_use]
    pub fn with(self, scheme: &ArchivedScheme) -> Self {
        Self(
            self.0
                | match scheme {
                    ArchivedScheme::Jwt(_) => 1,
                    ArchivedScheme::ApiKey(_) => 2,
                    ArchivedScheme::Mtls(_) => 4,
                    ArchivedScheme::Basic(_) => 8,
                    ArchivedScheme::Signature(_) => 16,
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

/// What has to be found out elsewhere before a request can be decided.
///
/// Whoever gets one takes [`super::Worker::question`], if there is one, has it answered where nobody waits for it, and
/// hands the answer to [`super::Worker::learn`] and to [`super::Worker::resume`] for each request that asked. Without
/// a question another request's answer to the same is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Whether a password is right, which takes milliseconds to find out.
    Password(Login),
}

/// What is to be found out.
#[derive(Debug)]
pub enum Question {
    /// A password is to be held against a hash.
    Password(LoginQuestion),
}

impl Question {
    /// The [`Ask`] that it belongs to.
    #[must_use]
    pub fn ask(&self) -> Ask {
        match self {
            Self::Password(question) => Ask::Password(question.login()),
        }
    }

    /// Finds out; takes its time, so not where requests are decided.
    #[must_use]
    pub fn answer(self) -> Answer {
        match self {
            Self::Password(question) => Answer::Password(question.answer()),
        }
    }
}

/// What came back for an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Whether the password is right.
    Password(LoginAnswer),
}

impl Answer {
    /// The [`Ask`] that it belongs to.
    #[must_use]
    pub fn ask(&self) -> Ask {
        match self {
            Self::Password(answer) => Ask::Password(answer.login),
        }
    }

    /// That it could not be found out: requests that have waited for it fail.
    #[must_use]
    pub fn failed(ask: Ask) -> Self {
        match ask {
            Ask::Password(login) => Self::Password(LoginAnswer { login, right: None }),
        }
    }
}

/// Why the pipeline stops before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    Reply(Reply),
    Ask(Ask),
}

impl From<Reply> for Halt {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

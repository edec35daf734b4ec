//! Explaining: the pipeline tells a recorder what it does. `access` runs with [`Silent`], which compiles to nothing;
//! there is no second matcher that could disagree with the first.

use std::fmt;

use super::access::Entry;
use super::decision::{Answer, Decision};
use super::ticket::Ticket;
use super::worker::Worker;
use crate::types::{Now, Request};

/// Tells a recorder something, and works out what only if it listens: a name is checked to be text when it is looked at.
macro_rules! tell {
    ($recorder:expr, $step:expr, $($text:tt)+) => {
        if $recorder.listens() {
            $recorder.note($step, format_args!($($text)+));
        }
    };
}
pub(super) use tell;

/// Where in the order of one request a note was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bans, and the route's lists of addresses.
    Access,
    /// The route is looked up.
    Route,
    /// A browser asks in advance.
    Cors,
    /// A limiter was asked.
    Limit,
    /// Credentials were checked.
    Auth,
    /// What the caller may do was compared with what the route requires.
    Permission,
    /// Whether it may be answered from the cache, and under which key.
    Cache,
    /// One of the route's variants was chosen.
    Canary,
    /// The upstream's load was compared with its limit.
    Overload,
    /// How a node will be chosen, who is ejected, and whether there is one with room.
    Balancer,
    /// The upstream's breaker was asked.
    Breaker,
    /// The upstream cannot serve.
    Fallback,
    /// What is forwarded.
    Forward,
    /// The route answers by itself.
    Answer,
}

/// Who listens to the pipeline.
pub trait Recorder {
    /// Whether what is told is worth finding out; what follows from it is decided anyway.
    const LISTENS: bool = true;

    /// The same, for who has no name for the type.
    #[inline(always)]
    fn listens(&self) -> bool {
        Self::LISTENS
    }

    /// Whether what is decided on is a request: else limits are looked at, and nothing is taken of them.
    const TAKES: bool = true;

    /// The same, for who has no name for the type.
    #[inline(always)]
    fn takes(&self) -> bool {
        Self::TAKES
    }

    /// Takes one note. `text` is formatted only if the recorder does so.
    fn note(&mut self, step: Step, text: fmt::Arguments<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Recorder for Silent {
    const LISTENS: bool = false;

    #[inline(always)]
    fn note(&mut self, _: Step, _: fmt::Arguments<'_>) {}
}

/// Keeps every note.
#[derive(Clone, Debug, Default)]
pub struct Notes(pub Vec<(Step, String)>);

impl Recorder for Notes {
    fn note(&mut self, step: Step, text: fmt::Arguments<'_>) {
        self.0.push((step, text.to_string()));
    }
}

/// Keeps every note of a request that nobody sent: it is decided on as any other, over the live state, and leaves no
/// trace there.
#[derive(Clone, Debug, Default)]
pub struct Dry(pub Vec<(Step, String)>);

impl Recorder for Dry {
    const TAKES: bool = false;

    fn note(&mut self, step: Step, text: fmt::Arguments<'_>) {
        self.0.push((step, text.to_string()));
    }
}

impl Worker {
    /// What would be decided on `request` at `now`, and why. Limits are looked at and not charged, a probe's place and a
    /// place in flight are given back, nothing is counted; a signature's nonce is used up, as it would be. The decision,
    /// and the ticket with the names in it.
    pub fn explain(&mut self, request: &impl Request, now: Now, notes: &mut Dry) -> (Decision, Ticket) {
        let mut ticket = Ticket::new();
        // As after an internal redirect: nothing is counted as a connection.
        let decision = self.access_with(request, Entry::Again, now, &mut ticket, notes);
        self.cancel_permit(&mut ticket);
        let region = self.region();
        Self::leave(&region, &mut ticket);
        Self::unload(&region, &mut ticket);
        if let Some(attempt) = ticket.attempt.take() {
            Self::peers(&region).finished(attempt.peer);
        }
        if let Decision::Ask(_) = decision {
            // Nobody will look at the password.
            if let Some(question) = self.question() {
                self.learn(Answer::failed(question.ask()), now);
            }
        }
        (decision, ticket)
    }
}
